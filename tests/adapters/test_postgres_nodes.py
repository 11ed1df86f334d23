"""What several nodes on one PostgreSQL database promise: one order for all, nothing twice, nobody in another's way."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest

from deploy.services.postgres import Postgres
from recado.adapters.store.postgres import jobs as job_rows
from recado.adapters.store.postgres.store import PostgresStore
from recado.chat.errors import NotFound
from recado.chat.event import CONVERSATION_ERASED, MEMBER_REMOVED
from recado.ports import Claim, DeliveredMark, Job, JobFilter, LaneKey, NewMessage, Sent, Sink, Wanted
from tests.adapters.conftest import OpenNode
from tests.adapters.database_nodes import Node
from tests.adapters.postgres import TIMEOUT_S, connected
from tests.contracts.stores import MEMBERS_MAX, PAGE, change, create, new_conversation, send, seqs, whole_log

HOOK = Sink("hook")


async def nodes_with_conversations(open_node: OpenNode, count: int, *conversations: str) -> list[Node]:
    """So many nodes, in whose conversations ana and bruno are."""
    nodes = [await open_node() for _ in range(count)]
    for conversation in conversations:
        await create(nodes[0].store, "ana", "bruno", conversation=conversation)
    return nodes


async def all_of(awaitables: Sequence[Awaitable[object]]) -> list[object]:
    """What each came to, refusals included; it fails if one hangs."""
    async with asyncio.timeout(TIMEOUT_S):
        return await asyncio.gather(*awaitables, return_exceptions=True)


# One order for all


async def test_nodes_that_send_at_once_make_one_log_without_gaps_and_hand_it_out_alike(open_node: OpenNode) -> None:
    nodes = await nodes_with_conversations(open_node, 3, "c", "d")

    sent = await all_of(
        [
            send(node.store, "ana", f"{number}-{n}", conversation=conversation)
            for n in range(40)
            for number, node in enumerate(nodes)
            for conversation in ("c", "d")
        ]
    )

    assert all(isinstance(each, Sent) for each in sent)
    for node in nodes:
        await node.has(240)
        assert seqs(await whole_log(node.store)) == list(range(1, 121))
        assert seqs(await whole_log(node.store, "d")) == list(range(1, 121))
        positions = [entry.position for entry in node.committed]
        assert positions == sorted(set(positions))
    assert nodes[0].entries() == nodes[1].entries() == nodes[2].entries()


async def test_only_the_node_that_committed_an_event_has_its_origin(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    origin = object()

    await here.store.append_message(NewMessage("c", "ana", "1", "hi", 2_000, origin=origin))
    await there.has(1)

    assert [(entry.origin, entry.elsewhere) for entry in here.committed] == [(origin, False)]
    assert [(entry.origin, entry.elsewhere) for entry in there.committed] == [(None, True)]


async def test_a_node_is_handed_out_what_was_committed_since_it_was_opened(open_node: OpenNode) -> None:
    (first,) = await nodes_with_conversations(open_node, 1, "c")
    await send(first.store, "ana", "before")
    second = await open_node()

    await send(first.store, "ana", "after")
    await second.has(1)

    assert second.entries() == [("c", 2)]


async def test_nodes_that_find_an_empty_database_at_once_make_one_schema(open_node: OpenNode) -> None:
    nodes = await asyncio.gather(*(open_node() for _ in range(4)))

    await create(nodes[0].store, "ana")

    assert {(await send(node.store, "ana", str(number))).event.seq for number, node in enumerate(nodes)} == {1, 2, 3, 4}


# Members


def check_recipients(node: Node) -> None:
    """bruno gets what is before his removal, and that, and no more until he is a member again."""
    is_member = True
    for entry in node.committed:
        assert ("bruno" in entry.recipients) == (is_member or entry.event.user == "bruno"), entry
        if entry.event.user == "bruno":
            is_member = entry.event.type != MEMBER_REMOVED


async def test_a_removal_at_one_node_holds_on_all_while_others_send_there(open_node: OpenNode) -> None:
    nodes = await nodes_with_conversations(open_node, 3, "c")
    first, second, third = (node.store for node in nodes)

    async def come_and_go() -> None:
        for _ in range(5):
            await first.remove_member("c", "bruno", None, 3_000)
            await first.put_member("c", "bruno", None, 3_000, MEMBERS_MAX)
        await first.remove_member("c", "bruno", None, 3_000)

    sent = await all_of(
        [
            come_and_go(),
            *(send(second, "ana", f"second-{n}") for n in range(100)),
            *(send(third, "ana", f"third-{n}") for n in range(100)),
        ]
    )

    assert not [each for each in sent if isinstance(each, Exception)]
    for node in nodes:
        await node.has(211)
        check_recipients(node)
    assert nodes[0].recipients() == nodes[1].recipients() == nodes[2].recipients()


async def test_who_was_removed_at_one_node_can_send_at_no_other_from_then_on(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    await send(there.store, "bruno", "while a member")

    await here.store.remove_member("c", "bruno", None, 3_000)

    with pytest.raises(NotFound):
        await send(there.store, "bruno", "too late")
    with pytest.raises(NotFound):
        await there.store.events("c", "bruno", None, None, PAGE)


async def test_the_end_of_a_conversation_reaches_those_who_were_in_it_at_every_node(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    await send(there.store, "ana", "1")

    await here.store.erase_conversation("c", 9_000)
    await there.has(2)

    assert there.committed[-1].event.type == CONVERSATION_ERASED
    assert there.committed[-1].closed_to() == {"ana", "bruno"}
    with pytest.raises(NotFound):
        await send(there.store, "ana", "2")


async def test_every_node_learns_that_bodies_are_gone_of_which_no_event_tells(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    erased = asyncio.Event()
    there.store.on_erased = erased.set
    await send(here.store, "ana", "old")

    await here.store.erase_older(5_000)

    await asyncio.wait_for(erased.wait(), TIMEOUT_S)
    assert [entry.body for entry in await whole_log(there.store)] == [None]


async def test_an_edit_at_another_node_brings_back_no_body_that_was_erased(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    for n in range(1, 31):
        await send(here.store, "ana", str(n))

    await all_of(
        [here.store.erase_user("ana", 9_000), *(change(there.store, seq, "new", by=None) for seq in range(1, 31))]
    )

    assert {entry.body for entry in await whole_log(here.store)} == {None}


# Nothing twice, and nobody in another's way


async def test_a_message_sent_at_two_nodes_at_once_is_one_event(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")

    pairs = await asyncio.gather(
        *(asyncio.gather(send(here.store, "ana", str(n)), send(there.store, "ana", str(n))) for n in range(60))
    )

    for pair in pairs:
        assert sorted(each.created for each in pair) == [False, True]
        assert pair[0].event == pair[1].event
    assert seqs(await whole_log(here.store)) == list(range(1, 61))
    await asyncio.gather(here.has(60), there.has(60))  # a repeat may be answered before its event is handed out here
    assert here.entries() == there.entries() == [("c", seq) for seq in range(1, 61)]


async def test_refusals_and_retries_take_no_seq_and_fail_no_neighbour(open_node: OpenNode) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c")
    await send(here.store, "ana", "again")

    outcomes = await all_of(
        [
            each
            for n in range(30)
            for node in (here, there)
            for each in (
                send(node.store, "ana", f"{id(node)}-{n}"),
                send(node.store, "carla", str(n)),
                send(node.store, "ana", "again"),
                send(node.store, "ana", str(n), conversation="unknown"),
            )
        ]
    )

    created = [each for each in outcomes if isinstance(each, Sent) and each.created]
    assert len(created) == 60
    assert len([each for each in outcomes if isinstance(each, NotFound)]) == 120
    assert seqs(await whole_log(here.store)) == list(range(1, 62))
    await here.has(61)
    await there.has(61)


def something(store: PostgresStore, n: int, conversations: Sequence[str], chance: random.Random) -> Awaitable[object]:
    conversation = chance.choice(conversations)
    marks = [DeliveredMark(each, "bruno", n) for each in chance.sample(conversations, len(conversations))]
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: send(store, "ana", f"{id(store)}-{n}", conversation=conversation),
        lambda: store.mark_delivered(marks, MEMBERS_MAX),
        lambda: store.mark_read(conversation, "ana", 0),
        lambda: store.put_member(conversation, f"user{n}", None, 3_000, MEMBERS_MAX),
        lambda: store.remove_member(conversation, f"user{n - 1}", None, 3_000),
        lambda: store.erase_user(f"user{n // 2}", 4_000),
        lambda: store.put_conversation(new_conversation(f"new{n % 50}", ["ana"])),
    ]
    return chance.choice(calls)()


async def test_many_nodes_in_many_conversations_never_wait_in_a_circle(postgres: Postgres, open_node: OpenNode) -> None:
    conversations = [f"c{n}" for n in range(8)]
    nodes = await nodes_with_conversations(open_node, 4, *conversations)
    log_before = len(postgres.log)

    async def be_busy(node: Node, chance: random.Random) -> None:
        for n in range(40):
            await asyncio.gather(*(something(node.store, n, conversations, chance) for _ in range(3)))

    async with asyncio.timeout(2 * TIMEOUT_S):
        await asyncio.gather(*(be_busy(node, random.Random(number)) for number, node in enumerate(nodes)))

    assert "deadlock detected" not in postgres.log[log_before:]
    await asyncio.gather(*(node.has(max(len(each.committed) for each in nodes)) for node in nodes))
    assert nodes[0].entries() == nodes[1].entries() == nodes[2].entries() == nodes[3].entries()


# Transactions that are open


async def test_a_feed_never_passes_an_event_that_is_not_committed_yet(
    postgres_database: str, open_node: OpenNode
) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c", "d")
    await send(here.store, "ana", "first")
    page = await there.store.feed("ana", 0, PAGE)
    async with connected(postgres_database) as other:
        transaction = other.transaction()
        await transaction.start()
        position = await other.fetchval("UPDATE log_end SET position = position + 1 RETURNING position")
        await other.execute("UPDATE conversations SET last_seq = last_seq + 1, position = $1 WHERE id = 'd'", position)
        await other.execute(
            "INSERT INTO events (conversation, seq, position, at, sender, id, body)"
            " SELECT key, last_seq, position, 3000, 'ana', 'open', 'hi' FROM conversations WHERE id = 'd'"
        )
        later = asyncio.ensure_future(send(here.store, "ana", "second"))
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not later.done()
        assert (await there.store.feed("ana", page.position, PAGE)).entries == []
        assert (await there.store.feed("ana", None, PAGE)).position == page.position
        await transaction.commit()
    await later

    entries = (await there.store.feed("ana", page.position, PAGE)).entries
    assert [(entry.event.id, entry.position) for entry in entries] == [("open", position), ("second", position + 1)]
    await there.has(3)
    assert there.entries() == [("c", 1), ("d", 1), ("c", 2)]


async def test_a_conversation_that_somebody_holds_up_holds_up_no_other(
    postgres_database: str, open_node: OpenNode
) -> None:
    here, there = await nodes_with_conversations(open_node, 2, "c", "d")
    async with connected(postgres_database) as other, other.transaction():
        await other.execute("SELECT 1 FROM conversations WHERE id = 'c' FOR UPDATE")
        waiting = asyncio.ensure_future(send(here.store, "ana", "1"))
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not waiting.done()

        sent = await asyncio.wait_for(send(there.store, "ana", "1", conversation="d"), TIMEOUT_S)

        assert sent.created
        assert not waiting.done()
    assert (await waiting).created


# Jobs


class Lanes:
    """Judges the claims of many workers: of a conversation one has the jobs, and they come in order."""

    def __init__(self) -> None:
        self.settled: dict[str, list[int]] = defaultdict(list)
        self._held: set[str] = set()

    def claimed(self, claims: Sequence[Claim]) -> dict[str, list[Claim]]:
        lanes: dict[str, list[Claim]] = defaultdict(list)
        for each in claims:
            lanes[each.job.conversation].append(each)
        for conversation, lane in lanes.items():
            assert conversation not in self._held, f"two workers have {conversation}"
            self._held.add(conversation)
            for before, after in pairwise(lane):
                assert after.job.seq == before.job.seq + 1, lane
            assert lane[0].job.seq == len(self.settled[conversation]) + 1, lane
        return lanes

    def done(self, conversation: str, settled: Sequence[Claim]) -> None:
        """Said before the store is: from then on another worker may have it."""
        self.settled[conversation] += [each.job.seq for each in settled]
        self._held.discard(conversation)


async def work(node: Node, lanes: Lanes, wanted: Wanted, chance: random.Random, total: int) -> None:
    """Claim and settle until all is done; now and then give back what was claimed."""
    while sum(map(len, lanes.settled.values())) < total:
        for conversation, claims in lanes.claimed(await node.store.claim_jobs(wanted)).items():
            count = chance.randrange(len(claims) + 1)
            lanes.done(conversation, claims[:count])
            settled, given_back = [each.job for each in claims[:count]], claims[count:]
            if given_back and chance.random() < 0.5:
                await node.store.put_off_job(given_back[0], wanted.now, "not now")
                given_back = given_back[1:]
            await node.store.release_claims(given_back)
            await node.store.settle_jobs(settled)


async def test_workers_of_several_processes_never_share_a_conversations_jobs(open_node: OpenNode) -> None:
    nodes = [await open_node((HOOK,)) for _ in range(3)]
    conversations = [f"c{n}" for n in range(8)]
    for conversation in conversations:
        await create(nodes[0].store, "ana", conversation=conversation)
    messages = [(nodes[n % 3].store, f"{each}-{n}", each) for n in range(12) for each in conversations]
    await all_of([send(store, "ana", name, conversation=each) for store, name, each in messages])
    lanes = Lanes()
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=3, lane_jobs_max=4)

    async with asyncio.timeout(3 * TIMEOUT_S):
        await asyncio.gather(*(work(node, lanes, wanted, random.Random(n), 96) for n in range(3) for node in nodes))

    assert lanes.settled == {conversation: list(range(1, 13)) for conversation in conversations}
    assert await nodes[0].store.count_jobs() == []


async def test_a_worker_that_a_queue_has_told_of_a_job_waits_for_who_is_at_it_and_others_look_elsewhere(
    postgres_database: str, open_node: OpenNode
) -> None:
    """The relay notes the job at that moment: a worker that went on without it would be told again much later."""
    node = await open_node((HOOK,))
    await create(node.store, "ana")
    await send(node.store, "ana", "1")
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=1, lane_jobs_max=1)
    async with connected(postgres_database) as relay, relay.transaction():
        await relay.execute("SELECT 1 FROM jobs FOR UPDATE")
        assert await node.store.claim_jobs(wanted) == []
        told = asyncio.ensure_future(node.store.claim_jobs(wanted._replace(only=[LaneKey("hook", "c")])))
        while not await relay.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not told.done()

    assert [claim.job for claim in await told] == [Job("hook", "c", 1)]


async def test_every_process_is_told_of_jobs_that_another_made_or_gave_back(open_node: OpenNode) -> None:
    here, there = await open_node((HOOK,)), await open_node((HOOK,))
    await create(here.store, "ana")
    told = asyncio.Event()
    there.store.on_jobs = told.set

    await send(here.store, "ana", "1")
    await asyncio.wait_for(told.wait(), TIMEOUT_S)
    claims = await here.store.claim_jobs(Wanted(["hook"], 100_000, 60_000, 1, 1))
    told.clear()
    await here.store.release_claims(claims)
    await asyncio.wait_for(told.wait(), TIMEOUT_S)
    told.clear()
    assert await here.store.retry_jobs(JobFilter(), 100_000) == 1
    await asyncio.wait_for(told.wait(), TIMEOUT_S)


async def test_what_waits_behind_many_put_off_jobs_is_found_when_they_are_gone(open_node: OpenNode) -> None:
    """There are more due jobs than are looked at in one go, and all of them wait for one that is put off."""
    node = await open_node((HOOK,))
    await create(node.store, "ana")
    await create(node.store, "ana", conversation="last")
    await all_of([send(node.store, "ana", str(n)) for n in range(510)])
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=1, lane_jobs_max=1)
    (first,) = await node.store.claim_jobs(wanted)
    await node.store.put_off_job(first, 200_000, "not now")
    await send(node.store, "ana", "1", conversation="last", at=3_000)

    (found,) = await node.store.claim_jobs(wanted)

    assert found.job.conversation == "last"
    await node.store.settle_jobs([found.job])
    assert await node.store.claim_jobs(wanted) == []
    assert await node.store.next_job_at(["hook"]) == 200_000
    for seq in range(1, 4):
        (claim,) = await node.store.claim_jobs(wanted._replace(now=200_000))
        assert claim.job.seq == seq
        await node.store.settle_jobs([claim.job])
    rest = await node.store.claim_jobs(wanted._replace(now=200_000, lane_jobs_max=1_000))
    assert [each.job.seq for each in rest] == list(range(4, 511))


async def test_a_worker_that_looks_while_dead_letters_are_retried_leaves_the_lane_to_who_is_claiming_it(
    postgres_database: str, open_node: OpenNode
) -> None:
    """The claim is not committed yet, and what is retried comes before the jobs that it is of."""
    node = await open_node((HOOK,))
    await create(node.store, "ana")
    await all_of([send(node.store, "ana", str(n)) for n in range(4)])
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=1, lane_jobs_max=1)
    (first,) = await node.store.claim_jobs(wanted)
    await node.store.put_off_job(first, None, "no")
    async with connected(postgres_database) as other, other.transaction():
        claimed = await job_rows.claim(other, wanted._replace(lane_jobs_max=10), 10)
        assert [each.job.seq for each in claimed] == [2, 3, 4]
        async with asyncio.timeout(TIMEOUT_S):
            assert await node.store.retry_jobs(JobFilter(state="dead"), 100_000) == 1
            assert await node.store.claim_jobs(wanted) == []

    assert await node.store.claim_jobs(wanted) == []
    await node.store.settle_jobs([each.job for each in claimed])
    assert [each.job.seq for each in await node.store.claim_jobs(wanted)] == [1]


async def lanes_with_parked_jobs(node: Node, *conversations: str) -> None:
    """Of four jobs in each, all but the first are parked."""
    for conversation in conversations:
        await create(node.store, "ana", conversation=conversation)
        for n in range(4):
            await send(node.store, "ana", str(n), conversation=conversation)
    await node.store.on_connection(lambda db: db.execute("UPDATE jobs SET is_parked = true WHERE seq > 1"))


async def test_a_head_that_nobody_unparked_is_found_at_the_next_look(
    postgres_database: str, open_node: OpenNode
) -> None:
    """Two remove the first two jobs at the same time, neither sees the other's removal, and one dies before it looks
    again."""
    node = await open_node((HOOK,))
    await lanes_with_parked_jobs(node, "c", "d")
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=2, lane_jobs_max=10)
    async with connected(postgres_database) as other, other.transaction():
        await other.execute("DELETE FROM jobs WHERE seq = 1")
        await node.store.settle_jobs([Job("hook", "c", 2), Job("hook", "d", 2)])

    assert await node.store.next_job_at(["hook"]) == 2_000
    await node.store.on_connection(lambda db: db.execute("UPDATE jobs SET is_parked = true"))
    found = await node.store.claim_jobs(wanted)
    assert [(each.job.conversation, each.job.seq) for each in found] == [("c", 3), ("c", 4), ("d", 3), ("d", 4)]


async def test_who_removes_a_head_unparks_the_next_and_holds_nothing_meanwhile(
    postgres_database: str, open_node: OpenNode
) -> None:
    """An operator's retry locks the jobs in order, those of one conversation and then those of the next."""
    node = await open_node((HOOK,))
    await lanes_with_parked_jobs(node, "c", "d")
    lock = "SELECT 1 FROM jobs JOIN conversations AS c ON c.key = conversation WHERE c.id = $1 AND seq = $2 FOR UPDATE"
    async with connected(postgres_database) as other:
        async with other.transaction():
            await other.execute(lock, "c", 2)
            settled = asyncio.ensure_future(node.store.settle_jobs([Job("hook", "d", 1), Job("hook", "c", 1)]))
            while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not settled.done()
            assert await other.fetch(lock, "d", 1) == []
        await asyncio.wait_for(settled, TIMEOUT_S)

        assert [seq for (seq,) in await other.fetch("SELECT seq FROM jobs WHERE NOT is_parked")] == [2, 2]


async def test_a_look_that_takes_much_of_its_lease_ends_and_has_everybody_look_again(open_node: OpenNode) -> None:
    node = await open_node((HOOK,))
    await create(node.store, "ana")
    await create(node.store, "ana", conversation="last")
    await all_of([send(node.store, "ana", str(n)) for n in range(510)])
    wanted = Wanted(["hook"], now=100_000, lease_ms=60_000, lanes_max=1, lane_jobs_max=1)
    (first,) = await node.store.claim_jobs(wanted)
    await node.store.put_off_job(first, 200_000, "not now")
    await send(node.store, "ana", "1", conversation="last", at=3_000)
    told = asyncio.Event()
    node.store.on_jobs = told.set

    assert await node.store.claim_jobs(wanted._replace(lease_ms=1)) == [], "it put the others aside first"

    await asyncio.wait_for(told.wait(), TIMEOUT_S)
    assert [each.job.conversation for each in await node.store.claim_jobs(wanted)] == ["last"]
