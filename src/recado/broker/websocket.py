"""MQTT over WebSocket: binary frames, subprotocol `mqtt`, and an Origin check, since any web page may try.

picows cuts the bytes into frames and takes the mask off. It refuses unmasked frames, unknown opcodes, control frames
that are long or in fragments, lengths not in their shortest form and frames over the limit; reserved bits and the order
of fragments are checked here. No extension is ever agreed on: nothing is decompressed. Frames are written straight to
the transport, which gathers them, where picows would make a system call for each.

picows.ws_create_server would start its own listener, count nothing before the upgrade and know no PROXY header, so its
protocol class is used as it is; pyproject.toml bounds the version.
"""

from __future__ import annotations

import asyncio
import logging
from struct import Struct
from typing import Any, cast
from urllib.parse import urlsplit

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from recado.broker.connection import Connection
from recado.broker.listener import Listener
from recado.broker.server import Server
from recado.broker.tcp import peer_of

_SUBPROTOCOLS = ("mqtt", "mqttv3.1")
# With a plain Logger picows makes one more for each connection, 1.5 KB of an idle one's memory.
_LOGGER = logging.LoggerAdapter(logging.getLogger("picows"), {})

# picows doubles its read buffer whenever one read fills it, and never shrinks it: a flood of small frames would grow it
# as far as the kernel's own buffer does, to megabytes. Reads of this much keep it below 30 KB, but for longer frames.
_READ_BYTES_MAX = 8 * 1024

# Looking a member up in its enumeration costs 40 ns, and each frame needs some.
_BINARY, _CONTINUATION, _TEXT = WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.TEXT
_PING, _CLOSE = WSMsgType.PING, WSMsgType.CLOSE

_FIN = 0x80
_BINARY_HEADS = [bytes((_FIN | 2, size)) for size in range(126)]
_head_16 = Struct(">BBH").pack
_head_64 = Struct(">BBQ").pack


class WsConnection(Connection):
    """`unframed_bytes` came since the last whole frame; counted until CONNECT is accepted."""

    __slots__ = ("_announced", "_socket_write", "_transport", "_ws", "unframed_bytes")

    def __init__(self, server: Server, listener: Listener, peer: str | None = None) -> None:
        super().__init__(server, listener)
        self._announced = peer
        self._ws: WSTransport | None = None
        self.unframed_bytes = 0

    @property
    def peer(self) -> str:
        """The client's address and port, or unix."""
        return self._announced or peer_of(self._transport)

    def made(self, transport: asyncio.Transport) -> None:
        """The transport is open; its client has not asked for the upgrade yet."""
        self._transport = transport
        self._socket_write = transport.write
        transport.set_write_buffer_limits(high=self.server.limits.send_buffer_bytes_max)
        self.opened()

    def upgraded(self, ws: WSTransport) -> None:
        self._ws = ws
        self.unframed_bytes = 0
        ws.request.headers.clear()  # a browser's take 2 KB
        ws.response.headers.clear()

    def write(self, data: bytes) -> None:
        size = len(data)
        if size < 126:  # [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]
            self._socket_write(_BINARY_HEADS[size] + data)
        elif size < 65_536:
            self._socket_write(_head_16(_FIN | 2, 126, size) + data)
        else:
            self._socket_write(_head_64(_FIN | 2, 127, size) + data)

    def pong(self, data: bytes) -> None:
        self._socket_write(bytes((_FIN | 10, len(data))) + data)  # who does not read its pongs is not read either

    def refuse_frames(self, code: WSCloseCode, refusal: str) -> None:
        """The client does not keep to WebSocket, or to MQTT's use of it: say so, and close."""
        self.server.counters.refusals[refusal] += 1
        self.server.refusal_log.of(self, "connection_ended", refusal)
        self.end(code)

    def end(self, code: WSCloseCode) -> None:
        if self._ws is not None and not self.is_closing():
            self._ws.send_close(code)
        self.close()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def close_transport(self) -> None:
        if self._ws is not None:
            self._ws.send_close(WSCloseCode.OK)  # if none was sent yet
        self._transport.close()

    def abort_transport(self) -> None:
        self._transport.abort()

    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size()


