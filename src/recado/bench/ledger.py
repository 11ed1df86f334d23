"""What was sent and what arrived: every reader must get everything of its conversation, in order, once."""

from __future__ import annotations

import asyncio
import time

import msgspec

from recado.bench.failure import Failure


class Event(msgspec.Struct, gc=False):
    """What a page reads of an event; `sender` is its `from`."""

    seq: int
    id: str
    body: str
    sender: str = msgspec.field(name="from")


decode_event = msgspec.json.Decoder(Event).decode


class Reader:
    """One tab of one user, and how far it has come."""

    __slots__ = ("conversation", "last_seq", "user")

    def __init__(self, user: str, conversation: str, last_seq: int) -> None:
        self.user = user
        self.conversation = conversation
        self.last_seq = last_seq


class _Sent(msgspec.Struct, gc=False):
    at: float
    is_measured: bool


class Awaited:
    """How many of something are still to come."""

    def __init__(self, what: str, failure: Failure) -> None:
        self._what = what
        self._failure = failure
        self._count = 0
        self._none_left = asyncio.Event()

    def add(self, count: int = 1) -> None:
        self._count += count

    def came(self) -> None:
        self._count -= 1
        if not self._count:
            self._none_left.set()

    async def none_left(self, timeout_s: float) -> None:
        """Raises RunFailed if they do not come."""
        while self._count:
            self._none_left.clear()
            what = f"waiting for {self._count} {self._what}"
            await self._failure.unless(self._none_left.wait(), timeout_s, what)


class Ledger:
    """`arrivals_ms` has the time from sending to arrival at the recipient, of the messages that are measured. `answers`
    are what the protocols owe: acknowledgements of what was sent, and the ends of exchanges."""

    def __init__(self, body_bytes: int, failure: Failure) -> None:
        self.body = "x" * body_bytes
        self.arrivals_ms: list[float] = []
        self.deliveries = Awaited("deliveries that were sent", failure)
        self.answers = Awaited("answers of the server", failure)
        self._failure = failure
        self._sent: dict[tuple[str, str], _Sent] = {}
        self._sent_in: dict[str, int] = {}
        self._readers: dict[str, int] = {}

    def reader(self, user: str, conversation: str) -> Reader:
        """Whoever reads from now on. Nothing may be under way in its conversation."""
        self._readers[conversation] = self._readers.get(conversation, 0) + 1
        return Reader(user, conversation, self._sent_in.get(conversation, 0))

    def sending(self, conversation: str, message_id: str, is_measured: bool) -> None:
        """Call it just before the message is written to the socket."""
        self.deliveries.add(self._readers[conversation])
        self._sent_in[conversation] = self._sent_in.get(conversation, 0) + 1
        self._sent[conversation, message_id] = _Sent(time.perf_counter(), is_measured)

    def arrived(self, reader: Reader, conversation: str, event: Event) -> None:
        now = time.perf_counter()
        sent = self._sent.get((conversation, event.id))
        if conversation != reader.conversation or sent is None or event.body != self.body:
            self._failure.fail(f"{reader.user} got what nobody sent: {event.id!r} in {conversation}")
            return
        if event.seq != reader.last_seq + 1:
            self._failure.fail(f"{reader.user} got {event.seq} after {reader.last_seq} in {conversation}")
            return
        reader.last_seq = event.seq
        if sent.is_measured and event.sender != reader.user:
            self.arrivals_ms.append((now - sent.at) * 1e3)
        self.deliveries.came()
