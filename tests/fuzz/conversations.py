"""First inputs for the fuzzer of whole connections: what clients say to a server, step by step."""

from __future__ import annotations

from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode

LOSE, STALL, SECONDS, FAIL = range(4, 8)


def step(who: int, what: int) -> bytes:
    return bytes((who | what << 2,))


def says(who: int, level: int, *packets: Packet) -> bytes:
    data = b"".join(encode(packet, level) for packet in packets)
    return bytes((who, len(data))) + data


def subscribe(topic_filter: str, qos: int = 2, **options: bool) -> Subscribe:
    return Subscribe(1, [SubscriptionRequest(topic_filter, qos, **options)])


def publish(topic_name: str, qos: int, packet_id: int = 1, retain: bool = False, payload: bytes = b"x") -> Publish:
    return Publish(topic_name, payload, qos, retain, packet_id=packet_id if qos else 0)


AUTHENTICATED: Packet = Connect("m", properties={P.AUTHENTICATION_METHOD: "m", P.AUTHENTICATION_DATA: b"d"})
ANSWER: Packet = Auth(ReasonCode.CONTINUE_AUTHENTICATION, {P.AUTHENTICATION_METHOD: "m", P.AUTHENTICATION_DATA: b"!"})
AGAIN: Packet = Auth(ReasonCode.REAUTHENTICATE, {P.AUTHENTICATION_METHOD: "m"})
KEPT: Packet = Connect("k", clean_start=False, properties={P.SESSION_EXPIRY_INTERVAL: 20, P.RECEIVE_MAXIMUM: 2})
SMALL: Packet = Connect(
    "s", properties={P.MAXIMUM_PACKET_SIZE: 60, P.TOPIC_ALIAS_MAXIMUM: 2, P.REQUEST_RESPONSE_INFORMATION: 1}
)
LATE_WILL = Will("w", b"late", 1, True, {P.WILL_DELAY_INTERVAL: 3})
ALIASED: list[Packet] = [
    Publish("long/name", b"1", properties={P.TOPIC_ALIAS: 1}),
    Publish("", b"2", properties={P.TOPIC_ALIAS: 1}),
]
REPLAYED = Subscribe(3, [SubscriptionRequest("log/a", 2)], {P.USER_PROPERTY: [("log/a", "")]})


def conversations() -> list[bytes]:
    """Each with the byte of settings in front: 1 keeps sessions, 2 has no shared subscriptions."""
    return [bytes((settings,)) + each for each in [*live(), *kept(), *refused()] for settings in (0, 1, 3)]


def live() -> list[bytes]:
    own: list[Packet] = [subscribe("a/#"), publish("a/b", 0), publish("a/b", 1), publish("a/b", 2, 2), Pubrel(2)]
    taken: list[Packet] = [Puback(1), Pubrec(2), Pubcomp(2)]
    found = [says(0, level, Connect("id", level), *own, *taken, Pingreq(), Disconnect()) for level in (3, 4, 5)]
    found += [
        says(0, 5, AUTHENTICATED) + says(0, 5, ANSWER) + says(0, 5, AGAIN) + says(0, 5, ANSWER),
        says(0, 5, SMALL, subscribe("#", 0), *ALIASED, *ALIASED, publish("a", 0, payload=b"x" * 70)),
        says(0, 4, Connect("w", 4, will=Will("w", b"gone", 2, True)))
        + step(0, LOSE)
        + says(1, 5, Connect("r"), own[0]),
        says(0, 5, Connect("w", will=LATE_WILL, properties={P.SESSION_EXPIRY_INTERVAL: 9}))
        + step(0, LOSE)
        + step(0, SECONDS) * 12,
        says(0, 5, Connect("s"), own[0])
        + step(0, STALL)
        + says(1, 5, Connect("p"), *(publish("a/b", each % 3, 9, payload=b"y" * 60) for each in range(3)))
        + says(1, 5, *(publish("a/b", 0, payload=b"y" * 99) for each in range(2))) * 9
        + step(0, STALL)
        + step(0, SECONDS),
        says(0, 5, Connect("q"), subscribe("a/#"))
        + says(1, 5, Connect("p"), *(publish("a/b", 1, each) for each in range(1, 19)))
        + says(0, 5, *(Puback(each) for each in range(1, 12))),
        says(0, 5, Connect("g"), subscribe("$share/g/a"), subscribe("a"))
        + says(1, 4, Connect("h", 4), subscribe("$share/g/a"), publish("a", 1), publish("a", 0)),
        says(0, 5, Connect("l", username="a"), *(publish("log/a", 1, each) for each in (1, 2, 3)), REPLAYED)
        + says(0, 5, publish("log/a", 2, 4), Puback(1), Puback(2)),
        says(0, 5, Connect("l"), subscribe("log/+", no_local=True), publish("log/a", 1), publish("log/a", 1, 2))
        + step(0, STALL)
        + says(1, 4, Connect("p", 4), *(publish("log/a", 0, payload=b"z" * 80) for each in range(2)))
        + says(1, 4, *(publish("log/a", 0, payload=b"z" * 80) for each in range(2))) * 4
        + step(0, STALL),
        says(0, 5, Connect("s"), publish("slow/a", 1, 1), publish("slow/a", 2, 2, payload=b"zzz"), publish("a", 1, 3))
        + says(0, 5, Pubrel(2)),
        says(0, 5, Connect("t"), publish("a", 1, retain=True), publish("b", 0, retain=True), subscribe("#"))
        + says(0, 5, publish("a", 0, retain=True, payload=b""), Unsubscribe(5, ["#", "no"]), subscribe("no/a")),
        says(0, 4, Connect("f", 4)) + says(0, 4, *[publish("a", 0, payload=b"")] * 51) + step(0, SECONDS) * 2,
        says(
            0,
            5,
            Connect("x"),
            subscribe("e"),
            Publish("e", b"1", 1, packet_id=1, properties={P.MESSAGE_EXPIRY_INTERVAL: 0}),
        )
        + says(0, 5, Publish("e", b"\xff", 1, packet_id=1, properties={P.PAYLOAD_FORMAT_INDICATOR: 1})),
    ]
    return found