class _Frames(WSListener):
    """What picows calls for one connection."""

    __slots__ = ("_connection", "_in_fragments")

    def __init__(self, connection: WsConnection) -> None:
        self._connection = connection
        self._in_fragments = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._connection.upgraded(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        connection = self._connection
        connection.unframed_bytes = 0
        if connection.is_closing():
            return
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:  # no extension was agreed on that would give them a meaning
            connection.refuse_frames(WSCloseCode.PROTOCOL_ERROR, "WEBSOCKET_PROTOCOL_ERROR")
        elif kind is _BINARY or kind is _CONTINUATION:
            if (kind is _CONTINUATION) is not self._in_fragments:
                connection.refuse_frames(WSCloseCode.PROTOCOL_ERROR, "WEBSOCKET_PROTOCOL_ERROR")
                return
            self._in_fragments = not frame.fin
            connection.receive(frame.get_payload_as_bytes())  # [MQTT5-6.0.0-2] [MQTT311-6.0.0-2]
        elif kind is _PING:
            connection.pong(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            code = frame.get_close_code()
            connection.end(WSCloseCode.OK if code is WSCloseCode.NO_INFO else code)
        elif kind is _TEXT:  # [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]
            connection.refuse_frames(WSCloseCode.UNSUPPORTED_DATA, "TEXT_FRAME")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        pass  # the protocol says so, upgraded or not

    def pause_writing(self) -> None:
        self._connection.congest()

    def resume_writing(self) -> None:
        self._connection.writable()


class WsProtocol(WSProtocol):  # type: ignore[misc]
    """picows' protocol for one connection, which counts from the moment that it is accepted."""

    __slots__ = ("_connection", "_unframed_bytes_max")

    def __init__(self, connection: WsConnection, door: Door) -> None:
        limits = connection.server.limits
        super().__init__(
            None,  # host and port, of a client
            None,  # path, of a client
            False,  # it is no client
            lambda request: door.answer(request, connection),
            _LOGGER,
            True,  # an error in `_Frames` ends the connection
            None,  # the server's deadlines bound the handshake, with no timer
            False,  # no pings
            0,
            0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # pongs are ours
            limits.frame_bytes_max,
            None,  # headers, of a client
            0,  # the smallest read buffer that picows has, 2 KB
        )
        self._connection = connection
        self._unframed_bytes_max = limits.connect_bytes_max

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connection.made(cast(asyncio.Transport, transport))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connection.lost()

    def get_buffer(self, size_hint: int) -> memoryview:
        room: memoryview = super().get_buffer(size_hint)
        return room[:_READ_BYTES_MAX]

    def buffer_updated(self, size: int) -> None:
        connection = self._connection
        if connection.session is not None:
            super().buffer_updated(size)
        else:
            # picows keeps a frame until it is whole: a stranger's must not be as long as a client's.
            connection.unframed_bytes += size
            super().buffer_updated(size)
            if connection.unframed_bytes > self._unframed_bytes_max and self._is_upgraded():
                connection.refuse_frames(WSCloseCode.MESSAGE_TOO_BIG, "PACKET_TOO_LARGE")
        if self.transport.is_close_frame_sent and not connection.is_closing():
            # picows found what RFC 6455 forbids, and has said so.
            connection.refuse_frames(WSCloseCode.PROTOCOL_ERROR, "WEBSOCKET_PROTOCOL_ERROR")

    def _is_upgraded(self) -> bool:
        return self.listener is not None


class Door:
    """Answers each upgrade request: frames for the connection, or a refusal with its reason."""

    def __init__(
        self, server: Server, path: str, allowed_origins: tuple[str, ...], *, trusts_host_names: bool = True
    ) -> None:
        self._server = server
        self._path = path
        self._allowed_origins = frozenset(allowed_origins)
        self._trusts_host_names = trusts_host_names

    def answer(self, request: WSUpgradeRequest, connection: WsConnection) -> WSUpgradeResponseWithListener:
        headers = request.headers
        if request.path.decode("latin-1").partition("?")[0] != self._path:
            return self._refuse(connection, 404, f"MQTT over WebSocket is at {self._path}")
        origin = headers.get("Origin")
        if origin is not None and not self._allows(origin, headers.get("Host", "")):
            return self._refuse(connection, 403, "this origin is not allowed: name it in --allowed-origins")
        if headers.get("Sec-WebSocket-Version") != "13":
            return self._refuse(connection, 426, "the version is 13", {"Sec-WebSocket-Version": "13"})
        chosen = next((name for name in _SUBPROTOCOLS if name in _listed(headers, "Sec-WebSocket-Protocol")), None)
        if chosen is None:  # [MQTT5-6.0.0-3] [MQTT311-6.0.0-3]
            return self._refuse(connection, 400, "offer the WebSocket subprotocol mqtt")
        if "upgrade" in [option.lower() for option in _listed(headers, "Connection")]:
            headers["Connection"] = "Upgrade"  # Firefox says keep-alive too, which picows takes for another thing
        # [MQTT5-6.0.0-4] [MQTT311-6.0.0-4]
        response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": chosen})
        return WSUpgradeResponseWithListener(response, _Frames(connection))

    def _allows(self, origin: str, host: str) -> bool:
        """A page of the same host may connect, on any port, and the origins that the operator named. Where nobody signs
        in, a host name proves nothing: any name can be made to resolve to this machine."""
        if origin in self._allowed_origins or "*" in self._allowed_origins:
            return True
        try:
            own = urlsplit(f"//{host}").hostname
            return own is not None and urlsplit(origin).hostname == own and self._is_ours(own)
        except ValueError:
            return False

    def _is_ours(self, host: str) -> bool:
        return self._trusts_host_names or host == "localhost" or host.replace(".", "").isdigit() or ":" in host

    def _refuse(
        self, connection: WsConnection, status: int, text: str, headers: dict[str, str] | None = None
    ) -> WSUpgradeResponseWithListener:
        self._server.counters.refusals[f"HANDSHAKE_{status}"] += 1
        self._server.refusal_log.of(connection, "connection_refused", f"HANDSHAKE_{status}", detail=text)
        told = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
        response = WSUpgradeResponse.create_error_response(status, (text + "\n").encode(), told)
        return WSUpgradeResponseWithListener(response, None)


def _listed(headers: Any, name: str) -> list[str]:
    """The names in a header that is a list, which may come more than once."""
    return [each.strip() for value in headers.getall(name, ()) for each in value.split(",")]
