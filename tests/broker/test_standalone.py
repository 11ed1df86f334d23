"""What the stand-alone server's hooks answer: the cases that no client of a process can make alone."""

from __future__ import annotations

import pytest

from recado.broker.acl import parse_acl
from recado.broker.hooks import ROUTE, Identity, Refused
from recado.broker.passwords import PasswordChecks, PasswordLimits, TooManyChecks
from recado.broker.standalone import StandaloneHooks
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session

METHOD, DATA = PropertyId.AUTHENTICATION_METHOD, PropertyId.AUTHENTICATION_DATA


def verify_token(token: str) -> Identity:
    """Tokens here are `token of <user>`."""
    if not token.startswith("token of "):
        raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "this is no token")
    return Identity(token.removeprefix("token of "), 1_900_000_000)


async def no_challenge(_data: bytes) -> bytes:
    raise AssertionError("nothing was to be asked")


def connect(
    user: str | None = None, password: bytes | None = None, properties: Properties = EMPTY_PROPERTIES
) -> Connect:
    return Connect("phone", username=user, password=password, properties=properties)


def session(user: str = "ana", client_id: str = "phone") -> Session:
    return Session(user, client_id, 10)


async def refusal(hooks: StandaloneHooks, asked: Connect) -> tuple[ReasonCode, str]:
    with pytest.raises(Refused) as refused:
        await hooks.authenticate(asked, no_challenge)
    return refused.value.reason_code, refused.value.text


class Passwords(PasswordChecks):
    """Real ones, of which each answer is what it is told."""

    def __init__(self, right: bool | None) -> None:
        super().__init__({}, PasswordLimits(1, 1, 1))
        self.right = right
        self.asked: list[str] = []

    async def is_right(self, user: str, password: bytes) -> bool:
        self.asked.append(user)
        if self.right is None:
            raise TooManyChecks
        return self.right


# Who connects


async def test_where_nothing_lets_anybody_in_nobody_is_let_in() -> None:
    hooks = StandaloneHooks()
    assert (await refusal(hooks, connect()))[0] == ReasonCode.NOT_AUTHORIZED
    for asked in (connect("ana"), connect("ana", b"x"), connect(None, b"x")):
        assert (await refusal(hooks, asked))[0] == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_anonymity_is_for_those_who_claim_nothing() -> None:
    hooks = StandaloneHooks(allow_anonymous=True)
    assert await hooks.authenticate(connect(), no_challenge) == Identity("")
    for asked in (connect("ana"), connect("ana", b"x"), connect(None, b"x"), connect(""), connect("", b"")):
        assert (await refusal(hooks, asked))[0] == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_when_too_many_passwords_wait_the_client_is_told_to_try_again() -> None:
    hooks = StandaloneHooks(passwords=Passwords(None))
    assert (await refusal(hooks, connect("ana", b"x")))[0] == ReasonCode.SERVER_BUSY


async def test_a_token_costs_no_password_check_and_a_wrong_one_is_a_wrong_password() -> None:
    passwords = Passwords(right=False)
    hooks = StandaloneHooks(passwords=passwords, verify_token=verify_token)
    identity = Identity("ana", 1_900_000_000)
    assert await hooks.authenticate(connect("ana", b"token of ana"), no_challenge) == identity
    assert await hooks.authenticate(connect(None, b"token of ana"), no_challenge) == identity
    assert passwords.asked == []
    said = {await refusal(hooks, connect("ana", password)) for password in (b"token of bruno", b"x", b"\xff")}
    assert len(said) == 1
    assert passwords.asked == ["ana"] * 3


