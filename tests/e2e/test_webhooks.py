"""Webhooks and capture of a real server: everything arrives, in order, and what hangs is alone with it."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.services.child_process import running
from tests.contracts.transports.event_stream import StreamReader
from tests.support.connection import Login, next_delivery
from tests.support.metrics import count_of, wait_for
from tests.support.paho_python import PahoPython
from tests.support.server import Server
from tests.support.webhook_receiver import Posted, Told, WebhookReceiver, receiving

WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
MANUAL = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
PROMPT_S = 1.0
"""Far more than a delivery takes, and far less than a hanging webhook does."""
MORE_THAN_A_SINK_IS_AT = 40


@dataclass(frozen=True)
class Telling:
    """A server that tells a receiver of everything, and captures it."""

    server: Server
    receiver: WebhookReceiver
    captured: Path

    def captured_seqs(self, conversation: str) -> list[int]:
        return [line["event"]["seq"] for line in lines(self.captured) if line["conversation"] == conversation]

    def posted(self, count: int) -> list[Posted]:
        """As many different ones."""
        found: dict[str, Posted] = {}
        while len(found) < count:
            posted = self.receiver.next()
            found.setdefault(posted.id, posted)
        return list(found.values())

    def posted_seqs(self, count: int) -> dict[str, list[int]]:
        """Of each conversation, without what came again."""
        seqs: defaultdict[str, list[int]] = defaultdict(list)
        for posted in self.posted(count):
            seqs[posted.json["conversation"]].append(posted.json["event"]["seq"])
        return dict(seqs)


@contextmanager
def telling(folder: Path) -> Iterator[Telling]:
    with receiving() as receiver:
        captured = folder / "events.jsonl"
        options = (
            *(f"--webhook-url={receiver.url}", f"--webhook-secret={WEBHOOK_SECRET}", "--webhook-private"),
            *(f"--capture-file={captured}", "--limit.job_backoff_ms=50"),
        )
        with running(Server.serve(folder, *options)) as server:
            yield Telling(server, receiver, captured)
            assert WEBHOOK_SECRET not in server.log


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Telling]:
    """The test's own, to kill and to hang."""
    with telling(tmp_path) as own:
        yield own


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    """For tests that await everything that they cause to be posted."""
    with telling(tmp_path_factory.mktemp("telling")) as shared:
        yield shared


def is_genuine() -> Callable[[dict[str, str], bytes, str], bool]:
    """The manual's own example, as a reader of the manual would run it."""
    (example,) = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    check: Callable[[dict[str, str], bytes, str], bool] = names["is_from_recado"]
    return check


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_event_of_a_conversation_arrives_signed_and_in_order_to_the_last_one(shared: Telling) -> None:
    host = shared.server.host_api
    conversation = host.create_conversation(["ana", "bruno"])
    ana = host.acting_as("ana")
    ana.send(conversation, "Chegou? 📦", "m1")
    host.add_member(conversation, "carla")
    ana.call("PATCH", f"/conversations/{conversation}/messages/1", {"body": "Chegou!"}).expect(200)
    ana.call("DELETE", f"/conversations/{conversation}/messages/1").expect(200)
    host.remove_member(conversation, "carla")
    log = host.history(conversation)
    posted = shared.posted(len(log))
    assert [each.json["event"]["seq"] for each in posted] == [event["seq"] for event in log] == [1, 2, 3, 4, 5]
    assert [each.json["event"].get("type") for each in posted[1:]] == [event.get("type") for event in log[1:]]
    host.call("DELETE", f"/conversations/{conversation}").expect(200, 204)
    last = shared.receiver.next()
    assert last.json["event"]["type"] == "conversation_erased"
    check = is_genuine()
    for each in (*posted, last):
        assert each.id == f"{conversation}:{each.json['event']['seq']}" == each.json["id"]
        assert check(each.headers, each.body, WEBHOOK_SECRET)
        assert not check(each.headers, each.body + b" ", WEBHOOK_SECRET)
        assert not check(each.headers, each.body, WEBHOOK_SECRET + "x")
        assert not check({**each.headers, "Recado-Webhook-Timestamp": "1000000000"}, each.body, WEBHOOK_SECRET)


