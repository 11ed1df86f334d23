"""The Store port's contract on writes: seq, duplicates, membership, refusals, and what is told when.

Every adapter runs it; the reads are in test_store_reads.py, and any order of calls in test_store_any_order.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from recado.chat.errors import ChatError, Conflict, Invalid, NotFound, TooLarge, Unavailable
from recado.chat.event import CONVERSATION_CHANGED, MEMBER_ADDED, MEMBER_REMOVED, Committed, encode_event
from recado.ports import NewMessage, Sent, Store
from tests.contracts.stores import (
    MEMBERS_MAX,
    Shelf,
    create,
    message,
    new_conversation,
    send,
    seqs,
    whole_log,
)

SENDERS = ("ana", "bruno", "carla", "davi", "eva")


async def test_500_concurrent_sends_get_the_seqs_1_to_500_and_are_told_in_that_order(
    store: Store, shelf: Shelf
) -> None:
    await create(store, *SENDERS)

    sent = await asyncio.gather(*(send(store, SENDERS[n % 5], f"m{n}", f"body {n}") for n in range(500)))

    assert all(each.created for each in sent)
    assert sorted(each.event.seq for each in sent) == list(range(1, 501))
    log = await whole_log(store)
    assert seqs(log) == list(range(1, 501))
    assert shelf.committed_of("c") == log
    assert sorted(log, key=lambda event: event.seq) == sorted((each.event for each in sent), key=lambda e: e.seq)


async def test_concurrent_retries_return_the_first_event_and_take_no_seq(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")

    again = [message("ana", f"m{n // 3}", f"body {n}") for n in range(300)]
    sent = await asyncio.gather(*(store.append_message(each) for each in again))

    assert sum(each.created for each in sent) == 100
    assert len({each.event.seq for each in sent}) == 100
    for n, each in enumerate(sent):
        assert each.event == sent[n // 3 * 3].event, "a retry gets the first event, with the first body"
    assert seqs(await whole_log(store)) == list(range(1, 101))
    assert len(shelf.committed) == 100


async def test_a_retry_gets_the_first_event_for_ever_even_after_a_restart_with_another_body(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    first = await send(store, "ana", "k1", "first", at=5_000)
    await send(store, "bruno", "k2")

    store = await shelf.reopen()
    again = await send(store, "ana", "k1", "another body", at=9_000)

    assert (again.created, again.event) == (False, first.event)
    assert (await send(store, "bruno", "k3")).event.seq == 3
    assert [event.body for event in await whole_log(store)] == ["first", "hi", "hi"]


async def test_an_id_is_a_senders_own_and_a_conversations_own(store: Store) -> None:
    await create(store, "ana", "bruno")
    await create(store, "ana", conversation="d")

    sent = [
        await send(store, "ana", "same"),
        await send(store, "bruno", "same"),
        await send(store, "ana", "same", conversation="d"),
    ]

    assert [(each.created, each.event.seq) for each in sent] == [(True, 1), (True, 2), (True, 1)]


async def test_an_id_stays_used_when_its_sender_was_removed_and_added_again(store: Store) -> None:
    await create(store, "ana", "bruno")
    first = await send(store, "ana", "k1")
    await store.remove_member("c", "ana", None, 3_000)
    await store.put_member("c", "ana", None, 4_000, MEMBERS_MAX)

    assert await send(store, "ana", "k1") == Sent(first.event, created=False)


async def test_refusals_take_no_seq_and_fail_no_neighbour_of_their_batch(store: Store) -> None:
    await create(store, "ana", "bruno")
    asked: list[NewMessage] = []
    for n in range(100):
        asked += [message("ana", f"a{n}"), message("mallory", f"m{n}"), message("ana", f"u{n}", conversation="unknown")]

    answers = await asyncio.gather(*(store.append_message(each) for each in asked), return_exceptions=True)

    assert [type(answer) for answer in answers] == [Sent, NotFound, NotFound] * 100
    assert seqs(await whole_log(store)) == list(range(1, 101))


async def test_who_is_no_member_is_told_the_same_as_for_an_unknown_conversation(store: Store) -> None:
    await create(store, "ana", conversation="known")

    for refused in (
        lambda conversation: send(store, "mallory", "m", conversation=conversation),
        lambda conversation: store.conversation(conversation, "mallory"),
        lambda conversation: store.events(conversation, "mallory", None, None, 10),
        lambda conversation: store.mark_read(conversation, "mallory", 0),
        lambda conversation: store.mark_read(conversation, "mallory", 99),
    ):
        texts = []
        for conversation in ("known", "unknown"):
            with pytest.raises(NotFound) as refusal:
                await refused(conversation)
            texts.append(refusal.value.message.replace(conversation, "?"))
        assert texts[0] == texts[1]


@pytest.mark.parametrize("call", ["put_member", "remove_member", "membership", "conversation", "events"])
async def test_an_unknown_conversation_is_not_found_by_any_call(store: Store, call: str) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "put_member": lambda: store.put_member("unknown", "ana", None, 1, MEMBERS_MAX),
        "remove_member": lambda: store.remove_member("unknown", "ana", None, 1),
        "membership": lambda: store.membership("unknown"),
        "conversation": lambda: store.conversation("unknown", None),
        "events": lambda: store.events("unknown", None, None, None, 10),
    }
    with pytest.raises(NotFound):
        await calls[call]()


async def test_what_is_committed_is_told_before_its_sender_hears_of_it(store: Store) -> None:
    await create(store, "ana", "bruno")
    futures: list[asyncio.Future[Sent]] = []
    early: list[bool] = []

    def on_committed(committed: Sequence[Committed]) -> None:
        early.extend(futures[entry.event.seq - 1].done() for entry in committed)

    store.on_committed = on_committed
    futures += [asyncio.ensure_future(store.append_message(message("ana", f"m{n}"))) for n in range(50)]
    await asyncio.gather(*futures)

    assert early == [False] * 50


async def test_the_origin_of_a_message_comes_back_with_it_and_a_retry_is_told_to_nobody(
    store: Store, shelf: Shelf
) -> None:
    await create(store, "ana", "bruno")
    origin = object()

    for _ in range(2):
        await store.append_message(NewMessage("c", "ana", "k1", "hi", 2_000, origin))

    assert len(shelf.committed) == 1
    assert shelf.committed[0].origin is origin
    assert shelf.committed[0].recipients == {"ana", "bruno"}


async def test_the_added_and_the_removed_hear_of_it_and_nothing_before_or_after(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")

    await asyncio.gather(
        send(store, "ana", "1"),
        store.put_member("c", "carla", "host-user", 3_000, MEMBERS_MAX),
        send(store, "ana", "2"),
        store.remove_member("c", "carla", None, 4_000),
        send(store, "ana", "3"),
    )

    told = [(entry.event.type, entry.event.user, entry.event.sender, entry.recipients) for entry in shelf.committed]
    pair, three = frozenset({"ana", "bruno"}), frozenset({"ana", "bruno", "carla"})
    assert told == [
        (None, None, "ana", pair),
        (MEMBER_ADDED, "carla", "host-user", three),
        (None, None, "ana", three),
        (MEMBER_REMOVED, "carla", None, three),
        (None, None, "ana", pair),
    ]
    assert shelf.committed[3].members_after() == pair
    assert shelf.committed_of("c") == await whole_log(store)


async def test_a_new_conversation_has_an_empty_log_and_its_members_in_the_order_given(
    store: Store, shelf: Shelf
) -> None:
    new = new_conversation("c", ["carla", "ana", "bruno"], "Order 4711", b'{"order":4711}', at=1_234)

    view, created = await store.put_conversation(new)

    assert created
    assert (view.id, view.subject, bytes(view.metadata)) == ("c", "Order 4711", b'{"order":4711}')
    assert view.members == ["carla", "ana", "bruno"]
    assert (view.created_at, view.active_at, view.last_seq, view.last_event) == (1_234, 1_234, 0, None)
    assert (view.read_up_to, view.unread_count) == (0, 0)
    assert shelf.committed == []


async def test_creating_again_changes_nothing_and_says_so(store: Store, shelf: Shelf) -> None:
    new = new_conversation("c", ["ana", "bruno"], "Order", b'{"a":1}')
    first, _ = await store.put_conversation(new)

    for again in (new, new_conversation("c", ["bruno"]), new_conversation("c", [])):
        assert await store.put_conversation(again) == (first, False)
    assert shelf.committed == []


async def test_of_many_that_create_the_same_conversation_at_once_exactly_one_does(store: Store) -> None:
    new = new_conversation("c", ["ana"])
    answers = await asyncio.gather(*(store.put_conversation(new) for _ in range(20)))
    assert sorted(created for _, created in answers) == [False] * 19 + [True]


async def test_another_subject_or_other_metadata_is_one_event_with_both_as_they_are_now(
    store: Store, shelf: Shelf
) -> None:
    await store.put_conversation(new_conversation("c", ["ana", "bruno"], "Old", b'{"a":1}'))

    view, created = await store.put_conversation(new_conversation("c", ["ana"], "New", at=7_000, creator="ana"))
    await store.put_conversation(new_conversation("c", ["ana"], None, b'{"a":2}', at=8_000))

    assert (created, view.subject, bytes(view.metadata), view.active_at) == (False, "New", b'{"a":1}', 7_000)
    assert view.members == ["ana", "bruno"], "who is not listed stays"
    assert [encode_event(event) for event in shelf.committed_of("c")] == [
        b'{"seq":1,"from":"ana","at":7000,"type":"conversation_changed","subject":"New","metadata":{"a":1}}',
        b'{"seq":2,"from":null,"at":8000,"type":"conversation_changed","subject":"New","metadata":{"a":2}}',
    ]
    assert shelf.committed[0].recipients == {"ana", "bruno"}
    assert [encode_event(event) for event in await whole_log(store)] == list(
        map(encode_event, shelf.committed_of("c"))
    ), "history says the same as what was sent live"


async def test_a_changed_subject_can_be_listed_and_read_again(store: Store) -> None:
    await store.put_conversation(new_conversation("c", ["ana"], "Old", b'{"a":1}'))
    await store.put_conversation(new_conversation("c", ["ana"], "New"))

    view = (await store.conversations("ana", None, 10)).conversations[0]

    assert view.last_event is not None
    assert (view.subject, view.last_event.type, view.last_event.subject) == ("New", CONVERSATION_CHANGED, "New")
    assert view.unread_count == 0, "it is no message"


async def test_creating_again_with_a_stranger_is_a_conflict_and_changes_nothing(store: Store, shelf: Shelf) -> None:
    first, _ = await store.put_conversation(new_conversation("c", ["ana"], "Old"))

    with pytest.raises(Conflict):
        await store.put_conversation(new_conversation("c", ["ana", "mallory"], "New", b'{"a":1}'))

    assert await store.conversation("c", None) == first
    assert shelf.committed == []


async def test_metadata_comes_back_byte_for_byte(shelf: Shelf) -> None:
    text = '{ "b" : 1.0, "a":[1e3,\t12345678901234567890123],"é":"\\u00e9\\ud83d\\ude00", "b":null }'.encode()
    other = text.replace(b"null", b"  true")
    store = await shelf.open()
    await store.put_conversation(new_conversation("c", ["ana"], metadata=text))
    await store.put_conversation(new_conversation("c", ["ana"], metadata=other))

    store = await shelf.reopen()

    assert bytes((await store.conversation("c", "ana")).metadata) == other
    (event,) = await whole_log(store)
    assert event.metadata is not None
    assert bytes(event.metadata) == other
    assert encode_event(event).endswith(b'"metadata":' + other + b"}")
    assert shelf.committed[0].event == event, "live and history say the same"


async def test_members_are_listed_in_the_order_of_joining_also_after_leaving(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "carla", "ana", "bruno")
    assert await store.remove_member("c", "carla", None, 2_000)
    assert await store.put_member("c", "davi", None, 3_000, MEMBERS_MAX)
    assert await store.put_member("c", "carla", None, 4_000, MEMBERS_MAX)

    store = await shelf.reopen()

    assert (await store.conversation("c", None)).members == ["ana", "bruno", "davi", "carla"]
    assert await store.membership("c") == (frozenset({"ana", "bruno", "davi", "carla"}), 3)


async def test_adding_a_member_or_removing_a_stranger_again_changes_nothing(store: Store, shelf: Shelf) -> None:
    await create(store, "ana")

    assert not await store.put_member("c", "ana", None, 2_000, MEMBERS_MAX)
    assert not await store.remove_member("c", "mallory", None, 2_000)

    assert shelf.committed == []
    assert (await store.conversation("c", None)).active_at == 1_000


async def test_a_conversation_takes_so_many_members_and_not_one_more(store: Store, shelf: Shelf) -> None:
    await create(store, "ana", "bruno")

    assert await store.put_member("c", "carla", None, 2_000, 3)
    with pytest.raises(TooLarge):
        await store.put_member("c", "davi", None, 3_000, 3)
    assert not await store.put_member("c", "carla", None, 3_000, 3), "a member is no news, however full it is"

    assert (await store.conversation("c", None)).members == ["ana", "bruno", "carla"]
    assert len(shelf.committed) == 1


async def test_a_removed_member_may_do_nothing_more_and_may_when_added_again(store: Store) -> None:
    await create(store, "ana", "bruno")
    await send(store, "ana", "1")
    await store.remove_member("c", "ana", None, 3_000)

    calls = (
        lambda: send(store, "ana", "2"),
        lambda: store.conversation("c", "ana"),
        lambda: store.events("c", "ana", None, None, 10),
        lambda: store.mark_read("c", "ana", 1),
    )
    for call in calls:
        with pytest.raises(NotFound):
            await call()
    assert (await store.conversations("ana", None, 10)).conversations == []

    await store.put_member("c", "ana", None, 4_000, MEMBERS_MAX)
    for call in calls:
        await call()
    assert seqs((await store.events("c", "ana", 0, None, 10)).events) == [1, 2, 3, 4], "the whole log, in history"


async def test_a_new_member_has_nothing_unread(store: Store) -> None:
    await create(store, "ana")
    for n in range(3):
        await send(store, "ana", str(n))

    await store.put_member("c", "bruno", None, 3_000, MEMBERS_MAX)
    await send(store, "ana", "new")

    view = await store.conversation("c", "bruno")
    assert (view.read_up_to, view.unread_count, view.last_seq) == (3, 1, 5)


async def test_what_was_accepted_before_closing_is_committed_and_afterwards_nothing_is(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana")

    accepted = [asyncio.ensure_future(store.append_message(message("ana", f"m{n}"))) for n in range(200)]
    await store.close()

    assert all(future.done() and future.exception() is None for future in accepted)
    for refused in (
        lambda: send(store, "ana", "late"),
        lambda: store.conversation("c", None),
        lambda: store.ping(),
    ):
        with pytest.raises(Unavailable):
            await refused()
    store = await shelf.reopen()
    assert len(await whole_log(store)) == 200


async def test_a_sender_that_stops_waiting_harms_nobody(store: Store) -> None:
    await create(store, "ana")

    given_up = asyncio.ensure_future(store.append_message(message("ana", "1")))
    given_up.cancel()
    await send(store, "ana", "2")

    assert [event.id for event in await whole_log(store)] == ["1", "2"], "it was accepted, so it may well be there"


async def test_every_refusal_is_a_chat_error_that_leaves_the_store_as_it_was(store: Store, shelf: Shelf) -> None:
    view = await create(store, "ana")
    refused = [
        store.append_message(message("mallory", "1")),
        store.mark_read("c", "ana", 1),
        store.put_member("c", "bruno", None, 2_000, 1),
        store.put_conversation(new_conversation("c", ["mallory"], "New")),
    ]

    answers = await asyncio.gather(*refused, return_exceptions=True)

    assert [type(answer) for answer in answers] == [NotFound, Invalid, TooLarge, Conflict]
    assert all(isinstance(answer, ChatError) for answer in answers)
    assert await store.conversation("c", None) == view
    assert shelf.committed == []


async def test_it_says_that_it_is_ready(store: Store) -> None:
    await store.ping()
