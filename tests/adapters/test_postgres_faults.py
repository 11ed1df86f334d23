"""PostgreSQL is killed, connections are cut, somebody holds a lock: nothing acknowledged is lost, nothing comes twice,
and it goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.services.postgres import Postgres
from recado.chat.errors import Unavailable
from recado.ports import Sent, Sink, Wanted
from tests.adapters.conftest import OpenNode
from tests.adapters.database_nodes import LIMITS, Node, acknowledged
from tests.adapters.postgres import TIMEOUT_S, connected
from tests.app.commands import SECRET, refusal
from tests.contracts.stores import PAGE, create, send, whole_log

SENDERS = 8
BACK_WITHIN_S = 10.0
CONNECTIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'recado' AND datname = current_database()"
IN_A_BATCH = f"{CONNECTIONS} AND state <> 'idle' AND xact_start IS NOT NULL"

HOLD_COMMITS = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""  # a commit with an event in it waits for whoever has that lock
HELD_COMMIT = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


class Traffic:
    """ana sends at all nodes at once, each message until it is acknowledged."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.sent: dict[str, Sent] = {}
        self._stopping = False
        self._news = asyncio.Event()

    async def send(self, node: Node, name: str) -> None:
        n = 0
        while not self._stopping:
            n += 1
            message_id = f"{name}-{n}"
            self.sent[message_id] = await acknowledged(node, message_id)
            self._news.set()

    async def flows(self, more: int) -> None:
        """Wait until so many more messages are acknowledged."""
        wanted = len(self.sent) + more
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.sent) < wanted:
                self._news.clear()
                await self._news.wait()

    async def check(self) -> None:
        """Everything that was acknowledged is in the log where it was said to be, once; and every node was handed out
        the log, in order, once."""
        log = await whole_log(self.nodes[0].store)
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
        found = {event.id: event.seq for event in log}
        assert len(found) == len(log), "nothing is there twice"
        assert found == {message_id: sent.event.seq for message_id, sent in self.sent.items()}
        for node in self.nodes:
            await node.has(len(log))
            assert node.entries() == [("c", event.seq) for event in log]


@asynccontextmanager
async def flowing(nodes: list[Node]) -> AsyncIterator[Traffic]:
    """Messages flow at all nodes inside the block. At its end they have stopped, and everything is as it should be."""
    traffic = Traffic(nodes)
    senders = [
        asyncio.create_task(traffic.send(node, f"{place}-{n}"))
        for place, node in enumerate(nodes)
        for n in range(SENDERS)
    ]
    await traffic.flows(50)
    yield traffic
    traffic._stopping = True
    await asyncio.gather(*senders)
    await traffic.check()


async def two_nodes(url: str, *sinks: Sink) -> list[Node]:
    nodes = [await Node.open(url, sinks), await Node.open(url, sinks)]
    await create(nodes[0].store, "ana", "bruno")
    return nodes


async def close(nodes: list[Node]) -> None:
    await asyncio.gather(*(node.store.close() for node in nodes))


# The server


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_nothing_is_lost_or_doubled_when_the_server_goes_and_comes_back(
    own_postgres: Postgres, ending: str
) -> None:
    nodes = await two_nodes(own_postgres.url("recado"))
    async with flowing(nodes) as traffic:
        for _ in range(3):
            refusals = [node.refusals for node in nodes]
            await asyncio.to_thread(own_postgres.kill if ending == "kill" else own_postgres.stop)
            for node in nodes:
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(node.store.ping(), TIMEOUT_S)
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(node.store.events("c", None, None, None, PAGE), TIMEOUT_S)
            await asyncio.to_thread(own_postgres.start)
            began = time.monotonic()
            await traffic.flows(50)
            assert time.monotonic() - began < BACK_WITHIN_S
            assert all(node.refusals > before for node, before in zip(nodes, refusals, strict=True))
    await close(nodes)


async def test_jobs_and_claims_outlive_the_server(own_postgres: Postgres) -> None:
    (node, other) = nodes = await two_nodes(own_postgres.url("recado"), Sink("hook"))
    for n in range(4):
        await send(node.store, "ana", str(n))
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=1, lane_jobs_max=2)
    claims = await node.store.claim_jobs(wanted)

    own_postgres.kill()
    own_postgres.start()
    await acknowledged(other, "4")

    assert await other.store.claim_jobs(wanted) == [], "the lease goes on"
    await node.store.settle_jobs([each.job for each in claims])
    again = await other.store.claim_jobs(wanted._replace(lane_jobs_max=10))
    assert [each.job.seq for each in again] == [3, 4, 5]
    await close(nodes)


