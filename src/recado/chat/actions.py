"""One function per intent of a user or of the host, one transaction each. Every door calls these and nothing else.

An action checks form and limits, then asks the store, which checks membership inside the transaction. Refusals are
`ChatError`s; what an action returned is committed.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from recado.chat import conversation as conversations
from recado.chat.conversation import ConversationDraft, ConversationView
from recado.chat.errors import Invalid, RateLimited, no_such_conversation
from recado.chat.event import Committed, typing_signal
from recado.chat.ids import RANDOM_BITS, check_id, time_ordered_id
from recado.chat.membership import MembershipCache
from recado.chat.message import MessageDraft, check_body, check_draft
from recado.chat.policy import ChatLimits
from recado.chat.presence import Presence
from recado.chat.principal import Principal
from recado.chat.push_subscription import PushTerms
from recado.chat.receipts import ReadMarks, Receipts
from recado.chat.signal_rates import SignalRates, TypingRenewals
from recado.chat.stages import Stages
from recado.ports import (
    Broker,
    Changed,
    ConversationPage,
    EventPage,
    KeptSession,
    MessageChange,
    NewConversation,
    NewMessage,
    ReadMark,
    Receipt,
    Sent,
    Store,
)

SEQ_MAX = 2**53 - 1  # what a JavaScript client can count to


@dataclass(slots=True)
class Chat:
    """What the actions act on, made by the wiring on the running event loop.

    `push_terms` is None where nobody is notified. `is_broker_shared`: the broker reaches members who are not connected
    to this process, so nobody here knows who is there to hear of others' presence.
    """

    store: Store
    broker: Broker
    members: MembershipCache
    limits: ChatLimits
    now_ms: Callable[[], int]
    stages: Stages
    push_terms: PushTerms | None = None
    is_broker_shared: bool = False
    receipts: Receipts = field(init=False)
    read_marks: ReadMarks = field(init=False)
    presence: Presence = field(init=False)
    signal_rates: SignalRates = field(init=False)
    typing: TypingRenewals = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        loop = asyncio.get_running_loop()
        self.receipts = Receipts(self.store, self.broker, self.members, limits)
        self.read_marks = ReadMarks(self.store, self.broker, self.members, limits)
        self.presence = Presence(
            self.store, self.broker, self.members, limits, self.now_ms, loop, is_broker_shared=self.is_broker_shared
        )
        self.signal_rates = SignalRates(limits.signal_rate_max, loop.time)
        self.typing = TypingRenewals(limits.typing_interval_ms / 1000, limits.typing_remembered_max, loop.time)

    def apply(self, committed: Sequence[Committed]) -> None:
        """Follow what was committed, once the members have been sent it."""
        self.typing.apply(committed)

    async def close(self) -> None:
        """Write what only memory has, while the store still takes it; nobody is told any more who comes and goes."""
        self.presence.close()
        await self.receipts.close()


def send_message(
    chat: Chat,
    principal: Principal,
    conversation: str,
    draft: MessageDraft,
    origin: object = None,
    session: KeptSession | None = None,
) -> Awaitable[Sent]:
    """Append a message to the log; a retry of an id that this sender has sent returns the first event.

    Raises Invalid, TooLarge or Unavailable at once; the awaitable raises NotFound or Unavailable.
    """
    check_id(conversation, "conversation id")
    check_draft(draft, chat.limits.body_bytes_max)
    now = chat.now_ms()
    message_id = draft.id or _new_id(now)
    sender = principal.require_user()
    chat.stages.accepted += 1
    return chat.store.append_message(NewMessage(conversation, sender, message_id, draft.body, now, origin, session))


async def edit_message(chat: Chat, principal: Principal, conversation: str, seq: int, body: str) -> Changed:
    """Give a message another body. A user may change its own messages, for a while; the host acting as itself any.

    Raises Invalid, TooLarge, NotFound, Forbidden, Conflict for what is no message or deleted, Unavailable.
    """
    check_body(body, chat.limits.body_bytes_max)
    return await _change_message(chat, principal, conversation, seq, body)


async def delete_message(chat: Chat, principal: Principal, conversation: str, seq: int) -> Changed:
    """Erase a message's body; its entry stays. Who may, and what is raised, as for `edit_message`."""
    return await _change_message(chat, principal, conversation, seq, None)


