"""Jobs by way of SQS: store, relay, a stand-in of SQS and a worker, all real, and what the queue does wrong on the way.

The store is PostgreSQL, used by this process alone; of the sink there is what the test counts in.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.services.sqs import Sqs
from recado.adapters.queue.sqs.address import SqsAddress
from recado.adapters.queue.sqs.client import Received, SqsAway, SqsClient
from recado.adapters.queue.sqs.queue import SqsQueue
from recado.adapters.queue.sqs.relay import Relay
from recado.adapters.store.postgres.store import PostgresStore
from recado.app.limits import DEFAULT
from recado.ports import JobEvent, JobFilter, Sink, TryLater, Unusable, Wanted
from recado.worker import Worker
from tests.contracts.stores import POSTGRES_LIMITS, create, send

SINK = "recorder"
RECEIVED = "recado_sqs_messages_received_total"
LIMITS = replace(DEFAULT.sqs, queue_relay_interval_ms=100)
WORKER_LIMITS = replace(DEFAULT.worker, job_backoff_ms=100)
TIMEOUT_S = 20.0


@dataclass
class Recorder:
    """A sink. `fails` is asked before each delivery; `holds` keeps each one until it is set."""

    delivered: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    fails: Callable[[], bool] = lambda: False
    holds: asyncio.Event | None = None
    begun: int = 0

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        self.begun += 1
        if self.holds is not None:
            await self.holds.wait()
        if self.fails():
            raise TryLater("as it was told")
        self.delivered[conversation].append(entry.event.seq)

    async def close(self) -> None: ...


@dataclass
class System:
    sqs: Sqs
    queue_name: str
    store: PostgresStore
    recorder: Recorder
    sent: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    @classmethod
    @asynccontextmanager
    async def opened(cls, sqs: Sqs, database: str) -> AsyncIterator[System]:
        name = f"jobs-{uuid.uuid4().hex[:12]}"
        sqs.create_queue(name)
        store = await PostgresStore.open(database, POSTGRES_LIMITS, [Sink(SINK)])
        try:
            yield cls(sqs, name, store, Recorder())
        finally:
            await store.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[SqsClient]:
        client = await SqsClient.open("queue", SqsAddress.parse("queue", self.sqs.url(self.queue_name)), LIMITS)
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def relay(self, **limits: int) -> AsyncIterator[None]:
        async with self.client() as client:
            relay = Relay(self.store, client, [SINK], replace(LIMITS, **limits), now_ms)
            yield
            await relay.close()

    @asynccontextmanager
    async def worker(
        self, recorder: Recorder | None = None, visibility_s: int = LIMITS.queue_visibility_s, **limits: int
    ) -> AsyncIterator[None]:
        async with self.client() as client:
            queue = SqsQueue(client, [SINK], replace(LIMITS, queue_visibility_s=visibility_s))
            handlers, worker_limits = {SINK: recorder or self.recorder}, replace(WORKER_LIMITS, **limits)
            async with Worker(self.store, queue, handlers, worker_limits, now_ms):
                yield
            await queue.close()

    async def create(self, *conversations: str) -> None:
        for conversation in conversations:
            await create(self.store, "ana", conversation=conversation, at=now_ms())

    async def send(self, conversation: str, count: int = 1) -> None:
        for _ in range(count):
            self.sent[conversation] += 1
            await send(self.store, "ana", f"m{self.sent[conversation]}", conversation=conversation, at=now_ms())

    def everything(self) -> dict[str, list[int]]:
        return {conversation: list(range(1, last + 1)) for conversation, last in self.sent.items()}

    async def all_delivered(self, within_s: float = TIMEOUT_S) -> None:
        """Each event once, in order, and nothing left to do."""
        await until(lambda: sum(map(len, self.recorder.delivered.values())) >= sum(self.sent.values()), within_s)
        assert dict(self.recorder.delivered) == self.everything()
        await self.nothing_left()

    async def nothing_left(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while await self.store.list_jobs(JobFilter(), 10):
            assert time.monotonic() < deadline, "a job is left"
            await asyncio.sleep(0.02)

    async def queue_empty(self) -> None:
        await until(lambda: self.sqs.counts(self.queue_name) == (0, 0))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], bool], within_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.02)


@pytest.fixture
async def system(sqs: Sqs, postgres_database: str) -> AsyncIterator[System]:
    async with System.opened(sqs, postgres_database) as system:
        yield system


@pytest.fixture
async def mortal_system(mortal_sqs: Sqs, postgres_database: str) -> AsyncIterator[System]:
    async with System.opened(mortal_sqs, postgres_database) as system:
        yield system


# The way of a job


async def test_every_event_gets_to_its_sink_in_order_and_leaves_nothing_behind(system: System) -> None:
    async with system.relay(), system.worker():
        await system.create("a", "b", "c")
        for _ in range(10):
            await asyncio.gather(*(system.send(each) for each in "abc"))
        await system.all_delivered()
        await system.queue_empty()


async def test_jobs_wait_for_a_worker_and_each_conversation_is_told_of_once(system: System) -> None:
    await system.create("a", "b")
    await system.send("a", 4)
    await system.send("b", 2)
    async with system.relay():
        await until(lambda: system.sqs.counts(system.queue_name) == (2, 0))
    async with system.worker():
        await system.all_delivered()
        await system.queue_empty()


async def test_a_message_has_nothing_that_anybody_wrote(system: System) -> None:
    async with system.relay():
        await system.create("a")
        await system.send("a")
        await until(lambda: system.sqs.counts(system.queue_name)[0] == 1)
    (message,) = system.sqs.receive(system.queue_name)
    assert message["Body"] == f'["{SINK}","a",1]'


async def test_a_job_is_there_much_sooner_than_anything_is_polled(system: System) -> None:
    async with system.relay(queue_relay_interval_ms=60_000), system.worker():
        await system.create("a")
        await system.send("a")
        await system.all_delivered(within_s=5)
        begun = time.monotonic()
        await system.send("a")
        await system.all_delivered(within_s=5)
        assert time.monotonic() - begun < 2


async def test_two_workers_share_the_work_and_do_nothing_twice(system: System) -> None:
    async with system.relay(), system.worker(), system.worker():
        names = [f"c{number}" for number in range(8)]
        await system.create(*names)
        await asyncio.gather(*(system.send(each, 6) for each in names))
        await system.all_delivered()


async def test_two_relays_double_messages_and_no_deliveries(system: System) -> None:
    async with system.relay(), system.worker():
        await system.create("a")
        await system.send("a", 5)
        for seq in range(1, 6):
            system.sqs.send(system.queue_name, f'["{SINK}","a",{seq}]')
        await system.send("a", 5)
        await system.all_delivered()
        await system.queue_empty()


# What fails


async def test_a_job_that_fails_is_tried_again_and_those_behind_it_wait(system: System) -> None:
    tries = iter([True, True, True])
    system.recorder.fails = lambda: next(tries, False)
    async with system.relay(), system.worker():
        await system.create("a")
        await system.send("a", 3)
        await system.all_delivered()
        await system.queue_empty()


async def test_a_dead_letter_leaves_no_message_and_stands_in_nobodys_way(system: System) -> None:
    system.recorder.fails = lambda: system.recorder.begun == 1
    async with system.relay(), system.worker(job_attempts_max=1):
        await system.create("a")
        await system.send("a", 3)
        await until(lambda: system.recorder.delivered["a"] == [2, 3])
        await system.queue_empty()
    (dead,) = await system.store.list_jobs(JobFilter(), 10)
    assert (dead.state, dead.seq) == ("dead", 1)


async def test_what_the_queue_loses_is_sent_again(system: System) -> None:
    async with system.relay(queue_requeue_s=1):
        await system.create("a")
        await system.send("a", 4)
        await until(lambda: system.sqs.counts(system.queue_name)[0] == 4)
        system.sqs.purge(system.queue_name)
        async with system.worker():
            await system.all_delivered()


async def test_messages_in_any_order_are_jobs_in_order(system: System) -> None:
    await system.create("a")
    await system.send("a", 5)
    for seq in (5, 3, 1, 4, 2, 2):
        system.sqs.send(system.queue_name, f'["{SINK}","a",{seq}]')
    async with system.worker():
        await system.all_delivered()


@pytest.mark.parametrize(
    "body",
    [
        *("hello", "[]", "{}", '["recorder","a"]', '["recorder",1,"a"]', '["of-others","a",1]'),
        *('["recorder","\\ud800",1]', '["recorder","a\\u0000",1]', '["recorder","a/b",1]'),
    ],
)
async def test_a_message_that_is_no_job_of_ours_is_left_alone_and_stops_nobody(system: System, body: str) -> None:
    system.sqs.send(system.queue_name, body)
    async with system.relay(), system.worker():
        await system.create("a")
        await system.send("a")
        await system.all_delivered()
        await until(lambda: system.sqs.counts(system.queue_name) == (0, 1))


async def test_what_nobody_foresaw_stops_no_receiver_and_is_said_without_its_text(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no text at all, SQS itself would not take; what speaks like it may."""
    strange: Iterator[Exception | list[Received]] = iter(
        [RuntimeError("a message's text"), [Received("m", "r", "\ud800")], RuntimeError("another's")]
    )
    receive = SqsClient.receive

    async def receive_strange(client: SqsClient, hidden_s: int) -> list[Received]:
        for answer in strange:
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await receive(client, hidden_s)

    monkeypatch.setattr(SqsClient, "receive", receive_strange)
    async with system.relay(), system.worker():
        await system.create("a")
        await system.send("a")
        await system.all_delivered()
    assert "the queue of jobs fails: RuntimeError; it is tried again" in caplog.text
    assert "a message's text" not in caplog.text


