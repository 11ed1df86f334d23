"""Posts each event to one URL, signed: docs/webhooks.md is the contract. Only public addresses are called, unless the
operator has allowed others, and redirects are not followed.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import Counter

from recado import __version__
from recado.adapters.public_http import NotPublic, open_client, retry_after_s
from recado.adapters.sinks.limits import SinkLimits
from recado.chat.event import encode_event
from recado.ports import GiveUp, JobEvent, TryLater

_ANSWERS = Counter("recado_webhook_answers", "Answers to webhooks, by status; none if there was no answer.", ["status"])
_BODY_TIMEOUT_S = 1.0
# The receiver has understood, and will not take this event however often it comes.
_NEVER = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
_MAY_NAME_A_TIME = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class Webhook:
    """A `recado.ports.SinkHandler`. Make it inside the running event loop."""

    def __init__(
        self, url: str, secret: str, allow_private: bool, limits: SinkLimits, now: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._host = urlsplit(url).hostname
        self._key = secret.encode()
        self._limits = limits
        self._now = now
        headers = {"User-Agent": f"recado/{__version__}", "Content-Type": "application/json"}
        self._http = open_client(limits.webhook_timeout_s, headers, allow_private=allow_private)

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        webhook_id = f"{conversation}:{entry.event.seq}"
        body = b'{"id":"%b","conversation":"%b","event":%b}' % (
            webhook_id.encode(),
            conversation.encode(),
            encode_event(entry.event),
        )
        headers = signed_headers(self._key, webhook_id, int(self._now()), body)
        try:
            async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                _ANSWERS.labels(str(answer.status)).inc()
                await self._read_little(answer)
                self._judge(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            _ANSWERS.labels("none").inc()
            raise TryLater(self._why(error)) from None

    async def close(self) -> None:
        await self._http.close()

    async def _read_little(self, answer: aiohttp.ClientResponse) -> None:
        """So that the connection can be used again; one whose answer goes on and on is closed. What it says, or that it
        breaks off, does not count any more: the status was the answer."""
        left = self._limits.webhook_answer_bytes_max
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                while left > 0 and (part := await answer.content.read(left)):
                    left -= len(part)

    def _judge(self, answer: aiohttp.ClientResponse) -> None:
        """Raises TryLater, GiveUp."""
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        said = f"{self._host} answered {answer.status}"
        if answer.status in _NEVER:
            raise GiveUp(f"{said}: it will not take this event")
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            raise TryLater(f"{said}: redirects are not followed, webhook_url is to be the URL itself")
        most_s = self._limits.webhook_retry_after_s_max
        is_asked_for = answer.status in _MAY_NAME_A_TIME
        raise TryLater(said, retry_after_s(answer.headers, self._now(), most_s) if is_asked_for else None)

    def _why(self, error: Exception) -> str:
        """Without the URL, which may have a key in it."""
        if isinstance(error, TimeoutError):
            return f"{self._host} did not answer within {self._limits.webhook_timeout_s} s"
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPublic):
            return f"{self._host} {error.os_error}: webhook_private would let it"
        if isinstance(error, UnicodeError):
            return f"{self._host} is no host's name: webhook_url must have one that can be looked up"
        return f"{self._host} could not be asked: {type(error).__name__}"


def signed_headers(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """`timestamp` is in seconds since the epoch, of this attempt."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return {
        "Recado-Webhook-Id": webhook_id,
        "Recado-Webhook-Timestamp": str(timestamp),
        "Recado-Webhook-Signature": f"v1={hmac.new(key, signed, hashlib.sha256).hexdigest()}",
    }