async def _change_message(chat: Chat, principal: Principal, conversation: str, seq: int, body: str | None) -> Changed:
    check_id(conversation, "conversation id")
    check_seq(seq, "seq")
    now = chat.now_ms()
    since = now - chat.limits.message_change_window_s * 1000
    return await chat.store.change_message(MessageChange(conversation, seq, _viewer(principal), body, now, since))


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
    view, created = await chat.store.put_conversation(new)
    return await _with_online(chat, view), created


async def read_conversation(chat: Chat, principal: Principal, conversation: str) -> ConversationView:
    """Raises NotFound for one that is unknown or not the caller's."""
    check_id(conversation, "conversation id")
    return await _with_online(chat, await chat.store.conversation(conversation, _viewer(principal)))


async def list_conversations(
    chat: Chat, principal: Principal, cursor: str | None, limit: int | None
) -> ConversationPage:
    """The caller's conversations, newest activity first."""
    page = await chat.store.conversations(principal.require_user(), cursor, page_size(chat, limit))
    return page._replace(conversations=await _all_with_online(chat, page.conversations))


async def add_member(chat: Chat, principal: Principal, conversation: str, user: str) -> tuple[ConversationView, bool]:
    """Host only; True if the user was no member before. Disconnects nobody."""
    principal.require_host()
    check_id(conversation, "conversation id")
    check_id(user, "user id")
    added = await chat.store.put_member(conversation, user, principal.user, chat.now_ms(), chat.limits.members_max)
    return await _with_online(chat, await chat.store.conversation(conversation, None)), added


async def remove_member(chat: Chat, principal: Principal, conversation: str, user: str) -> ConversationView:
    """Host only. From the commit on, nothing of the conversation reaches the user any more."""
    principal.require_host()
    check_id(conversation, "conversation id")
    check_id(user, "user id")
    await chat.store.remove_member(conversation, user, principal.user, chat.now_ms())
    return await _with_online(chat, await chat.store.conversation(conversation, None))


async def erase_conversation(chat: Chat, principal: Principal, conversation: str) -> None:
    """Host only: leave nothing of it but its id, which is never used again. Raises NotFound if it never was."""
    principal.require_host()
    check_id(conversation, "conversation id")
    await chat.store.erase_conversation(conversation, chat.now_ms())


async def erase_user(chat: Chat, principal: Principal, user: str) -> None:
    """Host only: end the user's sessions, take it out of every conversation and erase what it wrote. Who has connected
    again meanwhile is cut off at the end, also if that failed."""
    principal.require_host()
    check_id(user, "user id")
    await chat.broker.disconnect(user)
    try:
        await chat.store.erase_user(user, chat.now_ms())
    finally:
        await chat.broker.disconnect(user)


async def end_sessions(chat: Chat, principal: Principal, user: str) -> None:
    """Host only: cut off the user's connections now, and end its kept sessions for good. It may connect again. Raises
    Unavailable if their end could not be stored."""
    principal.require_host()
    check_id(user, "user id")
    await chat.broker.disconnect(user)


async def read_receipts(chat: Chat, principal: Principal, conversation: str) -> list[Receipt]:
    """How far each member is; empty above `receipt_members_max` members. Raises NotFound."""
    check_id(conversation, "conversation id")
    return await chat.store.receipts(conversation, _viewer(principal), chat.limits.receipt_members_max)


async def _with_online(chat: Chat, view: ConversationView) -> ConversationView:
    (shown,) = await _all_with_online(chat, [view])
    return shown


