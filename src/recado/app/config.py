"""The settings, each also `RECADO_...` in the environment and a key in `recado.toml`: what `recado serve` and
`recado broker` have in common, and those of `recado serve`.

A flag wins over the environment, and that over the file. docs/configuration.md names every one (a test sees to it).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

SECRET_BYTES_MIN = 32
PORT_MAX = 65_535
RETENTION_DAYS_MAX = 36_500
DATABASE_PREFIX = "sqlite:///"


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

    log_format: str = "auto"
    """json, console, or auto: console on a terminal."""

    log_level: str = "info"
    """debug, info, warning or error."""

    config: Path | None = None
    """A file with settings, to be read instead of `recado.toml` in the folder where you start."""

    limit: Annotated[dict[str, int], Parameter(name="--limit")] = field(default_factory=dict)
    """Another number for a limit, as --limit.packet_bytes_max 65536; docs/configuration.md lists them."""

    def check(self) -> None:
        """Raises SettingsError for the first thing that is wrong."""
        _check_token_keys(self)
        for origin in self.origins():
            if origin != "*" and not is_origin(origin):
                raise SettingsError(f"an allowed origin is https://host[:port], without a path, not {origin!r}")
        if self.log_format not in ("auto", "json", "console"):
            raise SettingsError(f"log_format is json, console or auto, not {self.log_format!r}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level is debug, info, warning or error, not {self.log_level!r}")

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
    """Where the conversations are: sqlite:/// and a path, relative to where you start, or absolute with one more /."""

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
        super().check()
        self.database_path()
        _check_api_key(self)
        if self.public_url is not None and not is_origin(self.public_url):
            raise SettingsError(f"public_url is https://host or http://host, without a path, not {self.public_url!r}")
        if self.retention_days is not None and not 1 <= self.retention_days <= RETENTION_DAYS_MAX:
            raise SettingsError(f"retention_days is 1 to {RETENTION_DAYS_MAX}, not {self.retention_days}")
        for name in ("http_port", "mqtt_port", "ws_port"):
            self.check_port(name)

    def database_path(self) -> Path:
        return path_of_database(self.database)


def path_of_database(url: str, or_else: str = "") -> Path:
    """`or_else` says what else may be there. Raises SettingsError."""
    path = url.removeprefix(DATABASE_PREFIX)
    if url == path or path in ("", ":memory:"):
        example = "recado.db" if "://" in url or path in ("", ":memory:") else url
        raise SettingsError(f"database is sqlite:/// and a path, as {DATABASE_PREFIX}{example}{or_else}, not {url!r}")
    return Path(path)


def is_origin(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url == f"{parts.scheme}://{parts.netloc}"


def _check_token_keys(settings: SharedSettings) -> None:
    if settings.secret is not None and len(settings.secret.encode()) < SECRET_BYTES_MIN:
        raise SettingsError(f"RECADO_SECRET must have at least {SECRET_BYTES_MIN} bytes")
    if settings.jwks is not None and not (settings.jwt_issuer and settings.jwt_audience):
        raise SettingsError("jwks needs jwt_issuer and jwt_audience, or any token of that provider would be let in")


def _check_api_key(settings: Settings) -> None:
    if settings.api_key is not None and len(settings.api_key) < SECRET_BYTES_MIN:
        raise SettingsError(f"RECADO_API_KEY must have at least {SECRET_BYTES_MIN} characters")
    if settings.api_key is not None and not settings.api_key.isascii():
        raise SettingsError("RECADO_API_KEY must be ASCII")
