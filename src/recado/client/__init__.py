"""The Python client: async, typed, over MQTT 5 (TCP, TLS or WebSocket). docs/client.md is its manual.

    async with recado.client.connect("mqtt://127.0.0.1:1883", token) as client:
        await client.send("order-4711", "Chegou!")
        async for event in client.events("order-4711", after=41):
            ...

It imports `recado.mqtt` and nothing else of recado. `connect` and `Client` are the surface; `cursor`, `outbox`,
`backoff` and `tokens` are its rules without I/O, `link` is one connection, `keeper` makes one after the other.
"""

from __future__ import annotations

import ssl

from recado.client.client import Client
from recado.client.errors import (
    Closed,
    Conflict,
    ConversationErased,
    CutOff,
    EventMissing,
    Invalid,
    NotAMember,
    NotAuthenticated,
    ProtocolFailure,
    RecadoError,
    Refused,
    SendTimeout,
    TakenOver,
    TooLarge,
    Unreachable,
)
from recado.client.limits import ClientLimits
from recado.client.reader import Reader
from recado.client.shapes import Event, Signal, new_id
from recado.client.tokens import TokenProvider

__all__ = [
    "Client",
    "ClientLimits",
    "Closed",
    "Conflict",
    "ConversationErased",
    "CutOff",
    "Event",
    "EventMissing",
    "Invalid",
    "NotAMember",
    "NotAuthenticated",
    "ProtocolFailure",
    "Reader",
    "RecadoError",
    "Refused",
    "SendTimeout",
    "Signal",
    "TakenOver",
    "TokenProvider",
    "TooLarge",
    "Unreachable",
    "connect",
    "new_id",
]

_DEFAULT = ClientLimits()


def connect(
    url: str,
    token: str | TokenProvider,
    *,
    session: str | None = None,
    qos: int = 1,
    tls: ssl.SSLContext | None = None,
    limits: ClientLimits = _DEFAULT,
) -> Client:
    """A client for `async with`, which connects it.

    `url` is mqtt://, mqtts://, ws:// or wss://. `token` is a user's token, or a coroutine function that returns one: it
    is asked when one is needed, and before one ends. `session` names a session that the server keeps while the program
    is away. `qos` is that of deliveries: 0, 1 or 2. Raises ValueError.
    """
    if qos not in (0, 1, 2):
        raise ValueError(f"qos is 0, 1 or 2, not {qos}")
    return Client(url, token, session, qos, tls, limits)
