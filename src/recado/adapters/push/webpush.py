"""Web push: notices that browsers show though no page is open (RFC 8030), encrypted for the one browser (RFC 8291).

Users name the endpoints, so they are called only at public addresses and by TLS, and no redirect is followed. An answer
says all that is to be known by its status; nothing of its body is read.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import Counter
from pywebpush import WebPusher  # type: ignore[import-untyped]

from recado import __version__
from recado.adapters.public_http import NotPublic, open_client, retry_after_s
from recado.adapters.push.limits import WebPushLimits
from recado.adapters.push.vapid import VapidKey
from recado.ports import GiveUp, PushGone, PushSubscription, TryLater

_ANSWERS = Counter("recado_push_answers", "Answers of push services, by status; none if there was none.", ["status"])
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})  # RFC 8030, section 7.3
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_TOKEN_S = 12 * 3600
_RENEWED_BEFORE_S = 3600


class WebPush:
    """A `recado.ports.Push`. Make it inside the running event loop."""

    def __init__(
        self,
        key: VapidKey,
        contact: str,
        limits: WebPushLimits,
        *,
        allow_private: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._contact = contact
        self._limits = limits
        self._schemes = ("https", "http") if allow_private else ("https",)
        self._now = now
        self._calls = asyncio.Semaphore(limits.push_calls_max)
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by origin: the header, and its end
        headers = {
            "User-Agent": f"recado/{__version__}",
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(limits.push_ttl_s),
            "Urgency": "normal",  # RFC 8030, section 5.3: a chat message
        }
        self._http = open_client(limits.push_timeout_s, headers, allow_private=allow_private)

    async def push(self, subscription: PushSubscription, notice: bytes, topic: str) -> None:
        parts = urlsplit(subscription.endpoint)
        if parts.scheme not in self._schemes:
            raise PushGone
        headers = {"Topic": topic, "Authorization": self._authorization(f"{parts.scheme}://{parts.netloc}")}
        async with self._calls:
            await self._call(subscription.endpoint, parts.hostname or "", _encrypted(subscription, notice), headers)

    async def close(self) -> None:
        await self._http.close()

    async def _call(self, endpoint: str, host: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            async with self._http.post(endpoint, data=body, headers=headers, allow_redirects=False) as answer:
                _ANSWERS.labels(str(answer.status)).inc()
                self._judge(host, answer)
        except TimeoutError:
            _ANSWERS.labels("none").inc()
            raise TryLater(f"{host} did not answer within {self._limits.push_timeout_s} s") from None
        except ValueError:  # also UnicodeError: what is no host's name is not even looked up
            _ANSWERS.labels("none").inc()
            raise PushGone from None
        except (aiohttp.ClientError, OSError) as error:
            _ANSWERS.labels("none").inc()
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPublic):
                raise PushGone from None  # no push service has such an address
            raise TryLater(f"{host} could not be called: {type(error).__name__}") from None

    def _judge(self, host: str, answer: aiohttp.ClientResponse) -> None:
        """Raises PushGone, TryLater, GiveUp."""
        status = answer.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status in _GONE:
            raise PushGone
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait_s = retry_after_s(answer.headers, self._now(), self._limits.push_retry_after_s_max)
            raise TryLater(f"{host} answered {status}", wait_s)
        raise GiveUp(f"{host} answered {status}")

    def _authorization(self, origin: str) -> str:
        now = self._now()
        header, ends_at = self._tokens.get(origin, ("", 0.0))
        if ends_at - now < _RENEWED_BEFORE_S:
            ends_at = now + _TOKEN_S
            header = self._key.authorization(origin, self._contact, int(ends_at))
            self._tokens[origin] = (header, ends_at)
        self._tokens.move_to_end(origin)
        if len(self._tokens) > self._limits.push_services_max:
            self._tokens.popitem(last=False)
        return header


def _encrypted(subscription: PushSubscription, notice: bytes) -> bytes:
    keys = {"p256dh": subscription.p256dh, "auth": subscription.auth}
    body: bytes = WebPusher({"endpoint": subscription.endpoint, "keys": keys}).encode(notice)["body"]
    return body
