"""Users on this project's own client: each a thread with an event loop, and a wire that is cut now and then.

What the client promises is more than MQTT does: every event once and in order, over any number of connections, and a
send that returns when it is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from recado import client as recado_client
from recado.client import Client, ClientLimits, Event, NotAMember, Reader
from tests.crash.history import Connection, Receiver, Sight, now_ms
from tests.crash.members import Member
from tests.crash.phases import Phases
from tests.crash.wire import Wire
from tests.support.server import Server

LIMITS = ClientLimits(backoff_max_s=0.5, opening_s=60.0)
TICK_S = 0.02


@dataclass(frozen=True)
class ClientKind:
    """`named`: it reads each of its conversations by itself, and not all that there are."""

    name: str
    qos: int
    door: Literal["mqtt", "ws"] = "mqtt"
    kept: bool = False
    named: bool = False
    sends_per_s: float = 6.0


class ClientMember(Member):
    def __init__(
        self, kind: ClientKind, user: str, server: Server, sends_to: Sequence[str], seed: str, phases: Phases
    ) -> None:
        named = frozenset(sends_to) if kind.named else None
        receiver = Receiver(f"{user}-{kind.name}", user, kind.qos, resumes=True, deduplicates=True, conversations=named)
        super().__init__(receiver, sends_to, seed, phases)
        self.kind = kind
        self._server_port = server.ws_port if kind.door == "ws" else server.mqtt_port
        self._token = server.token(user)
        self._connected = False
        self._sending = 0
        self._apart_ms = now_ms()

    @property
    def is_there(self) -> bool:
        return self._connected and not self._comes_back.is_set()

    @property
    def is_idle(self) -> bool:
        return self.is_there and not self._sending

    def _act(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        async with Wire(self._server_port) as wire:
            path = "/mqtt" if self.kind.door == "ws" else ""
            client = recado_client.connect(
                f"{self.kind.door}://127.0.0.1:{wire.port}{path}",
                self._token,
                session=self.name if self.kind.kept else None,
                qos=self.kind.qos,
                limits=LIMITS,
            )
            async with client, asyncio.TaskGroup() as tasks:
                reading = [tasks.create_task(each) for each in self._readings(client)]
                doing = [tasks.create_task(self._send(client)), tasks.create_task(self._break(client, wire))]
                await _until(self._phases.over.is_set)
                for task in (*reading, *doing):
                    task.cancel()

    # Reading

    def _readings(self, client: Client) -> list[Coroutine[None, None, None]]:
        if self.kind.named:
            return [self._read_one(each, client.events(each, after=0)) for each in self._sends_to]
        return [self._read_all(client.events_of_all(after=dict.fromkeys(self._sends_to, 0)))]

    async def _read_one(self, conversation: str, events: Reader[Event]) -> None:
        async for event in events:
            self._saw(conversation, event)

    async def _read_all(self, events: Reader[tuple[str, Event]]) -> None:
        async for conversation, event in events:
            self._saw(conversation, event)

    def _saw(self, conversation: str, event: Event) -> None:
        said = {"from": None, **msgspec.to_builtins(event)}
        connection = max(0, len(self.receiver.connections) - 1)
        self.receiver.sights.append(Sight(conversation, event.seq, said, connection, now_ms(), self.kind.qos))

    # Sending

    async def _send(self, client: Client) -> None:
        async with asyncio.TaskGroup() as sends:
            while True:
                await asyncio.sleep(self._random.expovariate(self.kind.sends_per_s))
                if self._phases.sending.is_set():
                    self._sending += 1
                    sends.create_task(self._send_one(client))

    async def _send_one(self, client: Client) -> None:
        publish = self._new_publish("client", 1, has_id=True)
        try:
            await client.send(publish.conversation, publish.body, id=publish.id)
            publish.acknowledged = True
        except NotAMember:
            publish.refused = True
        publish.answered_ms = now_ms()
        publish.answered_connection = len(self.receiver.connections)
        self._sending -= 1

    # Losing the connection

    async def _break(self, client: Client, wire: Wire) -> None:
        cut_ms = self._next_cut_ms()
        while True:
            self._notice(client.is_connected)
            breaks = self._comes_back.is_set() or (self._phases.breaking.is_set() and now_ms() > cut_ms)
            if self._connected and breaks:
                before = wire.accepted
                wire.cut(reset=self._random.random() < 0.5)
                self.drops += 1
                self._notice(False)
                await _until(lambda before=before: wire.accepted > before)  # type: ignore[misc]
                self._comes_back.clear()
                cut_ms = self._next_cut_ms()
            await asyncio.sleep(TICK_S)

    def _notice(self, is_connected: bool) -> None:
        """A connection began after the last moment without one."""
        if not is_connected:
            self._apart_ms = now_ms()
        elif not self._connected:
            self.receiver.connections.append(Connection(self._apart_ms, session_present=self.kind.kept))
        self._connected = is_connected

    def _next_cut_ms(self) -> float:
        return now_ms() + self._random.uniform(300, 6000)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (what it waits for is no matter of this event loop's)
        await asyncio.sleep(TICK_S)
