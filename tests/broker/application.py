"""An application of the MQTT server as small as it can be: every topic is a log, and members are in a dict.

A user is who they say they are. `held` topics keep their publishes until the test settles them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace

from recado.app.limits import DEFAULT
from recado.broker.hooks import Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.publication import Publication
from recado.broker.server import Server, Settle
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.topics import has_wildcard

LIMITS = replace(
    DEFAULT.broker,
    packet_bytes_max=20_000,
    connect_bytes_max=2_000,
    user_properties_max=100,
    connections_max=10,
    connections_per_user_max=4,
    connect_timeout_s=3,
    keep_alive_max_s=60,
    receive_maximum=5,
    inflight_max=8,
    send_buffer_bytes_max=16_384,
    subscriptions_max=20,
    topic_levels_max=8,
    topic_bytes_max=100,
    stall_s=2,
    wildcards_max=5,
    log_cursors_max=6,
    own_positions_max=100,
    frame_bytes_max=40_000,
    reads_max=2,
    read_page=4,
    drain_s=2,
)


class Application:
    def __init__(self, limits: BrokerLimits = LIMITS) -> None:
        self.server = Server(self, limits)
        self.members: dict[str, set[str]] = defaultdict(lambda: {"ana", "bruno", "carla"})
        self.logs: dict[str, list[bytes]] = defaultdict(list)
        self.answers: dict[str, ReasonCode] = {}
        self.held: set[str] = set()
        self.taken: list[Settle] = []
        self.expires_at_s: int | None = None
        self.connecting = Gate()
        self.subscribing: dict[str, Gate] = defaultdict(Gate)
        self.reading = Gate()
        self.log_error: Refused | None = None

    def publish(self, topic_name: str, payload: str, origin: object = None) -> None:
        """Append to the log and send to the members."""
        self.commit(topic_name, payload)
        self.tell(topic_name, len(self.logs[topic_name]), origin)

    def commit(self, topic_name: str, payload: str) -> None:
        self.logs[topic_name].append(payload.encode())

    def tell(self, topic_name: str, position: int, origin: object = None) -> None:
        payload = self.logs[topic_name][position - 1]
        audience = frozenset(self.members[topic_name])
        self.server.publish_to(Publication(topic_name, payload, 1, position), audience, origin)

    def signal(self, topic_name: str, payload: str, qos: int = 0) -> None:
        self.server.publish_to(Publication(topic_name, payload.encode(), qos), frozenset(self.members[topic_name]))

    def remove(self, topic_name: str, user: str) -> None:
        self.server.stop_log(user, topic_name)
        self.publish(topic_name, f"{user} was removed")
        self.members[topic_name].discard(user)

    def settle(self, index: int, reason_code: ReasonCode = ReasonCode.SUCCESS) -> None:
        self.taken[index](reason_code, "as the test says")

    # recado.broker.hooks.Hooks

    shared_subscriptions = False
    on_acknowledged = None
    may_receive = None

    def response_information(self, session: Session) -> str | None:
        return None

    def on_connected(self, session: Session) -> None:
        pass

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        pass

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, "none here")

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        await self.connecting.passed()
        if connect.username in (None, "mallory"):
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "no such user")
        return Identity(connect.username or "", self.expires_at_s)

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        topic_filter = subscription.topic_filter
        await self.subscribing[topic_filter].passed()
        if has_wildcard(topic_filter) or session.user in self.members[topic_filter]:
            return ReasonCode(min(subscription.qos, 1))
        return ReasonCode.NOT_AUTHORIZED

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        pairs = [value.split("=") for name, value in user_properties if name == "after"]
        return {topic_name: int(position) for topic_name, position in pairs}

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        if publish.topic_name in self.held:
            self.taken.append(self.server.settling(session, publish))
            return None
        if publish.topic_name in self.answers:
            return Outcome(self.answers[publish.topic_name], "as the test says")
        self.publish(publish.topic_name, publish.payload.decode(), session)
        return Outcome(ReasonCode.SUCCESS)

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        error = self.log_error
        if user not in self.members[topic_name]:
            error = Refused(ReasonCode.NOT_AUTHORIZED, "no member")
        log = self.logs[topic_name]
        page = LogPage(list(enumerate(log, 1))[after : after + limit], len(log))
        await self.reading.passed()  # the answer may be old by then
        if error is not None:
            raise error
        return page


class Gate:
    """Something that the test may make wait. `waiting` is set while it does."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()
        self.waiting.clear()

    async def passed(self) -> None:
        if not self._open.is_set():
            self.waiting.set()
            await self._open.wait()
