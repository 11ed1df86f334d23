"""The writes to conversations, each run inside a batch that has locked what it names.

Each checks before it writes: it either refuses with a `ChatError` and has changed nothing, or it writes.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from recado.adapters.store.postgres.batch import Batch, Log, Write
from recado.adapters.store.rows import Detail, event_of
from recado.chat.conversation import Description, check_listed, check_member, check_room, described_anew
from recado.chat.cursors import PAIR, Cursors, after_reading, may_be_delivered
from recado.chat.errors import id_was_erased, no_such_conversation
from recado.chat.event import CONVERSATION_CHANGED, DELETED, EDITED, MEMBER_ADDED, MEMBER_REMOVED, Event
from recado.chat.message import check_change, message_at
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
    check_member(change.conversation, change.by, log.members)
    rows = await batch.fetch("event_at", log.key, change.seq)
    entry = message_at(change.seq, event_of(tuple(rows[0])) if rows else None)
    if not check_change(entry, change.body, change.by, change.changeable_since):
        return Changed(entry, changed=False)
    return Changed(await _change(batch, log, change, entry), changed=True)


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
        raise id_was_erased(new.id)
    await _bring_up_to_date(batch, log, new)
    return False


async def _bring_up_to_date(batch: Batch, log: Log, new: NewConversation) -> None:
    check_listed(new.id, new.members, log.members)
    (row,) = await batch.fetch("describe_conversation", log.key)
    stored = Description(*row)
    wanted = described_anew(stored, new.subject, new.metadata)
    if wanted == stored:
        return
    await batch.execute("update_conversation", log.key, *wanted)
    detail = Detail(subject=wanted.subject, metadata=msgspec.Raw(wanted.metadata.encode()))
    batch.append_detail(log, CONVERSATION_CHANGED, new.creator, new.at, detail, log.members)


def put_member(conversation: str, user: str, by: str | None, at: int, members_max: int) -> Write[bool]:
    """True if the user was added."""

    async def run(batch: Batch) -> bool:
        log = batch.log(conversation)
        if user in log.members:
            return False
        check_room(conversation, log.members, members_max)
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
        check_member(conversation, user, log.members)
        known = log.cursors[user]
        cursors = after_reading(known, seq, log.last_seq)
        if cursors != known:
            batch.move(log, user, cursors)
        return ReadMark(cursors.read_up_to, cursors != known, log.members)

    return Write(run, (conversation,), marks=(DeliveredMark(conversation, user, 0),))


def mark_delivered(marks: Sequence[DeliveredMark], members_max: int) -> Write[list[Delivered]]:
    async def run(batch: Batch) -> list[Delivered]:
        moved = [await _mark_delivered(batch, mark, members_max) for mark in marks]
        return [each for each in moved if each is not None]

    return Write(run, tuple(mark.conversation for mark in marks), marks=marks, weight=len(marks))


async def _mark_delivered(batch: Batch, mark: DeliveredMark, members_max: int) -> Delivered | None:
    conversation, user, seq = mark
    log = batch.find(conversation)
    if log is None or not may_be_delivered(user, seq, log.last_seq, log.members, members_max):
        return None
    read_up_to, delivered_up_to = log.cursors[user]
    if seq <= delivered_up_to:
        return None
    is_pair = len(log.members) <= PAIR
    senders = log.members if is_pair else await batch.senders(log, delivered_up_to, seq)
    batch.move(log, user, Cursors(read_up_to, seq))
    return Delivered(conversation, user, seq, senders - {user}, len(log.members))
