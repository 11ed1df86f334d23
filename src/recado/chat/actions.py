"""One function per intent of a user or of the host, one transaction each. Every door calls these and nothing else.

An action checks form and limits, then asks the store, which checks membership inside the transaction. Refusals are
`ChatError`s; what an action returned is committed.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from recado.chat import conversation as conversations
from recado.chat.conversation import ConversationDraft, ConversationView
from recado.chat.errors import Invalid, no_such_conversation
from recado.chat.event import read_signal, typing_signal
from recado.chat.ids import RANDOM_BITS, check_id, time_ordered_id
from recado.chat.membership import MembershipCache
from recado.chat.message import MessageDraft, check_draft
from recado.chat.policy import ChatLimits
from recado.chat.principal import Principal
from recado.ports import Broker, ConversationPage, EventPage, NewConversation, NewMessage, ReadMark, Sent, Store

SEQ_MAX = 2**53 - 1  # what a JavaScript client can count to


@dataclass(frozen=True, slots=True)
class Chat:
    """What the actions act on, made by the wiring."""

    store: Store
    broker: Broker
    members: MembershipCache
    limits: ChatLimits
    now_ms: Callable[[], int]


def send_message(
    chat: Chat, principal: Principal, conversation: str, draft: MessageDraft, origin: object = None
) -> Awaitable[Sent]:
    """Append a message to the log; a retry of an id that this sender has sent returns the first event.

    Raises Invalid, TooLarge or Unavailable at once; the awaitable raises NotFound or Unavailable.
    """
    check_id(conversation, "conversation id")
    check_draft(draft, chat.limits.body_bytes_max)
    now = chat.now_ms()
    message_id = draft.id or _new_id(now)
    sender = principal.require_user()
    return chat.store.append_message(NewMessage(conversation, sender, message_id, draft.body, now, origin))


async def put_conversation(
    chat: Chat, principal: Principal, conversation: str | None, draft: ConversationDraft
) -> tuple[ConversationView, bool]:
    """Create a conversation (host only); with an id it is idempotent. True if it was created.

    Raises Forbidden, Invalid, TooLarge, Conflict, Unavailable.
    """
    principal.require_host()
    now = chat.now_ms()
    key = _new_id(now) if conversation is None else conversation
    check_id(key, "conversation id")
    draft = conversations.check_draft(draft, chat.limits)
    new = NewConversation(key, draft.members, draft.subject, draft.metadata, principal.user, now)
    return await chat.store.put_conversation(new)


async def read_conversation(chat: Chat, principal: Principal, conversation: str) -> ConversationView:
    """Raises NotFound for one that is unknown or not the caller's."""
    check_id(conversation, "conversation id")
    return await chat.store.conversation(conversation, _viewer(principal))


async def list_conversations(
    chat: Chat, principal: Principal, cursor: str | None, limit: int | None
) -> ConversationPage:
    """The caller's conversations, newest activity first."""
    return await chat.store.conversations(principal.require_user(), cursor, _page(chat, limit))


async def add_member(chat: Chat, principal: Principal, conversation: str, user: str) -> tuple[ConversationView, bool]:
    """Host only; True if the user was no member before. Disconnects nobody."""
    principal.require_host()
    check_id(conversation, "conversation id")
    check_id(user, "user id")
    added = await chat.store.put_member(conversation, user, principal.user, chat.now_ms(), chat.limits.members_max)
    return await chat.store.conversation(conversation, None), added


async def remove_member(chat: Chat, principal: Principal, conversation: str, user: str) -> ConversationView:
    """Host only. From the commit on, nothing of the conversation reaches the user any more."""
    principal.require_host()
    check_id(conversation, "conversation id")
    check_id(user, "user id")
    await chat.store.remove_member(conversation, user, principal.user, chat.now_ms())
    return await chat.store.conversation(conversation, None)


async def read_events(
    chat: Chat, principal: Principal, conversation: str, after: int | None, before: int | None, limit: int | None
) -> EventPage:
    """A page of the log: past `after`, or the newest before `before`."""
    check_id(conversation, "conversation id")
    for name, seq in (("after", after), ("before", before)):
        if seq is not None and not 0 <= seq <= SEQ_MAX:
            raise Invalid(f"{name} must be a seq from 0 to {SEQ_MAX}, not {seq}")
    return await chat.store.events(conversation, _viewer(principal), after, before, _page(chat, limit))


async def mark_read(chat: Chat, principal: Principal, conversation: str, seq: int) -> ReadMark:
    """Move the caller's read cursor forward and tell the other members; it never goes back."""
    check_id(conversation, "conversation id")
    if not 0 <= seq <= SEQ_MAX:
        raise Invalid(f"seq must be 0 to {SEQ_MAX}, not {seq}")
    user = principal.require_user()
    mark = await chat.store.mark_read(conversation, user, seq)
    if mark.moved and len(mark.members) <= chat.limits.receipt_members_max:
        chat.broker.signal(conversation, mark.members, read_signal(user, mark.read_up_to))
    return mark


async def count_unread(chat: Chat, principal: Principal, conversation: str, read_up_to: int) -> int:
    """Others' messages past a seq. Raises NotFound, Unavailable."""
    return await chat.store.unread_count(conversation, principal.require_user(), read_up_to)


async def signal_typing(chat: Chat, principal: Principal, conversation: str) -> None:
    """Tell the members who are there that the caller is typing. Raises NotFound."""
    check_id(conversation, "conversation id")
    user = principal.require_user()
    members = await chat.members.members(conversation)
    if user not in members:
        raise no_such_conversation(conversation)
    chat.broker.signal(conversation, members, typing_signal(user))


async def check_ready(chat: Chat) -> None:
    """Raises Unavailable if a write could not be tried now."""
    await chat.store.ping()


def _new_id(now_ms: int) -> str:
    return time_ordered_id(now_ms, random.getrandbits(RANDOM_BITS))  # an id is unique, not a secret


def _viewer(principal: Principal) -> str | None:
    """Whose eyes a read goes through: the user's, or none for the host acting as itself, which sees everything."""
    return None if principal.is_host and principal.user is None else principal.require_user()


def _page(chat: Chat, limit: int | None) -> int:
    if limit is None:
        return chat.limits.page_default
    if not 1 <= limit <= chat.limits.page_max:
        raise Invalid(f"limit must be 1 to {chat.limits.page_max}, not {limit}")
    return limit
