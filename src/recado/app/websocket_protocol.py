"""uvicorn's WebSocket protocol with the bounds that it lacks: what a client may send before it has signed in, how many
fragments and control frames, and how long it may take nothing when the connection is to end.

Its deadlines, those of pings too, are on the MQTT server's one timer. uvicorn has a timer of its own for the answer to
a close frame (ws_close_s), and the application for signing in and for its last words.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import SecurityError
from websockets.frames import CloseCode, Frame
from websockets.http11 import MAX_LINE_LENGTH, Request
from websockets.protocol import State

from recado.app.http_protocol import Bounded, connections_cut, refusal
from recado.app.websocket_pacing import PacedWebSocketProtocol
from recado.http.listening import CUT

_PONG_BUFFERS_MAX = 4
_REFUSALS = {
    "ws_auth_bytes_max": (CloseCode.MESSAGE_TOO_BIG, "before it has signed in a client may send %d bytes"),
    "ws_fragments_max": (CloseCode.MESSAGE_TOO_BIG, "a message may have %d fragments"),
    "ws_control_rate_max": (CloseCode.POLICY_VIOLATION, "a client may send %d pings and pongs a second"),
}


class BoundedWebSocketProtocol(Bounded, PacedWebSocketProtocol):
    """Its first message, by which its client signs in, may be no larger than what a stranger may send altogether. A
    client that sends nothing from one ping to the next is gone. One that takes nothing of what is to be sent before
    the connection ends, whoever ends it, does not keep it open."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.close_timeout = float(self._limits.ws_close_s)
        self._auth_bytes = 0
        self._has_first_message = False
        self._was_heard = True
        self._control_frames = 0
        self._control_tick = 0

    @property
    def _is_ending(self) -> bool:
        return self.close_sent or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=self._limits.http_buffer_bytes_max)
        self._await_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)

    def parse(self, data: bytes) -> None:
        self._was_heard = True
        if self.handshake_complete and not self._has_first_message:
            self._auth_bytes += len(data)
        super().parse(data)
        if not self._has_first_message and self._auth_bytes > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        if self.transport.get_write_buffer_size() > _PONG_BUFFERS_MAX * self._limits.http_buffer_bytes_max:
            self._cut("http_buffer_bytes_max")  # it asks for pongs and reads none

    def refuse_handshake(self, error: Exception) -> None:
        self.handshake_complete = self.close_sent = True
        if isinstance(error, SecurityError):
            text = f"a line of a WebSocket's request may have {MAX_LINE_LENGTH} bytes"
            answer = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", text)
        else:
            answer = refusal(HTTPStatus.BAD_REQUEST, "invalid", "a WebSocket's request is a GET without a body")
        self.transport.write(answer)
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][CUT] = self.transport.abort  # type: ignore[assignment]

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= self._limits.ws_fragments_max:
            self._refuse("ws_fragments_max", self._limits.ws_fragments_max)
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if not self._has_first_message and sum(map(len, self.frames)) > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        elif self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._fail(CloseCode.INVALID_DATA, "a text message is UTF-8")
        else:
            self._has_first_message = True
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self._may_send_control_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._may_send_control_frame():
            super().handle_pong(event)

    def _may_send_control_frame(self) -> bool:
        if self._control_tick != self._deadlines.tick:
            self._control_tick = self._deadlines.tick
            self._control_frames = 0
        self._control_frames += 1
        if self._control_frames > self._limits.ws_control_rate_max:
            self._refuse("ws_control_rate_max", self._limits.ws_control_rate_max)
        return not self.transport.is_closing()

    def _refuse(self, limit: str, number: int) -> None:
        if self.handshake_complete and not self._is_ending:
            connections_cut.labels(limit).inc()
        code, text = _REFUSALS[limit]
        self._fail(code, text % number)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        if not self.handshake_complete:
            self.transport.abort()
        elif not self._is_ending:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def start_keepalive(self) -> None:
        del self.request, self.response  # the handshake is over: 2 KiB that nobody asks for again
        self._deadlines.set(self, self._limits.ws_ping_s)
        self.parse_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._is_ending:
            self._await_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_heard = True  # it reads again
        if not self._is_ending:
            self._deadlines.set(self, self._limits.ws_ping_s)

    def on_deadline(self, tick: int) -> None:
        if self._is_ending:
            self._cut("ws_close_s")
        elif not self.handshake_complete:  # the application has yet to answer
            self._await_end()
        elif not self.writable.is_set():
            self._check_stall()
        else:
            self._check_life()

    def _check_stall(self) -> None:
        if self._has_read_some():
            self._await_reading()
        else:
            self._cut("http_stall_s")

    def _check_life(self) -> None:
        if self._was_heard or self.read_paused:  # what it sends is not read now, for our own reasons
            self._was_heard = False
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._deadlines.set(self, self._limits.ws_ping_s)
        else:
            connections_cut.labels("ws_ping_s").inc()
            self.keepalive_timeout()
            self._await_end()

    # The end, from whichever side it comes

    async def send(self, message: Any) -> None:
        if self.handshake_complete and self._is_ending:
            raise ClientDisconnected  # the application's fault only in uvicorn's eyes: it could not know
        await super().send(message)
        if message["type"] == "websocket.close":
            self._await_end()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._await_end()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._await_end()

    def shutdown(self) -> None:
        """Who has not signed in is told what all the others are, not uvicorn's own 1012."""
        if self.conn.state is State.OPEN:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY})
            self.conn.send_close(CloseCode.GOING_AWAY, "the server is stopping; connect again")
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.handshake_complete  # or uvicorn would say it again, and may not
        super().shutdown()

    def _await_end(self) -> None:
        self._deadlines.set(self, self._limits.ws_close_s)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
