"""Store, actions and MQTT server in one event loop without threads or sockets, and what a host does to them.

Time is the test's. What was asked of the storage is done at once, or when a rule says so.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.broker.log_sessions import LogSessions
from recado.adapters.store.sqlite import SqliteStore
from recado.app.clock import now_ms
from recado.app.limits import DEFAULT
from recado.broker.listener import Listener
from recado.chat import actions
from recado.chat.actions import Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from recado.chat.event import Committed
from recado.chat.membership import MembershipCache
from recado.chat.message import MessageDraft
from recado.chat.principal import Principal
from recado.chat.stages import Stages
from tests.broker.model.peer import OUTGOING_MAX
from tests.broker.model.traffic import Traffic
from tests.chat_model.expectations import Expectations
from tests.chat_model.member import Line, Member
from tests.chat_model.storage import HeldStore

LIMITS = replace(
    DEFAULT,
    broker=replace(
        DEFAULT.broker,
        receive_maximum=OUTGOING_MAX,
        inflight_max=3,
        topic_aliases_max=1,
        reads_max=1,
        read_page=2,
        drain_s=1,
    ),
)
USERS = {"ana": "ana", "bea": "bea", "tab": "bea"}  # by client id: bea has two
HOST = Principal(None, is_host=True)
EXPECTED_REFUSALS = {
    "SERVER_BUSY",
    "KEEP_ALIVE_TIMEOUT",
    "STALLED",
    "CONNECT_TIMEOUT",
    "SERVER_UNAVAILABLE",
    "NOT_AUTHORIZED",
}
_START_S = 1_800_000_000
_TURNS_MAX = 100


class _Loop(asyncio.SelectorEventLoop):
    """Its time is the test's."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        super().__init__()

    def time(self) -> float:
        return self._now()

    def is_idle(self) -> bool:
        """Whether nothing happens any more unless time passes or something comes."""
        return not self._ready  # type: ignore[attr-defined]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "the disk is full" not in record.getMessage() and record.name != "asyncio":
            self.found.append(record)


@cache
def _empty_database() -> bytes:
    async def make(path: Path) -> None:
        await SqliteStore.open(path, LIMITS.store).close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recado.db"
        asyncio.run(make(path))
        return path.read_bytes()


