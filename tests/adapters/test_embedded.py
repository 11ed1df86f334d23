"""The embedded broker's seam to the conversations: what a client is told of each way that its publish may end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from recado.adapters.broker.embedded import REASON_CODES, EmbeddedBroker
from recado.app.limits import DEFAULT
from recado.broker.hooks import Identity, Refused
from recado.broker.publication import Publication
from recado.broker.server import Settle
from recado.chat import errors
from recado.chat.actions import Chat
from recado.chat.errors import ChatError, Unavailable, no_such_conversation
from recado.chat.event import CONVERSATION_ERASED, Committed, Event
from recado.chat.membership import MembershipCache
from recado.chat.principal import Principal
from recado.chat.stages import Stages
from recado.mqtt.packets import Connect, Publish
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from recado.ports import Delivered, DeliveredMark, Membership, NewMessage, Sent, Store


class OneAnswer:
    """A store whose next append ends as the test says."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        self.asked: list[NewMessage] = []

    def append_message(self, message: NewMessage) -> asyncio.Future[Sent]:
        self.asked.append(message)
        return self.future

    async def membership(self, conversation: str) -> Membership:
        raise no_such_conversation(conversation)

    async def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        return []


class Settled:
    """The MQTT server's part: remembers how publishes ended."""

    def __init__(self) -> None:
        self.codes: list[ReasonCode] = []
        self.slowed: list[str] = []

    def settling(self, session: Session, publish: Publish, is_kept_with_it: bool = False) -> Settle:
        return self.settle

    def settle(self, reason_code: ReasonCode, text: str) -> None:
        self.codes.append(reason_code)

    def slow_down(self, session: Session) -> None:
        self.slowed.append(session.user)


@pytest.fixture
async def store() -> OneAnswer:
    return OneAnswer()


@pytest.fixture
async def broker(store: OneAnswer) -> EmbeddedBroker:
    def nobody(token: str) -> Principal:
        raise AssertionError

    broker = EmbeddedBroker(nobody, DEFAULT.broker)
    broker.server._ticker.cancel()
    broker.server = cast(Any, Settled())
    members = MembershipCache(cast(Store, store), 10)
    broker.chat = Chat(cast(Store, store), broker, members, DEFAULT.chat, now_ms=lambda: 1, stages=Stages(lambda: 1))
    return broker


def publish(broker: EmbeddedBroker, topic_name: str = "c/order", payload: bytes = b"hi") -> ReasonCode | None:
    """Publish as ana; the code if it was settled at once."""
    outcome = broker.on_publish(Session("ana", "phone", 10), Publish(topic_name, payload, 1, packet_id=1))
    return None if outcome is None else outcome.reason_code


async def settled(broker: EmbeddedBroker) -> list[ReasonCode]:
    for _ in range(5):
        await asyncio.sleep(0)
    return cast(Any, broker.server).codes  # type: ignore[no-any-return]


def chat_errors(kind: type[ChatError] = ChatError) -> Iterator[type[ChatError]]:
    for each in kind.__subclasses__():
        yield each
        yield from chat_errors(each)


def test_every_refusal_has_a_reason_code_that_a_puback_may_carry() -> None:
    assert {each.code for each in chat_errors()} <= set(REASON_CODES)
    assert REASON_CODES[errors.NotFound.code] == REASON_CODES[errors.Forbidden.code], "they look alike"


async def test_success_is_told_when_the_store_has_committed_and_not_before(
    broker: EmbeddedBroker, store: OneAnswer
) -> None:
    assert publish(broker) is None
    assert await settled(broker) == []
    store.future.set_result(Sent(Event(seq=1, sender="ana", at=1), created=True))
    assert await settled(broker) == [ReasonCode.SUCCESS]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (no_such_conversation("order"), ReasonCode.NOT_AUTHORIZED),
        (Unavailable("the disk is full"), ReasonCode.SERVER_BUSY),
        (RuntimeError("a bug"), ReasonCode.SERVER_BUSY),
    ],
)
async def test_a_failure_is_told_as_what_it_is(
    broker: EmbeddedBroker, store: OneAnswer, error: Exception, code: ReasonCode
) -> None:
    assert publish(broker) is None
    store.future.set_exception(error)
    assert await settled(broker) == [code]


async def test_a_write_that_was_given_up_is_not_acknowledged(broker: EmbeddedBroker, store: OneAnswer) -> None:
    assert publish(broker) is None
    store.future.cancel()
    assert await settled(broker) == [ReasonCode.SERVER_BUSY]


