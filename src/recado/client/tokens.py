"""Tokens: a text, or a coroutine function that returns one. `sub` and `exp` are read, not verified: the server does it.

Invariant: a token is used until it is about to end or was refused, so that connecting again does not ask the provider.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable

import msgspec

_RENEW_GAP_S = 1.0  # a provider that has no newer token is not asked all the time

TokenProvider = Callable[[], Awaitable[str]]


class _Claims(msgspec.Struct):
    sub: str | None = None
    exp: float | None = None


class Token:
    """`user` and `expires_at_s` (Unix time) are None where the token does not say."""

    def __init__(self, text: str) -> None:
        self.text = text
        claims = _claims(text)
        self.user = claims.sub
        self.expires_at_s = claims.exp


def _claims(text: str) -> _Claims:
    payload = text.split(".")[1:2]
    try:
        return msgspec.json.decode(urlsafe_b64decode(payload[0] + "=="), type=_Claims) if payload else _Claims()
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return _Claims()


class Tokens:
    """The token that holds, and when to get the next one. Times are Unix times in seconds."""

    def __init__(self, source: str | TokenProvider, renew_before_s: float) -> None:
        self._source = source
        self._renew_before_s = renew_before_s
        self._token: Token | None = None
        self._renew_at_s: float | None = None

    @property
    def user(self) -> str | None:
        return None if self._token is None else self._token.user

    def can_renew(self) -> bool:
        return not isinstance(self._source, str)

    def renew_at_s(self) -> float | None:
        """When to renew it on the open connection; None for never."""
        return self._renew_at_s if self.can_renew() else None

    async def current(self, now_s: float) -> str:
        """The token to connect with; the provider is asked only if the last one is no longer good."""
        if self._token is None or (self._renew_at_s is not None and now_s >= self._renew_at_s):
            return await self.next(now_s)
        return self._token.text

    async def next(self, now_s: float) -> str:
        """A new one from the provider; raises what the provider raises."""
        text = self._source if isinstance(self._source, str) else await self._source()
        self._token = Token(text)
        ends_at = self._token.expires_at_s
        if ends_at is not None:
            self._renew_at_s = max(ends_at - min(self._renew_before_s, (ends_at - now_s) / 2), now_s + _RENEW_GAP_S)
        else:
            self._renew_at_s = None
        return text

    def renew_later(self, at_s: float) -> None:
        self._renew_at_s = at_s

    def forget(self) -> None:
        """It was refused."""
        self._token = None
