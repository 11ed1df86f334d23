"""A whole MQTT server under fuzz: three clients of the fuzzer's, two witnesses that must not notice, and no sockets.

An input is one byte of settings, then steps. A step is a byte that says who (bits 0-1) does what (bits 2-4: send, be
lost, stop or go on reading, let seconds pass, let the storage fail or work again), and for a send a length and bytes.
After every step: nothing was logged as an error, what the server wrote is MQTT that the client's level and limits
allow, and nothing is held beyond its limit. At the end the witnesses still hear each other, and nothing is left over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from recado.app.limits import DEFAULT
from recado.broker.connection import Connection
from recado.broker.holds import CONGESTED
from recado.broker.hooks import Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.listener import Listener
from recado.broker.publication import Publication
from recado.broker.server import Server, Settle
from recado.broker.standalone import StandaloneHooks
from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from tests.fuzz.storage import MemoryStorage

LIMITS = replace(
    DEFAULT.broker,
    packet_bytes_max=400,
    connect_bytes_max=300,
    user_properties_max=8,
    connections_max=6,
    connections_per_user_max=4,
    keep_alive_max_s=60,
    connect_timeout_s=10,
    stall_s=10,
    receive_maximum=4,
    received_max=4,
    inflight_max=4,
    publish_rate_max=50,
    send_buffer_bytes_max=600,
    subscriptions_max=6,
    wildcards_max=3,
    topic_levels_max=8,
    topic_bytes_max=60,
    topic_aliases_max=3,
    sessions_max=3,
    session_expiry_max_s=30,
    queue_messages_max=6,
    queue_bytes_max=400,
    retained_messages_max=4,
    retained_bytes_max=200,
    routes_max=4,
    route_targets_max=16,
    log_cursors_max=2,
    own_positions_max=8,
    reads_max=1,
    read_page=2,
)
BUFFERED_MAX = LIMITS.send_buffer_bytes_max + LIMITS.packet_bytes_max  # what one packet adds when it is all but full
WITNESS = "witness"
SECRET = secrets.token_bytes(16)  # drawn anew by each process: nothing that the fuzzer could find
STEPS_MAX = 60


class Application(StandaloneHooks):
    """Anybody is who they say they are. Topics under `log/` are logs, and what is published under `slow/` is taken
    and settled one step later."""

    server: Server

    def __init__(self) -> None:
        super().__init__(allow_anonymous=True)
        self.logs: dict[str, list[bytes]] = {}
        self.taken: list[tuple[Settle, int]] = []

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        if connect.username == WITNESS and connect.password != SECRET:
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "no")
        data = None
        if connect.properties.get(PropertyId.AUTHENTICATION_METHOD) is not None:
            data = await challenge(b"?")
        return Identity(connect.username or "", authentication_data=data)

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        return Identity(session.user, authentication_data=await challenge(data))

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        await asyncio.sleep(0)
        return ReasonCode.NOT_AUTHORIZED if "no" in subscription.topic_filter else ReasonCode(subscription.qos)

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        if publish.topic_name.startswith("slow/"):
            self.taken.append((self.server.settling(session, publish), len(publish.payload)))
            return None
        if publish.topic_name.startswith("log/"):
            log = self.logs.setdefault(publish.topic_name, [])
            log.append(publish.payload)
            publication = Publication(publish.topic_name, publish.payload, 1, len(log))
            self.server.publish_to(publication, frozenset({session.user, "", "a"}), session)
            return Outcome(ReasonCode.SUCCESS)
        return super().on_publish(session, publish)

    def settle(self) -> None:
        taken, self.taken = self.taken, []
        for settle, length in taken:
            codes = (ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED, ReasonCode.SERVER_BUSY)
            settle(codes[length % 3], "why")

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        return {name: len(value) for name, value in user_properties if name.startswith("log/")}

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        await asyncio.sleep(0)
        log = self.logs.get(topic_name)
        if log is None:
            raise Refused(ReasonCode.NOT_AUTHORIZED, "no such log")
        return LogPage(list(enumerate(log[after : after + limit], after + 1)), len(log))


class FuzzedConnection(Connection):
    """Its client takes what it is sent, unless it has `stalled`; what it sends while it is not read waits."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, server_listener(server))
        self.is_open = True
        self.stalled = False
        self.paused = False
        self.buffer = bytearray()
        self.waiting: deque[bytes] = deque()
        self.client = Client(self)
        self.is_ending = False
        self.opened()

    def write(self, data: bytes) -> None:
        assert not self.is_ending, "written after the connection was closed"
        self.buffer += data
        self.flush()
        if len(self.buffer) > self.server.limits.send_buffer_bytes_max and not self.held & CONGESTED:
            self.congest()

    def flush(self) -> None:
        if not self.stalled and self.buffer:
            asyncio.get_running_loop().call_soon(self.client.hear, bytes(self.buffer))
            self.buffer.clear()

    def toggle(self) -> None:
        """The client stops reading, or reads on."""
        self.stalled = not self.stalled
        self.flush()
        if not self.buffer:
            if self.held & CONGESTED:
                self.writable()
            if self.is_ending:
                self.abort_transport()

    def bring(self, data: bytes) -> None:
        self.waiting.append(data)
        self.resume()

    def resume(self) -> None:
        while self.waiting and self.is_open and not self.paused and not self.is_ending:
            self.receive(self.waiting.popleft())

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self.resume)

    def close_transport(self) -> None:
        self.is_ending = True
        if not self.buffer:
            self.abort_transport()

    def abort_transport(self) -> None:
        self.is_ending = True
        asyncio.get_running_loop().call_soon(self.lose)

    def lose(self) -> None:
        if self.is_open:
            self.is_open = False
            self.is_ending = True
            self.lost()

    def buffered_bytes(self) -> int:
        return len(self.buffer)