def test_a_receiver_that_fails_now_and_then_gets_each_conversation_in_order(shared: Telling) -> None:
    statuses = [500, 200, 429, 200, 200, 404, 503, 200]
    shared.receiver.answer(*(Told(statuses[index % len(statuses)]) for index in range(60)))
    conversations = [shared.server.host_api.create_conversation(["ana"]) for _ in range(4)]
    ana = shared.server.api("ana")
    for number in range(10):
        for conversation in conversations:
            ana.send(conversation, f"{number}")
    assert shared.posted_seqs(40) == {conversation: list(range(1, 11)) for conversation in conversations}
    wait_for(lambda: all(shared.captured_seqs(each) == list(range(1, 11)) for each in conversations))


def test_metrics_count_the_answers_by_their_status(shared: Telling) -> None:
    before = count_of(shared.server, 'recado_webhook_answers_total{status="418"}')
    shared.receiver.drain()
    shared.receiver.answer(Told(418))
    conversation = shared.server.host_api.create_conversation(["ana"])
    shared.server.api("ana").send(conversation, "hi")
    assert [shared.receiver.next().json["conversation"] for _ in range(2)] == [conversation] * 2
    assert count_of(shared.server, 'recado_webhook_answers_total{status="418"}') == before + 1


def test_what_the_receiver_will_never_take_is_a_dead_letter_and_the_next_one_comes(shared: Telling) -> None:
    shared.receiver.drain()
    shared.receiver.answer(Told(422))
    conversation = shared.server.host_api.create_conversation(["ana"])
    for number in range(3):
        shared.server.api("ana").send(conversation, f"{number}")
    assert [shared.receiver.next().json["event"]["seq"] for _ in range(3)] == [1, 2, 3]
    shared.server.awaited_line("dead_letter")


def test_a_webhook_that_hangs_delays_no_member_and_no_other_sink(own: Telling) -> None:
    never = threading.Event()
    own.receiver.usually(Told(when=never))
    server, host = own.server, own.server.host_api
    stuck = [host.create_conversation(["ana"]) for _ in range(MORE_THAN_A_SINK_IS_AT)]
    for conversation in stuck:
        host.acting_as("ana").send(conversation, "nobody takes this")
    own.receiver.next()
    conversation = host.create_conversation(["ana", "bruno"])
    login = Login(server.mqtt_port, server.ws_url, "bruno", server.token("bruno"))
    with closing(PahoPython(login)) as mqtt, closing(StreamReader(server, "bruno", login.token)) as stream:
        assert mqtt.connect() == 0
        assert mqtt.subscribe(f"c/{conversation}") == 1
        stream.follow(conversation, 0)
        for number in range(1, 21):
            begun = time.monotonic()
            host.acting_as("ana").send(conversation, f"{number}")
            assert next_delivery(mqtt).event["seq"] == number
            assert stream.next().content["seq"] == number
            assert time.monotonic() - begun < PROMPT_S
        begun = time.monotonic()
        wait_for(lambda: own.captured_seqs(conversation) == list(range(1, 21)))
        assert time.monotonic() - begun < PROMPT_S
    assert len({line["conversation"] for line in lines(own.captured)}) == MORE_THAN_A_SINK_IS_AT + 1
    never.set()


def test_what_was_told_while_the_receiver_was_away_comes_when_it_is_back_also_after_a_crash(own: Telling) -> None:
    own.receiver.usually(Told(503))
    conversations = [own.server.host_api.create_conversation(["ana"]) for _ in range(3)]
    for number in range(5):
        for conversation in conversations:
            own.server.api("ana").send(conversation, f"{number}")
    own.receiver.next()
    own.server.kill()
    own.receiver.drain()
    own.receiver.usually(Told(200))
    own.server.start()
    assert own.posted_seqs(15) == {conversation: [1, 2, 3, 4, 5] for conversation in conversations}


def test_the_capture_file_has_every_acknowledged_event_in_order_after_kills(own: Telling) -> None:
    conversation = own.server.host_api.create_conversation(["ana"])
    ana = own.server.api("ana")
    for turn in range(2):
        for number in range(20):
            ana.send(conversation, f"{turn} {number}", uuid.uuid4().hex)
        own.server.kill()
        own.server.start()
    wait_for(lambda: max(own.captured_seqs(conversation), default=0) == 40)
    first_times = list(dict.fromkeys(own.captured_seqs(conversation)))
    assert first_times == list(range(1, 41))
