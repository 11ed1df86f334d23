"""MQTT over WebSocket: binary frames, subprotocol `mqtt`, and an Origin check, since any web page may try."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from recado.broker.connection import Connection
from recado.broker.server import Server
from recado.broker.tcp import bound_port

_SUBPROTOCOLS = ("mqtt", "mqttv3.1")
# picows gives every connection this much; it grows with a larger frame. Most of an idle connection's memory.
_READ_BUFFER_BYTES = 512


class WsConnection(Connection):
    transport_name = "ws"

    __slots__ = ("_transport",)

    def __init__(self, server: Server, transport: WSTransport) -> None:
        super().__init__(server)
        self._transport = transport
        high = server.limits.send_buffer_bytes_max
        transport.underlying_transport.set_write_buffer_limits(high=high)

    def write(self, data: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, data)  # [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]

    def pause_reading(self) -> None:
        self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.underlying_transport.resume_reading()

    def close_transport(self) -> None:
        self._transport.send_close(WSCloseCode.OK)
        self._transport.disconnect()

    def abort_transport(self) -> None:
        self._transport.disconnect(graceful=False)

    def buffered_bytes(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()


class _Listener(WSListener):
    """What picows calls for one connection."""

    __slots__ = ("_connection", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: WsConnection | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._connection = WsConnection(self._server, transport)
        self._connection.opened()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        connection = self._connection
        if connection is None:
            return
        kind = frame.msg_type
        if kind is WSMsgType.BINARY or kind is WSMsgType.CONTINUATION:
            connection.receive(frame.get_payload_as_bytes())  # [MQTT5-6.0.0-2] [MQTT311-6.0.0-2]
        elif kind is WSMsgType.TEXT:  # [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]
            self._server.counters.refusals["TEXT_FRAME"] += 1
            transport.send_close(WSCloseCode.UNSUPPORTED_DATA)
            transport.disconnect()
        elif kind is WSMsgType.PING:
            if not connection.congested:  # who does not read its pongs gets no more of them
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code is WSCloseCode.NO_INFO else code)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.congest()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writable()


class _Door:
    """Answers each upgrade request: a listener, or a refusal with its reason."""

    def __init__(self, server: Server, path: str, allowed_origins: tuple[str, ...]) -> None:
        self._server = server
        self._path = path
        self._allowed_origins = frozenset(allowed_origins)

    def __call__(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        if request.path.decode("latin-1").partition("?")[0] != self._path:
            return self._refuse(404, f"MQTT over WebSocket is at {self._path}")
        origin = request.headers.get("Origin")
        if origin is not None and not self._allows(origin, request.headers.get("Host", "")):
            return self._refuse(403, "this origin is not allowed: name it in --allowed-origins")
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        chosen = next((name for name in _SUBPROTOCOLS if name in offered), None)
        if chosen is None:
            return self._refuse(400, "offer the WebSocket subprotocol mqtt")  # [MQTT5-6.0.0-3] [MQTT311-6.0.0-3]
        headers = {"Sec-WebSocket-Protocol": chosen}  # [MQTT5-6.0.0-4] [MQTT311-6.0.0-4]
        response = WSUpgradeResponse.create_101_response(headers)
        return WSUpgradeResponseWithListener(response, _Listener(self._server))

    def _allows(self, origin: str, host: str) -> bool:
        """A page of the same host (on any port) may connect, and the origins that the operator named."""
        if origin in self._allowed_origins or "*" in self._allowed_origins:
            return True
        try:
            own = urlsplit(f"//{host}").hostname
            return own is not None and urlsplit(origin).hostname == own
        except ValueError:
            return False

    def _refuse(self, status: int, text: str) -> WSUpgradeResponseWithListener:
        self._server.counters.refusals[f"HANDSHAKE_{status}"] += 1
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        response = WSUpgradeResponse.create_error_response(status, (text + "\n").encode(), headers)
        return WSUpgradeResponseWithListener(response, None)


async def listen_websocket(
    server: Server, host: str, port: int, path: str, allowed_origins: tuple[str, ...]
) -> tuple[asyncio.Server, int]:
    """Listen; port 0 is any free one. Returns the listener and its port."""
    listener = await ws_create_server(
        _Door(server, path, allowed_origins),
        host,
        port,
        websocket_handshake_timeout=server.limits.connect_timeout_s,
        enable_auto_pong=False,
        max_frame_size=server.limits.frame_bytes_max,
        read_buffer_init_size=_READ_BUFFER_BYTES,
        backlog=4096,
    )
    return listener, bound_port(listener)
