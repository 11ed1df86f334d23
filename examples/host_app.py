"""A host application on one screen: a shop whose buyers and sellers talk about their orders.

Recado keeps the conversations; the shop keeps its users and its orders, and talks to Recado from its back end:

    export RECADO_SECRET=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
    export RECADO_API_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
    recado serve &
    uvicorn --app-dir examples host_app:app --port 8080

Open http://127.0.0.1:8080/?user=ana, place an order, and follow the link to the chat. A real shop knows its user from
its own login; this one believes `?user=`.
"""

import asyncio
import json
import os
import urllib.request
from html import escape
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

RECADO = os.environ.get("RECADO_URL", "http://127.0.0.1:8000")
API_KEY = os.environ["RECADO_API_KEY"]
SELLER = "bruno"
SHOP = "shop"  # the shop itself takes part in every order's conversation, as a user of this name

orders: dict[int, str] = {}  # order number -> buyer; a real shop has a database
numbers = count(4711)


async def recado(method: str, path: str, body: object = None, token: str = API_KEY, user: str | None = None) -> Any:
    """Call Recado: as the host, as the host acting as `user`, or with a user's own token."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if user is not None:
        headers["Recado-User"] = user
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{RECADO}/v1/{path}", content, headers, method=method)  # noqa: S310

    def call() -> Any:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    return await asyncio.to_thread(call)


async def place_order(request: Request) -> Response:
    """An order is placed: open its conversation and greet the buyer. Both calls may be repeated after a failure."""
    buyer = request.query_params["user"]
    number = next(numbers)
    orders[number] = buyer
    about = {"members": [buyer, SELLER, SHOP], "subject": f"Order {number}"}
    await recado("PUT", f"conversations/order-{number}", about)
    received = {"id": "received", "body": "Order received. Bruno is packing it."}
    await recado("POST", f"conversations/order-{number}/messages", received, user=SHOP)
    return RedirectResponse(f"/?user={buyer}", status_code=303)


async def chat(request: Request) -> Response:
    """What a page needs to join an order's chat: the logged-in user's token, and where to connect with it."""
    user, number = request.query_params["user"], request.path_params["number"]
    if user not in (orders.get(number), SELLER):
        return JSONResponse({"error": "no such order of yours"}, 404)
    minted = await recado("POST", "tokens", {"user": user, "ttl_s": 3600})
    session = await recado("GET", "session", token=minted["token"])
    curl = f"curl -H 'Authorization: Bearer {minted['token']}' {RECADO}/v1/conversations/order-{number}/events"
    return JSONResponse({**minted, "session": session, "try": curl}, headers={"Cache-Control": "no-store"})


async def home(request: Request) -> Response:
    user = escape(request.query_params.get("user", "ana"), quote=True)
    rows = [
        f'<li>Order {number}: <a href="/orders/{number}/chat?user={user}">token and URLs for the chat</a></li>'
        for number, buyer in orders.items()
        if user in (buyer, SELLER)
    ]
    return HTMLResponse(
        f"<h1>Shop</h1><p>You are {user}.</p><ul>{''.join(rows)}</ul>"
        f'<form method="post" action="/orders?user={user}"><button>Buy a mug</button></form>'
        f'<p><a href="{RECADO}/">Your messages</a>: sign in there with the token.</p>'
    )


app = Starlette(
    routes=[
        Route("/", home),
        Route("/orders", place_order, methods=["POST"]),
        Route("/orders/{number:int}/chat", chat),
    ]
)
