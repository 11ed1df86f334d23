"""What a reader over HTTP follows, and how far it is: logs by name, or everything of a user.

Neither keeps events. A commit tells it where there is news, and `read_on` takes a page of it: from the newest events in
memory, else from the store. So a slow reader costs its cursors: one entry for each log that has something for it, or,
of everything, one number, a bounded list of places and what was closed to the user meanwhile. From the moment that a
conversation is closed to the user nothing of it is read. What came before is handed over if it is in memory and the
reader has room for it, and in any case the event that says so: at once, or, to who follows everything, when it is its
turn. Past `stream_closed_max` of those the listener ends.
"""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from recado.chat.errors import ChatError, NotFound
from recado.chat.event import Committed, count_within, encode_event

if TYPE_CHECKING:
    from recado.chat.feed import Feed


class Delivery(NamedTuple):
    """An event, or a signal (seq 0), as JSON. `cursor` says how far that brings who follows everything: nothing up to
    it is missing."""

    conversation: str
    payload: bytes
    seq: int
    cursor: int | None = None


def _position_of(delivery: Delivery) -> int:
    """Of an event, as who follows everything has it."""
    return delivery.cursor or 0


class _News:
    """A log has events from `first` to `last` that were not sent; those up to `told` were told of, so memory has heard
    of them as well as the store."""

    __slots__ = ("first", "last", "told")

    def __init__(self, first: int, last: int, told: int) -> None:
        self.first = first
        self.last = last
        self.told = told


class Logs:
    """Some conversations, each from a seq of its own on."""

    __slots__ = ("_beginning", "_feed", "_names", "_news", "_user")

    def __init__(self, feed: "Feed", user: str) -> None:
        self._feed = feed
        self._user = user
        # With the seqs up to which they were read: the store may be ahead of what is told.
        self._names: dict[str, int] = {}
        self._news: dict[str, _News] = {}
        # Whose ends are being read, with the first and the last that was told of them meanwhile.
        self._beginning: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, conversation: str) -> bool:
        return conversation in self._names

    @property
    def closed_count(self) -> int:
        """None is remembered: the last event of each is handed over at once."""
        return 0

    @property
    def has_more(self) -> bool:
        return bool(self._news)

    async def follow(self, conversation: str, after: int | None) -> int:
        """From past a seq on, or from now on; returns the log's end. Raises NotFound, Unavailable."""
        was_followed = conversation in self._names
        # Before the end is read, so that nothing is between the two; and nothing is sent before it is known from where.
        self._names.setdefault(conversation, 0)
        self._beginning[conversation] = (0, 0)
        try:
            last_seq = await self._feed.last_seq(self._user, conversation)
        except ChatError:
            first, told = self._beginning.pop(conversation, (0, 0))
            if not was_followed:
                self._names.pop(conversation, None)
            elif told:  # it goes on as it did
                self._has_news(conversation, first)
                self._has_news(conversation, told)
            raise
        begins_at = last_seq if after is None else min(after, last_seq)
        news = self._news.pop(conversation, None)
        _, told = self._beginning.pop(conversation, (0, 0))
        told = max(told, news.told if news is not None else 0)
        self._names[conversation] = begins_at
        if begins_at < max(last_seq, told):
            self._news[conversation] = _News(begins_at + 1, max(last_seq, told), told)
        return last_seq

    def tell(self, entry: Committed) -> None:
        conversation, seq = entry.conversation, entry.event.seq
        if conversation in self._beginning:
            self._beginning[conversation] = (self._beginning[conversation][0] or seq, seq)
        else:
            self._has_news(conversation, seq)

    def _has_news(self, conversation: str, seq: int) -> None:
        news = self._news.get(conversation)
        if news is not None:
            news.told = seq
            news.last = max(news.last, seq)
        elif seq > self._names[conversation]:
            self._news[conversation] = _News(seq, seq, seq)

    def close_conversation(self, entry: Committed, *, has_room: bool) -> list[Delivery] | None:
        """The last of the conversation for the user: what it has not had yet too, if it has room. None if the user is
        past it."""
        conversation, seq = entry.conversation, entry.event.seq
        if seq <= self._names[conversation]:
            return None  # the store was ahead: it was read there, since the user is a member again
        self._names[conversation] = seq
        news = self._news.pop(conversation, None)
        before = self._feed.in_memory(conversation, news.first, seq) if news is not None and has_room else ()
        last = Delivery(conversation, encode_event(entry.event), seq)
        return [*(Delivery(conversation, payload, each) for each, payload in before), last]

    async def read_on(self) -> list[Delivery]:
        """A page of one log. Raises Unavailable."""
        conversation = next(iter(self._news), None)
        if conversation is None:
            return []
        news = self._news[conversation]
        try:
            page = await self._feed.read(self._user, conversation, news.first - 1, self._feed.limits.stream_page)
        except NotFound:
            if self._news.get(conversation) is news:
                del self._news[conversation]
            return []
        if self._news.get(conversation) is not news:  # it was closed to the user meanwhile
            return []
        del self._news[conversation]
        if page.entries:
            self._names[conversation] = page.entries[-1][0]
            news.first = page.entries[-1][0] + 1
            news.last = max(news.last, page.last_seq)
        else:
            news.last = news.told  # what the store knew of before this loop will be told
        if news.first <= news.last:
            self._news[conversation] = news  # the others have their turn before it
        return [Delivery(conversation, payload, seq) for seq, payload in page.entries]


