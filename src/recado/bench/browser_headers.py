"""The requests of a browser, byte for byte: what Chromium 156 sends from a page of the same origin.

Recorded on Linux from `fetch` with an Authorization header, and from `new WebSocket`; only the token, the port and the
key are put in here, and the user agent says Chrome as a window's does, where the recording's said HeadlessChrome. Other
browsers differ by some tens of bytes. A page with cookies sends those as well.
"""

from __future__ import annotations

_USER_AGENT = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
)
_BRAND = 'sec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"'
_PLATFORM = 'sec-ch-ua-platform: "Linux"'
_MOBILE = "sec-ch-ua-mobile: ?0"
_FETCH_SITE = ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty")
_ACCEPTED = ("Accept-Encoding: gzip, deflate, br, zstd", "Accept-Language: en-US,en;q=0.9")
# The browser chooses sixteen random bytes for each connection. The server's proof of them is not checked here.
_WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def get(path: str, port: int, token: str) -> bytes:
    """`fetch(path, {headers: {Authorization}})`."""
    return _head(
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: keep-alive",
        _PLATFORM,
        f"Authorization: Bearer {token}",
        _USER_AGENT,
        _BRAND,
        _MOBILE,
        "Accept: */*",
        *_FETCH_SITE,
        f"Referer: http://127.0.0.1:{port}/",
        *_ACCEPTED,
    )


def get_stream(path: str, port: int, token: str) -> bytes:
    """The same with `Accept: text/event-stream`."""
    return _head(
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: keep-alive",
        _PLATFORM,
        f"Authorization: Bearer {token}",
        _USER_AGENT,
        "Accept: text/event-stream",
        _BRAND,
        _MOBILE,
        *_FETCH_SITE,
        f"Referer: http://127.0.0.1:{port}/",
        *_ACCEPTED,
    )


def post(path: str, port: int, token: str, body: bytes) -> bytes:
    """`fetch(path, {method: "POST", headers: {Authorization, "Content-Type": "application/json"}, body})`."""
    head = _head(
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: keep-alive",
        f"Content-Length: {len(body)}",
        _PLATFORM,
        f"Authorization: Bearer {token}",
        _USER_AGENT,
        _BRAND,
        "Content-Type: application/json",
        _MOBILE,
        "Accept: */*",
        f"Origin: http://127.0.0.1:{port}",
        *_FETCH_SITE,
        f"Referer: http://127.0.0.1:{port}/",
        *_ACCEPTED,
    )
    return head + body


def upgrade(path: str, http_port: int, port: int, subprotocol: str | None = None) -> bytes:
    """`new WebSocket(url, subprotocol)`, from a page of `http_port`."""
    return _head(
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        _USER_AGENT,
        "Upgrade: websocket",
        f"Origin: http://127.0.0.1:{http_port}",
        "Sec-WebSocket-Version: 13",
        *_ACCEPTED,
        f"Sec-WebSocket-Key: {_WEBSOCKET_KEY}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        *(() if subprotocol is None else (f"Sec-WebSocket-Protocol: {subprotocol}",)),
    )


def _head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()
