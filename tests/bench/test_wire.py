"""Bytes are counted on the sockets, and must be what the kernel counted; a silence parts one exchange from the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from recado.bench.cycles import Cycles
from recado.bench.failure import Failure, RunFailed
from recado.bench.radio import Radio
from recado.bench.wire import SILENCE_S, Wire

ANSWER = b"world"
TAIL_S = 1.0


class Peer:
    """Answers everything that comes, on a real connection to the wire."""

    def __init__(self, wire: Wire, failure: Failure, closer: asyncio.Event) -> None:
        self.wire = wire
        self.failure = failure
        self.close = closer.set
        self._answered = asyncio.Event()
        wire.receive = self._receive

    def _receive(self, data: bytes) -> None:
        self._answered.set()

    async def exchange(self, asked: bytes) -> None:
        self._answered.clear()
        self.wire.write(asked)
        await self._answered.wait()


@asynccontextmanager
async def connected() -> AsyncIterator[Peer]:
    closer = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing = asyncio.ensure_future(closer.wait())
        while not closer.is_set():
            reading = asyncio.ensure_future(reader.read(1000))
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or not reading.result():
                reading.cancel()
                break
            writer.write(ANSWER)
        writer.close()

    failure = Failure()
    wire = Wire(Radio(TAIL_S), failure)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    await wire.connect(server.sockets[0].getsockname()[1])
    try:
        yield Peer(wire, failure, closer)
    finally:
        wire.close()
        closer.set()
        server.close()
        await server.wait_closed()


async def test_the_bytes_that_are_counted_are_those_of_the_kernel() -> None:
    async with connected() as peer:
        for number in range(10):
            await peer.exchange(b"hello" * (number + 1))
        peer.wire.check_against_kernel()
        peer.failure.check()
        traffic = peer.wire.traffic()
        assert (traffic.bytes_up, traffic.bytes_down) == (275, 10 * len(ANSWER))
        assert traffic.packets_up >= 10
        assert traffic.packets_down >= 10


async def test_a_byte_more_than_the_kernel_counted_fails_the_run() -> None:
    async with connected() as peer:
        await peer.exchange(b"hello")
        peer.wire.bytes_up += 1
        peer.wire.check_against_kernel()
        with pytest.raises(RunFailed, match="6 bytes up and 5 down, but the kernel counted 5 and 5"):
            peer.failure.check()


async def test_a_connection_that_the_server_closes_fails_the_run() -> None:
    async with connected() as peer:
        peer.close()
        with pytest.raises(RunFailed, match="the server closed a connection"):
            await peer.failure.unless(asyncio.Event().wait(), 5, "nothing")


async def test_rates_are_those_of_whole_cycles_whatever_is_cut_at_the_ends() -> None:
    async with connected() as peer:
        loop = asyncio.get_running_loop()
        await peer.exchange(b"the handshake")
        cycles = Cycles(peer.wire, Radio(TAIL_S))
        start, every_s = loop.time(), 1.5 * SILENCE_S
        for number in range(3):
            await asyncio.sleep(start + (number + 1) * every_s - loop.time())
            await peer.exchange(b"four")
            await peer.exchange(b"four")  # the same exchange: no silence before it
        await asyncio.wait_for(cycles.complete(), 5)
        bytes_up, bytes_down, *_ = cycles.traffic_per_s()
        assert bytes_up == pytest.approx(8 / every_s, rel=0.1)
        assert bytes_down == pytest.approx(2 * len(ANSWER) / every_s, rel=0.1)


async def test_a_tab_without_a_whole_cycle_has_no_rate() -> None:
    async with connected() as peer:
        cycles = Cycles(peer.wire, Radio(TAIL_S))
        with pytest.raises(RunFailed, match="no whole cycle"):
            cycles.traffic_per_s()


def touched(*times: float) -> Radio:
    radio = Radio(TAIL_S)
    for now in times:
        radio.touch(now)
    return radio


def test_a_radio_wakes_up_for_what_comes_after_its_tail_and_stays_up_for_what_comes_before() -> None:
    assert touched(10.0, 10.4, 10.9).wakeups == 1
    assert touched(10.0, 10.4, 12.0).wakeups == 2
    assert touched(10.0, 10.5, 11.0).on_s == pytest.approx(TAIL_S + 1.0)
    assert touched(10.0, 20.0).on_s == pytest.approx(2 * TAIL_S)