async def _all_with_online(chat: Chat, views: Sequence[ConversationView]) -> list[ConversationView]:
    """Each view with those of its members who are there now, unless there are too many to say so."""
    members_max = chat.limits.receipt_members_max
    users = {user for view in views if len(view.members) <= members_max for user in view.members}
    online = await chat.presence.online(users)
    return [
        msgspec.structs.replace(view, online=[user for user in view.members if user in online])
        if len(view.members) <= members_max
        else view
        for view in views
    ]


async def read_events(
    chat: Chat, principal: Principal, conversation: str, after: int | None, before: int | None, limit: int | None
) -> EventPage:
    """A page of the log: past `after`, or the newest before `before`."""
    check_id(conversation, "conversation id")
    for name, seq in (("after", after), ("before", before)):
        if seq is not None:
            check_seq(seq, name)
    return await chat.store.events(conversation, _viewer(principal), after, before, page_size(chat, limit))


async def mark_read(
    chat: Chat, principal: Principal, conversation: str, seq: int, *, is_paced: bool = False
) -> ReadMark:
    """Move the caller's read cursor forward and tell the other members; it never goes back. What is read is delivered.

    Raises RateLimited, unless the caller is paced: then its door has counted the signal, and makes it wait instead.
    """
    check_id(conversation, "conversation id")
    check_seq(seq, "seq")
    user = principal.require_user()
    if not is_paced:
        take_signal(chat, user)
    return await chat.read_marks.mark(conversation, user, seq)


async def report_delivered(chat: Chat, principal: Principal, conversation: str, seq: int) -> None:
    """The caller's client says that everything up to `seq` has reached it: its word stands for the transport's proof
    where Recado does not see that. It is written a little later, as every cursor of delivery. Raises NotFound."""
    check_id(conversation, "conversation id")
    check_seq(seq, "seq")
    user = principal.require_user()
    if user not in await chat.members.members(conversation):
        raise no_such_conversation(conversation)
    chat.receipts.delivered(user, conversation, seq, b"")


async def count_unread(chat: Chat, principal: Principal, conversation: str, read_up_to: int) -> int:
    """Others' messages past a seq. Raises NotFound, Unavailable."""
    return await chat.store.unread_count(conversation, principal.require_user(), read_up_to)


async def signal_typing(chat: Chat, principal: Principal, conversation: str, *, is_paced: bool = False) -> None:
    """Tell the members who are there that the caller is typing, unless they have just heard it. Raises NotFound, and
    RateLimited as `mark_read`."""
    check_id(conversation, "conversation id")
    user = principal.require_user()
    if not is_paced:
        take_signal(chat, user)
    members = await chat.members.members(conversation)
    if user not in members:
        raise no_such_conversation(conversation)
    if chat.typing.is_news(conversation, user):
        chat.broker.signal(conversation, members, typing_signal(user, chat.limits.typing_for_ms))


def take_signal(chat: Chat, user: str) -> None:
    """Raises RateLimited if the user has sent as many signals as it may within this second."""
    if not chat.signal_rates.take(user):
        text = f"a user may send {chat.limits.signal_rate_max} signals a second; try again in a second"
        raise RateLimited(text, retry_after_s=1)


async def check_ready(chat: Chat) -> None:
    """Raises Unavailable if a write could not be tried now."""
    await chat.store.ping()


def _new_id(now_ms: int) -> str:
    return time_ordered_id(now_ms, random.getrandbits(RANDOM_BITS))  # an id is unique, not a secret


def _viewer(principal: Principal) -> str | None:
    """Whose eyes a read goes through: the user's, or none for the host acting as itself, which sees everything."""
    return None if principal.is_host and principal.user is None else principal.require_user()


def check_seq(seq: int, what: str) -> None:
    if not 0 <= seq <= SEQ_MAX:
        raise Invalid(f"{what} must be a seq from 0 to {SEQ_MAX}, not {seq}")


def page_size(chat: Chat, limit: int | None) -> int:
    if limit is None:
        return chat.limits.page_default
    if not 1 <= limit <= chat.limits.page_max:
        raise Invalid(f"limit must be 1 to {chat.limits.page_max}, not {limit}")
    return limit