class Everything:
    """All conversations of a user, in the order of the commits."""

    __slots__ = (
        "_behind_at",
        "_feed",
        "_held",
        "_is_beginning",
        "_overflowed",
        "_passed_over",
        "_places",
        "_position",
        "_ready",
        "_user",
    )

    def __init__(self, feed: "Feed", user: str) -> None:
        self._feed = feed
        self._user = user
        self._places: deque[tuple[int, str, int]] = deque()  # (position, conversation, seq) that were told
        self._position = 0
        self._behind_at: int | None = None  # the cursor, while what is past it is read from the store
        self._ready: list[Delivery] = []  # the first page of it, read at the beginning
        self._is_beginning = False  # it is being read: nothing else is, or it would come twice
        self._overflowed = False  # meanwhile, so that it must be read once more
        # The last of what was closed to the user, in order: it goes out where its turn is among the rest.
        self._held: deque[Delivery] = deque()
        self._passed_over: dict[str, int] = {}  # what was closed to the user, and by which position: read no more

    def __contains__(self, conversation: str) -> bool:
        return True

    @property
    def closed_count(self) -> int:
        """Conversations that were closed to the user, and that are remembered for that."""
        return max(len(self._held), len(self._passed_over))

    @property
    def has_more(self) -> bool:
        return self._has_unread and not self._is_beginning

    @property
    def _has_unread(self) -> bool:
        return bool(self._ready or self._places or self._held) or self._behind_at is not None

    async def begin(self, cursor: int | None) -> int:
        """From past a cursor on, or from now on; returns the cursor to begin with. Raises Unavailable, and Invalid for
        a cursor that nothing has reached yet."""
        self._is_beginning = True
        try:
            return await self._begin(cursor)
        finally:
            self._is_beginning = False

    async def _begin(self, cursor: int | None) -> int:
        if cursor is None:
            page = await self._feed.store.feed(self._user, None, 1)
            self._position = max(self._position, page.position)
            return self.cursor()
        self._position = max(self._position, cursor)
        if not self._feed.is_caught_up(self._user, cursor):
            self._behind_at = cursor
            self._ready = await self._read_store(cursor)
        return cursor

    def cursor(self) -> int:
        """Nothing up to here is missing of what was read."""
        if self._ready:
            return _position_of(self._ready[0]) - 1
        return self._told_cursor() if self._behind_at is None else self._behind_at

    def _told_cursor(self) -> int:
        """Nothing up to here is missing of what was told."""
        firsts = []
        if self._places:
            firsts.append(self._places[0][0])
        if self._held:
            firsts.append(_position_of(self._held[0]))
        return min(firsts, default=self._position + 1) - 1

    def note_caught_up(self) -> None:
        """Everything up to its cursor has been read, and nothing was told past it, if that is so."""
        if not self._has_unread and not self._is_beginning:
            self._feed.note_caught_up(self._user, self._position)

    def tell(self, entry: Committed) -> None:
        if entry.position <= self._position:
            return  # the store was ahead of what is told: it was read there
        if len(self._places) < self._feed.limits.stream_page:
            self._places.append((entry.position, entry.conversation, entry.event.seq))
        elif self._behind_at is None:
            self._behind_at = self._told_cursor()
            self._places.clear()
        else:
            self._overflowed = True
            self._places.clear()
        self._position = entry.position

    def close_conversation(self, entry: Committed, *, has_room: bool) -> list[Delivery] | None:
        """As `Logs.close_conversation`; nothing comes at once, since what was committed before it in other
        conversations is first."""
        if entry.position <= max(self._position, self._behind_at or 0):
            return None  # the store was ahead: it was read there
        conversation = entry.conversation
        last: list[Delivery] = []
        if not self._has_unread:
            self._passed_over.clear()
        self._passed_over[conversation] = entry.position
        if self._behind_at is None and has_room:
            positions = {seq: position for position, name, seq in self._places if name == conversation}
            in_memory = self._feed.in_memory(conversation, min(positions), entry.event.seq) if positions else ()
            last = [
                Delivery(conversation, payload, seq, positions[seq]) for seq, payload in in_memory if seq in positions
            ]
        last.append(Delivery(conversation, encode_event(entry.event), entry.event.seq, entry.position))
        self._held = deque(sorted([*self._held, *last], key=_position_of))
        self._places = deque(place for place in self._places if place[1] != conversation)
        self._ready = [each for each in self._ready if each.conversation != conversation]
        self._position = entry.position
        return []

    async def read_on(self) -> list[Delivery]:
        """A page of what there is. Raises Unavailable."""
        if self._is_beginning:
            return []
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        return self._read_places() if self._behind_at is None else await self._read_store(self._behind_at)

    def _read_places(self) -> list[Delivery]:
        deliveries: list[Delivery] = []
        size = 0
        while (delivery := self._first_told()) is not None:
            size += len(delivery.payload)
            if deliveries and size > self._feed.limits.stream_page_bytes_max:
                return deliveries
            deliveries.append(delivery)
            (self._held if self._held and self._held[0] is delivery else self._places).popleft()
        if self._places:  # which memory has no more
            self._behind_at = self._places[0][0] - 1
        return deliveries

    def _first_told(self) -> Delivery | None:
        """What is next of what was told, if it is in memory."""
        if self._held and (not self._places or _position_of(self._held[0]) < self._places[0][0]):
            return self._held[0]
        if not self._places:
            return None
        position, conversation, seq = self._places[0]
        in_memory = self._feed.in_memory(conversation, seq, seq + 1)
        return Delivery(conversation, in_memory[0][1], seq, position) if in_memory else None

    async def _read_store(self, behind_at: int) -> list[Delivery]:
        page = await self._feed.store.feed(self._user, behind_at, self._feed.limits.stream_page)
        deliveries = [
            Delivery(entry.conversation, encode_event(entry.event), entry.event.seq, entry.position)
            for entry in page.entries
            if not self._is_passed_over(entry.conversation, entry.position)
        ]
        count = count_within((len(each.payload) for each in deliveries), self._feed.limits.stream_page_bytes_max)
        is_cut = count < len(deliveries)
        position = _position_of(deliveries[count - 1]) if is_cut else page.position
        read = deliveries[:count]
        while self._held and _position_of(self._held[0]) <= position:
            read.append(self._held.popleft())
        if page.is_last and not is_cut and not self._overflowed:
            self._go_live(position)
        else:
            self._behind_at, self._overflowed = position, False
        return sorted(read, key=_position_of)

    def _is_passed_over(self, conversation: str, position: int) -> bool:
        return position <= self._passed_over.get(conversation, 0)

    def _go_live(self, position: int) -> None:
        """What was told while the store was read may have been in what was read."""
        while self._places and self._places[0][0] <= position:
            self._places.popleft()
        self._position = max(self._position, position)
        self._behind_at = None
        if not self._held:  # or the store could be asked again for what was passed over
            self._passed_over.clear()
        if not (self._places or self._held) and self._position == position:
            self._feed.note_caught_up(self._user, position)