async def test_a_node_can_be_closed_while_the_server_is_away(own_postgres: Postgres) -> None:
    nodes = await two_nodes(own_postgres.url("recado"))
    own_postgres.kill()

    async with asyncio.timeout(TIMEOUT_S):
        await close(nodes)


# Its connections


async def test_nothing_is_lost_or_doubled_when_connections_are_cut_in_the_middle_of_batches(
    postgres_database: str, open_node: OpenNode
) -> None:
    nodes = [await open_node(), await open_node()]
    await create(nodes[0].store, "ana", "bruno")
    cut = 0
    async with connected(postgres_database) as other, flowing(nodes) as traffic:
        async with asyncio.timeout(3 * TIMEOUT_S):
            while cut < 40:
                pids = await other.fetch(IN_A_BATCH)
                for (pid,) in pids:
                    cut += await other.fetchval("SELECT pg_terminate_backend($1)", pid)
                await traffic.flows(10 if pids else 1)
    assert sum(node.refusals for node in nodes) > 0


# Somebody else's locks


@pytest.mark.parametrize("is_cut", [False, True], ids=["goes on", "is cut"])
async def test_before_a_commit_is_over_nothing_is_acknowledged_or_handed_out(
    postgres_database: str, open_node: OpenNode, is_cut: bool
) -> None:
    nodes = [await open_node(), await open_node()]
    await create(nodes[0].store, "ana", "bruno")
    async with connected(postgres_database) as other:
        await other.execute(HOLD_COMMITS)
        await other.execute("SELECT pg_advisory_lock(1)")
        sent = asyncio.ensure_future(send(nodes[0].store, "ana", "1"))
        while not (
            held := await other.fetchval("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        ):
            assert not sent.done()
        assert (await nodes[1].store.feed("ana", 0, PAGE)).entries == []
        if is_cut:
            await other.fetchval("SELECT pg_terminate_backend($1)", held)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(sent, TIMEOUT_S)
            assert [node.committed for node in nodes] == [[], []]
        else:
            assert not sent.done()
            assert [node.committed for node in nodes] == [[], []]
            await other.execute("SELECT pg_advisory_unlock(1)")
            assert (await asyncio.wait_for(sent, TIMEOUT_S)).created
    assert len(await whole_log(nodes[1].store)) == (0 if is_cut else 1)


async def test_a_node_that_stops_in_the_middle_of_a_commit_holds_the_others_up_for_a_while_only(
    open_node: OpenNode,
) -> None:
    limits = replace(LIMITS, idle_transaction_timeout_ms=500)
    stopped, node = await open_node(limits=limits), await open_node(limits=limits)
    await create(node.store, "ana", "bruno")
    db = await stopped.store._pool._connect()  # as its own connections are made
    ended = asyncio.Event()
    db.add_termination_listener(lambda _: ended.set())
    await db.execute("BEGIN")
    await db.fetch("SELECT position FROM log_end FOR UPDATE")

    sent = await asyncio.wait_for(send(node.store, "ana", "1"), TIMEOUT_S)

    assert sent.created
    await asyncio.wait_for(ended.wait(), TIMEOUT_S)


# Starting


def start(folder: Path, url: str) -> str:
    """What `recado serve` says when it refuses to start."""
    return refusal(folder, "serve", "--http-port=0", "--mqtt-port=0", "--ws-port=0", SECRET=SECRET, DATABASE=url)


def test_a_wrong_password_ends_a_node_at_its_start_with_one_line_that_does_not_have_it(
    postgres_database: str, tmp_path: Path
) -> None:
    right = postgres_database.split(":")[2].split("@")[0]

    said = start(tmp_path, postgres_database.replace(right, "a-wrong-password"))

    assert "does not let the user in" in said
    assert "\n" not in said
    assert "a-wrong-password" not in said


def test_a_server_that_is_away_ends_a_node_at_its_start_with_one_line(own_postgres: Postgres, tmp_path: Path) -> None:
    url = own_postgres.url("recado")
    own_postgres.stop()

    said = start(tmp_path, url)

    assert f"127.0.0.1:{own_postgres.port}" in said
    assert "\n" not in said
    assert url not in said