@pytest.mark.parametrize(
    ("topic_name", "payload", "code"),
    [
        ("c/order", b"{", ReasonCode.PAYLOAD_FORMAT_INVALID),
        ("c/order", b"\xff", ReasonCode.PAYLOAD_FORMAT_INVALID),
        ("c/order", b" ", ReasonCode.PAYLOAD_FORMAT_INVALID),
        ("c/order", b"x" * (16 * 1024 + 1), ReasonCode.QUOTA_EXCEEDED),
        ("c/a b", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("c/", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("c", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("c/order/", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("c/order/else", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("c/order/live/x", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("x/order", b"hi", ReasonCode.NOT_AUTHORIZED),
        ("$SYS/x", b"hi", ReasonCode.NOT_AUTHORIZED),
    ],
)
async def test_what_is_wrong_in_itself_is_refused_at_once_and_does_not_reach_the_store(
    broker: EmbeddedBroker, store: OneAnswer, topic_name: str, payload: bytes, code: ReasonCode
) -> None:
    assert publish(broker, topic_name, payload) == code
    assert store.asked == []


# Signals


async def test_a_signal_too_many_slows_its_connection_down_before_the_next_packet_is_read(
    broker: EmbeddedBroker,
) -> None:
    for _ in range(DEFAULT.chat.signal_rate_max):
        publish(broker, "c/order/live", b'{"type":"typing"}')
    assert cast(Any, broker.server).slowed == []
    publish(broker, "c/order/live", b"nonsense counts too")
    assert cast(Any, broker.server).slowed == ["ana"]
    publish(broker)
    assert cast(Any, broker.server).slowed == ["ana"], "a message is no signal"


async def test_a_connection_that_did_not_come_to_be_takes_nobody_offline(broker: EmbeddedBroker) -> None:
    there, failed = Session("ana", "phone", 10), Session("ana", "desk", 10)
    broker.on_connected(there)
    broker.on_disconnected(failed, None)
    assert broker.chat.presence._going == {}
    broker.on_disconnected(there, None)
    assert list(broker.chat.presence._going) == ["ana"]
    broker.chat.presence.close()


async def test_what_is_acknowledged_of_a_log_is_delivered_and_a_signal_is_not(broker: EmbeddedBroker) -> None:
    session = Session("bruno", "phone", 10)
    broker.on_acknowledged(session, Publication("c/order/live", b"{}", 1))
    broker.on_acknowledged(session, Publication("c/order", b'{"seq":7,"from":"ana"}', 1, 7).held())
    assert broker.chat.receipts._pending == {("order", "bruno"): 7}


# Who connects


def named(token: str) -> Principal:
    """Who a token of these tests is for: it is its user's name."""
    if token in ("", "forged"):
        raise errors.Unauthenticated("this is no good token")
    return Principal(None if token == "host" else token, expires_at_s=1_000)


async def unasked(data: bytes) -> bytes:
    raise AssertionError("a token is all that there is to know")


def by_method(data: bytes | None, method: str = "token") -> Properties:
    properties: dict[PropertyId, Any] = {PropertyId.AUTHENTICATION_METHOD: method}
    return properties if data is None else {**properties, PropertyId.AUTHENTICATION_DATA: data}


@pytest.fixture
async def door() -> EmbeddedBroker:
    door = EmbeddedBroker(named, DEFAULT.broker)
    door.server._ticker.cancel()
    return door


@pytest.mark.parametrize(
    "connect",
    [
        Connect("phone", password=b"ana"),
        Connect("phone", username="ana", password=b"ana"),
        Connect("phone", properties=by_method(b"ana")),
        Connect("phone", username="ana", password=b"ignored", properties=by_method(b"ana")),
    ],
)
async def test_a_token_comes_as_the_password_or_by_the_authentication_method(
    door: EmbeddedBroker, connect: Connect
) -> None:
    assert await door.authenticate(connect, unasked) == Identity("ana", 1_000)


@pytest.mark.parametrize(
    ("connect", "code"),
    [
        (Connect("phone"), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", username="ana"), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", password=b"forged"), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", password=b"\xff"), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", username="bruno", password=b"ana"), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", username="bruno", properties=by_method(b"ana")), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", properties=by_method(b"forged")), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", password=b"ana", properties=by_method(None)), ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (Connect("phone", properties=by_method(b"ana", "SCRAM-SHA-256")), ReasonCode.BAD_AUTHENTICATION_METHOD),
        (Connect("phone", password=b"host"), ReasonCode.NOT_AUTHORIZED),
    ],
)
async def test_what_is_no_users_token_lets_nobody_in(door: EmbeddedBroker, connect: Connect, code: ReasonCode) -> None:
    with pytest.raises(Refused) as refused:
        await door.authenticate(connect, unasked)
    assert refused.value.reason_code == code


async def test_a_newer_token_renews_the_old_one(door: EmbeddedBroker) -> None:
    session = Session("ana", "phone", 10)
    assert await door.reauthenticate(session, "token", b"ana", unasked) == Identity("ana", 1_000)
    for method, token in (("token", b"forged"), ("SCRAM-SHA-256", b"ana")):
        with pytest.raises(Refused):
            await door.reauthenticate(session, method, token, unasked)


class Told:
    """The MQTT server's part: remembers what it was asked to do, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def stop_log(self, user: str, topic_name: str) -> None:
        self.asked.append(("stop", user, topic_name))

    def publish_to(self, publication: Publication, recipients: frozenset[str], origin: object = None) -> int:
        self.asked.append(("publish", publication.topic_name, publication.payload, recipients))
        return len(recipients)

    async def end_sessions(self, user: str, reason_code: ReasonCode, text: str) -> None:
        self.asked.append(("end", user, reason_code))


async def test_an_erased_conversation_is_replayed_to_nobody_any_more_and_its_end_is_told(
    broker: EmbeddedBroker,
) -> None:
    told = Told()
    broker.server = cast(Any, told)
    pair = frozenset({"ana", "bruno"})

    broker.publish([Committed("c", Event(seq=7, sender=None, at=1, type=CONVERSATION_ERASED), pair)])

    assert sorted(told.asked[:2]) == [("stop", "ana", "c/c"), ("stop", "bruno", "c/c")]
    assert told.asked[2:] == [("publish", "c/c", b'{"seq":7,"from":null,"at":1,"type":"conversation_erased"}', pair)]


async def test_a_user_who_is_cut_off_is_told_that_somebody_decided_so(broker: EmbeddedBroker) -> None:
    told = Told()
    broker.server = cast(Any, told)
    await broker.disconnect("ana")
    assert told.asked == [("end", "ana", ReasonCode.ADMINISTRATIVE_ACTION)]
