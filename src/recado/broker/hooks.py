"""What an application tells the MQTT server: who connects, what they may do, what a publish means, and where a
session that fell behind reads on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from recado.broker.publication import Place, Publication
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection is. `expires_at_s` (Unix time) ends it; None never does. `authentication_data` ends an
    enhanced authentication: it goes to the client with CONNACK or AUTH."""

    user: str
    expires_at_s: int | None = None
    authentication_data: bytes | None = None


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


# What `on_publish` returns for a publish that is allowed and goes to whoever subscribed to its topic.
ROUTE: Final = Outcome(ReasonCode.SUCCESS)


class LogPage(NamedTuple):
    """Entries of a topic's log in order, as (position, payload), and the position of the log's end."""

    entries: list[tuple[int, bytes]]
    last_position: int


# Sends authentication data to the client and returns what it answers (AUTH, 4.12). Raises ProtocolError.
Challenge = Callable[[bytes], Awaitable[bytes]]


class Hooks(Protocol):
    """Everything is called on the event loop. A hook that is None costs nothing."""

    @property
    def shared_subscriptions(self) -> bool:
        """Whether `$share/...` may be subscribed to at all; an MQTT 5 client is told at CONNECT."""

    @property
    def on_acknowledged(self) -> Callable[[Session, Publication | Place], None] | None:
        """Called when a client has a publication that is followed: its PUBACK or PUBCOMP came. Of one of a log only its
        place is left by then."""

    @property
    def may_receive(self) -> Callable[[Session, str], bool] | None:
        """Tells whether a session may get what is published to a topic name. Asked when a route is made and for each
        retained message; the answer is remembered until `Server.permissions_changed`."""

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        """Raises Refused. `challenge` is for a CONNECT with an authentication method, whose first data it carries."""

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        """The client authenticates again on its open connection, with the method of its CONNECT. Raises Refused."""

    def response_information(self, session: Session) -> str | None:
        """What an MQTT 5 client that asks may build its response topics on; None for nothing."""

    def on_connected(self, session: Session) -> None:
        """CONNECT was accepted."""

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        """The session has no connection any more. `reason_code` is what either side said, None if neither did."""

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        """The granted QoS, or a failure."""

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        """What SUBSCRIBE's user properties ask to replay: topic name to the position after which to start. `read_log`
        says what of it the user may read. Raises Refused if they are malformed."""

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        """Take a client's publish, or its will when that is due. ROUTE: the server sends it to the subscribers. None:
        it is under way, and what `Server.settling` returns now will say how it ended. Else it is over."""

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        """A topic's log after a position. Raises Refused if the user may not read it (any more)."""
