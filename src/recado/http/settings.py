"""What the HTTP door is given by the wiring. The values are chosen in `recado.app`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from recado.chat.principal import Principal


class Access(Protocol):
    """Who a token stands for, and new tokens."""

    def authenticate(self, token: str) -> Principal:
        """The caller: a user, or the host itself for the API key. Raises Unauthenticated."""

    def mint(self, user: str, ttl_s: int) -> tuple[str, int]:
        """A user's token and when it expires (ms since the epoch). Raises Invalid if there is no key to sign with."""


class UserLogins(Protocol):
    """How the users of an external broker are let in there."""

    async def login(self, user: str, token: str) -> tuple[str, str]:
        """The user name and the password of CONNECT; `token` is what the user has presented. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class ClientBroker:
    """An external broker, as clients reach it: the addresses of its nodes, or of what is before them; maybe none."""

    ws_urls: tuple[str, ...]
    tcp_urls: tuple[str, ...]
    logins: UserLogins
    _turns: Iterator[int] = field(default_factory=count)

    def next_urls(self) -> tuple[str | None, str | None]:
        """For the next client: every address in its turn, so that who has lost its node goes on at another."""
        turn = next(self._turns)
        ws_url, tcp_url = (urls[turn % len(urls)] if urls else None for urls in (self.ws_urls, self.tcp_urls))
        return ws_url, tcp_url


@dataclass(frozen=True, slots=True)
class HttpSettings:
    public_url: str | None
    """Where clients reach this server through a proxy; None: take the address from each request's Host."""
    allowed_origins: tuple[str, ...]
    """Origins of pages elsewhere that may call (CORS); "*" allows every one."""
    mqtt_port: int | None
    """MQTT over TCP, None if it is off."""
    ws_port: int | None
    """MQTT over WebSocket, None if it is off."""
    ws_path: str
    request_bytes_max: int
    """A whole request body."""
    token_ttl_s_max: int
    token_ttl_s_default: int
    wait_max_s: int
    """The longest that a request may ask to be held."""
    sse_keepalive_s: int
    """After so long without an event, an event stream is sent a comment."""
    sse_retry_ms: int
    ws_auth_s: int
    """From a WebSocket's opening to its first frame."""
    ws_conversations_max: int
    """Conversations that one WebSocket follows by name."""
    broker: ClientBroker | None = None
    """Where MQTT clients connect instead of to this server; then both ports above are None."""
    broker_key: str | None = None
    """What a RabbitMQ says to be answered about its users; None: nobody asks."""
    pages: Path | None = None
    """The directory of the pages that are served at `/`, None to serve none."""
