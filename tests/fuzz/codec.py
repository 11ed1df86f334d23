"""What holds for the codec, whatever the bytes.

An input is one byte that chooses the side, the level and the moment (bits 0, 1-2, 3), one byte that chooses the cuts,
and the stream.
"""

from __future__ import annotations

from typing import NamedTuple

from recado.mqtt.codec import Decoder, Role, encode
from recado.mqtt.packets import Auth, Connack, Connect, Packet, Publish
from recado.mqtt.reason_codes import ProtocolError, ReasonCode

ROLES: tuple[Role, ...] = ("server", "client")
LEVELS = (3, 4, 5)
PACKET_BYTES_MAX = 600
LIST_MAX = 8  # user properties and topic filters: low, so that a small input reaches them


class Start(NamedTuple):
    """Where a decoder stands when the input begins."""

    role: Role
    level: int
    opened: bool

    @classmethod
    def of(cls, byte: int) -> Start:
        return cls(ROLES[byte & 1], LEVELS[(byte >> 1 & 3) % 3], bool(byte & 8))

    def byte(self) -> int:
        return ROLES.index(self.role) | LEVELS.index(self.level) << 1 | self.opened << 3

    def decoder(self, packet_bytes_max: int = PACKET_BYTES_MAX) -> Decoder:
        decoder = Decoder(
            packet_bytes_max=packet_bytes_max,
            role=self.role,
            protocol_level=self.level,
            user_properties_max=LIST_MAX,
            topic_filters_max=LIST_MAX,
            connect_bytes_max=packet_bytes_max // 2,
        )
        if self.opened:
            decoder.receive(encode(Connect("id", self.level) if self.role == "server" else Connack(), self.level))
            assert decoder.next_packet() is not None
        return decoder


class Outcome(NamedTuple):
    """What a stream came to: each packet with the level it was heard at, and the error that ended it."""

    packets: list[tuple[Packet, int]]
    error: tuple[ReasonCode, str, int | None] | None


def check_decoder(data: bytes) -> None:
    if len(data) < 2:
        return
    start, cut, stream = Start.of(data[0]), data[1], data[2:]
    whole = outcome(start, [stream])
    for pieces in cuts(stream, cut):
        assert outcome(start, pieces) == whole, pieces
    for packet, level in whole.packets:
        check_packet(packet, start.role, level)
    written = sum(len(encode(packet, level)) for packet, level in whole.packets)
    assert written <= len(stream), "a packet was written longer than it was read"


def cuts(stream: bytes, cut: int) -> list[list[bytes]]:
    middle = cut % (len(stream) + 1)
    step = cut % 7 + 2
    return [
        [stream[at : at + 1] for at in range(len(stream))],
        [stream[:middle], stream[middle:]],
        [stream[at : at + step] for at in range(0, len(stream), step)],
    ]


def outcome(start: Start, pieces: list[bytes]) -> Outcome:
    """Decode the pieces; any exception but ProtocolError goes through and is a finding."""
    decoder, packets = start.decoder(), []
    received = 0
    try:
        for piece in pieces:
            received += len(piece)
            decoder.receive(piece)
            while (packet := decoder.next_packet()) is not None:
                packets.append((packet, decoder.protocol_level))
            assert held_bytes(decoder) <= min(received, PACKET_BYTES_MAX)
    except ProtocolError as error:
        found = outcome_error(error)
        assert outcome_error(raised_again(decoder)) == found
        return Outcome(packets, found)
    return Outcome(packets, None)


def outcome_error(error: ProtocolError) -> tuple[ReasonCode, str, int | None]:
    return error.reason_code, error.text, error.protocol_level


def raised_again(decoder: Decoder) -> ProtocolError:
    try:
        packet = decoder.next_packet()
    except ProtocolError as error:
        return error
    raise AssertionError(f"after an error came {packet}")


def held_bytes(decoder: Decoder) -> int:
    """What the decoder keeps of the stream while it waits."""
    return len(decoder._data) - decoder._offset + len(decoder._tail)


def check_packet(packet: Packet, role: Role, level: int) -> None:
    """What was decoded encodes to bytes that say the same, and a publication to bytes that every level hears."""
    wire = encode(packet, level)
    assert decoded(wire, packet, role, level) == packet
    if isinstance(packet, Publish) and packet.topic_name:
        for other in LEVELS:
            forwarded = decoded(encode(packet, other), packet, "client", other)
            assert isinstance(forwarded, Publish)
            assert (forwarded.topic_name, forwarded.payload) == (packet.topic_name, packet.payload)


def decoded(wire: bytes, packet: Packet, role: Role, level: int) -> Packet | None:
    decoder = Start(role, level, not isinstance(packet, Connect | Connack)).decoder(10 * PACKET_BYTES_MAX)
    decoder.receive(wire)
    found = decoder.next_packet()
    assert decoder.next_packet() is None
    return found


def seeds_of(packets: list[tuple[Packet, Role, int, bytes]]) -> list[bytes]:
    """Inputs for `check_decoder` from packets and their bytes: each at its moment, and all of one side in a row."""
    seeds = []
    streams: dict[tuple[Role, int], bytes] = {}
    for packet, role, level, wire in packets:
        opens = isinstance(packet, Connect | Connack) or (isinstance(packet, Auth) and role == "client")
        seeds.append(bytes((Start(role, level, not opens).byte(), 3)) + wire)
        if not opens:
            streams[role, level] = streams.get((role, level), b"") + wire
    return seeds + [bytes((Start(*key, True).byte(), 3)) + stream for key, stream in streams.items()]
