"""HTTP calls to places that somebody else has named.

The address is checked when a socket is made for it, whatever name led there and however often the name's address
changes: what is checked is what is connected to. Proxies of the environment are not used, and no cookies kept. Whoever
calls follows no redirects.
"""

import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp

from recado.adapters.public_addresses import is_public


class NotPublic(OSError):
    """The name leads to an address that may not be called."""


def open_client(timeout_s: float, headers: Mapping[str, str], *, allow_private: bool) -> aiohttp.ClientSession:
    """How many calls it makes at a time is for who calls to bound."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=None if allow_private else _public_socket),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        auto_decompress=False,
        trust_env=False,
    )


def _public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Raises NotPublic."""
    family, kind, protocol, _, where = address
    if not is_public(str(where[0])):
        raise NotPublic(f"is {where[0]}, which is no public address")
    return socket.socket(family, kind, protocol)


def retry_after_s(headers: Mapping[str, str], now: float, most_s: float) -> float | None:
    """How long an answer asks to wait, in seconds from `now` and at most so many; None if it names no time. RFC 9110
    §10.2.3 has seconds, or a date."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return min(float(value), most_s)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), most_s)
    except (ValueError, OverflowError):
        return None
