"""Where a client finds this server: the answer to `GET /v1/session`.

With a public URL the proxy in front carries everything under that one address. Without one, the address is what the
client itself used: the request's Host, whose form is checked so that it cannot carry anything else into the answer.
With an external broker, MQTT's addresses are those that the operator has set, and its users are that broker's.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.types import Scope

from recado.chat.errors import Invalid
from recado.http.asked import Asked
from recado.http.settings import ClientBroker, HttpSettings
from recado.http.shapes import MqttAnswer, SessionAnswer, Topics

TOPICS = Topics(
    subscribe=["c/+", "c/+/live"],
    events="c/{conversation}",
    live="c/{conversation}/live",
    send="c/{conversation}",
)
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII).fullmatch


class Urls(NamedTuple):
    http: str
    ws: str | None
    tcp: str | None


async def session_answer(settings: HttpSettings, user: str, asked: Asked[None]) -> SessionAnswer:
    """Raises Unavailable if the broker that lets the user in cannot be asked."""
    urls = request_urls(settings, asked.scope) if settings.public_url is None else public_urls(settings)
    expires_at_s = asked.principal.expires_at_s
    if settings.broker is None:
        mqtt = MqttAnswer(urls.ws, urls.tcp, user, asked.token, TOPICS)
    else:
        mqtt = await _at_broker(settings.broker, user, asked.token)
    return SessionAnswer(user, None if expires_at_s is None else expires_at_s * 1000, urls.http, mqtt)


async def _at_broker(broker: ClientBroker, user: str, token: str) -> MqttAnswer:
    username, password = await broker.logins.login(user, token)
    return MqttAnswer(*broker.next_urls(), username, password, broker_topics(user))


def broker_topics(user: str) -> Topics:
    """At an external broker every user has topics of its own, which it only reads (DESIGN §4)."""
    events = f"u/{user}/c/{{conversation}}"
    return Topics(subscribe=[f"u/{user}/#"], events=events, live=f"{events}/live", send=None)


def public_urls(settings: HttpSettings) -> Urls:
    """URLs under `public_url`: its host, port and path, with WebSockets secured as it is."""
    url = (settings.public_url or "").rstrip("/")
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    ws = None if settings.ws_port is None else f"{scheme}://{parts.netloc}{parts.path}{settings.ws_path}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Urls(url, ws, None if settings.mqtt_port is None else f"mqtt://{host}:{settings.mqtt_port}")


def request_urls(settings: HttpSettings, scope: Scope) -> Urls:
    """URLs on the host that the request names. Raises Invalid if that is no host name or address."""
    authority = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    match = _HOST(authority)
    if match is None:
        raise Invalid("the Host header must be a host name or an address, and maybe a port")
    host = match[1]
    scheme = "https" if scope.get("scheme") == "https" else "http"
    ws = None if settings.ws_port is None else f"ws://{host}:{settings.ws_port}{settings.ws_path}"
    tcp = None if settings.mqtt_port is None else f"mqtt://{host}:{settings.mqtt_port}"
    return Urls(f"{scheme}://{authority}", ws, tcp)