async def test_a_worker_that_could_not_delete_a_message_deletes_it_when_it_comes_again(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, failures = SqsClient.delete, iter([RuntimeError("of another kind")])

    async def fail_once(client: SqsClient, receipts: Sequence[str]) -> None:
        for error in failures:
            raise error
        await delete(client, receipts)

    monkeypatch.setattr(SqsClient, "delete", fail_once)
    async with system.relay(), system.worker(visibility_s=1):
        await system.create("a")
        await system.send("a")
        await system.all_delivered()
        await system.queue_empty()


async def test_a_message_stays_hidden_while_its_worker_is_at_it(system: System) -> None:
    """Else another worker would look for nothing, again and again, and redrive would take the message away."""
    system.recorder.holds = asyncio.Event()
    async with system.relay(), system.worker(visibility_s=2, job_lease_s=3):
        await system.create("a")
        await system.send("a")
        await until(lambda: system.recorder.begun == 1)
        received = REGISTRY.get_sample_value(RECEIVED)
        others = await asyncio.to_thread(system.sqs.receive, system.queue_name, wait_s=4)
        assert others == []
        assert REGISTRY.get_sample_value(RECEIVED) == received, "its own worker got it again"
        system.recorder.holds.set()
        await system.all_delivered()
        await system.queue_empty()


async def test_a_lane_whose_worker_died_is_told_of_again_when_its_lease_is_over(system: System) -> None:
    """Also if the queue has no message of it any more."""
    await system.create("a")
    await system.send("a", 2)
    gone = await system.store.claim_jobs(Wanted([SINK], now_ms(), 2_000, 10, 10))
    assert len(gone) == 2
    await system.store.note_queued([claim.job for claim in gone], now_ms())
    async with system.relay(), system.worker():
        await system.all_delivered(within_s=10)


async def test_a_lane_that_another_worker_has_is_looked_at_again_when_its_lease_is_over(system: System) -> None:
    """Should no relay know of it."""
    await system.create("a")
    await system.send("a", 2)
    assert len(await system.store.claim_jobs(Wanted([SINK], now_ms(), 2_000, 10, 10))) == 2
    system.sqs.send(system.queue_name, f'["{SINK}","a",1]')
    async with system.worker():
        await system.all_delivered(within_s=10)
        await system.queue_empty()


async def test_an_sqs_that_came_back_and_forgot_everything_is_told_again_at_once(mortal_system: System) -> None:
    """And of everything, however few jobs are read at a time."""
    system = mortal_system
    async with system.relay(queue_relay_jobs_max=1):
        await system.create("a", "b", "c")
        for each in "abc":
            await system.send(each)
        await until(lambda: system.sqs.counts(system.queue_name)[0] == 3)
        await asyncio.to_thread(system.sqs.kill)
        await system.send("b")
        await asyncio.to_thread(system.sqs.start)
        system.sqs.create_queue(system.queue_name)
        async with system.worker():
            await system.all_delivered(within_s=10)


async def test_sends_go_on_while_sqs_is_away_and_nothing_is_missing_after_its_return(mortal_system: System) -> None:
    system = mortal_system
    async with system.relay(), system.worker():
        await system.create("a", "b")
        await system.send("a", 3)
        await asyncio.to_thread(system.sqs.kill)
        begun = time.monotonic()
        for _ in range(50):
            await asyncio.gather(system.send("a"), system.send("b"))
        assert time.monotonic() - begun < 5, "sends waited for SQS"
        await asyncio.to_thread(system.sqs.start)
        await system.send("b", 3)
        system.sqs.create_queue(system.queue_name)
        await system.all_delivered(within_s=10)
        await system.send("a", 2)
        await system.all_delivered(within_s=10)


async def test_that_sqs_is_away_is_said_once_and_its_return_too(
    mortal_system: System, caplog: pytest.LogCaptureFixture
) -> None:
    system = mortal_system
    caplog.set_level("INFO", "recado.adapters.queue")
    async with system.client() as client:
        await asyncio.to_thread(system.sqs.kill)
        for _ in range(3):
            with pytest.raises(SqsAway, match="EndpointConnectionError"):
                await client.receive(1)
        await asyncio.to_thread(system.sqs.start)
        system.sqs.create_queue(system.queue_name)
        for _ in range(2):
            system.sqs.send(system.queue_name, "hello")
            await client.receive(1)
    logged = [record for record in caplog.records if record.name.startswith("recado.adapters.queue")]
    assert [(record.levelname, record.getMessage()) for record in logged] == [
        ("WARNING", "SQS fails: receive_message: EndpointConnectionError; it is tried again"),
        ("INFO", "SQS answers again: receive_message"),
    ]


# The start


async def opened(url: str, **limits: int) -> None:
    client = await SqsClient.open("queue", SqsAddress.parse("queue", url), replace(LIMITS, **limits))
    await client.close()


async def test_a_queue_that_does_not_exist_is_said_at_the_start(sqs: Sqs) -> None:
    with pytest.raises(Unusable, match="queue: there is no SQS queue 'no-such': create it, or correct the name"):
        await opened(sqs.url("no-such"))


async def test_an_endpoint_where_nobody_is_is_said_at_the_start(mortal_sqs: Sqs) -> None:
    mortal_sqs.kill()
    with pytest.raises(Unusable, match=f"queue: SQS cannot be reached at {mortal_sqs.endpoint}"):
        await opened(mortal_sqs.url("jobs"))


async def test_an_endpoint_that_does_not_answer_is_said_at_the_start() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Unusable, match=f"queue: SQS cannot be reached at {endpoint}"):
            await opened(f"sqs://jobs?region=eu-west-1&endpoint={endpoint}", queue_answer_s=1)


