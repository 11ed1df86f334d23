"""Cursors on their way to the store: what is written when, what is lost when the store is away, and who is told."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from recado.app.limits import DEFAULT
from recado.chat import actions
from recado.chat.actions import Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import Invalid, NotFound, Unavailable
from recado.chat.event import Event, encode_event
from recado.chat.membership import MembershipCache
from recado.chat.message import MessageDraft
from recado.chat.policy import ChatLimits
from recado.chat.principal import Principal
from recado.chat.receipts import ReadMarks, Receipts
from recado.ports import Delivered, DeliveredMark, ReadMark, Store
from tests.chat.conftest import RecordingBroker

FAR = 3_600_000  # ms: an interval that does not end within a test
SOON = 1
ALL = frozenset({"ana", "bruno", "carla"})


class MarkStore:
    """Keeps what it is asked to write until the test answers, or answers at once if `is_open`."""

    def __init__(self) -> None:
        self.written: list[list[DeliveredMark]] = []
        self.read: list[int] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.is_open = True
        self.senders = frozenset({"ana"})

    async def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        self.written.append(list(marks))
        await self._answer()
        return [Delivered(each.conversation, each.user, each.seq, self.senders, 3) for each in marks]

    async def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        self.read.append(seq)
        await self._answer()
        return ReadMark(seq, True, ALL)

    async def _answer(self) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        if self.is_open:
            answer.set_result(None)
        await answer


Open = Callable[..., Receipts]


@pytest.fixture
def store() -> MarkStore:
    return MarkStore()


@pytest.fixture
async def open_receipts(store: MarkStore, broker: RecordingBroker) -> AsyncIterator[Open]:
    opened: list[Receipts] = []

    def open_receipts(**limits: int) -> Receipts:
        changed = {"receipts_interval_ms": FAR, **limits}
        members = MembershipCache(cast(Store, store), 10)
        opened.append(Receipts(cast(Store, store), broker, members, replace(DEFAULT.chat, **changed)))
        return opened[-1]

    yield open_receipts
    store.is_open = True
    for answer in store.answers:
        if not answer.done():
            answer.set_result(None)
    for receipts in opened:
        await receipts.close()


def deliver(
    receipts: Receipts, user: str = "bruno", seq: int = 1, conversation: str = "c", sender: str = "ana"
) -> None:
    receipts.delivered(user, conversation, seq, encode_event(Event(seq=seq, sender=sender, at=1, id="x", body="hi")))


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def told(broker: RecordingBroker) -> list[tuple[str, set[str], dict[str, Any]]]:
    return [(conversation, set(to), json.loads(payload)) for conversation, to, payload in broker.signals]


# What is delivered


async def test_the_first_acknowledgement_is_told_at_once_and_to_the_sender_alone(
    open_receipts: Open, broker: RecordingBroker
) -> None:
    deliver(open_receipts(), seq=42)
    await turns()
    assert told(broker) == [("c", {"ana"}, {"type": "delivered", "from": "bruno", "seq": 42})]


async def test_what_comes_within_the_interval_waits_for_its_end_and_goes_as_one_cursor(
    open_receipts: Open, store: MarkStore
) -> None:
    receipts = open_receipts()
    deliver(receipts, seq=1)
    await turns()
    for seq in (2, 4, 3):
        deliver(receipts, seq=seq)
    await turns()
    assert store.written == [[DeliveredMark("c", "bruno", 1)]]
    await receipts.close()
    assert store.written[1:] == [[DeliveredMark("c", "bruno", 4)]]
    assert (receipts.coalesced, receipts.stored) == (2, 2)


async def test_the_interval_ends_by_itself_and_after_a_quiet_one_the_next_goes_at_once(
    open_receipts: Open, store: MarkStore
) -> None:
    receipts = open_receipts(receipts_interval_ms=SOON)
    deliver(receipts, seq=1)
    await turns()
    deliver(receipts, seq=2)
    await until(lambda: len(store.written) == 2)
    await until(lambda: receipts._task is None)
    deliver(receipts, seq=3)
    await turns()
    assert [marks[0].seq for marks in store.written] == [1, 2, 3]


async def test_one_write_is_under_way_at_a_time(open_receipts: Open, store: MarkStore) -> None:
    store.is_open = False
    receipts = open_receipts(receipts_interval_ms=SOON)
    for seq in range(1, 5):
        deliver(receipts, seq=seq)
        await asyncio.sleep(0.002)
    assert len(store.written) == 1
    store.answers[0].set_result(None)
    await until(lambda: len(store.written) == 2)
    assert store.written[1] == [DeliveredMark("c", "bruno", 4)]


async def test_the_own_message_is_no_news_and_does_not_make_the_others_wait(
    open_receipts: Open, store: MarkStore
) -> None:
    receipts = open_receipts()
    deliver(receipts, "ana", 1)
    await turns()
    deliver(receipts, "bruno", 1)
    await turns()
    assert store.written == [[DeliveredMark("c", "bruno", 1)]]


async def test_somebody_whose_name_begins_like_the_senders_is_somebody_else(
    open_receipts: Open, store: MarkStore
) -> None:
    deliver(open_receipts(), "an", 1)
    await turns()
    assert store.written == [[DeliveredMark("c", "an", 1)]]


async def test_many_cursors_go_in_batches_one_after_the_other(open_receipts: Open, store: MarkStore) -> None:
    receipts = open_receipts(receipts_batch_max=2)
    for number in range(5):
        deliver(receipts, conversation=f"c{number}")
    await turns()
    assert [len(marks) for marks in store.written] == [2, 2, 1]


async def test_what_the_store_could_not_take_is_tried_again_with_what_came_since(
    open_receipts: Open, store: MarkStore, broker: RecordingBroker
) -> None:
    store.is_open = False
    receipts = open_receipts(receipts_interval_ms=SOON)
    deliver(receipts, "bruno", 1)
    deliver(receipts, "carla", 7)
    await turns()
    deliver(receipts, "bruno", 2)
    deliver(receipts, "carla", 6)
    store.is_open = True
    store.answers[0].set_exception(Unavailable("the disk is full"))
    await until(lambda: len(broker.signals) == 2)
    assert set(store.written[1]) == {DeliveredMark("c", "bruno", 2), DeliveredMark("c", "carla", 7)}


async def test_a_store_that_fails_is_not_asked_in_a_hurry_however_much_waits(
    open_receipts: Open, store: MarkStore
) -> None:
    store.is_open = False
    receipts = open_receipts(receipts_pending_max=2)
    deliver(receipts, conversation="c0")
    await turns()
    store.answers[0].set_exception(Unavailable("the disk is full"))
    await turns()
    for number in range(1, 5):
        deliver(receipts, conversation=f"c{number}")
        await turns()
    assert len(store.written) == 1
    assert receipts.dropped == 3, "two wait: the first, and one of the four"
    store.is_open = True
    await receipts.close()
    assert [mark.conversation for mark in store.written[1]] == ["c0", "c1"]


async def test_what_comes_back_from_a_store_that_failed_takes_no_more_room_than_there_is(
    open_receipts: Open, store: MarkStore
) -> None:
    store.is_open = False
    receipts = open_receipts(receipts_pending_max=2)
    deliver(receipts, conversation="c0")
    await turns()
    deliver(receipts, conversation="c1")
    deliver(receipts, conversation="c2")
    store.answers[0].set_exception(Unavailable("the disk is full"))
    await turns()
    assert receipts.dropped == 1
    store.is_open = True
    await receipts.close()
    assert [mark.conversation for mark in store.written[1]] == ["c1", "c2"]


async def test_when_as_many_wait_as_may_they_are_written_before_the_interval_is_over(
    open_receipts: Open, store: MarkStore
) -> None:
    receipts = open_receipts(receipts_pending_max=3)
    deliver(receipts, conversation="first")
    await turns()
    for number in range(3):
        deliver(receipts, conversation=f"c{number}")
    await turns()
    assert [len(marks) for marks in store.written] == [1, 3]
    assert receipts.dropped == 0


async def test_what_is_pending_is_written_at_the_end_and_nothing_after_it(
    open_receipts: Open, store: MarkStore
) -> None:
    receipts = open_receipts()
    deliver(receipts, seq=1)
    await turns()
    deliver(receipts, seq=2)
    await receipts.close()
    deliver(receipts, seq=3)
    await turns()
    assert [marks[0].seq for marks in store.written] == [1, 2]


async def test_the_end_does_not_wait_for_a_store_that_fails(open_receipts: Open, store: MarkStore) -> None:
    store.is_open = False
    receipts = open_receipts()
    deliver(receipts)
    await turns()
    closing = asyncio.ensure_future(receipts.close())
    await turns()
    store.answers[0].set_exception(Unavailable("the server is stopping"))
    async with asyncio.timeout(5):
        await closing


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["remembered", "forgotten"])
async def test_a_sender_who_was_removed_meanwhile_is_not_told(
    chat: Chat, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch, is_forgotten: bool
) -> None:
    host = Principal(None, is_host=True)
    await actions.put_conversation(chat, host, "c", ConversationDraft(["ana", "bruno"]))
    sent = await actions.send_message(chat, Principal("ana"), "c", MessageDraft("hi"))
    mark_delivered = chat.store.mark_delivered

    async def then_remove(marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        moved = await mark_delivered(marks, members_max)
        assert moved[0].senders == {"ana"}
        await actions.remove_member(chat, host, "c", "ana")
        if is_forgotten:
            chat.members._members.clear()
        return moved

    monkeypatch.setattr(chat.store, "mark_delivered", then_remove)
    deliver(chat.receipts, "bruno", sent.event.seq)
    await chat.close()
    assert broker.signals == []


async def test_what_is_delivered_is_kept_and_what_is_read_is_delivered(chat: Chat, broker: RecordingBroker) -> None:
    host, bruno = Principal(None, is_host=True), Principal("bruno")
    await actions.put_conversation(chat, host, "c", ConversationDraft(["ana", "bruno", "carla"]))
    for body in ("one", "two"):
        await actions.send_message(chat, Principal("ana"), "c", MessageDraft(body))
    await actions.mark_read(chat, bruno, "c", 2)
    deliver(chat.receipts, "bruno", 2)  # it is late, and says nothing new
    deliver(chat.receipts, "carla", 1)
    await chat.close()

    assert [(each[1], each[2]["type"], each[2]["from"], each[2]["seq"]) for each in told(broker)] == [
        (ALL, "read", "bruno", 2),
        ({"ana"}, "delivered", "carla", 1),
    ]
    kept = await chat.store.receipts("c", None, 50)
    assert [(each.user, each.delivered_up_to, each.read_up_to) for each in kept if each.user != "ana"] == [
        ("bruno", 2, 2),
        ("carla", 1, 0),
    ]


async def test_the_senders_are_told_by_a_server_that_remembers_no_members_yet(
    chat: Chat, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Principal(None, is_host=True)
    await actions.put_conversation(chat, host, "c", ConversationDraft(["ana", "bruno"]))
    await actions.send_message(chat, Principal("ana"), "c", MessageDraft("hi"))
    mark_delivered = chat.store.mark_delivered

    async def while_another_changes(marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        moved = await mark_delivered(marks, members_max)
        await actions.put_conversation(chat, host, "other", ConversationDraft(["ana"]))
        await actions.add_member(chat, host, "other", "carla")
        return moved

    monkeypatch.setattr(chat.store, "mark_delivered", while_another_changes)
    deliver(chat.receipts, "bruno", 1)
    await chat.close()
    assert [(conversation, to) for conversation, to, _ in told(broker)] == [("c", {"ana"})]


async def test_a_failure_that_nobody_thought_of_loses_no_cursor(
    open_receipts: Open, store: MarkStore, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.is_open = False
    receipts = open_receipts(receipts_interval_ms=SOON, receipts_batch_max=1)
    deliver(receipts, conversation="c0")
    await turns()
    deliver(receipts, conversation="c1")
    store.is_open = True
    store.answers[0].set_exception(RuntimeError("who would have thought"))
    await until(lambda: len(broker.signals) == 2)

    def fail(*_: object) -> None:
        raise RuntimeError("this neither")

    monkeypatch.setattr(broker, "signal", fail)
    deliver(receipts, conversation="c2")
    deliver(receipts, conversation="c3")
    await receipts.close()
    assert receipts.stored == 4


# What is read


async def test_who_reads_is_told_to_the_members_by_a_server_that_remembers_none_yet_and_to_no_other(
    chat: Chat, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Principal(None, is_host=True)
    await actions.put_conversation(chat, host, "c", ConversationDraft(["ana", "bruno", "carla"]))
    await actions.send_message(chat, Principal("ana"), "c", MessageDraft("hi"))
    mark_read = chat.store.mark_read

    async def then_remove(conversation: str, user: str, seq: int) -> ReadMark:
        mark = await mark_read(conversation, user, seq)
        await actions.remove_member(chat, host, "c", "carla")
        chat.members._members.clear()
        return mark

    monkeypatch.setattr(chat.store, "mark_read", then_remove)
    await actions.mark_read(chat, Principal("bruno"), "c", 1)
    await until(lambda: broker.signals != [])
    assert [(to, signal["seq"]) for _, to, signal in told(broker)] == [({"ana", "bruno"}, 1)]


async def test_a_read_mark_that_nobody_waits_for_any_more_fails_in_silence(reads: ReadMarks, store: MarkStore) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    store.is_open = False
    marking = asyncio.ensure_future(reads.mark("c", "bruno", 1))
    await turns()
    marking.cancel()
    await turns()
    store.answers.pop().set_exception(Unavailable("the disk is full"))
    await turns()
    del marking
    gc.collect()
    assert said == []


@pytest.fixture
def reads(store: MarkStore, broker: RecordingBroker) -> ReadMarks:
    limits: ChatLimits = DEFAULT.chat
    return ReadMarks(cast(Store, store), broker, MembershipCache(cast(Store, store), 10), limits)


async def test_read_marks_that_come_while_one_is_written_share_the_next(
    reads: ReadMarks, store: MarkStore, broker: RecordingBroker
) -> None:
    store.is_open = False
    marks = [asyncio.ensure_future(reads.mark("c", "bruno", seq)) for seq in (1, 3, 4, 2, 4)]
    other = asyncio.ensure_future(reads.mark("c", "carla", 1))
    await turns()
    store.is_open = True
    for answer in list(store.answers):
        answer.set_result(None)
    assert {mark.read_up_to for mark in await asyncio.gather(*marks)} == {4}
    await other
    assert sorted(store.read) == [1, 4]
    assert [payload["seq"] for _, _, payload in told(broker) if payload["from"] == "bruno"] == [4]


async def test_a_read_mark_that_is_refused_refuses_nobody_else(reads: ReadMarks, store: MarkStore) -> None:
    store.is_open = False
    first, wrong, right = (asyncio.ensure_future(reads.mark("c", "bruno", seq)) for seq in (1, 99, 2))
    for answered, error in enumerate((Invalid("past the end"), None, None)):
        await turns()
        if error is not None:
            store.answers[answered].set_exception(error)
        elif answered < len(store.answers):
            store.answers[answered].set_result(None)
    with pytest.raises(Invalid):
        await wrong
    assert (await right).read_up_to == 2
    assert (await first).read_up_to == 2


async def test_who_is_no_member_has_no_read_cursor(chat: Chat) -> None:
    with pytest.raises(NotFound):
        await actions.mark_read(chat, Principal("mallory"), "c", 0)
