"""A push service and the browsers behind it: it takes what a real one takes (RFC 8030), checks who calls (RFC 8292) and
decrypts as a browser does (RFC 8291), with nothing of the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.services.ports import free_ports
from recado.adapters.push.vapid import VapidKey

_WAIT_S = 20.0
_TOPIC_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


@dataclass
class Browser:
    """One subscription, with the keys that only the browser has."""

    endpoint: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = b"sixteen bytes of"

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def subscription(self) -> dict[str, Any]:
        """What its PushSubscription.toJSON() says."""
        keys = {"p256dh": encoded(self.point), "auth": encoded(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def decrypt(self, body: bytes) -> bytes:
        """RFC 8291, section 3.4, and RFC 8188, section 2.1; of one record."""
        salt, id_length = body[:16], body[20]
        sender, record = body[21 : 21 + id_length], body[21 + id_length :]
        assert int.from_bytes(body[16:20], "big") >= len(record), "more than one record"
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        secret = _hmac(_hmac(self.auth, shared), b"WebPush: info\x00" + self.point + sender + b"\x01")
        pseudo_random_key = _hmac(salt, secret)
        content_key = _hmac(pseudo_random_key, b"Content-Encoding: aes128gcm\x00\x01")[:16]
        nonce = _hmac(pseudo_random_key, b"Content-Encoding: nonce\x00\x01")[:12]
        padded = AESGCM(content_key).decrypt(nonce, record, None).rstrip(b"\x00")
        assert padded[-1:] == b"\x02", "the last record ends in 2"
        return padded[:-1]


@dataclass(frozen=True)
class Call:
    """What came for one browser. `notice` is empty if the service answered with something other than 201."""

    endpoint: str
    status: int
    headers: dict[str, str]
    notice: dict[str, Any]
    at_s: float


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # who called does not wait for the answer any more
            super().handle_error(request, client_address)


PUSH_KEY = VapidKey.make()
PUSH_OPTIONS = (f"--push-key={PUSH_KEY}", "--push-contact=mailto:ops@example.com", "--push-private")
"""What a server is told that is to call the browsers of these tests."""


class PushService:
    """It listens on the loopback interface. `answer` chooses the status, and may wait before it does."""

    def __init__(self) -> None:
        self.browsers: dict[str, Browser] = {}
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.public_key = VapidKey(PUSH_KEY).public
        self.answer: Callable[[str], int] = lambda endpoint: 201
        self.answer_headers: dict[str, str] = {}
        self._changed = threading.Condition()
        (port,) = free_ports(1)
        self.origin = f"http://127.0.0.1:{port}"
        self._server = _Server(("127.0.0.1", port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def subscribe(self, name: str) -> Browser:
        endpoint = f"{self.origin}/push/{name}"
        self.browsers[endpoint] = browser = Browser(endpoint)
        return browser

    def shown(self, browser: Browser) -> list[dict[str, Any]]:
        """The notices that the browser has been given."""
        with self._changed:
            return [call.notice for call in self.calls if call.endpoint == browser.endpoint and call.status == 201]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until a call has made it true."""
        with self._changed:
            assert self._changed.wait_for(condition, _WAIT_S), f"calls: {self.calls}"

    def calls_of(self, browser: Browser) -> list[Call]:
        return [call for call in self.calls if call.endpoint == browser.endpoint]

    def take(self, endpoint: str, headers: dict[str, str], body: bytes) -> int:
        status = self.answer(endpoint)
        notice: dict[str, Any] = {}
        try:
            self._check(headers)
            if status == 201:
                notice = json.loads(self.browsers[endpoint].decrypt(body))
        except Exception as error:  # the test is to see it, not the caller
            self.problems.append(f"{type(error).__name__}: {error}")
            status = 400
        with self._changed:
            self.calls.append(Call(endpoint, status, headers, notice, time.monotonic()))
            self._changed.notify_all()
        return status

    def _check(self, headers: dict[str, str]) -> None:
        assert headers["content-encoding"] == "aes128gcm"
        assert int(headers["ttl"]) > 0, "RFC 8030, section 5.2: it must be there"
        assert len(headers["topic"]) <= 32, "RFC 8030, section 5.4"
        assert _TOPIC_CHARACTERS.issuperset(headers["topic"])
        assert headers["urgency"] in ("very-low", "low", "normal", "high")
        scheme, _, rest = headers["authorization"].partition(" ")
        assert scheme == "vapid"
        parameters = dict(each.strip().split("=", 1) for each in rest.split(","))
        assert self.public_key in (None, parameters["k"])
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(parameters["k"]))
        claims = jwt.decode(parameters["t"], point, ["ES256"], audience=self.origin)
        assert claims["exp"] <= time.time() + 24 * 3600, "RFC 8292, section 2"
        assert claims["sub"].startswith(("mailto:", "https://"))

    def _handler(service) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = service.take(service.origin + self.path, headers, body)
                self.send_response(status)
                for name, value in service.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
