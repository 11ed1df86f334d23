"""The settings, each also `RECADO_...` in the environment and a key in `recado.toml`: what `recado serve` and
`recado broker` have in common, and those of `recado serve`.

A flag wins over the environment, and that over the file. docs/configuration.md names every one (a test sees to it).
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import SplitResult, urlsplit

from cyclopts import Parameter

from recado.adapters.broker.mqtt.address import parse_address
from recado.adapters.public_addresses import is_public
from recado.adapters.push.vapid import VapidKey
from recado.adapters.queue.sqs.address import SqsAddress
from recado.ports import Unusable

SECRET_BYTES_MIN = 32
PORT_MAX = 65_535
RETENTION_DAYS_MAX = 36_500
DATABASE_PREFIX = "sqlite:///"
POSTGRES_PREFIXES = ("postgresql://", "postgres://")
# A user, hosts with their ports, a database, and parameters.
_HOST = r"([^@:/?#,\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?"
_POSTGRES_URL = re.compile(rf"postgres(ql)?://([^@/?#]+@)?{_HOST}(,{_HOST})*/[^/?#]+(\?[^#]*)?")
EMBEDDED = "embedded"
DYNAMIC_SECURITY: Final = "dynamic-security"

LogFormat = Literal["json", "console", "auto"]
LogLevel = Literal["debug", "info", "warning", "error"]
BrokerAuth = Literal["http", "dynamic-security"]
Notify = Literal["direct", "worker"]
# `check` looks at what is given, so that a wrong one is named alike, wherever it comes from.
_AS_GIVEN = Parameter(converter=lambda _type, tokens: tokens[0].value)


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it and says what would be right."""


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every one."""

    allowed_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere that may connect, such as https://shop.example.com; * is every one."""

    secret: Annotated[str | None, Parameter(show=False)] = None
    """The key that users' tokens are signed with (HS256), 32 bytes or more. Give it in the environment."""

    jwks: str | None = None
    """Public keys of tokens that your identity provider signs: the URL or the path of a JWKS. Needs both below."""

    jwt_issuer: str | None = None
    """The `iss` that a token must have."""

    jwt_audience: str | None = None
    """The `aud` that a token must have."""

    log_format: Annotated[LogFormat, _AS_GIVEN] = "auto"
    """json, console, or auto: console on a terminal."""

    log_level: Annotated[LogLevel, _AS_GIVEN] = "info"
    """debug, info, warning or error."""

    config: Path | None = None
    """A file with settings, to be read instead of `recado.toml` in the folder where you start."""

    limit: Annotated[dict[str, int], Parameter(name="--limit")] = field(default_factory=dict)
    """Another number for a limit, as --limit.packet_bytes_max 65536; docs/configuration.md lists them."""

    def check(self) -> None:
        """Raises SettingsError for the first thing that is wrong."""
        _check_choices(self)
        _check_token_keys(self)
        for origin in self.origins():
            if origin != "*" and not is_origin(origin):
                raise SettingsError("an allowed origin is https://host[:port], without a user and a path, or *")

    def check_port(self, name: str) -> None:
        port = getattr(self, name)
        if not 0 <= port <= PORT_MAX:
            raise SettingsError(f"{name} is 0 to {PORT_MAX}, not {port}")

    def origins(self) -> tuple[str, ...]:
        """The allowed origins, whether they came as a list or separated by commas."""
        return tuple(origin for each in self.allowed_origins for origin in each.split(",") if origin)


