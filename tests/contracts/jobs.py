"""The words to tell the contract on jobs in. Times are the tests' own: events happen at 2,000 and later, and `NOW` is
after all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recado.ports import Claim, JobFilter, LaneKey, Sink, Store, Wanted
from tests.contracts.stores import Shelf, create, send

NOW = 100_000
LEASE_MS = 10_000
HOOK = Sink("hook")
CALL = Sink("call", messages_only=True)
LATER = Sink("later", delay_ms=3_000)
EVERYTHING = JobFilter()


async def claim(
    store: Store,
    sinks: Sequence[str] = ("hook",),
    now: int = NOW,
    lanes_max: int = 100,
    lane_jobs_max: int = 100,
    only: Sequence[LaneKey] | None = None,
) -> list[Claim]:
    return await store.claim_jobs(Wanted(sinks, now, LEASE_MS, lanes_max, lane_jobs_max, only))


async def send_many(store: Store, count: int, conversation: str = "c", at: int = 2_000) -> None:
    for n in range(count):
        await send(store, "ana", f"{conversation}-{at}-{n}", conversation=conversation, at=at + n)


async def store_with_messages(shelf: Shelf, count: int, *sinks: Sink) -> Store:
    """A store with these sinks, or HOOK, and a conversation in which ana has sent so many messages."""
    store = await shelf.open(sinks or (HOOK,))
    await create(store, "ana", "bruno")
    await send_many(store, count)
    return store


def seqs(claims: Iterable[Claim]) -> list[int]:
    return [each.job.seq for each in claims]


def attempts(claims: Iterable[Claim]) -> list[int]:
    return [each.attempt for each in claims]


async def states(store: Store, which: JobFilter = EVERYTHING) -> list[tuple[int, str]]:
    return [(view.seq, view.state) for view in await store.list_jobs(which, 1_000)]
