"""Web push against a push service of the tests: what it takes, and what becomes of what it answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from recado.adapters.push.vapid import VapidKey
from recado.adapters.push.webpush import WebPush
from recado.app.limits import DEFAULT
from recado.ports import GiveUp, PushGone, PushSubscription, TryLater
from tests.support.push_service import Browser, PushService, decoded

NOTICE = b'{"conversation":"c","body":"Ol\xc3\xa1"}'
TOPIC = "a-topic_of-32-characters-or-less"
CONTACT = "mailto:ops@example.com"
KEY = VapidKey(VapidKey.make())
Open = Callable[..., WebPush]


@pytest.fixture
def service() -> Iterator[PushService]:
    service = PushService()
    service.public_key = KEY.public
    yield service
    service.close()
    assert service.problems == []


@pytest.fixture
async def open_push() -> AsyncIterator[Open]:
    opened: list[WebPush] = []

    def open_push(now: Callable[[], float] | None = None, *, allow_private: bool = True, **limits: int) -> WebPush:
        clock = {} if now is None else {"now": now}
        web_push = replace(DEFAULT.web_push, **limits)
        opened.append(WebPush(KEY, CONTACT, web_push, allow_private=allow_private, **clock))
        return opened[-1]

    yield open_push
    for push in opened:
        await push.close()


def of(browser: Browser) -> PushSubscription:
    keys = browser.subscription["keys"]
    return PushSubscription(browser.endpoint, keys["p256dh"], keys["auth"])


def test_the_browser_of_the_tests_reads_the_example_of_the_rfc() -> None:
    """RFC 8291, section 5."""
    secret = int.from_bytes(decoded("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), "big")
    browser = Browser("", ec.derive_private_key(secret, ec.SECP256R1()), decoded("BTBZMqHH6r4Tts7J_aSIgg"))
    body = (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz"
        "AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert browser.decrypt(decoded(body)) == b"When I grow up, I want to be a watermelon"


async def test_a_notice_reaches_the_one_browser_that_can_read_it(service: PushService, open_push: Open) -> None:
    ana, bruno = service.subscribe("ana"), service.subscribe("bruno")
    await open_push().push(of(ana), NOTICE, TOPIC)
    (call,) = service.calls
    assert call.notice == {"conversation": "c", "body": "Olá"}
    assert (call.headers["topic"], call.headers["ttl"]) == (TOPIC, str(DEFAULT.web_push.push_ttl_s))
    assert service.shown(bruno) == []


async def test_the_largest_notice_that_every_service_takes_is_taken(service: PushService, open_push: Open) -> None:
    """4,096 bytes of body (RFC 8291, section 4)."""
    ana = service.subscribe("ana")
    notice = b'"' + b"x" * 3_991 + b'"'
    await open_push().push(of(ana), notice, TOPIC)
    assert service.calls[0].headers["content-length"] == "4096"


async def test_a_service_is_told_the_same_token_until_it_nears_its_end(service: PushService, open_push: Open) -> None:
    ana = service.subscribe("ana")
    began_s = time.time() - 11 * 3600  # both tokens hold now
    times = iter([began_s, began_s + 10 * 3600, began_s + 11.5 * 3600])
    push = open_push(lambda: next(times))
    for _ in range(3):
        await push.push(of(ana), NOTICE, TOPIC)
    first, again, renewed = (call.headers["authorization"] for call in service.calls)
    assert first == again
    assert first != renewed


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_service_that_has_taken_it_is_believed(service: PushService, open_push: Open, status: int) -> None:
    service.answer = lambda endpoint: status
    await open_push().push(of(service.subscribe("ana")), NOTICE, TOPIC)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_has_ended_is_gone(service: PushService, open_push: Open, status: int) -> None:
    service.answer = lambda endpoint: status
    with pytest.raises(PushGone):
        await open_push().push(of(service.subscribe("ana")), NOTICE, TOPIC)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 413])
async def test_what_a_service_will_never_take_is_given_up(service: PushService, open_push: Open, status: int) -> None:
    service.answer = lambda endpoint: status
    with pytest.raises(GiveUp, match=rf"127\.0\.0\.1 answered {status}"):
        await open_push().push(of(service.subscribe("ana")), NOTICE, TOPIC)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_what_may_go_better_is_tried_later(service: PushService, open_push: Open, status: int) -> None:
    service.answer = lambda endpoint: status
    with pytest.raises(TryLater, match=rf"127\.0\.0\.1 answered {status}") as later:
        await open_push().push(of(service.subscribe("ana")), NOTICE, TOPIC)
    assert later.value.retry_after_s is None


async def test_a_service_may_name_a_time_but_not_any_time(service: PushService, open_push: Open) -> None:
    service.answer = lambda endpoint: 429
    push, ana = open_push(push_retry_after_s_max=60), of(service.subscribe("ana"))
    named: list[float | None] = []
    for value in ("7", "86400", "soon"):
        service.answer_headers = {"Retry-After": value}
        with pytest.raises(TryLater) as later:
            await push.push(ana, NOTICE, TOPIC)
        named.append(later.value.retry_after_s)
    assert named == [7, 60, None]


async def test_no_redirect_is_followed(service: PushService, open_push: Open) -> None:
    service.answer = lambda endpoint: 307
    service.answer_headers = {"Location": f"{service.origin}/push/elsewhere"}
    with pytest.raises(GiveUp, match="answered 307"):
        await open_push().push(of(service.subscribe("ana")), NOTICE, TOPIC)
    assert len(service.calls) == 1


async def test_who_does_not_answer_is_tried_later(service: PushService, open_push: Open) -> None:
    goes_on = threading.Event()
    service.answer = lambda endpoint: 201 if goes_on.wait(20) else 500
    with pytest.raises(TryLater, match=r"127\.0\.0\.1 did not answer within 1 s"):
        await open_push(push_timeout_s=1).push(of(service.subscribe("ana")), NOTICE, TOPIC)
    goes_on.set()


async def test_a_service_that_is_not_there_is_tried_later(service: PushService, open_push: Open) -> None:
    ana = of(service.subscribe("ana"))
    service.close()
    with pytest.raises(TryLater, match=r"127\.0\.0\.1 could not be called"):
        await open_push().push(ana, NOTICE, TOPIC)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"])
async def test_an_endpoint_at_an_address_that_only_the_server_reaches_is_none(open_push: Open, host: str) -> None:
    """Users name endpoints: none may make the server call its own network."""
    push = open_push(allow_private=False, push_timeout_s=2)
    browser = Browser(f"https://{host}/push/ana")
    with pytest.raises(PushGone):
        await push.push(of(browser), NOTICE, TOPIC)


@pytest.mark.parametrize("host", ["a..b", "...", f"{'a' * 64}.example"])
async def test_an_endpoint_whose_host_cannot_be_looked_up_is_none(open_push: Open, host: str) -> None:
    """The resolver says so with a UnicodeError; one that a user named before such hosts were refused may be stored."""
    with pytest.raises(PushGone):
        await open_push(push_timeout_s=2).push(of(Browser(f"https://{host}/ana")), NOTICE, TOPIC)


async def test_an_endpoint_without_tls_is_none(open_push: Open) -> None:
    """It is not even looked up."""
    with pytest.raises(PushGone):
        await open_push(allow_private=False).push(of(Browser("http://push.example.invalid/ana")), NOTICE, TOPIC)


async def test_no_more_calls_are_under_way_than_there_may_be(service: PushService, open_push: Open) -> None:
    arrived, goes_on = threading.Semaphore(0), threading.Event()

    def answer(endpoint: str) -> int:
        if endpoint.endswith("/probe"):
            return 201
        arrived.release()
        return 201 if goes_on.wait(20) else 500

    service.answer = answer
    push = open_push(push_calls_max=2)
    users = [of(service.subscribe(f"u{number}")) for number in range(8)]
    calls = asyncio.gather(*(push.push(user, NOTICE, TOPIC) for user in users))
    for _ in range(2):
        assert await asyncio.to_thread(arrived.acquire, timeout=20)
    for _ in range(3):  # who calls later has been answered
        await open_push().push(of(service.subscribe("probe")), NOTICE, TOPIC)
    assert not arrived.acquire(blocking=False)
    goes_on.set()
    await calls