@dataclass(frozen=True, kw_only=True)
class Settings(SharedSettings):
    """Those of `recado serve`."""

    http_port: int = 8000
    """HTTP: the API and the pages. 0 takes any free port, here and below."""

    mqtt_port: int = 1883
    """MQTT over TCP."""

    ws_port: int = 8083
    """MQTT over WebSocket, at the path /mqtt."""

    database: str = "sqlite:///recado.db"
    """Where the conversations are: sqlite:/// and a path, relative to where you start, or absolute with one more /; or
    postgresql://user:password@host/database, which several processes may share."""

    broker: str = EMBEDDED
    """What brings events to MQTT clients: the MQTT server in this process; or mqtt://user:password@host:1883, or
    mqtts://, an external broker."""

    broker_auth: Annotated[BrokerAuth, _AS_GIVEN] = "http"
    """How that broker knows users: http, it asks Recado (RabbitMQ and others); or dynamic-security, Recado makes its
    users (Mosquitto)."""

    broker_ws_url: str | None = None
    """Where clients reach that broker by WebSocket, such as wss://mqtt.example.com/mqtt; several, separated by commas,
    are given to them in turn."""

    broker_tcp_url: str | None = None
    """Where they reach it by TCP, such as mqtts://mqtt.example.com:8883."""

    notify: Annotated[Notify, _AS_GIVEN] = "direct"
    """Who tells that broker of an event. `direct`: the process that committed the event, and a worker if that fails.
    `worker`: workers only."""

    queue: str = EMBEDDED
    """What wakes the workers: the database itself; or sqs:// and a queue of Amazon SQS or of what speaks like it."""

    worker: bool = True
    """Run the jobs of an embedded queue in this process."""

    worker_host: str = "127.0.0.1"
    """Address that `recado worker` listens on; 0.0.0.0 for every one."""

    worker_port: int = 9884
    """HTTP of `recado worker`: /healthz and /readyz for everybody, /metrics for this machine and with the API key."""

    webhook_url: str | None = None
    """Where every event is posted to."""

    webhook_secret: Annotated[str | None, Parameter(show=False)] = None
    """The key that webhooks are signed with, 32 bytes or more. Give it in the environment."""

    webhook_private: bool = False
    """Post webhooks to private and local addresses, too."""

    capture_file: Path | None = None
    """A file that every event is appended to, as a line of JSON."""

    capture_queue: str | None = None
    """An SQS queue that every event is sent to, as --queue."""

    push_key: Annotated[str | None, Parameter(show=False)] = None
    """The private VAPID key of web push, as `recado push-key` prints it. Give it in the environment."""

    push_contact: str | None = None
    """Whom a push service may write to: mailto: and an address, or an https:// URL. Web push needs it."""

    push_private: bool = False
    """Send to push services at private and local addresses, too, also by http://."""

    traces: str | None = None
    """Where traces are sent to: the URL of an OpenTelemetry collector (OTLP over HTTP), such as http://localhost:4318."""

    public_url: str | None = None
    """Where clients reach the server through a proxy, such as https://chat.example.com."""

    pages: bool = True
    """Serve the pages at /."""

    retention_days: int | None = None
    """Erase the bodies of messages older than so many days; their entries stay. Without it they are kept for ever."""

    api_key: Annotated[str | None, Parameter(show=False)] = None
    """What the host application's back end says to be let in, 32 characters or more. Give it in the environment."""

    def check(self) -> None:
        if self.secret is None and self.jwks is None:
            raise SettingsError(
                "RECADO_SECRET is not set: it signs your users' tokens. Make one with\n"
                "  export RECADO_SECRET=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')"
            )
        self.check_without_keys()
        if self.is_broker_external() and self.broker_auth == DYNAMIC_SECURITY and self.secret is None:
            raise SettingsError(f"broker_auth {DYNAMIC_SECURITY} needs RECADO_SECRET: users' passwords follow from it")

    def check_without_keys(self) -> None:
        """Of a process that lets no users in. Raises SettingsError."""
        super().check()
        _check_database(self)
        _check_api_key(self)
        _check_webhook(self)
        _check_queues(self)
        _check_push(self)
        _check_broker(self)
        if self.traces is not None and ((parts := split_http_url(self.traces)) is None or parts.hostname is None):
            raise SettingsError("traces is the http:// or https:// URL of a collector, such as http://localhost:4318")
        if self.public_url is not None and not is_origin(self.public_url):
            raise SettingsError("public_url is https://host[:port] or http://host[:port], without a user and a path")
        if self.retention_days is not None and not 1 <= self.retention_days <= RETENTION_DAYS_MAX:
            raise SettingsError(f"retention_days is 1 to {RETENTION_DAYS_MAX}, not {self.retention_days}")
        for name in ("http_port", "mqtt_port", "ws_port", "worker_port"):
            self.check_port(name)

    def is_postgres(self) -> bool:
        return self.database.startswith(POSTGRES_PREFIXES)

    def is_sqs(self) -> bool:
        return self.queue != EMBEDDED

    def is_broker_external(self) -> bool:
        return self.broker != EMBEDDED

    def database_path(self) -> Path:
        """Of SQLite's. Raises SettingsError."""
        return path_of_database(self.database, f"; or {POSTGRES_PREFIXES[0]}user:password@host/database")


def path_of_database(url: str, or_else: str = "") -> Path:
    """`or_else` says what else may be there. Raises SettingsError, which repeats only a path: any part of a URL
    may be a password."""
    path = url.removeprefix(DATABASE_PREFIX)
    if url == path or path in ("", ":memory:"):
        example = "recado.db" if not url or ":" in url or "@" in url else url
        raise SettingsError(f"database is sqlite:/// and a path, as {DATABASE_PREFIX}{example}{or_else}")
    return Path(path)


