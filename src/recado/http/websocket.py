"""`GET /v1/ws`: events and signals down, acknowledgements and signals up. Messages go up by POST.

The first frame has the token; nothing else is answered before it. One coroutine reads the client's frames, the other
sends what the listener has; a client that does not read holds up its own reading alone, and costs its cursors.
"""

import asyncio
import contextlib
import traceback
from typing import Any, NoReturn

import structlog
from starlette.types import Message, Receive, Scope, Send

from recado.chat import actions
from recado.chat.errors import ChatError, Forbidden, Invalid, NotFound, Unauthenticated
from recado.chat.feed import Stopping
from recado.chat.following import Delivery
from recado.chat.ids import check_id
from recado.chat.listener import Listener
from recado.chat.principal import Principal
from recado.http import metrics
from recado.http.answer import encode_json
from recado.http.asked import ClientGone
from recado.http.context import Door
from recado.http.frames import Ack, Auth, Frame, Read, Subscribe, Typing, decode_frame
from recado.http.listening import last_words, listening, parse_cursor
from recado.http.origins import allows

log = structlog.get_logger("recado.http")

CLOSE_CODES = {
    "invalid": 4400,
    "too_large": 4400,
    "unauthenticated": 4401,
    "forbidden": 4403,
    "rate_limited": 4429,
    "unavailable": 1013,
}
_GOING_AWAY, _FAILED = 1001, 1011
_REASON_BYTES_MAX = 123
_TURN_FRAMES = 100  # are read before the loop's other work has its turn
_FOREVER = float("inf")


