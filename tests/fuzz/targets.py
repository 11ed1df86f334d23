"""The fuzz targets by name: what each checks, its first inputs, and how its packets are framed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from recado.mqtt.codec import encode
from recado.mqtt.packets import Packet, Publish, Subscribe, SubscriptionRequest, Unsubscribe
from recado.mqtt.properties import PropertyId, variable_byte_integer
from tests.fuzz.codec import check_decoder, seeds_of
from tests.fuzz.connections import SEND, check_connections, steps_of
from tests.fuzz.conversations import conversations
from tests.fuzz.topics import TOPIC_SEEDS, check_topics
from tests.mqtt.cases import CASES, LONG_FORMS, ROLES, decodings


class Target(NamedTuple):
    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    framed: Callable[[bytes], bytes]


def framed(stream: bytes) -> bytes:
    """Give every packet of the stream a length that it has: the last one what is left."""
    packets = []
    at = 0
    while len(stream) - at >= 2:
        body = stream[at + 2 : at + 2 + stream[at + 1]]
        packets.append(stream[at : at + 1] + variable_byte_integer(len(body)) + body)
        at += 2 + len(body)
    return b"".join(packets)


# More in one packet than a decoder of the fuzzer's takes.
FLOODS: list[Packet] = [
    Subscribe(1, [SubscriptionRequest("a")] * 9),
    Unsubscribe(1, ["a"] * 9),
    Publish("a", b"", properties={PropertyId.USER_PROPERTY: [("", "")] * 9}),
]


def decoder_seeds() -> list[bytes]:
    found = [(each.packet, role, level, each.wire) for each, role, level in decodings(CASES + LONG_FORMS)]
    return seeds_of([*found, *((each, ROLES[0], 5, encode(each, 5)) for each in FLOODS)])


def framed_steps(data: bytes) -> bytes:
    """The same steps, with the packets in each framed."""
    steps = [bytes((data[0],))] if data else []
    for who, what, sent in steps_of(data[1:]):
        packets = framed(sent)[:255]
        steps.append(bytes((who, len(packets))) + packets if what == SEND else bytes((who | what << 2,)))
    return b"".join(steps)


TARGETS = {
    "decoder": Target(check_decoder, decoder_seeds, lambda data: data[:2] + framed(data[2:])),
    "topics": Target(check_topics, lambda: TOPIC_SEEDS, lambda data: data),
    "connections": Target(check_connections, conversations, framed_steps),
}