def is_origin(url: str) -> bool:
    """Without a user: what is an origin is told to everybody."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # the port is no number, or the address no address
        return False
    return has_host and url in (f"http://{parts.netloc}", f"https://{parts.netloc}")


def _check_choices(settings: SharedSettings) -> None:
    for name, kind in get_type_hints(type(settings)).items():
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        value = getattr(settings, name)
        if choices and value not in choices:
            raise SettingsError(f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")


def _check_token_keys(settings: SharedSettings) -> None:
    if settings.secret is not None and len(settings.secret.encode()) < SECRET_BYTES_MIN:
        raise SettingsError(f"RECADO_SECRET must have at least {SECRET_BYTES_MIN} bytes")
    if settings.jwks is None:
        return
    if not (settings.jwt_issuer and settings.jwt_audience):
        raise SettingsError("jwks needs jwt_issuer and jwt_audience, or any token of that provider would be let in")
    if ":" in settings.jwks.partition("/")[0]:
        parts = split_http_url(settings.jwks)
        if parts is None or parts.hostname is None or "@" in parts.netloc:
            raise SettingsError("jwks is an https:// or http:// URL without a user and a password, or a path")


def _check_database(settings: Settings) -> None:
    """The URL of a server is not repeated: it has a password in it."""
    if not settings.is_postgres():
        settings.database_path()
        return
    if not _POSTGRES_URL.fullmatch(settings.database):
        raise SettingsError(
            "database: a PostgreSQL server's is postgresql://user:password@host:5432/database, with nothing left out "
            "but the port; write %23, %2F, %3A and %40 for #, /, : and @ in a password"
        )


def _check_push(settings: Settings) -> None:
    if settings.push_key is None:
        return
    try:
        VapidKey(settings.push_key)
    except ValueError:
        raise SettingsError("RECADO_PUSH_KEY is no key for web push: `recado push-key` makes one") from None
    contact = settings.push_contact or ""
    parts = split_http_url(contact)
    if not (contact.startswith("mailto:") and "@" in contact) and (parts is None or parts.scheme != "https"):
        raise SettingsError(
            "RECADO_PUSH_KEY needs push_contact, whom a push service may write to: "
            "mailto:ops@example.com or an https:// URL"
        )


def _check_webhook(settings: Settings) -> None:
    """The URL is not repeated: it may have a key in it."""
    if settings.webhook_url is None:
        return
    parts = split_http_url(settings.webhook_url)
    if parts is None or parts.hostname is None:
        raise SettingsError("webhook_url is an http:// or https:// URL, such as https://shop.example.com/recado")
    if "@" in parts.netloc or parts.fragment:
        raise SettingsError("webhook_url has no user, no password and no fragment: the signature says whom it is from")
    if settings.webhook_secret is None or len(settings.webhook_secret.encode()) < SECRET_BYTES_MIN:
        raise SettingsError(f"webhook_url needs RECADO_WEBHOOK_SECRET, with at least {SECRET_BYTES_MIN} bytes")
    if not settings.webhook_private and is_local(parts.hostname):
        raise SettingsError(
            f"webhook_url is at {parts.hostname}, which is no public address: webhook_private lets it be called"
        )


def split_http_url(url: str) -> SplitResult | None:
    """None if it is none."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # the port is no number, or the address no address
        return None
    return parts if is_one else None


def is_host(host: str) -> bool:
    """A name, or an address as it is usually written: 127.1 is neither."""
    return bool(host) and (not host.rpartition(".")[2].isdigit() or is_address(host))


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """What can be told without asking a name server; the rest is told when it is connected to."""
    return host == "localhost" or host.endswith(".localhost") or (is_address(host) and not is_public(host))


def _check_queues(settings: Settings) -> None:
    try:
        if settings.is_sqs() and SqsAddress.parse("queue", settings.queue, f"{EMBEDDED}, or ").is_fifo:
            raise SettingsError(
                "queue: a FIFO queue would let one message wait for another; Recado needs a standard one"
            )
        if settings.capture_queue is not None:
            SqsAddress.parse("capture_queue", settings.capture_queue)
    except Unusable as error:
        raise SettingsError(str(error)) from None
    if settings.capture_queue is not None and settings.capture_queue == settings.queue:
        raise SettingsError("capture_queue must not be the queue that tells workers of their jobs")


def _check_broker(settings: Settings) -> None:
    """The URL is not repeated: it has a password in it."""
    if not settings.is_broker_external():
        _check_no_broker_urls(settings)
        return
    try:
        parse_address(settings.broker)
    except ValueError as error:
        raise SettingsError(f"broker is {EMBEDDED}, or a URL: {error}") from None
    _check_client_url("broker_ws_url", settings.broker_ws_url, ("ws", "wss"), "wss://mqtt.example.com/mqtt")
    _check_client_url("broker_tcp_url", settings.broker_tcp_url, ("mqtt", "mqtts"), "mqtts://mqtt.example.com:8883")


def _check_no_broker_urls(settings: Settings) -> None:
    for name in ("broker_ws_url", "broker_tcp_url"):
        if getattr(settings, name) is not None:
            raise SettingsError(f"{name} is for an external broker: set broker to its URL, or leave {name} out")


def client_urls(setting: str | None) -> tuple[str, ...]:
    """Where clients connect, if they are to: one address, or one of each node."""
    return () if setting is None else tuple(setting.split(","))


def _check_client_url(name: str, setting: str | None, schemes: tuple[str, str], example: str) -> None:
    """What clients are told, so it must not have a password."""
    for url in client_urls(setting):
        try:
            parts = urlsplit(url)
            is_right = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        except ValueError:  # the port is no number
            is_right = False
        if not is_right:
            raise SettingsError(f"{name} is where clients connect, {' or '.join(schemes)}, as {example}")


def _check_api_key(settings: Settings) -> None:
    if settings.api_key is not None and len(settings.api_key) < SECRET_BYTES_MIN:
        raise SettingsError(f"RECADO_API_KEY must have at least {SECRET_BYTES_MIN} characters")
    if settings.api_key is not None and not settings.api_key.isascii():
        raise SettingsError("RECADO_API_KEY must be ASCII")
