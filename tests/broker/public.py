"""A server for any topics, on which everyone may do nearly everything, with sessions that are kept on a real disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from recado.adapters.broker.sqlite import SqliteStorage, SqliteStorageLimits
from recado.broker.hooks import ROUTE, Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.listening import ListenerSettings, listen
from recado.broker.server import Server
from recado.broker.storage import Expired, Resumed
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    SubscriptionRequest,
    Will,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from tests.adapters.disk import Disk
from tests.broker.application import LIMITS, Gate
from tests.broker.client import Client, TcpStream
from tests.broker.nodes import Node, Transport

PUBLIC_LIMITS = replace(
    LIMITS,
    connect_timeout_s=5_000,
    keep_alive_max_s=65_535,
    sessions_max=6,
    session_expiry_max_s=3_600,
    queue_messages_max=40,
    queue_bytes_max=60_000,
    retained_messages_max=5,
    retained_bytes_max=10_000,
    topic_aliases_max=3,
    sys_interval_s=2,
)
STORAGE_LIMITS = SqliteStorageLimits(
    pending_transactions_max=1_000, pending_payload_bytes_max=1_000_000, batch_transactions_max=100
)
METHOD = "knock"
TOPIC = "news/sport"


class Clock:
    """The system's time, which the test moves on."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        self._real = time.time_ns

    def time_ns(self) -> int:
        return self._real() + self._ahead_ns

    def pass_by(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * 1_000_000_000)


class PublicHooks:
    """A user is who they say they are, and nobody is anonymous. `answers` are the topics that are refused.

    The authentication method `knock` asks `who?` and `why?` before it lets a user in.
    """

    shared_subscriptions = True
    on_acknowledged = None

    def __init__(self) -> None:
        self.answers: dict[str, ReasonCode] = {}
        self.secret_topics: dict[str, set[str]] = {}
        self.reasons: list[bytes] = []
        self.knocking = Gate()
        self.disconnected: list[tuple[str, ReasonCode | None]] = []
        self.wills_fail = False

    def may_receive(self, session: Session, topic_name: str) -> bool:
        return session.user in self.secret_topics.get(topic_name, {session.user})

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        method = connect.properties.get(PropertyId.AUTHENTICATION_METHOD)
        if method is not None:
            return await self._knock(method, challenge)
        return Identity(connect.username or "")

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        return await self._knock(method, challenge)

    async def _knock(self, method: str, challenge: Challenge) -> Identity:
        if method != METHOD:
            raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, f"the method is {METHOD}")
        await self.knocking.passed()
        user = await challenge(b"who?")
        self.reasons.append(await challenge(b"why?"))
        if self.reasons[-1] == b"no reason":
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "not without a reason")
        return Identity(user.decode(), authentication_data=b"come in")

    def response_information(self, session: Session) -> str | None:
        return None

    def on_connected(self, session: Session) -> None:
        pass

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        self.disconnected.append((session.client_id, reason_code))

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        return ReasonCode(subscription.qos)

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        return {}

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        if session.connection is None and self.wills_fail:
            raise RuntimeError("the application has a bug")
        code = self.answers.get(publish.topic_name)
        return ROUTE if code is None else Outcome(code, "as the test says")

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "no topic is a log")


class HeldStorage(SqliteStorage):
    """The real one; a test may make who takes a session up wait for its turn, and count."""

    resuming: Gate
    resumed = 0
    looked = 0

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        self.looked += 1
        return await super().forget_expired(key, now_ms)

    async def resume(self, key: int) -> Resumed:
        self.resumed += 1
        await self.resuming.passed()
        return await super().resume(key)


