"""The Store port's contract on reads: read cursors and unread counts, the list of conversations, pages of a log."""

from __future__ import annotations

import asyncio

import pytest

from recado.chat.errors import Invalid
from recado.chat.event import encoded_size
from recado.ports import ReadMark, Store
from tests.contracts.stores import SQLITE_LIMITS, UNREAD_COUNT_MAX, Shelf, create, message, send, seqs, whole_log

PAIR = frozenset({"ana", "bruno"})


async def send_many(store: Store, count: int, sender: str = "ana", conversation: str = "c") -> None:
    await asyncio.gather(
        *(store.append_message(message(sender, f"{sender}{n}", conversation=conversation)) for n in range(count))
    )


# Read cursors

BOTH = frozenset({"ana", "bruno"})


async def test_a_read_cursor_moves_forward_and_never_back(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send_many(store, 4)

    assert await store.mark_read("c", "bruno", 3) == ReadMark(3, moved=True, members=BOTH)
    assert await store.mark_read("c", "bruno", 2) == ReadMark(3, moved=False, members=BOTH)
    assert await store.mark_read("c", "bruno", 3) == ReadMark(3, moved=False, members=BOTH)
    assert await store.mark_read("c", "bruno", 0) == ReadMark(3, moved=False, members=BOTH)

    store = await shelf.reopen()
    view = await store.conversation("c", "bruno")
    assert (view.read_up_to, view.unread_count) == (3, 1)
    assert await store.mark_read("c", "bruno", 4) == ReadMark(4, moved=True, members=BOTH)


async def test_concurrent_reads_marks_leave_the_furthest(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, 50)

    marks = await asyncio.gather(*(store.mark_read("c", "bruno", seq) for seq in (7, 50, 3, 20)))

    assert [mark.read_up_to for mark in marks] == [7, 50, 50, 50]
    assert (await store.conversation("c", "bruno")).read_up_to == 50


async def test_reading_past_the_end_is_refused_and_moves_nothing(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, 2)

    with pytest.raises(Invalid):
        await store.mark_read("c", "bruno", 3)

    assert (await store.conversation("c", "bruno")).read_up_to == 0


async def test_a_read_cursor_is_one_members_own_and_the_host_has_none(store: Store) -> None:
    await create(store, "ana", "bruno", "carla")
    await send_many(store, 2)
    await store.mark_read("c", "bruno", 2)

    seen = {user: await store.conversation("c", user) for user in ("bruno", "carla")}
    as_host = await store.conversation("c", None)

    assert {user: (view.read_up_to, view.unread_count) for user, view in seen.items()} == {
        "bruno": (2, 0),
        "carla": (0, 2),
    }
    assert (as_host.read_up_to, as_host.unread_count) == (0, 0)


async def test_only_messages_of_others_are_unread(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "1")
    await send(store, "bruno", "2")
    await store.put_member("c", "carla", None, 3_000, 10)
    await store.remove_member("c", "carla", None, 3_000)

    counts = [(await store.conversation("c", user)).unread_count for user in ("ana", "bruno")]
    listed = [(await store.conversations(user, None, 1)).conversations[0].unread_count for user in ("ana", "bruno")]

    assert counts == listed == [1, 1]
    assert await store.unread_count("c", "ana", 1) == 1


async def test_counting_unread_messages_stops_at_the_limit(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send_many(store, UNREAD_COUNT_MAX + 3)

    assert (await store.conversation("c", "bruno")).unread_count == UNREAD_COUNT_MAX
    assert await store.unread_count("c", "bruno", 1) == UNREAD_COUNT_MAX
    assert await store.unread_count("c", "bruno", 4) == UNREAD_COUNT_MAX - 1


# The list


async def test_conversations_are_listed_by_newest_activity(store: Store) -> None:
    for n, conversation in enumerate(("a", "b", "d")):
        await create(store, "ana", conversation=conversation, at=1_000 + n)
    await create(store, "bruno", conversation="not-anas", at=9_000)

    await send(store, "ana", "1", conversation="a", at=5_000)

    page = await store.conversations("ana", None, 10)
    assert [view.id for view in page.conversations] == ["a", "d", "b"]
    assert page.next_cursor is None
    assert page.conversations[0].last_event == (await whole_log(store, "a"))[0]
    assert [view.active_at for view in page.conversations] == [5_000, 1_002, 1_001]


async def test_pages_of_the_list_hold_each_conversation_once_also_where_activity_ties(store: Store) -> None:
    for n in range(11):
        await create(store, "ana", conversation=f"c{n}", at=1_000 + n // 4)

    whole = [view.id for view in (await store.conversations("ana", None, 100)).conversations]
    for limit in (1, 3, 10, 11):
        listed: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.conversations("ana", cursor, limit)
            assert len(page.conversations) <= limit
            listed += [view.id for view in page.conversations]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert listed == whole
    assert sorted(whole) == sorted(f"c{n}" for n in range(11))


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "1",
        "1.",
        ".1",
        "1.2.3",
        "-1.2",
        "1.-2",
        " 1.2",
        "1.2\n",
        "\u0661.\u0662",
        "1e3.2",
        "9" * 30 + ".1",
        "1." + "9" * 30,
    ],
)
async def test_a_cursor_that_the_store_did_not_make_is_refused(store: Store, cursor: str) -> None:
    await create(store, "ana")
    with pytest.raises(Invalid):
        await store.conversations("ana", cursor, 10)


async def test_a_user_without_conversations_has_an_empty_list(store: Store) -> None:
    assert await store.conversations("nobody", None, 10) == ([], None)


# Pages of a log


@pytest.mark.parametrize(
    ("after", "before", "limit", "expected"),
    [
        (None, None, 3, [8, 9, 10]),
        (None, None, 100, list(range(1, 11))),
        (None, 6, 3, [3, 4, 5]),
        (None, 1, 3, []),
        (None, 0, 3, []),
        (None, 99, 3, [8, 9, 10]),
        (0, None, 3, [1, 2, 3]),
        (7, None, 3, [8, 9, 10]),
        (8, None, 3, [9, 10]),
        (10, None, 3, []),
        (99, None, 3, []),
        (2, 8, 3, [3, 4, 5]),
        (2, 4, 10, [3]),
        (2, 3, 10, []),
        (8, 2, 10, []),
        (2**53 - 1, None, 3, []),
        (None, 2**53 - 1, 1, [10]),
    ],
)
async def test_a_page_of_events_is_the_one_asked_for(
    store: Store, after: int | None, before: int | None, limit: int, expected: list[int]
) -> None:
    await create(store, "ana")
    await send_many(store, 10)

    for viewer in ("ana", None):
        page = await store.events("c", viewer, after, before, limit)
        assert (seqs(page.events), page.last_seq) == (expected, 10)


@pytest.mark.parametrize("kind", ["oldest", "newest", "feed"])
async def test_a_page_is_bounded_by_what_it_takes_as_json(store: Store, kind: str) -> None:
    """A control character is six bytes there: answers of 200 such messages were seven megabytes."""
    body = "\x01" * 16_384
    await create(store, "ana")
    for number in range(12):
        await send(store, "ana", str(number), body)
    events = [entry.event for entry in (await store.feed("ana", 0, 12)).entries]
    if kind != "feed":
        events = (await store.events("c", "ana", 0 if kind == "oldest" else None, None, 12)).events
    assert sum(map(encoded_size, events)) <= SQLITE_LIMITS.page_bytes_max
    assert seqs(events) == (list(range(3, 13)) if kind == "newest" else list(range(1, 11)))


async def test_an_empty_log_is_an_empty_page(store: Store) -> None:
    await create(store, "ana")
    assert await store.events("c", "ana", None, None, 10) == ([], 0)


async def test_membership_is_as_of_the_logs_end(store: Store) -> None:
    await create(store, "ana")
    assert await store.membership("c") == (frozenset({"ana"}), 0)
    await send_many(store, 2)
    await store.put_member("c", "bruno", None, 3_000, 10)
    assert await store.membership("c") == (frozenset({"ana", "bruno"}), 3)


async def test_whoever_reads_after_a_write_was_acknowledged_sees_it(store: Store) -> None:
    await create(store, "ana", "bruno")
    for n in range(50):
        sent = await send(store, "ana", str(n))
        page, view, membership = await asyncio.gather(
            store.events("c", "bruno", n, None, 10), store.conversation("c", "bruno"), store.membership("c")
        )
        assert page.events == [sent.event]
        assert (view.last_seq, view.last_event, membership.last_seq) == (n + 1, sent.event, n + 1)


async def test_a_body_comes_back_as_it_went_in(shelf: Shelf) -> None:
    bodies = [
        "Chegou!",
        " \n spaces \t ",
        "😀" * 100,
        '{"json": "text"}',
        "a'b\"c;--",
        "x" * 16_384,
        "\u202e\u200b",
        "1",
    ]
    store = await shelf.open()
    await create(store, "ana")
    for n, body in enumerate(bodies):
        await send(store, "ana", str(n), body)

    store = await shelf.reopen()

    assert [event.body for event in await whole_log(store)] == bodies