class Stage(Traffic[Line]):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.real_time_ns = time.time_ns
        time.time_ns = lambda: _START_S * 1_000_000_000 + int(self.now * 1_000_000_000)
        self.records = _Records()
        logging.getLogger().addHandler(self.records)
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "recado.db"
        self.path.write_bytes(_empty_database())
        self.expected = Expectations()
        self.peers: dict[str, Member] = {
            name: Member(name, user=user, expected=self.expected) for name, user in USERS.items()
        }
        self.ghosts: list[Line] = []
        self.creating: dict[str, frozenset[str]] = {}
        self.is_prompt = True
        self.count = 0
        self.start()

    # The server

    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=lambda: _Loop(lambda: self.now))
        self.runner.run(self._start())

    async def _start(self) -> None:
        self.held = HeldStore(self.path, LIMITS.store, self._committed)
        self.held.commits.on_told = self.expected.told
        store = self.held.store
        broker = EmbeddedBroker(
            Principal, LIMITS.broker, LogSessions(store, LIMITS.storage.pending_transactions_max, 1_000)
        )
        members = MembershipCache(store, LIMITS.chat.member_cache_entries_max)
        self.chat = chat = broker.chat = Chat(store, broker, members, LIMITS.chat, now_ms, Stages(now_ms))

        def on_committed(committed: Sequence[Committed]) -> None:
            members.apply(committed)
            broker.publish(committed)
            chat.apply(committed)

        store.on_committed = on_committed
        self.server = broker.server
        self.listener = Listener("tcp", 1_000)
        await self._until_idle(self.server.start())

    def _committed(self, committed: list[Any]) -> None:
        for conversation in list(self.creating):
            if self.held.db.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation,)).fetchall():
                self.expected.created(conversation, self.creating.pop(conversation))
        self.expected.committed(committed)

    async def _until_idle(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            self.held.go_on()
        await task

    def run(self, act: Callable[[], Any]) -> None:
        """Do it on the loop, then let the server do what it can."""

        async def acted() -> None:
            act()
            await self._settle()
            while self.is_prompt and not self.held.is_idle:
                self.held.go_on()
                await self._settle()

        self.runner.run(acted())
        for member in self.peers.values():
            if member.wire is not None and member.wire.is_shut and not member.wire.to_client:
                self.lose(member)
        for line in self.ghosts:
            if line.is_shut:
                line.drop()
        if self.expected.broken:
            raise self.expected.broken[0]

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        for _ in range(_TURNS_MAX):
            await asyncio.sleep(0)
            if loop.is_idle():
                break
        assert loop.is_idle(), "the server does not come to rest"
        self.expected.is_telling.clear()

    def lose(self, member: Member) -> None:
        if member.wire is not None:
            member.wire.drop()
        member.lose()

    def kill(self) -> None:
        """The process is gone: what waited for the storage is waited for no more."""
        self.held.crash()

        async def cancelled() -> None:
            for _ in range(_TURNS_MAX):
                waiting = asyncio.all_tasks() - {asyncio.current_task()}
                if not waiting:
                    return
                for task in waiting:  # once more: on its way out it may have begun to wait for something else
                    task.cancel()
                await asyncio.sleep(0)
            raise AssertionError(f"{waiting} cannot be ended")

        self.runner.run(cancelled())
        self.runner.close()
        self.expected.broken.clear()  # what they did on their way out nobody has seen

    # What comes over HTTP

    def ask(self, action: Callable[[], Any], check: Callable[[Any], None] = lambda result: None) -> None:
        async def asked() -> None:
            try:
                check(await action())
            except (NotFound, Conflict, Forbidden, Invalid, Unavailable):
                pass
            except AssertionError as error:
                self.expected.broken.append(error)

        self.run(lambda: self._spawn(asked()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.asked = asyncio.get_running_loop().create_task(work)

    def create(self, conversation: str, members: frozenset[str]) -> None:
        if conversation not in self.expected.logs:
            self.creating[conversation] = members
            draft = ConversationDraft(members=sorted(members))
            self.ask(lambda: actions.put_conversation(self.chat, HOST, conversation, draft))

    def create_another(self, members: set[str]) -> None:
        if "z" not in self.creating:
            self.create("z", frozenset(members))

    def post(self, user: str, conversation: str) -> None:
        self.count += 1
        draft = MessageDraft(id=f"m{self.count}", body=f"b{self.count}")

        async def send() -> Any:
            return await actions.send_message(self.chat, Principal(user), conversation, draft)

        def check(sent: Any) -> None:
            assert self.expected.logs[conversation].ids[user, draft.id or ""] == sent.event.seq

        self.ask(send, check)

    def change(self, user: str, conversation: str, back: int, is_deleted: bool) -> None:
        log = self.expected.logs.get(conversation)
        if log is None or len(log.entries) < back:
            return
        seq = len(log.entries) - back + 1
        self.count += 1
        body = f"e{self.count}"
        if is_deleted:
            self.ask(lambda: actions.delete_message(self.chat, Principal(user), conversation, seq))
        else:
            self.ask(lambda: actions.edit_message(self.chat, Principal(user), conversation, seq, body))

    def add(self, conversation: str, user: str) -> None:
        self.ask(lambda: actions.add_member(self.chat, HOST, conversation, user))

    def remove(self, conversation: str, user: str) -> None:
        self.ask(lambda: actions.remove_member(self.chat, HOST, conversation, user))

    def erase_user(self, user: str) -> None:
        for log in self.expected.logs.values():
            log.erase(user)

        async def erase() -> None:
            try:
                await actions.erase_user(self.chat, HOST, user)
            finally:
                self.ends_sessions(user)
                self.expected.ending.remove(user)

        self.expected.ending.append(user)
        self.ends_sessions(user)
        self.ask(erase)

    def ends_sessions(self, user: str) -> None:
        for member in self.peers.values():
            if member.user == user:
                member.must_start_clean = True
                if (life := self.expected.lives.get(member.name)) is not None:
                    life.end()

    # The end

    def check_server(self) -> None:
        assert set(self.server.counters.refusals) <= EXPECTED_REFUSALS, self.server.counters.refusals
        logged = [f"{record.getMessage()} {record.exc_info}" for record in self.records.found]
        assert not logged, logged

    def close(self) -> None:
        time.time_ns = self.real_time_ns
        logging.getLogger().removeHandler(self.records)
        self.kill()
        shutil.rmtree(self.folder)
