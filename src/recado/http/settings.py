"""What the HTTP door is given by the wiring. The values are chosen in `recado.app`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recado.chat.principal import Principal


class Access(Protocol):
    """Who a token stands for, and new tokens."""

    def authenticate(self, token: str) -> Principal:
        """The caller: a user, or the host itself for the API key. Raises Unauthenticated."""

    def mint(self, user: str, ttl_s: int) -> tuple[str, int]:
        """A user's token and when it expires (ms since the epoch). Raises Invalid if there is no key to sign with."""


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
    pages: Path | None = None
    """The directory of the pages that are served at `/`, None to serve none."""
