"""The four ways to the server by URL: mqtt:// (TCP), mqtts:// (TLS), ws:// and wss:// (WebSocket).

A transport calls its `Receiver` with what came, and once with `lost`. Opening raises OSError (ssl.SSLError is one) or
ValueError for a URL that is none of the four.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Protocol, cast
from urllib.parse import urlsplit

import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from recado.client.limits import ClientLimits

_PORTS = {"mqtt": 1883, "mqtts": 8883}
# With a plain Logger picows makes one more for each connection, for ever.
_LOGGER = logging.LoggerAdapter(logging.getLogger("picows"), {})
_SECURE = {"mqtts", "wss"}
_SCHEMES = {*_PORTS, "ws", "wss"}


class Receiver(Protocol):
    def received(self, data: bytes) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def lost(self, error: Exception | None) -> None: ...


class Transport(Protocol):
    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """Let what was written leave, then close."""

    def abort(self) -> None: ...


def check_url(url: str) -> None:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.port == 0:  # reading a bad port raises as well
        raise ValueError(f"a server's URL is mqtt://host, mqtts://host, ws://host/mqtt or wss://host/mqtt, not {url!r}")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("a token is not part of the URL: pass it to connect()")


async def open_transport(url: str, tls: ssl.SSLContext | None, receiver: Receiver, limits: ClientLimits) -> Transport:
    scheme = urlsplit(url).scheme
    context = (tls or ssl.create_default_context()) if scheme in _SECURE else None
    if scheme in _PORTS:
        return await _open_stream(url, context, receiver, limits)
    return await _open_websocket(url, context, receiver, limits)


class _Stream(asyncio.Protocol):
    """TCP or TLS."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.data_received = receiver.received  # type: ignore[method-assign]
        self.pause_writing = receiver.pause_writing  # type: ignore[method-assign]
        self.resume_writing = receiver.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.lost(exc)


async def _open_stream(url: str, context: ssl.SSLContext | None, receiver: Receiver, limits: ClientLimits) -> Transport:
    parts = urlsplit(url)
    assert parts.hostname is not None
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: _Stream(receiver), parts.hostname, parts.port or _PORTS[parts.scheme], ssl=context
    )
    transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
    return cast(Transport, transport)


class _Frames(WSListener):
    """What picows calls for a WebSocket."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in (WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._receiver.received(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._receiver.lost(None)

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()


class _WebSocket:
    def __init__(self, transport: WSTransport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, data)  # [MQTT5-6.0.0-1]

    def close(self) -> None:
        self._transport.send_close()
        self._transport.disconnect()

    def abort(self) -> None:
        self._transport.disconnect(graceful=False)


async def _open_websocket(
    url: str, context: ssl.SSLContext | None, receiver: Receiver, limits: ClientLimits
) -> Transport:
    try:
        transport, _ = await picows.ws_connect(
            lambda: _Frames(receiver),
            url,
            ssl_context=context,
            websocket_handshake_timeout=limits.connect_s,  # to be cancelled does not make picows close its socket
            max_frame_size=limits.packet_bytes_max * 2,
            extra_headers={"Sec-WebSocket-Protocol": "mqtt"},  # [MQTT5-6.0.0-3]
            logger_name=_LOGGER,
            max_redirects=0,  # the token goes to the host that was named
            use_aiofastnet=False,
        )
    except picows.WSError as error:
        raise ConnectionError(f"no WebSocket at {url}: {error}") from error
    if transport.is_disconnected:  # in the handshake, which picows tells nobody
        raise ConnectionError(f"no WebSocket at {url}: the connection was closed")
    transport.underlying_transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
    return _WebSocket(transport)