class Sockets:
    """The ASGI application behind the path."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_from_here(scope):
            await send({"type": "websocket.close"})  # before it is accepted: 403
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await Socket(self._door, scope, receive, send).run()
        except (ClientGone, OSError):  # OSError is what uvicorn raises for who has gone
            pass
        except ChatError as error:
            await _close(scope, send, error)
        except Exception as error:
            await _fail(scope, send, error)

    def _is_from_here(self, scope: Scope) -> bool:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        return allows(self._door.settings, headers.get(b"origin"), headers.get(b"host", ""))


async def _close(scope: Scope, send: Send, error: ChatError) -> None:
    metrics.count_refusal(error.code)
    code = _GOING_AWAY if isinstance(error, Stopping) else CLOSE_CODES.get(error.code, _FAILED)
    reason = error.message.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
    await _send_close(scope, send, code, reason)


async def _fail(scope: Scope, send: Send, error: Exception) -> None:
    """Our fault. The log gets the kind of error and where it was raised."""
    metrics.count_refusal("internal")
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error("websocket_failed", error=type(error).__name__, trace=trace)
    await _send_close(scope, send, _FAILED, "the server failed")


async def _send_close(scope: Scope, send: Send, code: int, reason: str) -> None:
    with contextlib.suppress(OSError):
        async with last_words(scope):
            await send({"type": "websocket.close", "code": code, "reason": reason})


class Socket:
    """One client's connection, from its first frame to its last."""

    def __init__(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        self._door = door
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(self) -> None:
        """Until the client has gone. Raises the ChatError to close it with."""
        principal = await self._sign_in()
        with listening(self._door, principal, "ws", self._scope) as listener:
            self._principal, self._listener = principal, listener
            await self._tell({"type": "ready", "user": listener.user})
            delivering = asyncio.create_task(self._deliver())
            try:
                await self._read()
            finally:
                delivering.cancel()
                await asyncio.gather(delivering, return_exceptions=True)

    async def _sign_in(self) -> Principal:
        try:
            async with asyncio.timeout(self._door.settings.ws_auth_s):
                frame = await self._next_frame()
        except TimeoutError:
            raise Unauthenticated("no token came in time") from None
        if not isinstance(frame, Auth):
            raise Unauthenticated('the first frame must be {"type":"auth","token":"..."}')
        principal = self._door.access.authenticate(frame.token)
        if principal.user is None:
            raise Forbidden("sign in with a user's token: the host application has none of its own conversations")
        return principal

    # What the client sends

    async def _read(self) -> NoReturn:
        count = 0
        while True:
            await self._take(await self._next_frame())
            count += 1
            if count % _TURN_FRAMES == 0:
                await asyncio.sleep(0)

    async def _next_frame(self) -> Frame:
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise ClientGone
        text = message.get("text")
        if text is None:
            raise Invalid("a frame is JSON in a text frame")
        return decode_frame(text)

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, Subscribe):
            await self._subscribe(frame)
        elif isinstance(frame, Auth):
            self._renew(self._door.access.authenticate(frame.token))
        else:
            try:
                await self._signal(frame)
            except ChatError as error:
                await self._complain(error, frame.conversation)

    def _renew(self, principal: Principal) -> None:
        if principal.user != self._listener.user:
            raise Forbidden("a newer token must be of the same user")
        self._principal = principal
        self._listener.renew(self._door.feed.expiry(principal))

    async def _signal(self, frame: Ack | Read | Typing) -> None:
        chat, conversation = self._door.chat, frame.conversation
        if isinstance(frame, Read):
            await actions.mark_read(chat, self._principal, conversation, frame.seq)
        elif isinstance(frame, Typing):
            await actions.signal_typing(chat, self._principal, conversation)
        else:
            check_id(conversation, "conversation id")
            actions.check_seq(frame.seq, "seq")
            if self._listener.follows(conversation) and await self._is_member(conversation):
                chat.receipts.delivered(self._listener.user, conversation, frame.seq, b"")

    async def _is_member(self, conversation: str) -> bool:
        try:
            return self._listener.user in await self._door.chat.members.members(conversation)
        except NotFound:
            return False

    async def _subscribe(self, frame: Subscribe) -> None:
        if frame.conversations == "*":
            cursor = None if frame.cursor is None else parse_cursor(frame.cursor)
            begins_at = await self._listener.follow_all(cursor)
            await self._tell({"type": "subscribed", "conversations": "*", "cursor": str(begins_at)})
            return
        if isinstance(frame.conversations, str) or frame.cursor is not None:
            raise Invalid('conversations is "*", which may have a cursor, or an object of seqs by conversation id')
        most = self._door.settings.ws_conversations_max
        if self._listener.follows_count + len(frame.conversations) > most:
            raise Invalid(f'a WebSocket follows {most} conversations by name; subscribe to "*" for all')
        begins_at_of: dict[str, int] = {}
        for conversation, after in frame.conversations.items():
            try:
                if after is not None:
                    actions.check_seq(after, "a seq")
                last_seq = await self._listener.follow(conversation, after)
                begins_at_of[conversation] = last_seq if after is None else min(after, last_seq)
            except NotFound as error:
                await self._complain(error, conversation)
        await self._tell({"type": "subscribed", "conversations": begins_at_of})

    async def _complain(self, error: ChatError, conversation: str) -> None:
        metrics.count_refusal(error.code)
        told = {"type": "error", "code": error.code, "message": error.message, "conversation": conversation}
        await self._tell(told)

    # What the client is sent

    async def _deliver(self) -> None:
        """Until there is a reason to close; that ends the reading too."""
        try:
            await self._send_on(self._listener)
        except ChatError as error:
            await _close(self._scope, self._send, error)
        except (ClientGone, OSError):
            pass
        except Exception as error:
            await _fail(self._scope, self._send, error)

    async def _send_on(self, listener: Listener) -> NoReturn:
        while True:
            for delivery in await listener.next(_FOREVER):
                if delivery.conversation not in listener.parted:
                    listener.is_full = True
                    await self._send({"type": "websocket.send", "text": _frame_of(delivery)})
                    listener.is_full = False

    async def _tell(self, told: dict[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": encode_json(told).decode()})


def _frame_of(delivery: Delivery) -> str:
    conversation, payload, seq, cursor = delivery
    kind = "event" if seq else "signal"
    position = "" if cursor is None else f',"cursor":"{cursor}"'
    return f'{{"type":"{kind}","conversation":"{conversation}","{kind}":{payload.decode()}{position}}}'
