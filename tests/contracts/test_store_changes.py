"""The Store port's contract on edits and deletions: one event each, one body in the log, and who may."""

from __future__ import annotations

import asyncio

import pytest

from recado.chat.errors import ChatError, Conflict, Forbidden, NotFound
from recado.chat.event import encode_event
from recado.ports import Changed, Sent, Store
from tests.contracts.stores import (
    MEMBERS_MAX,
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


async def test_an_edited_message_reads_with_its_new_body_and_the_edit_is_an_event(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "old")

    edited = await change(store, 1, "new")

    assert encode_event(edited.event) == b'{"seq":2,"from":"ana","at":7000,"type":"edited","body":"new","target":1}'
    assert (edited.changed, shelf.committed[-1].event, shelf.committed[-1].recipients) == (True, edited.event, BOTH)
    store = await shelf.reopen()
    assert await log_json(store) == [
        '{"seq":1,"from":"ana","at":2000,"id":"k1","body":"new","edited_at":7000}',
        '{"seq":2,"from":"ana","at":7000,"type":"edited","body":"new","target":1}',
    ]


async def test_an_edit_that_is_read_later_shows_the_body_that_its_message_has_now(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "old")
    await change(store, 1, "first edit")
    await change(store, 1, "second edit", at=8_000)

    assert [event.body for event in await whole_log(store)] == ["second edit"] * 3
    assert [event.edited_at for event in await whole_log(store)] == [8_000, None, None]
    view = await store.conversation("c", "bruno")
    assert view.last_event == (await whole_log(store))[-1]
    assert (await store.conversations("bruno", None, 1)).conversations == [view]
    assert (view.unread_count, view.last_seq, view.active_at) == (1, 3, 8_000), "an edit is no message"

    await change(store, 1, None, at=9_000)

    assert [event.body for event in await whole_log(store)] == [None] * 4
    assert (await store.conversation("c", "bruno")).unread_count == 0


async def test_a_deleted_message_leaves_its_entry_without_a_body(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "gone")
    await send(store, "bruno", "k1", "stays")
    await change(store, 1, "edited first")

    deleted = await change(store, 1, None, at=8_000)

    assert encode_event(deleted.event) == b'{"seq":4,"from":"ana","at":8000,"type":"deleted","target":1}'
    assert (deleted.changed, shelf.committed[-1].event, shelf.committed[-1].recipients) == (True, deleted.event, BOTH)
    store = await shelf.reopen()
    assert await log_json(store) == [
        '{"seq":1,"from":"ana","at":2000,"id":"k1","type":"deleted"}',
        '{"seq":2,"from":"bruno","at":2000,"id":"k1","body":"stays"}',
        '{"seq":3,"from":"ana","at":7000,"type":"edited","target":1}',
        '{"seq":4,"from":"ana","at":8000,"type":"deleted","target":1}',
    ]


async def test_what_is_so_already_is_no_event_and_answers_the_messages_own_entry(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    sent = await send(store, "ana", "k1", "same")

    assert await change(store, 1, "same") == Changed(sent.event, changed=False)
    await change(store, 1, None)
    again = await change(store, 1, None, at=9_000, changeable_since=8_000)

    assert encode_event(again.event) == b'{"seq":1,"from":"ana","at":2000,"id":"k1","type":"deleted"}'
    assert (again.changed, len(shelf.committed)) == (False, 2)


async def test_a_retried_send_gets_the_entry_as_it_is_now_and_never_makes_it_anew(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "old")

    await change(store, 1, "new")
    after_edit = await send(store, "ana", "k1", "old")
    await change(store, 1, None)
    store = await shelf.reopen()
    after_deletion = await send(store, "ana", "k1", "old")

    assert (after_edit.created, after_edit.event.body, after_edit.event.edited_at) == (False, "new", 7_000)
    assert (after_deletion.created, after_deletion.event.type, after_deletion.event.body) == (False, "deleted", None)
    assert (await store.conversation("c", None)).last_seq == 3


async def test_a_user_changes_its_own_messages_while_they_are_new_and_the_host_any(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", at=5_000)
    await send(store, "bruno", "k2", at=5_000)

    for body in ("other", None):
        with pytest.raises(Forbidden):
            await change(store, 2, body, "ana")
        with pytest.raises(Forbidden):
            await change(store, 1, body, "ana", changeable_since=5_001)
    assert (await change(store, 1, "just in time", "ana", changeable_since=5_000)).changed
    assert (await change(store, 2, "by the host", None, changeable_since=9_999)).event.sender is None
    assert (await change(store, 1, None, None, changeable_since=9_999)).changed


async def test_only_messages_that_are_there_can_be_changed(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")
    await store.put_member("c", "carla", None, 3_000, MEMBERS_MAX)
    await change(store, 1, "edited")
    await change(store, 1, None)
    told = len(shelf.committed)

    for seq in (0, 5, -1, 2**53 - 1):
        for body in ("new", None):
            with pytest.raises(NotFound):
                await change(store, seq, body)
    for seq in (2, 3, 4):
        for body in ("new", None):
            for by in ("ana", None):
                with pytest.raises(Conflict):
                    await change(store, seq, body, by)
    with pytest.raises(Conflict):
        await change(store, 1, "too late")
    assert len(shelf.committed) == told


async def test_who_is_no_member_any_more_changes_nothing(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", "stays")
    await store.remove_member("c", "ana", None, 3_000)

    texts = []
    for conversation in ("c", "unknown"):
        with pytest.raises(NotFound) as refusal:
            await change(store, 1, None, "ana") if conversation == "c" else await store.conversation(
                conversation, "ana"
            )
        texts.append(refusal.value.message.replace(repr(conversation), "?"))

    assert texts[0] == texts[1]
    assert (await whole_log(store))[0].body == "stays"


async def test_of_many_who_delete_the_same_message_at_once_one_does(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")

    changes = await asyncio.gather(*(change(store, 1, None, by) for by in ("ana", None) * 10))

    assert sum(each.changed for each in changes) == 1
    assert [event.type for event in shelf.committed_of("c")] == [None, "deleted"]


async def test_a_refused_change_fails_no_neighbour_of_its_batch(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1")

    answers = await asyncio.gather(
        store.append_message(message("ana", "k2")),
        change(store, 1, "new", "bruno"),
        change(store, 2, "edited in the batch that it came in"),
        store.append_message(message("ana", "k3")),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [Sent, Forbidden, Changed, Sent]
    assert isinstance(answers[1], ChatError)
    assert [event.body for event in await whole_log(store)][1] == "edited in the batch that it came in"


async def test_a_change_of_the_subject_is_told_beside_edits_as_before(store: Store) -> None:
    await store.put_conversation(new_conversation("c", ["ana"], "Old"))
    await send(store, "ana", "k1", "old")
    await change(store, 1, "new")
    await store.put_conversation(new_conversation("c", ["ana"], "New", at=8_000))

    assert (await log_json(store))[2] == (
        '{"seq":3,"from":null,"at":8000,"type":"conversation_changed","subject":"New","metadata":{}}'
    )
