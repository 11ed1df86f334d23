"""Enhanced authentication: as many steps as the application wants, at CONNECT and again on the open connection."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Publish,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import METHOD, PUBLIC_LIMITS, TOPIC, PublicClient, publish, reason

WINDOW = LIMITS.inflight_max


def auth(data: bytes, code: ReasonCode = ReasonCode.CONTINUE_AUTHENTICATION, method: str = METHOD) -> Auth:
    return Auth(code, {PropertyId.AUTHENTICATION_METHOD: method, PropertyId.AUTHENTICATION_DATA: data})


async def knock(public: PublicNode, method: str = METHOD) -> PublicClient:
    """CONNECT with an authentication method; nothing is answered yet."""
    client = await public.client()
    await client.send(Connect("phone", properties={PropertyId.AUTHENTICATION_METHOD: method}))
    return client


async def let_in(public: PublicNode, user: bytes = b"ana") -> PublicClient:
    client = await knock(public)
    assert await client.next() == auth(b"who?")
    await client.send(auth(user))
    assert await client.next() == auth(b"why?")
    await client.send(auth(b"for fun"))
    connack = await client.expect(Connack)
    assert connack.reason_code == 0
    assert connack.properties[PropertyId.AUTHENTICATION_METHOD] == METHOD
    assert connack.properties[PropertyId.AUTHENTICATION_DATA] == b"come in"
    return client


async def test_an_authentication_may_take_several_steps(public: PublicNode) -> None:
    client = await let_in(public)
    assert public.users() == {"ana"}
    assert public.hooks.reasons == [b"for fun"]
    assert await client.before_pong() == []


async def test_an_authentication_that_fails_ends_in_connack(public: PublicNode) -> None:
    client = await knock(public)
    for answer in (b"ana", b"no reason"):
        await client.next()
        await client.send(auth(answer))
    assert (await client.expect(Connack)).reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await client.rest() == []
    assert public.users() == set()


async def test_an_unknown_method_is_refused(public: PublicNode) -> None:
    client = await knock(public, "ring")
    assert (await client.expect(Connack)).reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
    assert await client.rest() == []


@pytest.mark.parametrize(
    "instead", [Publish(TOPIC, b"x"), Pingreq(), auth(b"ana", method="ring"), auth(b"ana", ReasonCode.REAUTHENTICATE)]
)
async def test_during_the_authentication_nothing_else_may_come(public: PublicNode, instead: Packet) -> None:
    client = await knock(public)
    await client.next()
    await client.send(instead)
    assert await client.rest() == []
    await public.gone()
    assert public.users() == set()
    assert public.hooks.reasons == []


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(public: PublicNode) -> None:
    client = await knock(public)
    await client.next()
    client.close()
    await public.gone()
    await public.until(lambda: not public.server._tasks)
    assert public.users() == set()


async def test_a_client_that_was_closed_before_it_was_asked_leaves_nothing(public: PublicNode) -> None:
    public.hooks.knocking.close()
    client = await knock(public)
    await public.hooks.knocking.waiting.wait()
    (connection,) = public.server._connections
    connection.close()
    assert await client.rest() == []
    await public.gone()
    public.hooks.knocking.open()
    await public.until(lambda: not public.server._tasks)


class TestWithThreeSecondsToConnect:
    @pytest.fixture
    def public_limits(self) -> BrokerLimits:
        return replace(PUBLIC_LIMITS, connect_timeout_s=3)

    async def test_each_answer_has_its_own_time(self, public: PublicNode) -> None:
        client = await knock(public)
        assert await client.next() == auth(b"who?")
        public.tick(3)
        await client.send(auth(b"ana"))
        assert await client.next() == auth(b"why?")
        public.tick(3)
        await client.send(auth(b"for fun"))
        assert (await client.expect(Connack)).reason_code == 0

    async def test_who_does_not_answer_is_cut_off(self, public: PublicNode) -> None:
        client = await knock(public)
        await client.next()
        public.tick(4)
        assert await client.rest() == []
        assert public.server.counters.refusals["CONNECT_TIMEOUT"] == 1


async def test_authenticating_again_lets_everything_else_flow(public: PublicNode, sender: PublicClient) -> None:
    client = await let_in(public)
    await client.subscribe(TOPIC)
    await client.send(auth(b"", ReasonCode.REAUTHENTICATE))
    assert await client.next() == auth(b"who?")
    await publish(sender, "meanwhile")
    assert await client.take(1) == ["meanwhile"]
    assert await client.before_pong() == []
    await client.send(auth(b"ana"))
    assert await client.next() == auth(b"why?")
    await client.send(auth(b"still for fun"))
    assert await client.next() == auth(b"come in", ReasonCode.SUCCESS)
    await publish(sender, "after")
    assert await client.take(1) == ["after"]


@pytest.mark.parametrize(("user", "why"), [(b"ana", b"no reason"), (b"bruno", b"for fun")])
async def test_who_fails_to_authenticate_again_or_is_another_by_then_is_cut_off(
    public: PublicNode, user: bytes, why: bytes
) -> None:
    client = await let_in(public)
    await client.send(auth(b"", ReasonCode.REAUTHENTICATE))
    for answer in (user, why):
        await client.next()
        await client.send(auth(answer))
    assert reason(await client.rest()) == ReasonCode.NOT_AUTHORIZED
    assert public.users() == set()


@pytest.mark.parametrize(
    "wrong",
    [auth(b"", ReasonCode.REAUTHENTICATE, "ring"), auth(b"x"), Auth(), auth(b"x", ReasonCode.SUCCESS)],
    ids=["another method", "answers nothing", "no method", "success"],
)
async def test_an_auth_that_does_not_fit_is_a_protocol_error(public: PublicNode, wrong: Auth) -> None:
    client = await let_in(public)
    await client.send(wrong)
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_one_authentication_at_a_time(public: PublicNode) -> None:
    client = await let_in(public)
    public.hooks.knocking.close()
    await client.send(auth(b"", ReasonCode.REAUTHENTICATE))
    await public.hooks.knocking.waiting.wait()
    await client.send(auth(b"", ReasonCode.REAUTHENTICATE))
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR
    public.hooks.knocking.open()
    await public.until(lambda: not public.server._tasks)


async def test_who_connected_without_a_method_may_not_use_auth(public: PublicNode) -> None:
    client = await public.connected("ana")
    with contextlib.suppress(ConnectionError):
        await client.send(Auth(ReasonCode.REAUTHENTICATE))
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_a_client_that_leaves_while_it_authenticates_again_leaves_nothing(public: PublicNode) -> None:
    client = await let_in(public)
    await client.send(auth(b"", ReasonCode.REAUTHENTICATE))
    await client.next()
    client.close()
    await public.gone()
    await public.until(lambda: not public.server._tasks)