async def test_where_only_tokens_are_good_the_client_is_told_what_is_wrong_with_its_own() -> None:
    hooks = StandaloneHooks(verify_token=verify_token)
    assert await refusal(hooks, connect("ana", b"x")) == (ReasonCode.BAD_USER_NAME_OR_PASSWORD, "this is no token")
    for asked in (connect("bruno", b"token of ana"), connect("ana", b"\xff"), connect("", b"token of ana")):
        assert (await refusal(hooks, asked))[0] == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_the_method_token_takes_it_from_connect_or_asks_for_it() -> None:
    hooks = StandaloneHooks(verify_token=verify_token)
    asked = []

    async def challenge(data: bytes) -> bytes:
        asked.append(data)
        return b"token of ana"

    given = connect(properties={METHOD: "token", DATA: b"token of bruno"})
    assert (await hooks.authenticate(given, no_challenge)).user == "bruno"
    assert (await hooks.authenticate(connect(properties={METHOD: "token"}), challenge)).user == "ana"
    assert asked == [b""]


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("SCRAM-SHA-1", b"token of ana", ReasonCode.BAD_AUTHENTICATION_METHOD),
        ("Token", b"token of ana", ReasonCode.BAD_AUTHENTICATION_METHOD),
        ("token", b"x", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("token", b"\xff", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("token", b"token of bruno", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
    ],
)
async def test_no_other_method_and_no_other_users_token_is_taken(method: str, data: bytes, code: ReasonCode) -> None:
    hooks = StandaloneHooks(verify_token=verify_token, allow_anonymous=True)
    assert (await refusal(hooks, connect("ana", properties={METHOD: method, DATA: data})))[0] == code
    with pytest.raises(Refused) as refused:
        await hooks.reauthenticate(session("ana"), method, data, no_challenge)
    assert refused.value.reason_code == ReasonCode.NOT_AUTHORIZED


async def test_without_keys_for_tokens_there_is_no_method() -> None:
    hooks = StandaloneHooks(passwords=Passwords(right=True), allow_anonymous=True)
    asked = connect(properties={METHOD: "token", DATA: b"token of ana"})
    assert (await refusal(hooks, asked))[0] == ReasonCode.BAD_AUTHENTICATION_METHOD


async def test_a_token_is_renewed_for_the_same_user() -> None:
    hooks = StandaloneHooks(verify_token=verify_token)
    renewed = await hooks.reauthenticate(session("ana"), "token", b"token of ana", no_challenge)
    assert renewed == Identity("ana", 1_900_000_000)


# What they may do


def publish(topic_name: str) -> Publish:
    return Publish(topic_name, b"x")


def test_without_an_acl_everything_is_allowed_but_what_is_the_servers_own() -> None:
    hooks = StandaloneHooks()
    assert hooks.may_receive is None
    for topic_name in ("a", "/", "$other/x", "$SYSTEM", "$shared/x", "a/$SYS"):
        assert hooks.on_publish(session(), publish(topic_name)) is ROUTE
    for topic_name in ("$SYS", "$SYS/x", "$share", "$share/g/a"):
        outcome = hooks.on_publish(session(), publish(topic_name))
        assert outcome is not None
        assert outcome.reason_code == ReasonCode.NOT_AUTHORIZED


def test_no_acl_lets_a_client_publish_as_the_server() -> None:
    hooks = StandaloneHooks(acl=parse_acl("everyone\ntopic readwrite #\ntopic readwrite $SYS/#\ntopic write $x/#"))
    for topic_name, allowed in (("a", True), ("$x/a", True), ("$y/a", False), ("$SYS/a", False), ("$share/g/a", False)):
        assert (hooks.on_publish(session(), publish(topic_name)) is ROUTE) == allowed, topic_name


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_subscription_is_granted_at_the_qos_that_was_asked_for(qos: int) -> None:
    for hooks in (StandaloneHooks(), StandaloneHooks(acl=parse_acl("everyone\ntopic read a/#"))):
        for topic_filter in ("a/+", "$share/group/a/b", "#"):
            request = SubscriptionRequest(topic_filter, qos)
            assert await hooks.authorize_subscription(session(), request) == qos


async def test_sharing_a_filter_gives_no_more_than_the_filter() -> None:
    hooks = StandaloneHooks(acl=parse_acl("everyone\ntopic read $share-of/x\ntopic read a"))
    for topic_filter in ("b", "$share/a/b", "$share/g/$share-of/y"):
        request = SubscriptionRequest(topic_filter)
        assert await hooks.authorize_subscription(session(), request) == ReasonCode.NOT_AUTHORIZED


async def test_another_acl_holds_from_the_next_question_on() -> None:
    hooks = StandaloneHooks(acl=parse_acl("everyone\ntopic readwrite a"))
    assert hooks.may_receive is not None
    assert hooks.may_receive(session(), "a")
    assert hooks.on_publish(session(), publish("a")) is ROUTE
    assert hooks.reload(None, parse_acl("everyone\ntopic readwrite b")) == set()
    assert not hooks.may_receive(session(), "a")
    assert hooks.may_receive(session(), "b")
    assert hooks.on_publish(session(), publish("a")) is not ROUTE


def test_response_topics_are_the_sessions_own_where_its_user_may_read() -> None:
    assert StandaloneHooks().response_information(session()) == "response/phone"
    acl = parse_acl("user ana\npattern read response/%c")
    assert StandaloneHooks(acl=acl).response_information(session("ana")) == "response/phone"
    assert StandaloneHooks(acl=acl).response_information(session("bruno")) is None
    for client_id in ("a/b", "#", "+"):
        assert StandaloneHooks().response_information(session("ana", client_id)) is None


async def test_topics_have_no_logs() -> None:
    hooks = StandaloneHooks()
    assert await hooks.resume_positions(session(), [("after", "x=1")]) == {}
    with pytest.raises(Refused):
        await hooks.read_log("ana", "a", 0, 10)
