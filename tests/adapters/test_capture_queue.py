"""Capture to a queue: a stand-in of SQS gets every event, in requests that SQS takes."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from deploy.services.sqs import Sqs
from recado.adapters.queue.sqs.address import SqsAddress
from recado.adapters.queue.sqs.client import SqsClient, SqsMessage
from recado.adapters.sinks.capture_queue import CaptureQueue
from recado.app.limits import DEFAULT
from recado.chat.event import Event
from recado.ports import GiveUp, JobEvent, TryLater

SQS_BYTES_MAX = 256 * 1024


@pytest.fixture
def queue(sqs: Sqs) -> str:
    name = f"events-{uuid.uuid4().hex[:12]}"
    sqs.create_queue(name)
    return name


@asynccontextmanager
async def capturing(sqs: Sqs, queue: str) -> AsyncIterator[CaptureQueue]:
    address = SqsAddress.parse("capture_queue", sqs.url(queue))
    capture = CaptureQueue(await SqsClient.open("capture_queue", address, DEFAULT.sqs), address.is_fifo)
    yield capture
    await capture.close()


def entry(seq: int, body: str = "Chegou!") -> JobEvent:
    return JobEvent(Event(seq, "ana", 1_790_000_000_123, id=f"m{seq}", body=body), frozenset({"ana"}))


def received(sqs: Sqs, queue: str) -> list[dict[str, object]]:
    """Everything that is in it."""
    found = []
    while messages := sqs.receive(queue):
        found += [json.loads(message["Body"]) for message in messages]
    return found


async def test_a_message_is_the_event_with_its_conversation(sqs: Sqs, queue: str) -> None:
    async with capturing(sqs, queue) as capture:
        await capture.deliver("order-1", entry(1, 'linha\n"um" 📦'))
    event = {"seq": 1, "from": "ana", "at": 1_790_000_000_123, "id": "m1", "body": 'linha\n"um" 📦'}
    assert received(sqs, queue) == [{"conversation": "order-1", "event": event}]


async def test_many_at_once_are_all_there(sqs: Sqs, queue: str) -> None:
    async with capturing(sqs, queue) as capture:
        await asyncio.gather(*(capture.deliver(f"c{number}", entry(1)) for number in range(47)))
    assert sorted(str(each["conversation"]) for each in received(sqs, queue)) == sorted(f"c{n}" for n in range(47))


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1f", "\x7f", "\ufffe", "\uffff", "\U0001f4e6"])
async def test_characters_that_sqs_refuses_are_escaped_and_come_out_as_they_were(
    sqs: Sqs, queue: str, character: str
) -> None:
    async with capturing(sqs, queue) as capture:
        await capture.deliver("c", entry(1, f"a{character}b"))
    (message,) = sqs.receive(queue)
    assert all(allowed_in_xml(each) for each in message["Body"])
    assert json.loads(message["Body"])["event"]["body"] == f"a{character}b"


def allowed_in_xml(character: str) -> bool:
    """What SQS takes: the characters of XML 1.0 §2.2."""
    code = ord(character)
    return character in "\t\n\r" or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


async def test_long_events_are_not_put_into_one_request_that_is_too_long(
    sqs: Sqs, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    send = SqsClient.send

    async def weighing(client: SqsClient, messages: Sequence[SqsMessage]) -> list[bool]:
        sizes.append(sum(len(each.body.encode()) for each in messages))
        return await send(client, messages)

    monkeypatch.setattr(SqsClient, "send", weighing)
    async with capturing(sqs, queue) as capture:
        await asyncio.gather(*(capture.deliver(f"c{number}", entry(1, "x" * 60_000)) for number in range(10)))
    assert len(received(sqs, queue)) == 10
    assert max(sizes) <= SQS_BYTES_MAX
    assert len(sizes) < 10, "each went alone"


async def test_an_event_that_is_too_long_for_sqs_is_given_up(sqs: Sqs, queue: str) -> None:
    async with capturing(sqs, queue) as capture:
        with pytest.raises(GiveUp, match="longer than the 262144 bytes"):
            await capture.deliver("c", entry(1, "x" * SQS_BYTES_MAX))
        await capture.deliver("c", entry(2))
    assert len(received(sqs, queue)) == 1


async def test_a_fifo_queue_has_each_conversation_in_order_and_once(sqs: Sqs) -> None:
    name = f"events-{uuid.uuid4().hex[:12]}.fifo"
    sqs.create_queue(name)
    async with capturing(sqs, name) as capture:
        for seq in (1, 2, 2, 3):
            await asyncio.gather(*(capture.deliver(each, entry(seq)) for each in ("a", "b")))
    seqs: dict[str, list[int]] = {"a": [], "b": []}
    while messages := await asyncio.to_thread(sqs.receive, name):
        for message in messages:
            body = json.loads(message["Body"])
            assert message["Attributes"]["MessageGroupId"] == body["conversation"]
            seqs[body["conversation"]].append(body["event"]["seq"])
            sqs.delete(name, message)
    assert seqs == {"a": [1, 2, 3], "b": [1, 2, 3]}


async def test_an_sqs_that_is_away_is_tried_later(mortal_sqs: Sqs) -> None:
    mortal_sqs.create_queue("events")
    async with capturing(mortal_sqs, "events") as capture:
        mortal_sqs.kill()
        with pytest.raises(TryLater, match="capture_queue: SQS fails: "):
            await capture.deliver("c", entry(1))
        mortal_sqs.start()
        mortal_sqs.create_queue("events")
        await capture.deliver("c", entry(1))
    assert len(received(mortal_sqs, "events")) == 1