def kept() -> list[bytes]:
    """About sessions that outlive their connections, and a storage that fails."""
    many: list[Packet] = [publish("a/b", 1 + each % 2, each) for each in range(1, 9)]
    own = subscribe("a/#")
    done: list[Packet] = [Puback(1), Pubrec(2), Pubcomp(2), Puback(3), Pubrec(1), Pubcomp(1), Puback(2)]
    gone = says(0, 5, KEPT, own, publish("a", 2, 7)) + step(0, LOSE)
    found = [
        gone + says(1, 4, Connect("p", 4), *many) + says(0, 5, KEPT, Pubrel(7), *done) + says(0, 5, *done) * 2,
        gone
        + says(1, 4, Connect("p", 4), *many)
        + says(0, 5, KEPT, Pubrec(1))
        + step(0, LOSE)
        + says(0, 5, KEPT, *done),
        says(0, 5, KEPT, own, *many[:2], Pubrec(1, ReasonCode.QUOTA_EXCEEDED), Pubrec(2, ReasonCode.QUOTA_EXCEEDED)),
        says(0, 5, KEPT, own) + says(1, 5, KEPT) + says(0, 5, Connect("k", properties={P.RECEIVE_MAXIMUM: 1})),
        says(0, 5, Connect("r"), publish("a/r", 2, 1, retain=True), publish("a/s", 0, 1, retain=True)) + gone,
        says(0, 5, KEPT, Disconnect(ReasonCode.SUCCESS, {P.SESSION_EXPIRY_INTERVAL: 0})) + says(0, 5, KEPT),
        says(0, 4, Connect("", 4, clean_start=False))
        + says(0, 5, Connect(""))
        + says(1, 3, Connect("k", 3, False), own),
        b"".join(says(0, 4, Connect(f"k{each}", 4, False, username="a")) + step(0, LOSE) for each in range(6)),
    ]
    failing: list[Packet] = [own, publish("a", 2), Pubrel(7), Pubrec(1), Unsubscribe(5, ["a/#"])]
    before = says(0, 5, KEPT, own, publish("a", 2, 7)) + step(0, FAIL)
    found += [before + says(0, 5, each) + step(0, FAIL) for each in [*failing, publish("r", 1, 3, retain=True)]]
    found.append(gone + step(0, FAIL) + says(0, 5, KEPT) + step(0, FAIL) + says(0, 5, KEPT, *done))
    return found


def refused() -> list[bytes]:
    """About what a client may not say, or not so often."""
    filters: list[Packet] = [subscribe(f"{each}/+") for each in range(8)]
    again: list[Packet] = [publish("a", 2, 1), publish("a", 2, 1)]
    alias = Publish("", b"2", properties={P.TOPIC_ALIAS: 3})
    will = Will("w", b"\xff", properties={P.PAYLOAD_FORMAT_INDICATOR: 1})
    keep = Disconnect(ReasonCode.SUCCESS, {P.SESSION_EXPIRY_INTERVAL: 9})
    return [
        says(0, 5, Connect("x"), *filters, Subscribe(2, [SubscriptionRequest("#/a"), SubscriptionRequest("a" * 70)])),
        says(0, 4, Connect("x", 4), *again, publish("no", 1, 1)) + says(0, 4, Connect("x", 4), publish("$SYS/a", 1)),
        says(0, 5, Connect("x"), *(publish("slow/a", 2, each) for each in range(1, 7))),
        says(0, 4, Connect("x", 4), *(publish("slow/a", 1, each) for each in range(1, 7))),
        says(0, 5, Connect("x"), alias) + says(0, 5, Connect("x", will=will)) + says(0, 5, Connect("x"), keep),
        says(0, 5, Connect("x"), *(publish(f"{each}", 1, 1, True, b"y" * 60) for each in range(3))),
        says(0, 5, Connect("x"), AGAIN)
        + says(0, 5, AUTHENTICATED, Pingreq())
        + says(0, 5, AUTHENTICATED, ANSWER, ANSWER),
        says(0, 5, Pingreq())
        + says(0, 4, Connect("x", 4, username="witness", password=b"guess"))
        + b"\x00\x03\x10\xff\xff",
        says(0, 5, Connect("x", keep_alive=1), publish("a/" * 9, 1))
        + step(0, SECONDS) * 5
        + step(2, STALL)
        + step(2, SECONDS),
    ]
