"""What an application tells the MQTT server: who connects, what they may do, what a publish means, and where a
session that fell behind reads on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection is. `expires_at_s` (Unix time) ends it; None never does."""

    user: str
    expires_at_s: int | None = None


class Refused(Exception):
    """The application says no, with what the client is told."""

    def __init__(self, reason_code: ReasonCode, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code
        self.text = text


class Outcome(NamedTuple):
    """How a publish ended. SERVER_BUSY is never told to the client: it is disconnected, so that it keeps the publish
    and tries again."""

    reason_code: ReasonCode
    text: str = ""


class LogPage(NamedTuple):
    """Entries of a topic's log in order, as (position, payload), and the position of the log's end."""

    entries: list[tuple[int, bytes]]
    last_position: int


class Hooks(Protocol):
    """Everything is called on the event loop."""

    async def authenticate(self, connect: Connect) -> Identity:
        """Raises Refused."""

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        """The granted QoS, or a failure."""

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        """What SUBSCRIBE's user properties ask to replay, as far as the session's user may read it: topic name to the
        position after which to start. Raises Refused if they are malformed."""

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        """Take a client's publish. None: it is under way, and `Server.settle` will say how it ended."""

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        """A topic's log after a position. Raises Refused if the user may not read it (any more)."""
