"""The users of a run, in conversations of two, and the tabs that they open."""

from __future__ import annotations

from recado.app.access import JwtAccess
from recado.app.config import Settings
from recado.bench.http_tabs import HttpSender, PollingTab, StreamTab
from recado.bench.mqtt_tab import MqttTab
from recado.bench.radio import Radio
from recado.bench.tabs import Sender, Surroundings, Tab, User
from recado.bench.transports import Transport
from recado.bench.websocket_tab import WebSocketTab

TOKEN_TTL_S = 24 * 3600
# Fractions that no whole number of steps brings back to nearly the same place, and not to each other's.
_GOLDEN = 0.6180339887498949
_SILVER = 0.41421356237309515


def user_name(number: int) -> str:
    return f"user-{number}"


def conversation_of(number: int) -> str:
    return f"order-{1000 + number // 2}"


def conversations(users: int) -> dict[str, list[str]]:
    """The members of each, by its id."""
    return {conversation_of(number): [user_name(number), user_name(number + 1)] for number in range(0, users, 2)}


def make_users(count: int, secret: str, radio_tail_s: float) -> list[User]:
    access = JwtAccess(Settings(secret=secret))
    return [
        User(name, access.mint(name, TOKEN_TTL_S)[0], conversation_of(number), Radio(radio_tail_s))
        for number, name in ((number, user_name(number)) for number in range(count))
    ]


def phase(number: int) -> float:
    """Where in its period somebody does something, 0 to 1: spread evenly, and the same in every run."""
    return number * _GOLDEN % 1


def opening_phase(number: int) -> float:
    """The same for the opening of tabs, which when a tab polls depends on: independent of when its user sends."""
    return number * _SILVER % 1


def make_tab(transport: Transport, user: User, around: Surroundings, number: int) -> Tab:
    """`number` tells a user's tabs apart."""
    if transport.kind == "sse":
        return StreamTab(user, around)
    if transport.kind == "websocket":
        return WebSocketTab(user, around)
    if transport.kind in ("polling", "long-polling"):
        return PollingTab(user, around, holds=transport.kind == "long-polling")
    return MqttTab(user, around, transport, f"{user.name}-{number}")


def make_sender(tab: Tab, user: User, around: Surroundings) -> Sender:
    """The tab itself if its transport carries messages up too."""
    return tab if isinstance(tab, MqttTab) else HttpSender(user, around)
