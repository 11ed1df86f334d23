"""Token providers that take long or fail: nothing else waits for them."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from recado.client import ClientLimits, RecadoError, connect
from tests.client.conftest import QUICK, until
from tests.client.scripted import Peer, Scripted
from tests.support.tokens import mint_token

SECRET = "a secret of this test that is long enough for HS256"


class HangsOnce:
    """Its first token ends soon, the second one never comes."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_asked_again = asyncio.Event()

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked == 2:
            self.is_asked_again.set()
            await asyncio.Event().wait()
        return mint_token(SECRET, "ana", 2.5 if self.asked == 1 else 1_000)


async def lets_in(peer: Peer) -> None:
    await peer.accept()
    await peer.rest()


async def test_a_provider_that_hangs_is_given_up(mqtt_url: str) -> None:
    async def hangs() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(RecadoError, match="took longer"):
        async with connect(mqtt_url, hangs, limits=ClientLimits(token_s=0.05)):
            pass


async def test_a_client_that_waits_for_a_token_pings_and_hears_the_connection_end() -> None:
    provide = HangsOnce()

    async def ends(peer: Peer) -> None:
        await peer.accept()
        reading = asyncio.create_task(peer.rest())
        await provide.is_asked_again.wait()
        pings = peer.pings
        await until(lambda: peer.pings >= pings + 2)
        peer.close()
        await reading

    limits = dataclasses.replace(QUICK, keep_alive_s=1, token_s=1_000)
    async with Scripted(ends, lets_in) as server, connect(server.url, provide, limits=limits) as client:
        await until(lambda: server.connections == 2)
        await until(lambda: client.is_connected)
    assert provide.asked == 3


async def test_a_client_that_waits_for_a_token_leaves_a_server_that_is_silent() -> None:
    provide = HangsOnce()

    async def goes_silent(peer: Peer) -> None:
        await peer.accept()
        await until(lambda: server.connections == 2)

    limits = dataclasses.replace(QUICK, keep_alive_s=2, answer_s=0.2, token_s=1_000)
    async with Scripted(goes_silent, lets_in) as server, connect(server.url, provide, limits=limits):
        await until(lambda: server.connections == 2)
    assert provide.asked == 3


async def test_a_client_that_waits_for_a_token_closes_at_once() -> None:
    provide = HangsOnce()
    before = asyncio.all_tasks()
    limits = dataclasses.replace(QUICK, token_s=1_000)
    async with Scripted(lets_in) as server:
        async with connect(server.url, provide, limits=limits):
            await provide.is_asked_again.wait()
        await until(lambda: asyncio.all_tasks() == before)


async def test_a_provider_that_times_out_itself_is_quoted_as_it_is(mqtt_url: str) -> None:
    async def times_out() -> str:
        raise TimeoutError("the directory does not answer")

    with pytest.raises(TimeoutError, match="the directory does not answer"):
        async with connect(mqtt_url, times_out):
            pass