def server_listener(server: Server) -> Listener:
    return Listener("tcp", server.limits.connections_max)


class Client:
    """The client's side of a connection: it decodes all that the server writes, and answers if it is a witness."""

    def __init__(self, connection: FuzzedConnection) -> None:
        self.connection = connection
        self.decoder: Decoder | None = None
        self.aliases: dict[int, str] = {}
        self.answers = False
        self.heard: list[Publish] = []

    def hear(self, data: bytes) -> None:
        if self.decoder is None:
            level = 4 if data[:2] == b"\x20\x02" else 5
            self.decoder = Decoder(packet_bytes_max=1 << 20, role="client", protocol_level=level)
        decoder = self.decoder
        decoder.receive(data)
        while (packet := decoder.next_packet()) is not None:
            self.check(packet)
            if self.answers:
                self.answer(packet)

    def check(self, packet: Packet) -> None:
        assert self.decoder is not None
        if isinstance(packet, Connack | Suback | Unsuback | Auth):
            return  # the server cannot make these smaller
        size = len(encode(packet, self.decoder.protocol_level))
        if self.connection.session is not None:
            assert size <= self.connection.packet_bytes_max, f"{type(packet).__name__} is larger than the client takes"
        if isinstance(packet, Publish):
            alias = packet.properties.get(PropertyId.TOPIC_ALIAS)
            if alias is not None:
                assert alias <= self.connection.aliases_max
                packet.topic_name = packet.topic_name or self.aliases[alias]
                self.aliases[alias] = packet.topic_name

    def answer(self, packet: Packet) -> None:
        match packet:
            case Publish(qos=qos, packet_id=packet_id):
                self.heard.append(packet)
                if qos:
                    self.say(Puback(packet_id) if qos == 1 else Pubrec(packet_id))
            case Pubrel(packet_id):
                self.say(Pubcomp(packet_id))
            case Pubrec(packet_id):
                self.say(Pubrel(packet_id))

    def say(self, packet: Packet) -> None:
        assert self.decoder is not None
        wire = encode(packet, self.decoder.protocol_level)
        asyncio.get_running_loop().call_soon(self.connection.bring, wire)


class Step(NamedTuple):
    who: int
    what: int
    data: bytes


SEND, LOSE, STALL, SECONDS, FAIL = 3, 4, 5, 6, 7  # up to SEND all the same: most steps send


def steps_of(data: bytes) -> Iterator[Step]:
    at = 0
    while at < len(data):
        what = data[at] >> 2 & 7
        end = at + 1
        if what <= SEND and end < len(data):
            end += 1 + data[end]
        yield Step((data[at] & 3) % 3, max(what, SEND), data[at + 2 : end])
        at = end


