"""The ASGI application: routes made from `CALLS`, the pages, and one place where refusals become answers.

Plain ASGI, with no middleware on the way of a call unless CORS is configured: a send costs its route, its token, one
decode, one commit and one encode. An unexpected failure is logged by type and place, without the request's data.
"""

import traceback
from collections.abc import Iterable, Sequence
from itertools import groupby
from time import perf_counter
from typing import Any

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from recado.chat.actions import Chat
from recado.chat.errors import ChatError, NotFound
from recado.chat.feed import Feed
from recado.http import metrics
from recado.http.answer import Answer, send_answer
from recado.http.asked import ANYONE, Asked, ClientGone, decode_body, identify, read_body, read_headers, read_query
from recado.http.call import Call
from recado.http.calls import CALLS
from recado.http.context import Door
from recado.http.openapi import describe
from recado.http.pages import Page, page_answer, read_pages
from recado.http.rabbitmq import rabbitmq_routes
from recado.http.refusals import CODE_OF_STATUS, NoUpgrade, WrongMethod, error_answer, refusal_answer
from recado.http.settings import Access, HttpSettings
from recado.http.streaming import EventStream
from recado.http.websocket import Sockets

log = structlog.get_logger("recado.http")

CORS_MAX_AGE_S = 600
WS_PATH = "/v1/ws"


def create_app(
    chat: Chat, feed: Feed, access: Access, settings: HttpSettings, *, extra_routes: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """The HTTP door. `extra_routes` are tried after the calls and before the pages; a ChatError or HTTPException that
    one raises is answered like a call's."""
    door = Door(chat, feed, access, settings)
    door.openapi = msgspec.json.encode(describe(CALLS, chat.limits, settings))
    routes: list[BaseRoute] = [Route(path, CallsAt(door, path, calls)) for path, calls in _by_path(CALLS)]
    pages = Pages(read_pages(settings.pages))
    routes += [WebSocketRoute(WS_PATH, Sockets(door)), Route(WS_PATH, NotUpgraded())]
    if settings.broker_key is not None:
        routes += rabbitmq_routes(access, settings.broker_key, settings.request_bytes_max)
    router = Router([*routes, *extra_routes], redirect_slashes=False, default=pages)
    app: ASGIApp = Guarded(router) if extra_routes else router
    return _with_cors(app, settings.allowed_origins) if settings.allowed_origins else app


def _by_path(calls: Sequence[Call[Any]]) -> list[tuple[str, list[Call[Any]]]]:
    """The calls of each path together, in the table's order."""
    paths = list(dict.fromkeys(call.path for call in calls))
    ordered = sorted(calls, key=lambda call: paths.index(call.path))
    return [(path, list(group)) for path, group in groupby(ordered, key=lambda call: call.path)]


def _with_cors(app: ASGIApp, origins: Iterable[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        expose_headers=["Retry-After"],
        max_age=CORS_MAX_AGE_S,
    )


class CallsAt:
    """The calls of one path, by method."""

    def __init__(self, door: Door, path: str, calls: Sequence[Call[Any]]) -> None:
        self._door = door
        self._path = path
        self._calls = {call.method: (call, _decoder(call)) for call in calls}
        if "GET" in self._calls:
            self._calls["HEAD"] = self._calls["GET"]
        self._allowed = ", ".join(self._calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        try:
            answer = await self._answer(scope, receive)
            if isinstance(answer, EventStream):
                await answer.run(send)
                metrics.count_request(self._path, scope["method"], 200)
                return
        except ClientGone:
            return
        except ChatError as error:
            answer = refuse(error)
        except Exception as error:  # the server goes on, whatever one call does
            answer = fail(error, self._path, scope["method"])
        await send_answer(send, answer)
        seconds = None if answer.is_held else perf_counter() - started
        metrics.count_request(self._path, scope["method"], answer.status, seconds)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | EventStream:
        known = self._calls.get(scope["method"])
        if known is None:
            raise WrongMethod(self._allowed)
        call, decoder = known
        headers = read_headers(scope)
        principal, token = (ANYONE, "") if call.who == "anyone" else identify(self._door.access, headers)
        query = read_query(scope["query_string"], call.query)
        body = None
        if decoder is not None:
            content = await read_body(receive, headers, self._door.settings.request_bytes_max)
            body = decode_body(decoder.decode, content)
        return await call.handler(self._door, Asked(principal, token, scope["path_params"], query, body, scope))


def _decoder(call: Call[Any]) -> "msgspec.json.Decoder[Any] | None":
    return None if call.body is None else msgspec.json.Decoder(call.body)


class NotUpgraded:
    """Plain requests to the WebSocket's path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = refuse(NoUpgrade())
        await send_answer(send, answer)
        metrics.count_request(WS_PATH, scope["method"], answer.status)


class Pages:
    """The pages, and 404 for every path that is neither a call nor a page."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        started = perf_counter()
        page = self._pages.get(scope["path"])
        if page is None:
            route, answer = metrics.UNKNOWN_ROUTE, refuse(NotFound("there is nothing at this path"))
        elif scope["method"] not in ("GET", "HEAD"):
            route, answer = metrics.PAGES_ROUTE, refuse(WrongMethod("GET, HEAD"))
        else:
            route, answer = metrics.PAGES_ROUTE, page_answer(page, dict(scope["headers"]))
        await send_answer(send, answer)
        metrics.count_request(route, scope["method"], answer.status, perf_counter() - started)


class Guarded:
    """Answers for an application that raised before it answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # has Starlette raise for a wrong method, where it would answer in plain text
        try:
            await self._app(scope, receive, send)
        except ChatError as error:
            await send_answer(send, refuse(error))
        except HTTPException as error:
            await send_answer(send, _http_exception_answer(error))
        except Exception as error:
            await send_answer(send, fail(error, metrics.UNKNOWN_ROUTE, scope["method"]))


def refuse(error: ChatError) -> Answer:
    metrics.count_refusal(error.code)
    return refusal_answer(error)


def fail(error: Exception, route: str, method: str) -> Answer:
    """Our fault. The log gets the kind of error and where it was raised: its text may quote the request."""
    metrics.count_refusal("internal")
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error("http_call_failed", route=route, method=method, error=type(error).__name__, trace=trace)
    return error_answer(500, "internal", "the server failed; the failure is in its log")


def _http_exception_answer(error: HTTPException) -> Answer:
    code = CODE_OF_STATUS.get(error.status_code, "invalid" if error.status_code < 500 else "internal")
    metrics.count_refusal(code)
    answer = error_answer(error.status_code, code, error.detail)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return answer._replace(headers=(*answer.headers, *headers))
