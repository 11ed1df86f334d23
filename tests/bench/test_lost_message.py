"""Between a real server and the real clients, something loses one message: the run must not end well."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from recado.bench.compare import perform
from recado.bench.failure import RunFailed
from recado.bench.own_server import own_server, prepare
from recado.bench.parameters import Asked, parameters
from recado.bench.people import conversations
from recado.bench.task import Task, TrafficMeasured

PUBLISH_QOS_1 = 0x32


@asynccontextmanager
async def proxy(port: int, *, loses: bool) -> AsyncIterator[int]:
    """Passes everything on, but perhaps the second PUBLISH to each client, with what came together with it."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_down: bool) -> None:
        publishes = 0
        while data := await reader.read(65_536):
            publishes += is_down and data[0] == PUBLISH_QOS_1
            if publishes == 2 and loses:
                publishes += 1
            else:
                writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = pass_on(reader, back, is_down=False), pass_on(there, writer, is_down=True)
        await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def run_through_proxy(folder: Path, *, loses: bool) -> TrafficMeasured:
    given = parameters(Asked(users=4, period_s=0.5, transports=["mqtt-tcp-qos1"]))
    secret = secrets.token_urlsafe(32)
    prepared = await prepare(folder, conversations(given.users))
    async with (
        own_server(folder / "server", prepared, secret, {}) as server,
        proxy(server.ports.mqtt, loses=loses) as port,
    ):
        task = Task(
            transport="mqtt-tcp-qos1",
            is_idle=False,
            parameters=given,
            ports=msgspec.structs.replace(server.ports, mqtt=port),
            server_pid=server.pid,
            secret=secret,
        )
        measured = await perform(task, lambda done: None)
    assert isinstance(measured, TrafficMeasured)
    return measured


async def test_a_run_whose_messages_all_arrive_ends_well(tmp_path: Path) -> None:
    measured = await run_through_proxy(tmp_path, loses=False)
    assert len(measured.arrivals_ms) == measured.messages == 4


async def test_one_lost_message_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="MQTT 5 · TCP · QoS 1: user-"):
        await run_through_proxy(tmp_path, loses=True)
