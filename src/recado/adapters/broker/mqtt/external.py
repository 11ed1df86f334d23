"""An external broker as the conversations' broker: one publish for each recipient, to topics of its own.

`u/<user>/c/<conversation>` has the user's events and `.../live` its signals (DESIGN §4), so that "a user reads
`u/<itself>/#`" is the whole permission: it never changes, and who is removed is not sent to any more. The recipients
are those of the commit. What does not get there from here has its job: a worker sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from recado.adapters.broker.mqtt.announcer import Announcer, live_topic
from recado.adapters.broker.mqtt.settling import Settling
from recado.adapters.broker.recent_events import RecentEvents
from recado.broker.hooks import LogPage
from recado.chat.event import CONVERSATION_ERASED, Committed, encode_event
from recado.chat.stages import Stages
from recado.ports import Job

NOTIFY = "notify"


class Users(Protocol):
    """How that broker knows the users."""

    async def login(self, user: str, token: str) -> tuple[str, str]:
        """The user name and the password that the user's client connects with; `token` is what it has presented here.
        Raises Unavailable."""

    async def cut_off(self, user: str) -> None:
        """End the user's connections now, and what it could connect with. Raises Unavailable."""


class ExternalBroker:
    """A `recado.ports.Broker`. With `is_direct` it sends events itself and settles their jobs; else workers do that,
    and only what no job can tell (signals, and the end of a conversation, which leaves no members) goes from here."""

    def __init__(
        self,
        announcer: Announcer,
        users: Users,
        settling: Settling,
        recent: RecentEvents,
        is_direct: bool,
        stages: Stages,
    ) -> None:
        self.announcer = announcer
        self._stages = stages
        self.users = users
        self._settling = settling
        self._recent = recent
        self._is_direct = is_direct

    def publish(self, committed: Sequence[Committed]) -> None:
        for entry in committed:
            payload = encode_event(entry.event)
            self._recent.add(entry.conversation, entry.event, payload)
            if entry.elsewhere:
                continue  # the process that committed it sends it
            if self._is_direct or entry.event.type == CONVERSATION_ERASED:
                self._announce(entry, payload)

    def _announce(self, entry: Committed, payload: bytes) -> None:
        conversation, seq = entry.conversation, entry.event.seq

        def done(is_acknowledged: bool) -> None:
            if is_acknowledged:
                self._stages.publish([(conversation, entry.event, 0)])
            if is_acknowledged and self._is_direct:
                self._settling.settle(Job(NOTIFY, conversation, seq))

        self.announcer.announce(conversation, seq, payload, entry.recipients, done)

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        self.announcer.publisher.signal([live_topic(user, conversation) for user in recipients], payload)

    async def disconnect(self, user: str) -> None:
        await self.users.cut_off(user)

    def recent(self, conversation: str, after: int, limit: int) -> LogPage | None:
        """The entries past a seq, if they are in memory."""
        return self._recent.page(conversation, after, limit)

    def forget_recent(self) -> None:
        """Events in memory may read otherwise in the store now, though no event says so."""
        self._recent.clear()