async def test_missing_credentials_are_said_at_the_start(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Unusable, match="queue: there are no AWS credentials: set AWS_ACCESS_KEY_ID"):
        await opened(sqs.url("jobs"))


async def test_a_missing_region_is_said_at_the_start(sqs: Sqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unusable, match="queue: it names no region"):
        await opened(f"sqs://jobs?endpoint={sqs.endpoint}")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sqs://jobs", SqsAddress("jobs")),
        ("sqs://Jobs_1/?region=eu-west-1", SqsAddress("Jobs_1", None, "eu-west-1")),
        ("sqs://123456789012/jobs", SqsAddress("jobs", "123456789012")),
        ("sqs://j?endpoint=http://127.0.0.1:9324", SqsAddress("j", endpoint="http://127.0.0.1:9324")),
        ("sqs://events.fifo", SqsAddress("events.fifo")),
    ],
)
def test_a_url_names_a_queue(url: str, address: SqsAddress) -> None:
    assert SqsAddress.parse("queue", url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqs://", "queue is sqs://name[?]region=eu-west-1"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/jobs", "queue is sqs://name"),
        ("sqs://a b", "queue is sqs://name"),
        ("sqs://jobs#x", "queue is sqs://name"),
        ("sqs://a/b/c", "queue is sqs://name"),
        ("sqs://12/jobs", "an account is 12 digits"),
        ("sqs://jobs?zone=1", "takes region and endpoint after the [?], and nothing else"),
        ("sqs://jobs?region=Europe!", "a region is such as eu-west-1"),
        ("sqs://jobs?endpoint=127.0.0.1:5000", "an endpoint is http://host:port"),
        ("sqs://jobs?endpoint=http://h:port", "an endpoint is http://host:port"),
        ("sqs://jobs?endpoint=http://h/path", "an endpoint is http://host:port"),
        ("sqs://jobs?endpoint=http://[::1", "an endpoint is http://host:port"),
    ],
)
def test_what_names_none_is_refused_with_what_would(url: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        SqsAddress.parse("queue", url)


@pytest.mark.parametrize("url", ["sqs://key:pass@jobs", "sqs://jobs?endpoint=http://key:pass@host"])
def test_credentials_do_not_belong_into_the_url_and_are_not_repeated(url: str) -> None:
    with pytest.raises(Unusable, match="no credentials in it") as refused:
        SqsAddress.parse("queue", url)
    assert "pass" not in str(refused.value)
