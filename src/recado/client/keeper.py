"""The task that keeps a client connected: it connects, pings, renews the token, and connects again.

What the server says when it ends a connection decides: a token that it does not take is replaced once, an end that is
meant (taken over, cut off) or a fault of either side ends the client, and after everything else it connects again,
later each time and at a random moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from recado.client.backoff import Backoff
from recado.client.errors import UNAUTHENTICATED, NotAuthenticated, RecadoError, ending
from recado.client.limits import ClientLimits
from recado.client.link import Ended, Link, Owner
from recado.client.tokens import Tokens
from recado.client.transports import open_transport
from recado.mqtt.reason_codes import ReasonCode

_log = logging.getLogger(__name__)


class _NoToken(Exception):
    """The provider failed; `__cause__` says how."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where, and under which name; `session_expiry_s` is None for a session that ends with its connection."""

    url: str
    tls: ssl.SSLContext | None
    client_id: str
    session_expiry_s: int | None


class Kept(Owner, Protocol):
    """Whose connections these are."""

    def opened(self, link: Link, is_session_present: bool) -> None: ...

    def lost(self) -> None: ...

    def has_doubts(self) -> bool:
        """Whether `check` should be called soon."""

    def check(self) -> None:
        """Time has passed."""


class Keeper:
    """`last_error` is what the last attempt ended with."""

    def __init__(self, kept: Kept, address: Address, tokens: Tokens, limits: ClientLimits) -> None:
        self._kept = kept
        self._address = address
        self._tokens = tokens
        self._limits = limits
        self._backoff = Backoff(limits.backoff_first_s, limits.backoff_max_s, random.random)
        self._refused_tokens = 0
        self._was_open = False
        self.last_error: BaseException | None = None

    async def run(self) -> None:
        """Until an error ends it, which is raised."""
        while True:
            link = await self._connect()
            opened_at = time.monotonic()
            try:
                ended = await self._attend(link)
            finally:
                self._kept.lost()
            if time.monotonic() - opened_at >= self._limits.settled_s:
                self._backoff.reset()
                self._refused_tokens = 0
            _log.info("the connection to %s ended: %s", self._address.url, ended)
            self._learn_from(ended)
            if ended.code not in UNAUTHENTICATED:
                await asyncio.sleep(self._backoff.next_s())

    async def _connect(self) -> Link:
        while True:
            try:
                return await self._attempt()
            except Ended as ended:
                self.last_error = ended
                self._learn_from(ended)
                if ended.code in UNAUTHENTICATED:
                    continue  # with another token, at once
            except _NoToken as error:
                self.last_error = error.__cause__
                if not self._was_open:
                    raise error.__cause__ or error from None
            except ssl.SSLCertVerificationError as error:
                if not self._was_open:
                    raise
                self.last_error = error
            except OSError as error:  # TimeoutError is one
                self.last_error = error
            _log.info("no connection to %s: %s", self._address.url, self.last_error)
            await asyncio.sleep(self._backoff.next_s())

    async def _attempt(self) -> Link:
        token = await self._ask_for_token(self._tokens.current(time.time()))
        address, limits = self._address, self._limits
        link = Link(self._kept, limits)
        try:
            async with asyncio.timeout(limits.connect_s):
                transport = await open_transport(address.url, address.tls, link, limits)
                connack = await link.open(transport, address.client_id, token, address.session_expiry_s)
        except BaseException:
            link.end(None, "given up")
            raise
        self._was_open = True
        self._kept.opened(link, connack.session_present)
        return link

    def _learn_from(self, ended: Ended) -> None:
        """Forget the token if the server does not take it any more. Raises what ends the client."""
        code = ended.code
        if code is None:
            return
        if code is ReasonCode.MAXIMUM_CONNECT_TIME or code in UNAUTHENTICATED:
            self._tokens.forget()
            self._refused_tokens += code in UNAUTHENTICATED
            if self._refused_tokens > 1 or not self._tokens.can_renew():
                raise NotAuthenticated(code, ended.text)
        elif (error := ending(code, ended.text)) is not None:
            raise error

    async def _attend(self, link: Link) -> Ended:
        """Keep the connection alive for as long as it lasts; a token that is on its way does not hold that up."""
        renewing: asyncio.Task[None] | None = None
        try:
            while not link.ended.done():
                renew_at_s = None if renewing is not None else self._tokens.renew_at_s()
                await self._wait_for_duty(link, renewing, renew_at_s)
                link.check()
                self._kept.check()
                if renewing is not None and renewing.done():
                    renewing.result()
                    renewing = None
                elif renew_at_s is not None and time.time() >= renew_at_s:
                    renewing = asyncio.create_task(self._renew(link), name="recado client: token")
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.wait((renewing,))
        return link.ended.result()

    async def _wait_for_duty(self, link: Link, renewing: asyncio.Task[None] | None, renew_at_s: float | None) -> None:
        """Until there may be something to do for the connection, or it is over."""
        loop = asyncio.get_running_loop()
        wait_s = link.next_check_at() - loop.time()
        if renew_at_s is not None:
            wait_s = min(wait_s, renew_at_s - time.time())
        if self._kept.has_doubts():
            wait_s = min(wait_s, self._limits.doubt_s, self._limits.unclaimed_s)
        events: list[asyncio.Future[Any]] = [link.ended, link.nudged]
        if renewing is not None:
            events.append(renewing)
        await asyncio.wait(events, timeout=max(wait_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
        if link.nudged.done():
            link.nudged = loop.create_future()

    async def _renew(self, link: Link) -> None:
        """If there is no new token now, there may be before the old one ends."""
        try:
            link.renew(await self._ask_for_token(self._tokens.next(time.time())))
        except _NoToken as error:
            _log.warning("the token was not renewed: %r", error.__cause__)
            self._tokens.renew_later(time.time() + self._limits.renew_again_s)

    async def _ask_for_token(self, asked: Awaitable[str]) -> str:
        try:
            async with asyncio.timeout(self._limits.token_s) as limit:
                return await asked
        except Exception as error:
            if limit.expired():  # or it is a TimeoutError of the provider's own
                raise _NoToken from RecadoError(f"the token provider took longer than {self._limits.token_s:g} s")
            raise _NoToken from error
