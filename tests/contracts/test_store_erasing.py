"""The Store port's contract on erasing: a conversation, everything of a person, and what is older than a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from recado.chat.errors import Conflict, NotFound, Unavailable
from recado.chat.event import Committed, encode_event
from recado.ports import DeliveredMark, Store
from tests.contracts.stores import (
    ERASE_ROWS_MAX,
    MEMBERS_MAX,
    PAGE,
    Shelf,
    change,
    create,
    log_json,
    message,
    new_conversation,
    send,
    whole_log,
)

BOTH = frozenset({"ana", "bruno"})
SEVERAL_CHUNKS = ERASE_ROWS_MAX * 8 + 1


async def send_many(store: Store, count: int, sender: str = "ana", conversation: str = "c") -> None:
    await asyncio.gather(
        *(store.append_message(message(sender, f"{sender}{n}", conversation=conversation)) for n in range(count))
    )


async def interrupt(shelf: Shelf, store: Store, erasing: Awaitable[None], told: str) -> Store:
    """Stop the store as soon as an event of that type is committed; returns the store as it is opened again."""
    stopped = asyncio.Event()
    on_committed = store.on_committed

    def stop(committed: Sequence[Committed]) -> None:
        on_committed(committed)
        if any(entry.event.type == told for entry in committed):
            stopped.set()

    store.on_committed = stop
    erased = asyncio.ensure_future(erasing)
    await stopped.wait()
    store = await shelf.reopen()
    with pytest.raises(Unavailable):
        await erased
    return store


# A conversation


def calls_on(store: Store) -> list[Callable[[], Awaitable[object]]]:
    """Every call that is about one conversation."""
    return [
        lambda: send(store, "ana", "late"),
        lambda: change(store, 1, "new", None),
        lambda: store.put_member("c", "carla", None, 9_000, MEMBERS_MAX),
        lambda: store.remove_member("c", "ana", None, 9_000),
        lambda: store.mark_read("c", "ana", 1),
        lambda: store.unread_count("c", "ana", 0),
        lambda: store.conversation("c", None),
        lambda: store.events("c", None, None, None, PAGE),
        lambda: store.receipts("c", None, 10),
        lambda: store.membership("c"),
    ]


async def test_an_erased_conversation_is_unknown_to_every_call_for_ever(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="other")
    await send_many(store, SEVERAL_CHUNKS)
    await send(store, "ana", "stays", conversation="other")
    await store.erase_conversation("c", 9_000)

    for _ in range(2):
        for call in calls_on(store):
            with pytest.raises(NotFound):
                await call()
        assert await store.mark_delivered([DeliveredMark("c", "ana", 1)], 10) == []
        assert [view.id for view in (await store.conversations("ana", None, 10)).conversations] == ["other"]
        assert [circle.conversation for circle in await store.circles("ana", 10, 10)] == ["other"]
        with pytest.raises(Conflict, match="never used again"):
            await store.put_conversation(new_conversation("c", ["ana"]))
        store = await shelf.reopen()
    assert [event.id for event in await whole_log(store, "other")] == ["stays"]


async def test_the_members_are_told_once_that_a_conversation_was_erased_and_erasing_again_is_nothing(
    store: Store, shelf: Shelf
) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")

    for _ in range(2):
        await store.erase_conversation("c", 9_000)

    assert len(shelf.committed) == 2
    last = shelf.committed[-1]
    assert encode_event(last.event) == b'{"seq":2,"from":null,"at":9000,"type":"conversation_erased"}'
    assert (last.recipients, last.members_after()) == (BOTH, frozenset())


async def test_a_conversation_that_never_was_cannot_be_erased(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.erase_conversation("unknown", 9_000)


async def test_others_write_while_a_long_log_is_erased(store: Store) -> None:
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="other")
    await send_many(store, SEVERAL_CHUNKS)

    for erasing in (store.erase_user("ana", 9_000), store.erase_conversation("c", 9_000)):
        erased = asyncio.ensure_future(erasing)
        await send(store, "bruno", f"meanwhile {erased.get_name()}", conversation="other")
        assert not erased.done()
        await erased


async def test_sends_that_come_with_the_erasure_are_in_the_log_before_it_or_refused(store: Store) -> None:
    await create(store, "ana", "bruno")

    asked = [store.append_message(message("ana", f"m{n}")) for n in range(20)]
    erased = asyncio.ensure_future(store.erase_conversation("c", 9_000))
    await asyncio.sleep(0)
    asked += [store.append_message(message("ana", f"late{n}")) for n in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await erased

    assert [isinstance(answer, NotFound) for answer in answers] == [False] * 20 + [True] * 20


async def test_an_erasure_that_a_stop_interrupted_hides_everything_at_once_and_is_finished_later(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send_many(store, SEVERAL_CHUNKS)

    store = await interrupt(shelf, store, store.erase_conversation("c", 9_000), "conversation_erased")

    with pytest.raises(NotFound):
        await store.events("c", None, None, None, PAGE)
    for _ in range(2):
        await store.finish_erasures(9_500)
        await store.erase_conversation("c", 9_500)
    assert [event.type for event in shelf.committed_of("c")][SEVERAL_CHUNKS:] == ["conversation_erased"]


async def test_it_is_told_at_once_that_bodies_are_gone_of_which_no_event_tells_yet(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, SEVERAL_CHUNKS)
    told: list[list[str | None]] = []
    store.on_erased = lambda: told.append([event.type for event in shelf.committed_of("c") if event.type])

    await store.erase_older(2_000)
    assert told == []
    await store.erase_user("ana", 9_000)
    assert told[0] == ["member_removed"], "and the user_erased is yet to come"
    told.clear()

    await send(store, "bruno", "old", at=9_000)
    await store.erase_older(9_500)
    assert told != []


# A person


async def test_an_erased_persons_messages_become_deleted_entries_everywhere(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "mine")
    await send(store, "bruno", "k1", "his")
    await change(store, 1, "mine, edited")
    await create(store, "ana", "bruno", conversation="left-long-ago")
    await send(store, "ana", "k1", conversation="left-long-ago")
    await store.remove_member("left-long-ago", "ana", None, 3_000)
    await create(store, "bruno", conversation="never-in")
    before = len(shelf.committed)

    await store.erase_user("ana", 9_000)

    store = await shelf.reopen()
    assert await log_json(store) == [
        '{"seq":1,"from":"ana","at":2000,"id":"k1","type":"deleted"}',
        '{"seq":2,"from":"bruno","at":2000,"id":"k1","body":"his"}',
        '{"seq":3,"from":"ana","at":7000,"type":"edited","target":1}',
        '{"seq":4,"from":null,"at":9000,"type":"member_removed","user":"ana"}',
        '{"seq":5,"from":null,"at":9000,"type":"user_erased","user":"ana"}',
    ]
    assert await log_json(store, "left-long-ago") == [
        '{"seq":1,"from":"ana","at":2000,"id":"k1","type":"deleted"}',
        '{"seq":2,"from":null,"at":3000,"type":"member_removed","user":"ana"}',
        '{"seq":3,"from":null,"at":9000,"type":"user_erased","user":"ana"}',
    ]
    assert await whole_log(store, "never-in") == []
    assert [view.id for view in (await store.conversations("ana", None, 10)).conversations] == []
    told = [(entry.conversation, entry.event.type, entry.recipients) for entry in shelf.committed[before:]]
    bruno = frozenset({"bruno"})
    assert told == [
        ("c", "member_removed", BOTH),
        ("c", "user_erased", bruno),
        ("left-long-ago", "user_erased", bruno),
    ]


async def test_erasing_a_person_of_many_messages_takes_several_chunks_and_ends_with_one_event(
    store: Store, shelf: Shelf
) -> None:
    await create(store, "ana", "bruno")
    for count in (ERASE_ROWS_MAX, SEVERAL_CHUNKS):
        await send_many(store, count)
        await store.erase_user("ana", 9_000)
        await store.put_member("c", "ana", None, 9_500, MEMBERS_MAX)

    assert {event.body for event in await whole_log(store)} == {None}
    ends = [event.type for event in shelf.committed_of("c") if event.type is not None]
    assert ends == ["member_removed", "user_erased", "member_added"] * 2


async def test_erasing_a_person_twice_at_once_is_told_once(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, SEVERAL_CHUNKS)

    await asyncio.gather(*(store.erase_user("ana", 9_000) for _ in range(3)))

    ends = [event.type for event in shelf.committed_of("c") if event.type is not None]
    assert ends == ["member_removed", "user_erased"]
    assert {event.body for event in await whole_log(store)} == {None}


async def test_erasing_a_person_again_or_one_who_never_was_tells_nobody(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")
    await store.erase_user("ana", 9_000)
    told = len(shelf.committed)

    await store.erase_user("ana", 9_500)
    await store.erase_user("nobody", 9_500)
    await store.finish_erasures(9_500)

    assert len(shelf.committed) == told


async def test_an_erased_persons_ids_stay_taken_and_the_person_may_come_back(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")
    await store.erase_user("ana", 9_000)
    await store.put_member("c", "ana", None, 9_500, MEMBERS_MAX)

    again = await send(store, "ana", "k1", "again")

    assert (again.created, again.event.type, again.event.body) == (False, "deleted", None)
    assert (await send(store, "ana", "k2", "new")).created


async def test_a_persons_erasure_that_a_stop_interrupted_is_finished_later_with_its_event(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send_many(store, SEVERAL_CHUNKS)

    store = await interrupt(shelf, store, store.erase_user("ana", 9_000), "member_removed")

    assert any(event.body is not None for event in await whole_log(store)), "it was interrupted"
    await store.finish_erasures(9_500)
    await store.finish_erasures(9_600)
    log = await whole_log(store)
    assert {event.body for event in log} == {None}
    assert [event.type for event in log[SEVERAL_CHUNKS:]] == ["member_removed", "user_erased"]
    assert log == [*log[:SEVERAL_CHUNKS], *shelf.committed_of("c")[SEVERAL_CHUNKS:]]


async def test_a_conversation_that_is_erased_while_a_person_is_leaves_nothing_to_do(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, SEVERAL_CHUNKS)

    await asyncio.gather(store.erase_user("ana", 9_000), store.erase_conversation("c", 9_000))
    await store.finish_erasures(9_500)

    with pytest.raises(NotFound):
        await store.conversation("c", None)


# What is older than a time


async def test_messages_older_than_a_time_become_deleted_entries_and_nobody_is_told(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    for n in range(SEVERAL_CHUNKS):
        await send(store, "ana", str(n), at=2_000 + n)
    await change(store, SEVERAL_CHUNKS, "edited", at=8_000)
    await store.put_member("c", "carla", None, 8_000, MEMBERS_MAX)
    kept = ERASE_ROWS_MAX + 1
    told = len(shelf.committed)

    await store.erase_older(2_000 + SEVERAL_CHUNKS - kept)

    store = await shelf.reopen()
    log = await whole_log(store)
    assert [event.type for event in log] == [
        *["deleted"] * (SEVERAL_CHUNKS - kept),
        *[None] * kept,
        "edited",
        "member_added",
    ]
    assert encode_event(log[0]) == b'{"seq":1,"from":"ana","at":2000,"id":"0","type":"deleted"}'
    assert log[-2].body == "edited"
    assert len(shelf.committed) == told
    assert not (await send(store, "ana", "0", "again")).created, "its id stays taken"

    for _ in range(2):
        await store.erase_older(7_999)
    assert {event.body for event in await whole_log(store)} == {None}


async def test_retention_goes_on_where_it_was_and_in_every_conversation(store: Store) -> None:
    for n, conversation in enumerate("abd"):
        await create(store, "ana", conversation=conversation)
        for seq in range(1, 7):
            await send(store, "ana", str(seq), conversation=conversation, at=1_000 * seq + n)

    for than, gone in (
        (1_000, (0, 0, 0)),
        (2_001, (2, 1, 1)),
        (5_000, (4, 4, 4)),
        (2_000, (4, 4, 4)),
        (9_000, (6, 6, 6)),
    ):
        await store.erase_older(than)
        bodies = [[event.body for event in await whole_log(store, conversation)] for conversation in "abd"]
        assert tuple(each.count(None) for each in bodies) == gone


async def test_an_erased_conversation_is_none_of_retentions_business(store: Store) -> None:
    await create(store, "ana")
    await send_many(store, 2)
    await store.erase_conversation("c", 3_000)
    await store.erase_older(9_000)


async def test_what_a_user_sends_after_its_erasure_began_stays(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    for n in range(3 * ERASE_ROWS_MAX):
        await send(store, "ana", str(n))
    erasing = asyncio.ensure_future(store.erase_user("ana", 9_000))
    async with asyncio.timeout(10):
        # The commit is told to the shelf, and to nobody who waits.
        while "member_removed" not in [event.type for event in shelf.committed_of("c")]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await store.put_member("c", "ana", None, 9_001, MEMBERS_MAX)
    await send(store, "ana", "later")
    await erasing

    bodies = {event.id: event.body for event in await whole_log(store) if event.id is not None}
    assert bodies.pop("later") is not None
    assert set(bodies.values()) == {None}