class World:
    """The server, the fuzzer's connections by number, and the witnesses."""

    def __init__(self, settings: int) -> None:
        self.application = Application()
        self.application.shared_subscriptions = not settings & 2
        self.storage = MemoryStorage() if settings & 1 else None
        self.has_failed = False
        self.server = self.application.server = Server(self.application, LIMITS, self.storage)
        self.server._ticker.cancel()
        self.clients: dict[int, FuzzedConnection] = {}
        self.witnesses = [FuzzedConnection(self.server), FuzzedConnection(self.server)]

    async def begin(self) -> None:
        for level, witness in zip((4, 5), self.witnesses, strict=True):
            connect = Connect(f"w{level}", level, username=WITNESS, password=SECRET)
            everything = Subscribe(1, [SubscriptionRequest("#", 2)])
            witness.client.answers = True
            witness.bring(encode(connect, level))
            await self.quiet()
            witness.bring(encode(everything, level))
        await self.quiet()

    async def quiet(self) -> None:
        """Let the loop run until nothing is left to do but to wait for the fuzzer."""
        ready: Any = asyncio.get_running_loop()
        for _ in range(10_000):
            await asyncio.sleep(0)
            if not ready._ready:
                return
        raise AssertionError("the server does not come to rest")

    async def do(self, step: Step) -> None:
        match step.what:
            case 3:
                self.client(step.who).bring(step.data)
            case 4:
                self.client(step.who).lose()
            case 5:
                self.client(step.who).toggle()
            case 6:
                self.pass_seconds(step.who * 10 + 1)
            case 7 if self.storage is not None:
                self.storage.fails = not self.storage.fails
                self.has_failed = True
        await self.quiet()
        self.application.settle()
        await self.quiet()
        self.check()

    def client(self, number: int) -> FuzzedConnection:
        found = self.clients.get(number)
        if found is None or not found.is_open:
            found = self.clients[number] = FuzzedConnection(self.server)
        return found

    def pass_seconds(self, count: int) -> None:
        for witness in self.witnesses:
            witness.bring(encode(Pingreq(), witness.protocol_level))
        for _ in range(count):
            self.server._tick()
            self.server._ticker.cancel()

    def check(self) -> None:
        for each in (*self.clients.values(), *self.witnesses):
            held = len(each._decoder._data) - each._decoder._offset + len(each._decoder._tail)
            assert held <= LIMITS.packet_bytes_max + 255, "the decoder holds too much"
            assert len(each.buffer) <= BUFFERED_MAX, f"{len(each.buffer)} bytes wait for a client that does not read"
        for session in self.server.sessions:
            check_session(session)
        assert self.server.retained.held_bytes <= LIMITS.retained_bytes_max
        for witness in self.witnesses:
            assert not witness.is_ending, "a witness was disconnected"

    async def end(self) -> None:
        """The fuzzer's clients go. The witnesses hear each other, and nothing is left of the others."""
        if self.storage is not None:
            self.storage.fails = False
        for each in self.clients.values():
            each.lose()
        await self.quiet()
        self.application.settle()
        self.pass_seconds(LIMITS.session_expiry_max_s + 2)
        await self.quiet()
        self.check()
        for witness in self.witnesses:
            for other in self.witnesses:
                other.client.heard.clear()
            packet = Publish("w/is anybody there", b"?", 1, packet_id=9)
            witness.bring(encode(packet, witness.protocol_level))
            await self.quiet()
            for other in self.witnesses:
                assert [each.topic_name for each in other.client.heard] == [packet.topic_name]
        server = self.server
        assert server._connections == set(self.witnesses)
        if server._tasks:  # who reads a long queue takes a breath between its pages
            await asyncio.wait(server._tasks, timeout=5)
        assert not server._tasks
        assert len(list(server.sessions)) == len(server.router) == len(self.witnesses)
        assert (len(server.router._exact), len(server.router._wildcards)) == (0, 1)
        if not self.has_failed:
            self.check_kept()

    def check_kept(self) -> None:
        if self.storage is None:
            return
        kept = {session.key: session for session in self.server.sessions if session.key}
        assert set(kept) == set(self.storage.sessions)
        for key, session in kept.items():
            assert session.queued == len(self.storage.sessions[key].queue)


def check_session(session: Session) -> None:
    waiting = LIMITS.queue_messages_max + LIMITS.retained_messages_max
    for name, size, size_max in (
        ("inflight", len(session.inflight), LIMITS.inflight_max),  # resumed, it may pass the new receive maximum
        ("receive_maximum", session.receive_maximum, LIMITS.inflight_max),
        ("received", len(session.received), LIMITS.received_max + LIMITS.receive_maximum),
        ("incoming", len(session.incoming), LIMITS.receive_maximum),
        ("subscriptions", len(session.subscriptions), LIMITS.subscriptions_max),
        ("queue", len(session.queue or ()), waiting),
        ("queued", session.queued, waiting),
    ):
        assert 0 <= size <= size_max, f"{name} is {size}, and {size_max} at most"


class Errors(logging.Handler):
    """What is logged as an error, and what fails in a callback: the first of it ends the run."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: list[tuple[str, BaseException | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append((record.getMessage(), record.exc_info[1] if record.exc_info else None))

    def on_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._found.append((context["message"], context.get("exception")))

    def raise_first(self) -> None:
        for message, cause in self._found:
            raise AssertionError(f"{message}: {cause!r}") from cause


_loop = asyncio.new_event_loop()


def check_connections(data: bytes) -> None:
    errors = Errors()
    logger = logging.getLogger("recado")
    logger.addHandler(errors)
    logger.propagate = False
    _loop.set_exception_handler(errors.on_callback)
    try:
        _loop.run_until_complete(run(data, errors))
    finally:
        logger.removeHandler(errors)
        logger.propagate = True


async def run(data: bytes, errors: Errors) -> None:
    world = World(data[0] if data else 0)
    await world.begin()
    for number, step in enumerate(steps_of(data[1:])):
        if number == STEPS_MAX:
            break
        await world.do(step)
        errors.raise_first()
    await world.end()
    errors.raise_first()
