"""Our codec against a real paho-mqtt client over a socket: what it sends, we read; what we send, its callbacks get.

The client runs in the test's own thread: `heard` and `say` move the bytes, so nothing waits for a time to pass.
What paho cannot say is left out of what it is given: AUTH, a password without a user name, DUP on a first send, U+FEFF
in a property (it calls it malformed, against MQTT-1.5.4-3) and a maximum packet size above 268,435,455 (four bytes
allow 4,294,967,295). And what it does not pass on: CONNACK with 0x99, which it does not know, and with 3.1.1's return
code 1, after which it would try 3.1 by itself.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode as PahoReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import CONNACK_RETURN_CODES_3, REASON_CODES, SUBACK_RETURN_CODES_3, PacketType, ReasonCode
from tests.mqtt.cases import LEVELS, fresh_decoder
from tests.mqtt.test_oracles import is_filter
from tests.mqtt.test_round_trips import FILTER, connects, properties, publishes, reason_codes, requests

T = PacketType
PACKET_TYPE_OF_WILL = 99
every_level = pytest.mark.parametrize("level", LEVELS)
against_paho = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


CONNACK_CODES: dict[int, list[ReasonCode]] = {
    3: list(CONNACK_RETURN_CODES_3.values()),
    4: [code for return_code, code in CONNACK_RETURN_CODES_3.items() if return_code != 1],
    5: [code for code in REASON_CODES[T.CONNACK].values() if code is not ReasonCode.PAYLOAD_FORMAT_INVALID],
}


class Link:
    """A paho client, and the socket of the server that it talks to."""

    def __init__(self, listener: socket.socket, connect: Connect) -> None:
        self.level = connect.protocol_level
        self.got: list[tuple[Any, ...]] = []
        self.client = paho_client(connect, self.got)
        host, port = listener.getsockname()
        found: dict[str, Any] = {}
        if self.level == 5:
            found = {"clean_start": connect.clean_start, "properties": to_paho(T.CONNECT, connect.properties)}
        self.client.connect(host, port, connect.keep_alive, **found)
        self.peer = listener.accept()[0]
        self.peer.settimeout(10)
        self.decoder = fresh_decoder("server", self.level)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        own = self.client.socket()
        if own is not None:
            own.close()

    def heard(self) -> Packet:
        """The next packet that paho sent."""
        while (packet := self.decoder.next_packet()) is None:
            data = self.peer.recv(65536)
            assert data, "paho closed the connection"
            self.decoder.receive(data)
        return packet

    def say(self, packet: Packet) -> tuple[Any, ...] | None:
        """Send the packet to paho and return what its callback got, if it called one."""
        before = len(self.got)
        self.peer.sendall(encode(packet, self.level))
        own = self.client.socket()
        assert isinstance(own, socket.socket)
        assert select.select([own], [], [], 10)[0]
        self.client.loop_read()
        return self.got[before] if len(self.got) > before else None  # after a refusal it says "disconnected" too


def paho_client(connect: Connect, got: list[tuple[Any, ...]]) -> Client:
    level = connect.protocol_level
    client = Client(
        CallbackAPIVersion.VERSION2,
        connect.client_id,
        clean_session=None if level == 5 else connect.clean_start,
        protocol=MQTTProtocolVersion(level),
        reconnect_on_failure=False,
    )
    if connect.username is not None:
        client.username_pw_set(connect.username, connect.password)  # type: ignore[arg-type]  # bytes go through
    if (will := connect.will) is not None:
        found = to_paho(T.WILL, will.properties) if level == 5 else None
        client.will_set(will.topic_name, will.payload, will.qos, will.retain, found)
    client.on_connect = lambda *arguments: got.append(arguments[2:])
    client.on_message = lambda *arguments: got.append(arguments[2:])
    client.on_publish = lambda *arguments: got.append(arguments[2:])
    client.on_subscribe = lambda *arguments: got.append(arguments[2:])
    client.on_unsubscribe = lambda *arguments: got.append(arguments[2:])
    client.on_disconnect = lambda *arguments: got.append(arguments[2:])
    return client


def name_in_paho(property_id: P) -> str:
    return "".join(word.capitalize() for word in property_id.name.split("_")).replace("Qos", "QoS")


def to_paho(packet_type: PacketType, found: Properties) -> PahoProperties:
    said: PahoProperties = PahoProperties(packet_type or PACKET_TYPE_OF_WILL)  # type: ignore[no-untyped-call]
    for property_id, value in found.items():
        setattr(said, name_in_paho(property_id), value)
    return said


def from_paho(found: PahoProperties | None) -> Properties:
    names = {property_id: name_in_paho(property_id) for property_id in P}
    return {key: getattr(found, name) for key, name in names.items() if hasattr(found, name)}


def sayable(found: Properties) -> bool:
    return r"\ufeff" not in repr(found) and found.get(P.MAXIMUM_PACKET_SIZE, 0) <= 268_435_455


def properties_of(packet_type: PacketType, level: int) -> st.SearchStrategy[Properties]:
    return properties(packet_type, level).filter(sayable)  # type: ignore[no-any-return]


def connects_of_paho(level: int) -> st.SearchStrategy[Connect]:
    def fits(connect: Connect) -> bool:
        if connect.password is not None and connect.username is None:
            return False
        if level < 5 and not connect.client_id and not (level == 4 and connect.clean_start):
            return False  # paho makes an id of its own
        return sayable(connect.properties) and (connect.will is None or sayable(connect.will.properties))

    return connects(level).filter(fits)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def linked(listener: socket.socket, level: int) -> Link:
    link = Link(listener, Connect("id", level))
    link.heard()
    link.say(Connack())
    return link


@every_level
@given(data=st.data())
@against_paho
def test_we_read_the_connect_that_paho_sends(listener: socket.socket, level: int, data: st.DataObject) -> None:
    connect = data.draw(connects_of_paho(level))
    with Link(listener, connect) as link:
        assert link.heard() == connect


@every_level
@given(data=st.data())
@against_paho
def test_paho_reads_our_connack(listener: socket.socket, level: int, data: st.DataObject) -> None:
    reason_code = data.draw(st.sampled_from(CONNACK_CODES[level]))
    connack = Connack(
        not reason_code and data.draw(st.booleans()), reason_code, data.draw(properties_of(T.CONNACK, level))
    )
    with Link(listener, Connect("id", level)) as link:
        link.heard()
        told = link.say(connack)
    assert told is not None
    flags, said, found = told
    assert (flags.session_present, said.value, from_paho(found)) == (
        connack.session_present,
        reason_code,
        connack.properties,
    )


@every_level
@given(data=st.data())
@against_paho
def test_we_read_the_publish_that_paho_sends(listener: socket.socket, level: int, data: st.DataObject) -> None:
    publish = data.draw(publishes(level, "server").filter(lambda publish: sayable(publish.properties)))
    with linked(listener, level) as link:
        found = to_paho(T.PUBLISH, publish.properties) if level == 5 else None
        info = link.client.publish(publish.topic_name, publish.payload, publish.qos, publish.retain, found)
        publish.dup, publish.packet_id = False, info.mid if publish.qos else 0
        assert link.heard() == publish
        if publish.qos == 1:
            answer = data.draw(answers(level, T.PUBACK))
            told = link.say(Puback(info.mid, *answer))
        elif publish.qos == 2:
            link.say(Pubrec(info.mid, *data.draw(answers(level, T.PUBREC))))
            assert link.heard() == Pubrel(info.mid)
            answer = data.draw(answers(level, T.PUBCOMP))
            told = link.say(Pubcomp(info.mid, *answer))
        if publish.qos:
            assert told is not None
            assert (told[0], told[1].value, from_paho(told[2])) == (info.mid, *(answer or (0, {})))


def answers(level: int, packet_type: PacketType) -> st.SearchStrategy[tuple[Any, ...]]:
    """A reason code and properties; nothing before 5.0."""
    return st.tuples(reason_codes(packet_type), properties_of(packet_type, 5)) if level == 5 else st.just(())


@every_level
@given(data=st.data())
@against_paho
def test_paho_reads_our_publish(listener: socket.socket, level: int, data: st.DataObject) -> None:
    publish = data.draw(publishes(level, "client").filter(lambda publish: sayable(publish.properties)))
    with linked(listener, level) as link:
        told = link.say(publish)
        if publish.qos == 1:
            assert link.heard() == Puback(publish.packet_id)
        elif publish.qos == 2:
            assert link.heard() == Pubrec(publish.packet_id)
            told = link.say(Pubrel(publish.packet_id))
            assert link.heard() == Pubcomp(publish.packet_id)
    assert told is not None
    assert publish_of(told[0]) == publish


def publish_of(message: MQTTMessage) -> Publish:
    found = from_paho(message.properties) if hasattr(message, "properties") else EMPTY_PROPERTIES
    return Publish(message.topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid, found)


@every_level
@given(data=st.data())
@against_paho
def test_subscribe_and_its_answer_pass_both_ways(listener: socket.socket, level: int, data: st.DataObject) -> None:
    asked = data.draw(
        st.lists(requests(level).filter(lambda each: is_filter(each.topic_filter)), min_size=1, max_size=4)
    )
    found, told = data.draw(properties_of(T.SUBSCRIBE, level)), data.draw(properties_of(T.SUBACK, level))
    codes = REASON_CODES[T.SUBACK] if level == 5 else SUBACK_RETURN_CODES_3
    said = data.draw(st.lists(st.sampled_from(list(codes.values())), min_size=len(asked), max_size=len(asked)))
    with linked(listener, level) as link:
        if level == 5:
            options = [
                (
                    each.topic_filter,
                    SubscribeOptions(each.qos, each.no_local, each.retain_as_published, each.retain_handling),
                )
                for each in asked
            ]
            mid = link.client.subscribe(options, properties=to_paho(T.SUBSCRIBE, found))[1]
        else:
            mid = link.client.subscribe([(each.topic_filter, each.qos) for each in asked])[1]
        assert mid is not None
        assert link.heard() == Subscribe(mid, asked, found)
        answer = link.say(Suback(mid, said, told))
    assert answer is not None
    assert (answer[0], [each.value for each in answer[1]], from_paho(answer[2])) == (mid, said, told)


@every_level
@given(data=st.data())
@against_paho
def test_unsubscribe_and_its_answer_pass_both_ways(listener: socket.socket, level: int, data: st.DataObject) -> None:
    asked = data.draw(st.lists(FILTER.filter(is_filter), min_size=1, max_size=4))
    found, told = data.draw(properties_of(T.UNSUBSCRIBE, level)), data.draw(properties_of(T.UNSUBACK, level))
    codes = st.lists(reason_codes(T.UNSUBACK), min_size=len(asked), max_size=len(asked))
    said = data.draw(codes) if level == 5 else []
    with linked(listener, level) as link:
        mid = link.client.unsubscribe(asked, to_paho(T.UNSUBSCRIBE, found) if level == 5 else None)[1]
        assert mid is not None
        assert link.heard() == Unsubscribe(mid, asked, found)
        answer = link.say(Unsuback(mid, said, told))
    assert answer is not None
    assert (answer[0], [each.value for each in answer[1]], from_paho(answer[2])) == (mid, said, told)


@every_level
@given(data=st.data())
@against_paho
def test_we_read_the_disconnect_that_paho_sends(listener: socket.socket, level: int, data: st.DataObject) -> None:
    reason_code, found = data.draw(reason_codes(T.DISCONNECT)), data.draw(properties_of(T.DISCONNECT, level))
    with linked(listener, level) as link:
        if level == 5:
            code = PahoReasonCode(T.DISCONNECT, identifier=reason_code)
            link.client.disconnect(code, to_paho(T.DISCONNECT, found))
            assert link.heard() == Disconnect(reason_code, found)
        else:
            link.client.disconnect()
            assert link.heard() == Disconnect()


@given(data=st.data())
@against_paho
def test_paho_reads_our_disconnect(listener: socket.socket, data: st.DataObject) -> None:
    reason_code = data.draw(reason_codes(T.DISCONNECT).filter(lambda code: code != 0x04))  # a client's own code
    found = data.draw(properties_of(T.DISCONNECT, 5).filter(lambda found: P.SESSION_EXPIRY_INTERVAL not in found))
    with linked(listener, 5) as link:
        told = link.say(Disconnect(reason_code, found))
    assert told is not None
    assert (told[1].value, from_paho(told[2])) == (reason_code, found)


@every_level
def test_a_ping_and_its_answer_pass(listener: socket.socket, level: int) -> None:
    with linked(listener, level) as link:
        link.client._send_pingreq()  # by itself it pings after a keep alive's time
        assert link.heard() == Pingreq()
        assert link.client._ping_t > 0
        link.say(Pingresp())
        assert link.client._ping_t == 0
