"""How many sessions one user may keep: the longest absent one makes room, a connected one never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import Will
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, PublicNode

MOST = 2


@pytest.fixture
def public_limits() -> BrokerLimits:
    return replace(PUBLIC_LIMITS, sessions_per_user_max=MOST)


def client_ids(public: PublicNode) -> set[str]:
    return {session.client_id for session in public.server.sessions.of("ana")}


async def left(public: PublicNode, client_id: str, will: Will | None = None) -> None:
    """A session of ana's without a connection, a second before whatever comes next."""
    await public.leave(await public.kept("ana", client_id=client_id, will=will))
    public.clock.pass_by(1)


async def test_one_more_than_a_user_may_keep_ends_the_one_that_is_longest_without_a_connection(
    public: PublicNode,
) -> None:
    await left(public, "tablet")
    await left(public, "phone")
    await left(public, "tablet")

    laptop = await public.kept(client_id="laptop")

    assert not laptop.connack.session_present
    assert client_ids(public) == {"tablet", "laptop"}
    assert (await public.kept(client_id="tablet")).connack.session_present


async def test_it_is_ended_for_good_and_its_will_is_published(public: PublicNode, sender: PublicClient) -> None:
    await sender.subscribe(TOPIC)
    await left(public, "phone", Will(TOPIC, b"gone", 1, properties={PropertyId.WILL_DELAY_INTERVAL: 900}))
    await left(public, "tablet")
    await public.kept(client_id="laptop")

    assert await sender.take(1) == ["gone"]
    await public.restart()
    assert client_ids(public) == {"tablet", "laptop"}


async def test_who_has_all_of_them_connected_is_refused_and_told_to_use_a_clean_one(public: PublicNode) -> None:
    connected = [await public.kept(client_id=str(n)) for n in range(MOST)]
    one_more = await public.client()

    connack = await one_more.keep("ana", "one-more")

    assert connack.reason_code == ReasonCode.QUOTA_EXCEEDED
    assert "use a clean one" in str(connack.properties)
    assert [await client.before_pong() for client in connected] == [[]] * MOST
    await public.connected("ana", "clean")
    await public.kept("bruno", client_id="of-another-user")


async def test_a_session_that_is_resumed_or_replaced_takes_no_more_room(public: PublicNode) -> None:
    await left(public, "phone")
    await left(public, "tablet")

    assert (await public.kept(client_id="phone")).connack.session_present
    assert not (await public.kept(client_id="tablet", clean_start=True)).connack.session_present
    assert client_ids(public) == {"phone", "tablet"}


async def test_sessions_that_ended_give_their_room_back(public: PublicNode) -> None:
    for n in range(MOST):
        client = await public.kept(client_id=str(n))
        await public.leave(client)
        await public.leave(await public.connected("ana", str(n)))  # a clean one ends the one that was kept
    connected = [await public.kept(client_id=f"new-{n}") for n in range(MOST)]
    assert all(client.connack.reason_code == ReasonCode.SUCCESS for client in connected)


async def test_a_limit_lower_than_in_a_former_run_holds_from_the_next_new_session_on(public: PublicNode) -> None:
    public._limits = replace(PUBLIC_LIMITS, sessions_per_user_max=3)
    await public.restart()
    for n in range(3):
        await left(public, str(n))
    public._limits = replace(PUBLIC_LIMITS, sessions_per_user_max=MOST)
    await public.restart()
    assert client_ids(public) == {"0", "1", "2"}

    await public.kept(client_id="new")

    assert client_ids(public) == {"2", "new"}