class PublicNode(Node):
    """It can be stopped and started again on the same file, or killed."""

    def __init__(self, folder: Path, limits: BrokerLimits, disk: Disk, clock: Clock) -> None:
        self.hooks = PublicHooks()
        self.disk = disk
        self.clock = clock
        self.clients = []
        self._limits = limits
        self._path = folder / "sessions-0.db"
        self._runs = 0

    @property
    def server(self) -> Server:
        return self._server

    async def start(self) -> None:
        self.storage = cast(HeldStorage, HeldStorage.open(self._path, STORAGE_LIMITS))
        self.storage.resuming = Gate()
        self._server = Server(self.hooks, self._limits, self.storage)
        self._server._ticker.cancel()
        await self._server.start()
        self._listening = await listen(self._server, ListenerSettings("tcp"))
        self.tcp_port = self._listening.port

    async def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
        self._listening.close()
        await self.server.drain()
        await self.storage.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Start again from what was on the disk at this moment."""
        self._runs += 1
        copy = self._path.with_name(f"sessions-{self._runs}.db")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self._path}{suffix}", f"{copy}{suffix}")
        await self.stop()
        self._path = copy
        await self.start()

    async def written(self) -> None:
        """Wait until everything is on the disk."""
        await self.until(lambda: not self.storage._pending)

    def pass_by(self, seconds: int) -> None:
        """Let the system's time and the server's own go on."""
        self.clock.pass_by(seconds)
        self.tick(seconds)

    async def client(
        self, transport: Transport = "tcp", level: int = MQTT_5, receive_buffer_bytes: int | None = None
    ) -> PublicClient:
        client = PublicClient(await TcpStream.open(self.tcp_port, receive_buffer_bytes), level)
        self.clients.append(client)
        return client

    async def connected(
        self, user: str, client_id: str = "phone", transport: Transport = "tcp", level: int = MQTT_5, **connect: Any
    ) -> PublicClient:
        """A client whose session ends with its connection."""
        client = await self.client(transport, level)
        assert (await client.connect(user, client_id, **connect)).reason_code == 0
        return client

    async def kept(self, user: str = "ana", level: int = MQTT_5, **connect: Any) -> PublicClient:
        """A client whose session is kept, and taken up again if it is there."""
        client = await self.client(level=level)
        assert (await client.keep(user, **connect)).reason_code == 0
        return client

    async def leave(self, client: Client) -> None:
        """The connection is lost, and the server knows."""
        before = len(self.hooks.disconnected)
        client.close()
        await self.until(lambda: len(self.hooks.disconnected) > before)


class PublicClient(Client):
    connack: Connack

    async def connect_with(
        self,
        user: str,
        client_id: str = "phone",
        *,
        clean_start: bool = True,
        expiry_s: int = 0,
        will: Will | None = None,
        properties: Properties = EMPTY_PROPERTIES,
    ) -> Connack:
        if expiry_s:
            properties = {**properties, PropertyId.SESSION_EXPIRY_INTERVAL: expiry_s}
        await self.send(Connect(client_id, self.level, clean_start, 0, will, user, b"secret", properties))
        self.connack = await self.expect(Connack)
        return self.connack

    async def keep(self, user: str = "ana", client_id: str = "phone", expiry_s: int = 1_000, **more: Any) -> Connack:
        if self.level != MQTT_5:
            expiry_s = 0
        return await self.connect_with(user, client_id, **{"clean_start": False, "expiry_s": expiry_s, **more})


def numbers(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last + 1)]


def reason(packets: list[Packet]) -> ReasonCode:
    """Of the one DISCONNECT that is all that came."""
    (packet,) = packets
    assert isinstance(packet, Disconnect)
    return packet.reason_code


async def publish_each(sender: Client, *texts: str, topic_name: str = TOPIC, qos: int = 1) -> None:
    """Publish and wait until the server has it, on the disk if that is where it goes."""
    for text in texts:
        packet_id = sender.next_packet_id() if qos else 0
        await sender.send(Publish(topic_name, text.encode(), qos, packet_id=packet_id))
        if qos == 2:
            await sender.expect(Pubrec)
            await sender.send(Pubrel(packet_id))
        if qos:
            await sender.next()


async def publish(
    sender: Client, text: str, topic_name: str = TOPIC, *, retain: bool = False, properties: Properties | None = None
) -> ReasonCode:
    """Publish at QoS 1. Returns how the server took it."""
    packet_id = sender.next_packet_id()
    await sender.send(Publish(topic_name, text.encode(), 1, retain, packet_id=packet_id, properties=properties or {}))
    return (await sender.expect(Puback)).reason_code


async def subscribed(public: PublicNode, level: int = MQTT_5, qos: int = 1, **connect: object) -> PublicClient:
    """Ana, whose session is kept, with a subscription to TOPIC."""
    client = await public.kept("ana", level, **connect)
    assert await client.subscribe(TOPIC, qos=qos) == [qos]
    return client


async def retained(public: PublicNode, topic_filter: str = "#") -> dict[str, str]:
    """What a new subscriber gets at once, by topic."""
    client = await public.connected("carla", "new")
    await client.send(client.subscription(topic_filter))
    await client.expect(Suback)
    got = await client.before_pong()
    await public.leave(client)
    assert all(isinstance(each, Publish) and each.retain for each in got)
    return {each.topic_name: each.payload.decode() for each in got if isinstance(each, Publish)}
