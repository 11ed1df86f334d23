"""The Store port's contract on receipts and circles: what has reached whom, and who may know of whom."""

from __future__ import annotations

import asyncio

import pytest

from recado.chat.errors import NotFound
from recado.ports import Circle, Delivered, DeliveredMark, Receipt, Store
from tests.contracts.stores import MEMBERS_MAX, Shelf, create, message, send

RECEIPT_MEMBERS_MAX = 4


async def mark(store: Store, *marks: tuple[str, int], conversation: str = "c") -> list[Delivered]:
    asked = [DeliveredMark(conversation, user, seq) for user, seq in marks]
    return await store.mark_delivered(asked, RECEIPT_MEMBERS_MAX)


async def receipts(store: Store, viewer: str | None = None) -> list[Receipt]:
    return await store.receipts("c", viewer, RECEIPT_MEMBERS_MAX)


async def test_a_cursor_of_delivery_moves_forward_and_never_back(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    for n in range(4):
        await send(store, "ana", str(n))

    assert await mark(store, ("bruno", 3)) == [Delivered("c", "bruno", 3, frozenset({"ana"}), 2)]
    assert await mark(store, ("bruno", 2), ("bruno", 3)) == []

    store = await shelf.reopen()
    assert await receipts(store) == [Receipt("ana", 0, 0), Receipt("bruno", 3, 0)]
    assert await mark(store, ("bruno", 4)) == [Delivered("c", "bruno", 4, frozenset({"ana"}), 2)]


async def test_of_many_marks_in_one_call_each_tells_the_senders_whose_messages_it_passed(store: Store) -> None:
    await create(store, "ana", "bruno", "carla")
    for n, sender in enumerate(("ana", "bruno", "ana", "carla")):
        await send(store, sender, str(n))

    assert await mark(store, ("carla", 2), ("bruno", 1), ("carla", 3), ("bruno", 4), ("ana", 1)) == [
        Delivered("c", "carla", 2, frozenset({"ana", "bruno"}), 3),
        Delivered("c", "bruno", 1, frozenset({"ana"}), 3),
        Delivered("c", "carla", 3, frozenset({"ana"}), 3),
        Delivered("c", "bruno", 4, frozenset({"ana", "carla"}), 3),
        Delivered("c", "ana", 1, frozenset(), 3),
    ]


async def test_senders_are_sought_among_the_last_hundred_events_only(store: Store) -> None:
    await create(store, "ana", "bruno", "carla")
    await send(store, "ana", "long ago")
    await asyncio.gather(*(store.append_message(message("bruno", str(n))) for n in range(100)))

    assert await mark(store, ("carla", 101)) == [Delivered("c", "carla", 101, frozenset({"bruno"}), 3)]


async def test_who_comes_and_goes_is_no_sender(store: Store) -> None:
    await create(store, "ana", "bruno", "carla")
    await store.put_member("c", "davi", "ana", 3_000, MEMBERS_MAX)
    await store.remove_member("c", "davi", None, 3_000)

    assert await mark(store, ("carla", 2)) == [Delivered("c", "carla", 2, frozenset(), 3)]


async def test_marks_of_strangers_unknown_conversations_and_seqs_to_come_are_skipped(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "1")
    elsewhere = DeliveredMark("unknown", "bruno", 1)
    asked = [elsewhere, *(DeliveredMark("c", user, seq) for user, seq in (("mallory", 1), ("bruno", 2), ("bruno", 1)))]

    moved = await store.mark_delivered(asked, RECEIPT_MEMBERS_MAX)

    assert [(each.user, each.seq) for each in moved] == [("bruno", 1)]
    assert await receipts(store) == [Receipt("ana", 0, 0), Receipt("bruno", 1, 0)]


async def test_in_a_conversation_of_many_members_nothing_is_marked_and_no_receipts_are_given(store: Store) -> None:
    await create(store, "ana", "bruno", "carla", "davi", "eva")
    await send(store, "ana", "1")

    assert await mark(store, ("bruno", 1)) == []
    assert await receipts(store) == []

    await store.remove_member("c", "eva", None, 3_000)
    assert await receipts(store) == [Receipt(user, 0, 0) for user in ("ana", "bruno", "carla", "davi")]


async def test_what_was_read_was_delivered(store: Store) -> None:
    await create(store, "ana", "bruno")
    for n in range(3):
        await send(store, "ana", str(n))
    await mark(store, ("bruno", 1))
    await store.mark_read("c", "bruno", 2)

    assert await receipts(store, "ana") == [Receipt("ana", 0, 0), Receipt("bruno", 2, 2)]

    await mark(store, ("bruno", 3))
    assert await receipts(store, "bruno") == [Receipt("ana", 0, 0), Receipt("bruno", 3, 2)]


async def test_a_new_member_has_nothing_until_it_has_its_own_joining(store: Store) -> None:
    """Nobody is to think that a message was read by who came later and looked at nothing."""
    await create(store, "ana")
    await send(store, "ana", "1")
    await store.put_member("c", "bruno", None, 3_000, MEMBERS_MAX)
    assert await receipts(store) == [Receipt("ana", 0, 0), Receipt("bruno", 0, 0)]

    await mark(store, ("bruno", 2))
    assert await receipts(store) == [Receipt("ana", 0, 0), Receipt("bruno", 2, 0)]


async def test_receipts_are_for_members_and_the_host(store: Store) -> None:
    await create(store, "ana")
    for conversation, viewer in (("c", "mallory"), ("unknown", "ana"), ("unknown", None)):
        with pytest.raises(NotFound):
            await store.receipts(conversation, viewer, RECEIPT_MEMBERS_MAX)


async def test_circles_are_the_small_conversations_of_a_user_by_newest_activity(store: Store) -> None:
    await create(store, "ana", "bruno", conversation="old", at=1_000)
    await create(store, "ana", "bruno", "carla", conversation="large", at=5_000)
    await create(store, "carla", "ana", conversation="new", at=3_000)
    await create(store, "bruno", "carla", conversation="not-anas", at=4_000)
    await send(store, "bruno", "1", conversation="old", at=4_000)

    assert await store.circles("ana", 10, 2) == [
        Circle("old", frozenset({"ana", "bruno"})),
        Circle("new", frozenset({"ana", "carla"})),
    ]
    assert [circle.conversation for circle in await store.circles("ana", 2, 3)] == ["large", "old"]
    assert await store.circles("nobody", 10, 10) == []
