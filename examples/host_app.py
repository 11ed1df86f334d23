"""A host application on one screen: a shop whose buyers and sellers talk about their orders, on the shop's own pages.

Recado keeps the conversations; the shop keeps its users, and talks to Recado from its back end. In one shell, after
`make demo` has made .venv (and was ended with Ctrl-C):

    . .venv/bin/activate
    export RECADO_SECRET=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
    export RECADO_API_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
    recado serve --allowed-origins http://127.0.0.1:8080 &
    uvicorn --app-dir examples host_app:app --port 8080

Open http://127.0.0.1:8080/?user=ana, buy a mug, open the order; then the same order with ?user=bruno in another window.
The chat on that page is order_page.js. A real shop knows its user from its own login; this one believes `?user=`.
"""

import json
import os
import re
import time
from html import escape
from itertools import count
from pathlib import Path
from typing import Any
from urllib import request as http
from urllib.error import HTTPError

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

RECADO = os.environ.get("RECADO_URL", "http://127.0.0.1:8000")
API_KEY = os.environ["RECADO_API_KEY"]
SELLER = "bruno"
SHOP = "shop"  # the shop itself takes part in every order's conversation, as a user of this name
NAMES = {"ana": "Ana Souza", SELLER: "Bruno Lima", SHOP: "The shop"}  # a real one has them from its own users
HEAD = f'<!doctype html><link rel="icon" href="{escape(RECADO)}/favicon.svg">'

numbers = count(time.time_ns() // 1_000_000)  # by the clock, so that a restart uses no number twice


def recado(method: str, path: str, body: object = None, user: str | None = None) -> Any:
    """Call Recado as the host, or as the host acting as `user`."""
    acting = {} if user is None else {"Recado-User": user}
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json", **acting}
    content = None if body is None else json.dumps(body).encode()
    call = http.Request(f"{RECADO}/v1/{path}", content, headers, method=method)  # noqa: S310
    with http.urlopen(call, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def user_of(request: Request) -> str:
    user = request.query_params.get("user", "ana")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", user):
        raise HTTPException(400, "a user id is 1 to 64 of A-Z a-z 0-9 _ -")
    return user


def order_of(request: Request) -> tuple[str, int]:
    """The user and the number of an order that this user takes part in."""
    user, number = user_of(request), request.path_params["number"]
    if user not in recado("GET", f"conversations/order-{number}")["members"]:
        raise HTTPException(404, "no such order of yours")
    return user, number


def home(request: Request) -> Response:
    user = user_of(request)
    talks = recado("GET", "conversations", user=user)["conversations"]
    orders = [(talk["metadata"]["order"], talk["unread_count"]) for talk in talks if "order" in talk["metadata"]]
    rows = (f'<li><a href="/orders/{order}?user={user}">Order {order}</a>, {new} unread' for order, new in orders)
    buy = f'<form method="post" action="/orders?user={user}"><button>Buy a mug</button></form>'
    return HTMLResponse(f"{HEAD}<h1>Shop</h1><p>You are {NAMES.get(user, user)}.</p>{buy}<ul>{''.join(rows)}</ul>")


def place_order(request: Request) -> Response:
    """An order is placed: open its conversation and greet the buyer. Every call may be repeated after a failure."""
    buyer, number = user_of(request), next(numbers)
    members = sorted({buyer, SELLER, SHOP})
    for user in members:
        recado("PUT", f"users/{user}", {"name": NAMES.get(user)})
    about = {"members": members, "subject": f"Order {number}", "metadata": {"order": number}}
    recado("PUT", f"conversations/order-{number}", about)
    received = {"id": "received", "body": "Order received. Bruno is packing it."}
    recado("POST", f"conversations/order-{number}/messages", received, user=SHOP)
    return RedirectResponse(f"/orders/{number}?user={buyer}", status_code=303)


def order_page(request: Request) -> Response:
    user, number = order_of(request)
    return HTMLResponse(
        f'{HEAD}<body data-recado="{escape(RECADO)}" data-order="{number}" data-user="{user}">'
        f'<h1>Order {number}</h1><p><a href="/?user={user}">Your orders</a></p><ul id="messages"></ul>'
        '<form id="write"><input name="body" aria-label="Message" autocomplete="off"><button>Send</button></form>'
        '<p id="state" role="status"></p><script type="module" src="/order_page.js"></script>'
    )


def token(request: Request) -> Response:
    """The page asks for a token when it starts, and for a new one when that has expired."""
    user, _ = order_of(request)
    minted = recado("POST", "tokens", {"user": user, "ttl_s": 3600})
    return JSONResponse(minted, headers={"Cache-Control": "no-store"})


def refused(_: Request, error: Exception) -> Response:
    """Recado's own words, or that there were none."""
    if not isinstance(error, HTTPError):
        return PlainTextResponse(f"no answer from {RECADO}: {error}", 502)
    return PlainTextResponse(f"Recado: {error}: {error.read().decode()}", 404 if error.code == 404 else 502)


script = Response(Path(__file__).with_name("order_page.js").read_bytes(), media_type="text/javascript")
app = Starlette(
    routes=[
        Route("/", home),
        Route("/orders", place_order, methods=["POST"]),
        Route("/orders/{number:int}", order_page),
        Route("/orders/{number:int}/token", token),
        Route("/order_page.js", script),
    ],
    exception_handlers={OSError: refused},
)
