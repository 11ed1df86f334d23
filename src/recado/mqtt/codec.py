"""Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0.

Invariants: decoding raises ProtocolError and nothing else, whatever the bytes. A packet is parsed where it lies in the
received bytes; only the part of an unfinished packet is kept, and memory grows with the bytes that came, never with a
promised length. What a first byte alone condemns (a wrong first packet, reserved flags, a packet for the other side)
is refused before anything else is waited for: tables of 256 entries, one per side and level, say what each first byte
means, so the check costs nothing.
"""

from __future__ import annotations

from recado.mqtt.decoding import DECODERS, Role, refuse, refuse_opening
from recado.mqtt.encoding import (
    dup_head,
    encode,
    puback_bytes,
    pubcomp_bytes,
    publish_frame,
    pubrec_bytes,
    pubrel_bytes,
)
from recado.mqtt.packets import MQTT_3_1_1, Packet
from recado.mqtt.properties import read_variable_byte_integer
from recado.mqtt.reason_codes import ProtocolError, ReasonCode

__all__ = [
    "CONNECT_BYTES_MAX",
    "Decoder",
    "ProtocolError",
    "Role",
    "dup_head",
    "encode",
    "puback_bytes",
    "pubcomp_bytes",
    "publish_frame",
    "pubrec_bytes",
    "pubrel_bytes",
]

CONNECT_BYTES_MAX = 64 * 1024


class Decoder:
    """One connection's incoming bytes. `role` is the side that decodes: a server hears CONNECT first, a client CONNACK.

    `wire` has the bytes of the last PUBLISH, before and after its packet id, if they may be sent on as they are: it is
    neither retained nor a duplicate. Who takes them sets it to None.

    After each `receive`, call `next_packet` until it returns None. Once it has raised, it raises the same again.
    """

    __slots__ = (
        "_data",
        "_decode",
        "_limit",
        "_offset",
        "_opened",
        "_protocol_level",
        "_size",
        "_tail",
        "_wanted",
        "packet_bytes_max",
        "role",
        "topic_filters_max",
        "user_properties_max",
        "wire",
    )

    def __init__(
        self,
        *,
        packet_bytes_max: int,
        role: Role,
        protocol_level: int = MQTT_3_1_1,
        user_properties_max: int = 1000,
        topic_filters_max: int = 1000,
        connect_bytes_max: int = CONNECT_BYTES_MAX,
    ) -> None:
        self.packet_bytes_max = packet_bytes_max
        self.user_properties_max = user_properties_max
        self.topic_filters_max = topic_filters_max
        self.role = role
        self._opened = False
        self.wire: tuple[bytes, bytes] | None = None
        self._limit = min(packet_bytes_max, connect_bytes_max) if role == "server" else packet_bytes_max
        self._data = b""
        self._offset = 0
        self._size = 0
        self._tail = bytearray()
        self._wanted = 0
        self.protocol_level = protocol_level

    @property
    def protocol_level(self) -> int:
        """3, 4 or 5. A server's decoder learns it from CONNECT; a client sets what it put in its own CONNECT."""
        return self._protocol_level

    @protocol_level.setter
    def protocol_level(self, level: int) -> None:
        self._decode = DECODERS[self.role, level, self._opened]
        self._protocol_level = level

    def receive(self, data: bytes) -> None:
        """Take what the transport brought."""
        if self._offset == self._size and not self._tail:
            self._data = data
            self._offset = 0
            self._size = len(data)
        else:
            self._keep_rest()
            self._tail += data

    def is_empty(self) -> bool:
        """Whether everything that came has been handed out."""
        return self._offset == self._size and not self._tail

    def next_packet(self) -> Packet | None:
        """Return the next packet, or None until more bytes come."""
        data = self._data
        start = self._offset
        left = self._size - start
        if left < 2:
            self.wire = None
            return self._wait(2) if left or self._tail else None
        first = data[start]
        length = data[start + 1]
        offset = start + 2
        if length > 0x7F:
            try:
                length, offset = read_variable_byte_integer(data, start + 1, self._size)
            except ProtocolError:
                self._check_first_byte(first)  # is to blame before the length, as it is when it comes alone
                raise
            if not offset:
                return self._wait(left + 1)
        end = offset + length
        if end - start > self._limit:
            raise self._too_large(first, end - start)
        if end > self._size:
            return self._wait(end - start)
        packet = self._decode[first](self, data, first, offset, end)
        if end == self._size:
            self._data = b""  # an idle connection holds no received bytes
            self._offset = self._size = 0
        else:
            self._offset = end
        return packet

    def _wait(self, wanted: int) -> Packet | None:
        """Keep the unfinished packet aside until `wanted` bytes of it are there; go on if they are."""
        if self._offset < self._size:
            self._check_first_byte(self._data[self._offset])
            self._keep_rest()
            self._wanted = wanted
        if not self._tail or len(self._tail) < self._wanted:
            self._data = b""  # an idle connection holds no received bytes
            self._offset = self._size = 0
            return None
        self._data = bytes(self._tail)
        self._offset = 0
        self._size = len(self._data)
        self._tail = bytearray()
        return self.next_packet()

    def _keep_rest(self) -> None:
        if self._offset < self._size:
            self._tail += self._data[self._offset :]
            self._data = b""
            self._offset = self._size = self._wanted = 0

    def _check_first_byte(self, first: int) -> None:
        decode = self._decode[first]
        if decode is refuse or decode is refuse_opening:
            decode(self, b"", first, 0, 0)

    def _too_large(self, first: int, packet_bytes: int) -> ProtocolError:
        self._check_first_byte(first)
        text = f"a packet of {packet_bytes} bytes, the limit is {self._limit}"
        return ProtocolError(ReasonCode.PACKET_TOO_LARGE, text)

    def _open(self, protocol_level: int) -> None:
        """The first packet was right: from here on every other packet may come."""
        self._opened = True
        self._limit = self.packet_bytes_max
        self.protocol_level = protocol_level
