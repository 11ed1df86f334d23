"""The writes to conversations, each run inside a batch that has locked what it names.

Each checks before it writes: it either refuses with a `ChatError` and has changed nothing, or it writes.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from recado.adapters.store.postgres.batch import Batch, Cursors, Log, Write
from recado.adapters.store.rows import Detail, event_of
from recado.chat.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, no_such_conversation
from recado.chat.event import CONVERSATION_CHANGED, DELETED, EDITED, MEMBER_ADDED, MEMBER_REMOVED, Event
from recado.ports import (
    Changed,
    Delivered,
    DeliveredMark,
    MessageChange,
    NewConversation,
    NewMessage,
    ReadMark,
    Sent,
)

_PAIR = 2


def append_message(message: NewMessage) -> Write[Sent]:
    return Write(partial(_append_message, message=message), (message.conversation,), message=message)


async def _append_message(batch: Batch, message: NewMessage) -> Sent:
    log = batch.log(message.conversation)
    if message.sender not in log.members:
        raise no_such_conversation(message.conversation)
    name = (log.key, message.sender, message.id)
    if (first := batch.sent.get(name)) is not None:
        return Sent(first, created=False)
    event = Event(seq=log.last_seq + 1, sender=message.sender, at=message.at, id=message.id, body=message.body)
    batch.append(log, event, log.members, origin=message.origin)
    batch.sent[name] = event
    return Sent(event, created=True)


def change_message(change: MessageChange) -> Write[Changed]:
    return Write(partial(_change_message, change=change), (change.conversation,))


async def _change_message(batch: Batch, change: MessageChange) -> Changed:
    log = batch.log(change.conversation)
    if change.by is not None and change.by not in log.members:
        raise no_such_conversation(change.conversation)
    entry = await _message(batch, log, change.seq)
    if change.by is not None and entry.sender != change.by:
        raise Forbidden(f"the message {change.seq} is not yours: a sender may change its own messages")
    if change.body == entry.body:  # also None, when its body is gone
        return Changed(entry, changed=False)
    if entry.type == DELETED:
        raise Conflict(f"the message {change.seq} is deleted: it takes no other body")
    if change.by is not None and entry.at < change.changeable_since:
        raise Forbidden(f"the message {change.seq} is too old to be changed by its sender")
    return Changed(await _change(batch, log, change, entry), changed=True)


async def _message(batch: Batch, log: Log, seq: int) -> Event:
    rows = await batch.fetch("event_at", log.key, seq)
    if not rows:
        raise NotFound(f"there is no message {seq} in this conversation")
    entry = event_of(tuple(rows[0]))
    if entry.id is None:
        raise Conflict(f"the event {seq} is no message: it cannot be changed")
    return entry


async def _change(batch: Batch, log: Log, change: MessageChange, entry: Event) -> Event:
    if change.body is None:
        kind = DELETED
        changed = msgspec.structs.replace(entry, type=DELETED, body=None, edited_at=None)
        await batch.execute("delete_message", log.key, change.seq)
    else:
        kind = EDITED
        changed = msgspec.structs.replace(entry, body=change.body, edited_at=change.at)
        await batch.execute("edit_message", log.key, change.seq, change.body, change.at)
    batch.sent[log.key, str(entry.sender), str(entry.id)] = changed
    event = Event(log.last_seq + 1, change.by, change.at, type=kind, body=change.body, target=change.seq)
    batch.append(log, event, log.members)
    return event


def put_conversation(new: NewConversation) -> Write[bool]:
    """True if it was created."""
    return Write(partial(_put_conversation, new=new), (new.id,), created=new)


async def _put_conversation(batch: Batch, new: NewConversation) -> bool:
    log = batch.create(new.id)
    if log is not None:
        batch.join(log, new.members, joined_seq=0)
        return True
    log = batch.find(new.id)
    if log is None:
        raise Conflict(f"conversation {new.id!r} was erased, and its id is never used again: take another one")
    await _bring_up_to_date(batch, log, new)
    return False


async def _bring_up_to_date(batch: Batch, log: Log, new: NewConversation) -> None:
    if strangers := [user for user in new.members if user not in log.members]:
        raise Conflict(
            f"conversation {new.id!r} exists and {', '.join(strangers)} is not a member of it: "
            "add members with PUT /v1/conversations/{id}/members/{user}"
        )
    ((subject, metadata),) = await batch.fetch("describe_conversation", log.key)
    wanted_subject = subject if new.subject is None else new.subject
    wanted_metadata = metadata if new.metadata is None else bytes(new.metadata).decode()
    if (wanted_subject, wanted_metadata) == (subject, metadata):
        return
    await batch.execute("update_conversation", log.key, wanted_subject, wanted_metadata)
    detail = Detail(subject=wanted_subject, metadata=msgspec.Raw(wanted_metadata.encode()))
    batch.append_detail(log, CONVERSATION_CHANGED, new.creator, new.at, detail, log.members)


def put_member(conversation: str, user: str, by: str | None, at: int, members_max: int) -> Write[bool]:
    """True if the user was added."""

    async def run(batch: Batch) -> bool:
        log = batch.log(conversation)
        if user in log.members:
            return False
        if len(log.members) >= members_max:
            raise TooLarge(f"conversation {conversation!r} has {members_max} members, which is the most it may have")
        batch.join(log, (user,), joined_seq=log.last_seq + 1)
        batch.append_detail(log, MEMBER_ADDED, by, at, Detail(user=user), log.members)
        return True

    return Write(run, (conversation,))


def remove_member(conversation: str, user: str, by: str | None, at: int) -> Write[bool]:
    """True if the user was removed."""

    async def run(batch: Batch) -> bool:
        log = batch.log(conversation)
        if user not in log.members:
            return False
        await take_out(batch, log, user, by, at)
        return True

    return Write(run, (conversation,))


async def take_out(batch: Batch, log: Log, user: str, by: str | None, at: int) -> None:
    """Remove a member."""
    members = log.members
    await batch.leave(log, user)
    batch.append_detail(log, MEMBER_REMOVED, by, at, Detail(user=user), members)
    await batch.execute("insert_departure", user, log.key, log.last_seq)


def mark_read(conversation: str, user: str, seq: int) -> Write[ReadMark]:
    async def run(batch: Batch) -> ReadMark:
        log = batch.log(conversation)
        if user not in log.members:
            raise no_such_conversation(conversation)
        if seq > log.last_seq:
            raise Invalid(f"seq {seq} is past the end of the log, which is {log.last_seq}")
        read_up_to, delivered_up_to = log.cursors[user]
        if seq <= read_up_to:
            return ReadMark(read_up_to, False, log.members)
        batch.move(log, user, Cursors(seq, max(seq, delivered_up_to)))  # what is read has been delivered
        return ReadMark(seq, True, log.members)

    return Write(run, (conversation,), marks=(DeliveredMark(conversation, user, 0),))


def mark_delivered(marks: Sequence[DeliveredMark], members_max: int) -> Write[list[Delivered]]:
    async def run(batch: Batch) -> list[Delivered]:
        moved = [await _mark_delivered(batch, mark, members_max) for mark in marks]
        return [each for each in moved if each is not None]

    return Write(run, tuple(mark.conversation for mark in marks), marks=marks, weight=len(marks))


async def _mark_delivered(batch: Batch, mark: DeliveredMark, members_max: int) -> Delivered | None:
    conversation, user, seq = mark
    log = batch.find(conversation)
    if log is None or user not in log.members or seq > log.last_seq or len(log.members) > members_max:
        return None
    read_up_to, delivered_up_to = log.cursors[user]
    if seq <= delivered_up_to:
        return None
    is_pair = len(log.members) <= _PAIR  # most conversations: the sender is the other one
    senders = log.members if is_pair else await batch.senders(log, delivered_up_to, seq)
    batch.move(log, user, Cursors(read_up_to, seq))
    return Delivered(conversation, user, seq, senders - {user}, len(log.members))
