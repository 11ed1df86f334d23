"""A `recado serve` of the comparison's own: a process, a folder, a copy of one prepared database, any free ports."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.bench.failure import RunFailed
from recado.bench.tabs import Ports
from recado.ports import NewConversation

START_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.02
WRITES_AT_A_TIME = 1_000
_DATABASE = "recado.db"


class OwnServer:
    def __init__(self, process: asyncio.subprocess.Process, ports: Ports) -> None:
        self.pid = process.pid
        self.ports = ports


async def prepare(folder: Path, conversations: Mapping[str, list[str]]) -> Path:
    """Make a database with these conversations."""
    database = folder / _DATABASE
    store = SqliteStore.open(database, DEFAULT.store)
    now_ms = time.time_ns() // 1_000_000
    created = (
        store.put_conversation(NewConversation(name, members, None, None, None, now_ms))
        for name, members in conversations.items()
    )
    while writes := list(islice(created, WRITES_AT_A_TIME)):
        await asyncio.gather(*writes)
    await store.close()
    return database


@asynccontextmanager
async def own_server(folder: Path, prepared: Path, secret: str, limits: Mapping[str, int]) -> AsyncIterator[OwnServer]:
    """Run it until the end of the block, in a folder that is made for it and removed with it. Raises RunFailed."""
    log = _furnish(folder, prepared)
    process = await _start(folder, log, secret, limits)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while (ports := _ports(process, log)) is None:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)  # its log is another process's
        yield OwnServer(process, ports)
        _check_log(log)
    except TimeoutError:
        raise RunFailed(f"the server was not ready after {START_TIMEOUT_S:g} s:\n{log.read_text()}") from None
    finally:
        if process.returncode is None:
            process.kill()  # its data have served their purpose
        await process.wait()
        shutil.rmtree(folder)


def _furnish(folder: Path, prepared: Path) -> Path:
    """Return where its log goes."""
    folder.mkdir()
    shutil.copy(prepared, folder / _DATABASE)
    return folder / "server.log"


async def _start(folder: Path, log: Path, secret: str, limits: Mapping[str, int]) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
    flags = [f"--database=sqlite:///{folder / _DATABASE}", "--log-format=json"]
    flags += [f"--{name}-port=0" for name in ("http", "mqtt", "ws")]
    flags += [f"--limit.{name}={number}" for name, number in limits.items()]
    with log.open("wb") as log_file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "recado", "serve", *flags),
            env={**environment, "RECADO_SECRET": secret, "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,  # Ctrl-C is the comparison's, which ends it
        )


def _ports(process: asyncio.subprocess.Process, log: Path) -> Ports | None:
    """What it says of its ports once it is ready."""
    text = log.read_text()
    for line in text.splitlines():
        if '"event": "ready"' in line:
            said = json.loads(line)
            return Ports(said["http_port"], said["mqtt_port"], said["ws_port"])
    if process.returncode is not None:
        raise RunFailed(f"the server did not start:\n{text}")
    return None


def _check_log(log: Path) -> None:
    """What was measured while the server had errors means nothing."""
    errors = [line for line in log.read_text().splitlines() if '"level": "error"' in line or "Traceback" in line]
    if errors:
        raise RunFailed("\n".join(["the server logged errors:", *errors[:5]]))
