"""A webhook against a real receiver: what it is sent, what its answers mean, and which addresses are never called."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest

from recado.adapters.public_http import retry_after_s
from recado.adapters.sinks.webhook import Webhook
from recado.app.limits import DEFAULT
from recado.chat.event import Event
from recado.ports import GiveUp, JobEvent, TryLater
from tests.support.webhook_receiver import Told, WebhookReceiver, receiving

SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
LIMITS = replace(DEFAULT.sinks, webhook_timeout_s=5)
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def webhook(receiver: WebhookReceiver) -> AsyncIterator[Webhook]:
    webhook = Webhook(receiver.url, SECRET, True, LIMITS)
    yield webhook
    await webhook.close()


def entry(seq: int = 42, body: str = "Chegou!") -> JobEvent:
    return JobEvent(Event(seq, "ana", 1_790_000_000_123, id="k3x9", body=body), frozenset({"ana", "bruno"}))


async def refused(webhook: Webhook) -> TryLater | GiveUp:
    with pytest.raises((TryLater, GiveUp)) as raised:
        await webhook.deliver("order-1", entry())
    assert isinstance(raised.value, TryLater | GiveUp)
    return raised.value


async def test_it_posts_the_event_with_the_conversation_and_an_id_of_both(
    webhook: Webhook, receiver: WebhookReceiver
) -> None:
    await webhook.deliver("order-1", entry())
    posted = receiver.next()
    event = {"seq": 42, "from": "ana", "at": 1_790_000_000_123, "id": "k3x9", "body": "Chegou!"}
    assert posted.json == {"id": "order-1:42", "conversation": "order-1", "event": event}
    assert (posted.path, posted.id, posted.headers["Content-Type"]) == ("/hook", "order-1:42", "application/json")


async def test_the_signature_is_of_the_id_the_time_of_this_try_and_the_bytes_of_the_body(
    webhook: Webhook, receiver: WebhookReceiver
) -> None:
    begun = int(time.time())
    await webhook.deliver("order-1", entry(body="ação\n\u2028"))
    posted = receiver.next()
    timestamp = posted.headers["Recado-Webhook-Timestamp"]
    signed = f"order-1:42.{timestamp}.".encode() + posted.body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert posted.headers["Recado-Webhook-Signature"] == f"v1={expected}"
    assert begun <= int(timestamp) <= time.time()


async def test_a_second_try_has_the_same_id(webhook: Webhook, receiver: WebhookReceiver) -> None:
    receiver.answer(Told(500))
    await refused(webhook)
    await webhook.deliver("order-1", entry())
    assert receiver.next().id == receiver.next().id


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_each_answer_of_success_is_one(webhook: Webhook, receiver: WebhookReceiver, status: int) -> None:
    receiver.answer(Told(status))
    await webhook.deliver("order-1", entry())


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504])
async def test_what_the_receivers_operator_can_put_right_is_tried_again(
    webhook: Webhook, receiver: WebhookReceiver, status: int
) -> None:
    receiver.answer(Told(status))
    error = await refused(webhook)
    assert isinstance(error, TryLater)
    assert f"answered {status}" in str(error)


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
async def test_what_says_that_this_event_will_never_be_taken_is_given_up(
    webhook: Webhook, receiver: WebhookReceiver, status: int
) -> None:
    receiver.answer(Told(status))
    assert isinstance(await refused(webhook), GiveUp)


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        *[(429, "7", 7.0), (503, "7", 7.0), (503, "99999999", 3600.0), (503, LONG_AGO, 0.0), (503, "-1", None)],
        *[(503, "soon", None), (503, "", None), (500, "7", None)],
    ],
)
async def test_a_wait_that_is_asked_for_is_waited_within_bounds(
    webhook: Webhook, receiver: WebhookReceiver, status: int, retry_after: str, expected: float | None
) -> None:
    receiver.answer(Told(status, {"Retry-After": retry_after}))
    error = await refused(webhook)
    assert isinstance(error, TryLater)
    assert error.retry_after_s == expected


def test_a_date_is_a_wait_too() -> None:
    headers = {"Retry-After": formatdate(1_000_030, usegmt=True)}
    assert retry_after_s(headers, 1_000_000.0, 60) == 30.0
    assert retry_after_s(headers, 1_000_000.0, 20) == 20.0
    assert retry_after_s(headers, 1_000_040.0, 60) == 0.0


async def test_a_redirect_is_not_followed(webhook: Webhook, receiver: WebhookReceiver) -> None:
    with receiving() as elsewhere:
        receiver.answer(Told(307, {"Location": elsewhere.url}))
        error = await refused(webhook)
        assert elsewhere.posted.empty()
    assert "redirects are not followed" in str(error)


async def test_a_receiver_that_does_not_answer_is_left_after_the_deadline(receiver: WebhookReceiver) -> None:
    never = threading.Event()
    receiver.answer(Told(when=never))
    webhook = Webhook(receiver.url, SECRET, True, replace(LIMITS, webhook_timeout_s=1))
    try:
        assert "did not answer within 1 s" in str(await refused(webhook))
    finally:
        never.set()
        await webhook.close()


async def test_an_answer_counts_once_its_status_is_there_however_its_body_goes_on(receiver: WebhookReceiver) -> None:
    """Else a receiver that has taken the event would get it again and again."""
    webhook = Webhook(receiver.url, SECRET, True, replace(LIMITS, webhook_answer_bytes_max=100))
    try:
        receiver.answer(
            Told(200, body=None), Told(200, body=b"x" * 1_000_000), Told(200, {"Content-Encoding": "gzip"}, b"x")
        )
        for _ in range(4):
            await webhook.deliver("order-1", entry())
    finally:
        await webhook.close()


async def test_where_nobody_listens_is_tried_again_and_said_without_the_url(receiver: WebhookReceiver) -> None:
    webhook = Webhook(f"{receiver.url}?key=of-the-receiver", SECRET, True, LIMITS)
    receiver.close()
    try:
        error = await refused(webhook)
    finally:
        await webhook.close()
    assert isinstance(error, TryLater)
    assert str(error).startswith("127.0.0.1 could not be asked")
    assert "key" not in str(error)


async def test_a_host_that_cannot_be_looked_up_is_tried_again_and_said(receiver: WebhookReceiver) -> None:
    webhook = Webhook("http://a..b/?key=of-the-receiver", SECRET, True, LIMITS)
    try:
        error = await refused(webhook)
    finally:
        await webhook.close()
    assert isinstance(error, TryLater)
    assert str(error) == "a..b is no host's name: webhook_url must have one that can be looked up"


async def test_what_a_receiver_sets_as_a_cookie_is_not_sent_back(webhook: Webhook, receiver: WebhookReceiver) -> None:
    receiver.answer(Told(200, {"Set-Cookie": "a=b"}))
    for _ in range(2):
        await webhook.deliver("order-1", entry())
    assert "Cookie" not in {**receiver.next().headers, **receiver.next().headers}


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001", "0.0.0.0", "[::ffff:127.0.0.1]", "localhost"])
async def test_a_private_address_is_not_called_however_it_is_written(receiver: WebhookReceiver, host: str) -> None:
    webhook = Webhook(f"http://{host}:{receiver.port}/", SECRET, False, LIMITS)
    try:
        error = await refused(webhook)
    finally:
        await webhook.close()
    assert "no public address" in str(error)
    assert receiver.posted.empty()


async def test_a_name_that_comes_to_lead_to_a_private_address_is_not_called(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what a name said when it was looked at before does not count."""
    answers = iter([socket.gaierror("no such name"), "127.0.0.1", "127.0.0.1"])

    def look_up(*asked: object, **options: object) -> list[tuple[object, ...]]:
        answer = next(answers)
        if isinstance(answer, socket.gaierror):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (answer, receiver.port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    webhook = Webhook(f"http://shop.example.com:{receiver.port}/", SECRET, False, LIMITS)
    try:
        assert "could not be asked" in str(await refused(webhook))
        error = await refused(webhook)
    finally:
        await webhook.close()
    assert str(error) == "shop.example.com is 127.0.0.1, which is no public address: webhook_private would let it"
    assert receiver.posted.empty()
