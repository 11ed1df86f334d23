"""A server's HTTP door for one test: the real application on a real store, called in memory."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from recado.adapters.broker.brokers import Brokers
from recado.adapters.broker.recent_events import RecentEvents
from recado.adapters.store.sqlite import SqliteStore
from recado.app.access import JwtAccess
from recado.app.clock import now_ms
from recado.app.config import Settings
from recado.app.limits import DEFAULT
from recado.chat.actions import Chat
from recado.chat.event import Committed, encode_event
from recado.chat.feed import Feed
from recado.chat.membership import MembershipCache
from recado.chat.stages import Stages
from recado.http import HttpSettings, create_app
from recado.ports import Sink

SECRET = "a secret of the tests that is long enough for HS256"
API_KEY = "the-key-of-the-host-application-of-the-tests"

LIMITS = replace(
    DEFAULT.chat,
    body_bytes_max=1_000,
    members_max=5,
    subject_bytes_max=100,
    metadata_bytes_max=500,
    page_max=20,
    page_default=10,
    receipt_members_max=3,
)
STORE_LIMITS = replace(DEFAULT.store, reader_threads=1, erase_rows_max=2)
FEED_LIMITS = replace(DEFAULT.feed, held_polls_per_user_max=3, streams_per_user_max=3, streams_max=5, stream_page=4)
RECENT_MAX = 10
SETTINGS = HttpSettings(
    public_url=None,
    allowed_origins=(),
    mqtt_port=1883,
    ws_port=8083,
    ws_path="/mqtt",
    request_bytes_max=4_000,
    token_ttl_s_max=86_400,
    token_ttl_s_default=3_600,
    wait_max_s=2,
    sse_keepalive_s=1,
    sse_retry_ms=2_000,
    ws_auth_s=1,
    ws_conversations_max=3,
)


@dataclass
class RecordingBroker:
    """Remembers what would have gone to the members' connections."""

    committed: list[Committed] = field(default_factory=list)
    signals: list[tuple[str, frozenset[str], bytes]] = field(default_factory=list)
    disconnected: list[str] = field(default_factory=list)

    def publish(self, committed: Sequence[Committed]) -> None:
        self.committed += committed

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        self.signals.append((conversation, recipients, payload))

    async def disconnect(self, user: str) -> None:
        self.disconnected.append(user)


class Caller:
    """Makes calls with one credential."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 50_000))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://chat.test:8000", headers=headers)

    async def __call__(self, method: str, path: str, json: Any = None, **request: Any) -> httpx.Response:
        if json is not None:
            request["json"] = json
        return await self._client.request(method, path, **request)


@dataclass
class World:
    chat: Chat
    feed: Feed
    access: JwtAccess
    broker: RecordingBroker
    app: ASGIApp

    @property
    def host(self) -> Caller:
        return Caller(self.app, bearer(API_KEY))

    @property
    def nobody(self) -> Caller:
        return Caller(self.app, {})

    def host_as(self, user: str) -> Caller:
        return Caller(self.app, {**bearer(API_KEY), "Recado-User": user})

    def token(self, user: str) -> str:
        return self.access.mint(user, 3_600)[0]

    def user(self, name: str) -> Caller:
        return Caller(self.app, bearer(self.token(name)))

    def with_settings(self, **changes: Any) -> "World":
        """The same server behind a door that is set up differently."""
        return replace(self, app=create_app(self.chat, self.feed, self.access, replace(SETTINGS, **changes)))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """Check that an answer is this refusal; returns its message."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    message: str = answer.json()["error"]["message"]
    assert message
    return message


async def open_world(path: Path, sinks: Sequence[Sink] = ()) -> World:
    store = SqliteStore.open(path, STORE_LIMITS, sinks)
    broker = RecordingBroker()
    members = MembershipCache(store, LIMITS.member_cache_entries_max)

    def on_committed(committed: Sequence[Committed]) -> None:
        members.apply(committed)
        broker.publish(committed)
        for entry in committed:
            recent.add(entry.conversation, entry.event, encode_event(entry.event))
        feed.publish(committed)

    store.on_committed = on_committed
    recent = RecentEvents(RECENT_MAX, 1_000_000)
    feed = Feed(store, members, FEED_LIMITS, now_ms, recent.page)
    chat = Chat(store, Brokers(broker, feed), members, LIMITS, now_ms, Stages(now_ms))
    access = JwtAccess(Settings(secret=SECRET, api_key=API_KEY))
    return World(chat, feed, access, broker, create_app(chat, feed, access, SETTINGS))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = await open_world(tmp_path / "recado.db")
    yield world
    await world.chat.store.close()


@pytest.fixture
async def order(world: World) -> World:
    """A world with the conversation order-4711 between ana and bruno."""
    answer = await world.host("PUT", "/v1/conversations/order-4711", {"members": ["ana", "bruno"]})
    assert answer.status_code == 201, answer.text
    return world
