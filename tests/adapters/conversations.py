"""The conversations' MQTT server in this process, on a disk that the test commands, and what a host does to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.broker.log_sessions import LogSessions
from recado.adapters.store.sqlite import SqliteStore
from recado.app.clock import now_ms
from recado.app.limits import DEFAULT
from recado.broker.hooks import LogPage
from recado.broker.limits import BrokerLimits
from recado.broker.listening import ListenerSettings, listen
from recado.broker.server import Server
from recado.chat import actions
from recado.chat.actions import Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.event import Committed
from recado.chat.membership import MembershipCache
from recado.chat.message import MessageDraft
from recado.chat.principal import Principal
from recado.chat.stages import Stages
from recado.mqtt.packets import MQTT_5, Connack, Connect, Packet, Puback, Publish, SubscriptionRequest
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from tests.adapters.disk import Disk
from tests.broker.application import Gate
from tests.broker.client import Client, TcpStream
from tests.broker.nodes import Node

WINDOW = 4
LOGS_MAX = 3
PAGE = 3
LIMITS = replace(
    DEFAULT.broker, inflight_max=WINDOW, log_cursors_max=LOGS_MAX, read_page=PAGE, cursor_delay_ms=1, drain_s=2
)
HOST = Principal(None, is_host=True)
HOUR_S = 3_600


class HeldBroker(EmbeddedBroker):
    """The real one; a test may hold its answer to a SUBSCRIBE, and a page of a log that it has read."""

    subscribing: Gate
    reading: Gate

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        await self.subscribing.passed()
        return await super().authorize_subscription(session, subscription)

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        try:
            return await super().read_log(user, topic_name, after, limit)
        finally:
            await self.reading.passed()  # the answer may be old by then


class Conversations(Node):
    """A user's token is the user's name. It can be killed: then it starts on what was on the disk at that moment."""

    def __init__(self, folder: Path, disk: Disk, limits: BrokerLimits = LIMITS) -> None:
        self.disk = disk
        self.clients = []
        self._limits = limits
        self._path = folder / "recado-0.db"
        self._runs = 0

    @property
    def server(self) -> Server:
        return self.broker.server

    async def start(self) -> None:
        self.store = store = SqliteStore.open(self._path, DEFAULT.store)
        self.sessions = LogSessions(store, DEFAULT.storage.pending_transactions_max, self._limits.own_positions_max)
        self.broker = broker = HeldBroker(Principal, self._limits, self.sessions)
        broker.subscribing, broker.reading = Gate(), Gate()
        members = MembershipCache(store, DEFAULT.chat.member_cache_entries_max)
        self.chat = chat = broker.chat = Chat(store, broker, members, DEFAULT.chat, now_ms, Stages(now_ms))

        def on_committed(committed: Sequence[Committed]) -> None:
            members.apply(committed)
            broker.publish(committed)
            chat.apply(committed)

        store.on_committed = on_committed
        self.server._ticker.cancel()
        await self.server.start()
        self._listening = await listen(self.server, ListenerSettings("tcp"))

    async def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
        self._listening.close()
        await self.chat.close()
        await self.store.stop()
        await self.server.drain()
        await self.store.close()

    async def kill(self) -> None:
        self._runs += 1
        copy = self._path.with_name(f"recado-{self._runs}.db")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self._path}{suffix}", f"{copy}{suffix}")
        await self.stop()
        self._path = copy
        await self.start()

    def rows(self, query: str, *values: str) -> list[Any]:
        """What is on the disk."""
        db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()

    def stored_cursors(self, user: str) -> dict[str, int]:
        """How far the user's sessions are, by conversation."""
        query = (
            "SELECT c.id, k.seq FROM cursors k JOIN sessions s ON s.key = k.session"
            " JOIN conversations c ON c.key = k.conversation WHERE s.user = ?"
        )
        return dict(self.rows(query, user))

    # The members' clients

    async def member(self, user: str, *, is_kept: bool = True, **options: Any) -> Member:
        """A client of the user's phone, connected."""
        member = await self.new_member(**options)
        assert (await member.join(user, is_kept=is_kept)).reason_code == 0
        return member

    async def new_member(self, receive_buffer_bytes: int | None = None, level: int = MQTT_5) -> Member:
        member = Member(await TcpStream.open(self._listening.port, receive_buffer_bytes), level)
        self.clients.append(member)
        return member

    async def leave(self, member: Client) -> None:
        """The connection is lost, and the server knows."""
        connections = len(self.server._connections)
        member.close()
        await self.gone(connections - 1)

    # The host

    async def create(self, conversation: str, *members: str) -> None:
        await actions.put_conversation(self.chat, HOST, conversation, ConversationDraft(list(members)))

    async def add(self, conversation: str, user: str) -> None:
        await actions.add_member(self.chat, HOST, conversation, user)

    async def remove(self, conversation: str, user: str) -> None:
        await actions.remove_member(self.chat, HOST, conversation, user)

    async def erase(self, conversation: str) -> None:
        await actions.erase_conversation(self.chat, HOST, conversation)

    async def send(self, conversation: str, count: int = 1, body: str = "hi") -> None:
        """So many messages of ana."""
        for _ in range(count):
            await actions.send_message(self.chat, Principal("ana"), conversation, MessageDraft(body))


class Member(Client):
    """It acknowledges what it is told to."""

    connack: Connack

    async def join(self, user: str, *, is_kept: bool = True) -> Connack:
        properties: Properties = {PropertyId.SESSION_EXPIRY_INTERVAL: HOUR_S} if is_kept else {}
        await self.send(Connect("phone", self.level, not is_kept, 0, None, user, user.encode(), properties))
        self.connack = await self.expect(Connack)
        return self.connack

    async def publishes(self, count: int) -> list[Publish]:
        return [await self.expect(Publish) for _ in range(count)]

    async def acknowledge(self, *publishes: Publish) -> None:
        """At QoS 1."""
        await self.send(*(Puback(each.packet_id) for each in publishes))

    async def take_all(self, count: int) -> list[Publish]:
        """The next publishes, each acknowledged at once."""
        taken = []
        for _ in range(count):
            taken.append(await self.expect(Publish))
            await self.acknowledge(taken[-1])
        return taken


def seqs(packets: Sequence[Packet]) -> list[int]:
    return [json.loads(each.payload)["seq"] for each in packets if isinstance(each, Publish)]


def types(packets: Sequence[Packet]) -> list[str]:
    return [json.loads(each.payload).get("type", "message") for each in packets if isinstance(each, Publish)]
