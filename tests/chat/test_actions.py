"""The actions on a real store: who may do what, what is refused, and what the members are told."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from recado.chat import actions
from recado.chat.actions import SEQ_MAX, Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unavailable
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED
from recado.chat.ids import is_valid_id
from recado.chat.message import MessageDraft
from recado.chat.principal import Principal
from tests.chat.conftest import LIMITS, NOW, RecordingBroker

HOST = Principal(None, is_host=True)
ANA, BRUNO, MALLORY = Principal("ana"), Principal("bruno"), Principal("mallory")
PAIR = frozenset({"ana", "bruno"})
HOST_AS_ANA = Principal("ana", is_host=True)


async def create(chat: Chat, *members: str, conversation: str = "c") -> None:
    await actions.put_conversation(chat, HOST, conversation, ConversationDraft(list(members)))


async def send(chat: Chat, principal: Principal = ANA, body: str = "hi", message_id: str | None = None) -> int:
    sent = await actions.send_message(chat, principal, "c", MessageDraft(body, message_id))
    return sent.event.seq


# Sending


async def test_a_message_is_committed_and_goes_to_the_members_with_its_origin(
    chat: Chat, broker: RecordingBroker
) -> None:
    await create(chat, "ana", "bruno")
    origin = object()
    sent = await actions.send_message(chat, ANA, "c", MessageDraft("Chegou!", "k3x9"), origin)

    assert sent.created
    event = sent.event
    assert (event.seq, event.sender, event.at, event.id, event.body) == (1, "ana", NOW, "k3x9", "Chegou!")
    (told,) = broker.committed
    assert (told.event, told.recipients, told.origin) == (event, PAIR, origin)


async def test_a_message_without_an_id_gets_one_of_its_own(chat: Chat) -> None:
    await create(chat, "ana")
    sent = await asyncio.gather(*(actions.send_message(chat, ANA, "c", MessageDraft("hi")) for _ in range(20)))
    ids = [each.event.id or "" for each in sent]
    assert all(map(is_valid_id, ids))
    assert len(set(ids)) == 20


async def test_a_repeated_id_is_the_first_message_and_nobody_is_told_again(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana")
    assert await send(chat, message_id="k1") == await send(chat, body="another", message_id="k1") == 1
    assert len(broker.committed) == 1


async def test_the_host_may_send_as_a_member_and_not_as_nobody(chat: Chat) -> None:
    await create(chat, "ana")
    assert await send(chat, HOST_AS_ANA) == 1
    with pytest.raises(Invalid, match="Recado-User"):
        await send(chat, HOST)


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        (MessageDraft(""), Invalid),
        (MessageDraft(" \n"), Invalid),
        (MessageDraft("a\x00"), Invalid),
        (MessageDraft("hi", "bad id"), Invalid),
        (MessageDraft("hi", ""), Invalid),
        (MessageDraft("x" * (LIMITS.body_bytes_max + 1)), TooLarge),
    ],
)
async def test_a_bad_message_is_refused_at_once_and_nothing_is_stored_or_told(
    chat: Chat, broker: RecordingBroker, draft: MessageDraft, error: type[Invalid]
) -> None:
    await create(chat, "ana")
    with pytest.raises(error):
        actions.send_message(chat, ANA, "c", draft)
    assert (await actions.read_events(chat, HOST, "c", None, None, None)).last_seq == 0
    assert broker.committed == []


async def test_strangers_unknown_conversations_and_bad_ids_are_refused(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana")
    with pytest.raises(NotFound):
        await send(chat, MALLORY)
    with pytest.raises(NotFound):
        await actions.send_message(chat, ANA, "unknown", MessageDraft("hi"))
    with pytest.raises(Invalid, match="conversation id"):
        actions.send_message(chat, ANA, "a/b", MessageDraft("hi"))
    assert broker.committed == []


# Creating


async def test_only_the_host_creates_and_changes_who_is_in(chat: Chat) -> None:
    await create(chat, "ana")
    for principal in (ANA, MALLORY):
        with pytest.raises(Forbidden):
            await actions.put_conversation(chat, principal, "d", ConversationDraft(["ana"]))
        with pytest.raises(Forbidden):
            await actions.add_member(chat, principal, "c", "carla")
        with pytest.raises(Forbidden):
            await actions.remove_member(chat, principal, "c", "ana")


async def test_a_conversation_without_an_id_gets_one_and_two_get_two(chat: Chat) -> None:
    made = [(await actions.put_conversation(chat, HOST, None, ConversationDraft(["ana"])))[0].id for _ in range(2)]
    assert all(map(is_valid_id, made))
    assert made[0] != made[1]


async def test_a_member_named_twice_is_one_member(chat: Chat) -> None:
    view, _ = await actions.put_conversation(chat, HOST, "c", ConversationDraft(["bruno", "ana", "bruno"]))
    assert view.members == ["bruno", "ana"]


def metadata(size: int) -> msgspec.Raw:
    return msgspec.Raw(b'{"x":"' + b"y" * (size - 8) + b'"}')


@pytest.mark.parametrize(
    "draft",
    [
        ConversationDraft([f"u{n}" for n in range(LIMITS.members_max)]),
        ConversationDraft([], "é" * (LIMITS.subject_bytes_max // 2)),
        ConversationDraft([], None, metadata(LIMITS.metadata_bytes_max)),
        ConversationDraft([], "", msgspec.Raw(b" \n{} ")),
    ],
)
async def test_a_draft_of_exactly_the_limits_is_taken(chat: Chat, draft: ConversationDraft) -> None:
    view, created = await actions.put_conversation(chat, HOST, "c", draft)
    assert created
    assert (view.members, view.subject) == (draft.members, draft.subject)


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        (ConversationDraft([f"u{n}" for n in range(LIMITS.members_max + 1)]), TooLarge),
        (ConversationDraft(["bad id"]), Invalid),
        (ConversationDraft([""]), Invalid),
        (ConversationDraft([], "é" * (LIMITS.subject_bytes_max // 2) + "x"), TooLarge),
        (ConversationDraft([], "a\x00"), Invalid),
        (ConversationDraft([], None, metadata(LIMITS.metadata_bytes_max + 1)), TooLarge),
        (ConversationDraft([], None, msgspec.Raw(b"[]")), Invalid),
        (ConversationDraft([], None, msgspec.Raw(b"null")), Invalid),
        (ConversationDraft([], None, msgspec.Raw(b'"{}"')), Invalid),
    ],
    ids=lambda value: str(value)[:60] if not isinstance(value, type) else value.__name__,
)
async def test_a_bad_draft_is_refused_and_nothing_is_there(
    chat: Chat, draft: ConversationDraft, error: type[Invalid]
) -> None:
    with pytest.raises(error) as refusal:
        await actions.put_conversation(chat, HOST, "c", draft)
    assert type(refusal.value) is error
    with pytest.raises(NotFound):
        await actions.read_conversation(chat, HOST, "c")


async def test_creating_again_with_a_stranger_conflicts(chat: Chat) -> None:
    await create(chat, "ana")
    with pytest.raises(Conflict, match="mallory"):
        await create(chat, "ana", "mallory")


# Membership


async def test_members_are_added_and_removed_once_and_everyone_hears_of_it(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana")
    view, added = await actions.add_member(chat, HOST_AS_ANA, "c", "carla")
    assert (view.members, added) == (["ana", "carla"], True)
    view, added = await actions.add_member(chat, HOST, "c", "carla")
    assert (view.members, added) == (["ana", "carla"], False)
    for _ in range(2):
        assert (await actions.remove_member(chat, HOST, "c", "carla")).members == ["ana"]

    told = [(entry.event.type, entry.event.sender, entry.recipients) for entry in broker.committed]
    both = frozenset({"ana", "carla"})
    assert told == [(MEMBER_ADDED, "ana", both), (MEMBER_REMOVED, None, both)]


async def test_a_full_conversation_takes_nobody_more(chat: Chat) -> None:
    await create(chat, *(f"u{n}" for n in range(LIMITS.members_max)))
    with pytest.raises(TooLarge):
        await actions.add_member(chat, HOST, "c", "one-more")


async def test_a_removed_member_can_do_nothing_from_then_on(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana", "bruno")
    await actions.signal_typing(chat, ANA, "c")
    await actions.remove_member(chat, HOST, "c", "ana")
    broker.signals.clear()

    for action in (
        lambda: send(chat),
        lambda: actions.signal_typing(chat, ANA, "c"),
        lambda: actions.mark_read(chat, ANA, "c", 0),
        lambda: actions.read_conversation(chat, ANA, "c"),
        lambda: actions.read_events(chat, ANA, "c", None, None, None),
        lambda: actions.read_events(chat, HOST_AS_ANA, "c", None, None, None),
    ):
        with pytest.raises(NotFound):
            await action()
    assert (await actions.list_conversations(chat, ANA, None, None)).conversations == []
    await actions.signal_typing(chat, BRUNO, "c")
    assert [recipients for _, recipients, _ in broker.signals] == [{"bruno"}]


# Reading


async def test_the_host_sees_every_conversation_and_as_a_user_only_theirs(chat: Chat) -> None:
    await create(chat, "bruno")
    assert (await actions.read_conversation(chat, HOST, "c")).members == ["bruno"]
    assert (await actions.read_events(chat, HOST, "c", None, None, None)).events == []
    for principal in (HOST_AS_ANA, ANA):
        with pytest.raises(NotFound):
            await actions.read_conversation(chat, principal, "c")
    with pytest.raises(Invalid, match="Recado-User"):
        await actions.list_conversations(chat, HOST, None, None)


@pytest.mark.parametrize("limit", [0, -1, LIMITS.page_max + 1, 2**63])
async def test_a_page_has_a_size_from_1_to_its_limit(chat: Chat, limit: int) -> None:
    await create(chat, "ana")
    with pytest.raises(Invalid, match="limit must be 1 to 20"):
        await actions.read_events(chat, ANA, "c", None, None, limit)
    with pytest.raises(Invalid, match="limit must be 1 to 20"):
        await actions.list_conversations(chat, ANA, None, limit)


async def test_a_page_without_a_size_has_the_default_one(chat: Chat) -> None:
    await create(chat, "ana")
    for n in range(LIMITS.page_default + 2):
        await send(chat)
        await create(chat, "ana", conversation=f"d{n}")
    assert len((await actions.read_events(chat, ANA, "c", None, None, None)).events) == LIMITS.page_default
    assert len((await actions.list_conversations(chat, ANA, None, None)).conversations) == LIMITS.page_default


@pytest.mark.parametrize("seq", [-1, SEQ_MAX + 1, 2**63])
async def test_a_seq_that_no_log_can_have_is_refused(chat: Chat, seq: int) -> None:
    await create(chat, "ana")
    for action in (
        lambda: actions.read_events(chat, ANA, "c", seq, None, None),
        lambda: actions.read_events(chat, ANA, "c", None, seq, None),
        lambda: actions.mark_read(chat, ANA, "c", seq),
    ):
        with pytest.raises(Invalid):
            await action()


# Signals


async def test_reading_on_is_told_to_the_members_once(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana", "bruno")
    await send(chat)
    await send(chat)
    for seq in (2, 1, 2):
        assert (await actions.mark_read(chat, BRUNO, "c", seq)).read_up_to == 2

    ((conversation, recipients, payload),) = broker.signals
    assert (conversation, recipients) == ("c", PAIR)
    assert json.loads(payload) == {"type": "read", "from": "bruno", "seq": 2}


async def test_in_a_large_conversation_reading_is_stored_and_not_told(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana", "bruno", "carla", "davi")
    await send(chat)
    assert (await actions.mark_read(chat, BRUNO, "c", 1)).moved
    assert (await actions.read_conversation(chat, BRUNO, "c")).read_up_to == 1
    assert broker.signals == []


async def test_typing_is_told_to_the_members_and_only_by_one(chat: Chat, broker: RecordingBroker) -> None:
    await create(chat, "ana", "bruno")
    await actions.signal_typing(chat, ANA, "c")
    for principal, conversation in ((MALLORY, "c"), (ANA, "unknown")):
        with pytest.raises(NotFound):
            await actions.signal_typing(chat, principal, conversation)

    ((conversation, recipients, payload),) = broker.signals
    assert (conversation, recipients) == ("c", PAIR)
    assert json.loads(payload) == {"type": "typing", "from": "ana", "for_ms": 6_000}
    assert (await actions.read_events(chat, ANA, "c", None, None, None)).last_seq == 0, "a signal is in no log"


async def test_an_erased_user_is_cut_off_first_and_again_at_the_end_also_if_the_store_fails(
    chat: Chat, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off_before: list[list[str]] = []

    async def fail(user: str, at: int) -> None:
        cut_off_before.append(list(broker.disconnected))
        raise Unavailable("the disk is full")

    monkeypatch.setattr(chat.store, "erase_user", fail)
    with pytest.raises(Unavailable):
        await actions.erase_user(chat, HOST, "ana")
    assert cut_off_before == [["ana"]]
    assert broker.disconnected == ["ana", "ana"]
