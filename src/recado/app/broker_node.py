"""`recado broker`, put together: the MQTT server for any topics, its storage, its listeners and the operators' pages.

The storage is read before the first listener opens. Stopping goes the other way round; the pages go last, so that
`/readyz` tells a load balancer that the server is stopping.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import REGISTRY

from recado import __version__
from recado.adapters.broker.sqlite import SqliteStorage
from recado.app import limits as all_limits
from recado.app import logs
from recado.app.access import Tokens
from recado.app.broker_settings import PORTS, BrokerSettings, Transport
from recado.app.config import SettingsError
from recado.app.http_server import naming, serving_http
from recado.app.limits import Limits
from recado.app.metrics import BrokerCollector, SessionsCollector, operators_pages
from recado.broker.acl import Acl, AclError, parse_acl
from recado.broker.hooks import Identity, Refused
from recado.broker.listening import ListenerSettings, listen
from recado.broker.passwords import PasswordChecks, PasswordError, load_passwords
from recado.broker.server import Server
from recado.broker.standalone import StandaloneHooks
from recado.broker.tls import TlsCertificates
from recado.chat.errors import Unauthenticated
from recado.mqtt.reason_codes import ReasonCode

log = structlog.get_logger("recado")
WS_PATH = "/mqtt"
_USER_CHARACTERS_MAX = 256
_FILES_BESIDE_CONNECTIONS = 100


class Files(NamedTuple):
    """Who connects and what they may do; None is what was not named."""

    passwords: dict[str, str] | None
    acl: Acl | None


class BrokerNode:
    """A running server. `ports` has each listener's, by the setting that it has it from."""

    def __init__(
        self,
        settings: BrokerSettings,
        server: Server,
        hooks: StandaloneHooks,
        tokens: Tokens | None,
        storage: SqliteStorage,
    ) -> None:
        self.settings = settings
        self.server = server
        self.ports: dict[str, int] = {}
        self.is_ready = False
        self.certificates = None if settings.tls_cert is None else _certificates(settings.tls_cert, settings.tls_key)
        self._hooks = hooks
        self._storage = storage
        self._keys = None if tokens is None else tokens.keys

    async def unreadiness(self) -> str | None:
        """Why no client should be sent here; None if the server is ready. A storage that failed is tried again."""
        if not self.is_ready:
            return "stopping or starting"
        if self._storage.is_failing:
            self._storage.try_again()
            return f"the database {self.settings.database} cannot be written"
        return None

    async def reload(self, read_settings: Callable[[], BrokerSettings]) -> None:
        """Take up the files and the log level as they are now: all of it or, if anything is wrong, nothing."""
        remains = "all as it was"
        try:
            settings = read_settings()
            files = await asyncio.to_thread(read_files, self.settings)
            keys = None if self._keys is None else await asyncio.to_thread(self._keys.read)
            if self.certificates is not None:
                with _naming_certificates(self.settings.tls_cert, self.settings.tls_key):
                    self.certificates.reload()  # the last that an operator's mistake can stop
            remains = "some as it was: restart the server"
            if keys is not None and self._keys is not None:
                self._keys.use(keys)
            self._take_up(settings, files)
        except SettingsError as error:
            log.error("not_reloaded", error=str(error), remains=remains)  # noqa: TRY400  # one line, no trace
        except Exception as error:  # the next SIGHUP must find somebody who listens
            log.exception("not_reloaded", error=f"{type(error).__name__}: {error}", remains=remains)

    def _take_up(self, settings: BrokerSettings, files: Files) -> None:
        logs.set_level(settings.log_level)
        cut_off = self._hooks.reload(files.passwords, files.acl)
        self.server.permissions_changed()
        for user in cut_off:
            text = "the password was changed or the user removed"
            self.server.disconnect_user(user, ReasonCode.ADMINISTRATIVE_ACTION, text)
        log.info("reloaded", users_cut_off=len(cut_off), after_a_restart=self._other_changes(settings))

    def _other_changes(self, settings: BrokerSettings) -> list[str]:
        """Settings that are not what the server was started with, and that it does not take up while it runs."""
        names = [each.name for each in fields(settings) if each.name != "log_level"]
        return [name for name in names if getattr(settings, name) != getattr(self.settings, name)]


def read_files(settings: BrokerSettings) -> Files:
    """Raises SettingsError."""
    try:
        passwords = None if settings.password_file is None else load_passwords(settings.password_file)
    except PasswordError as error:
        raise SettingsError(str(error)) from None
    acl = None if settings.acl_file is None else _read_acl(settings.acl_file)
    return Files(passwords, acl)


def _read_acl(path: Path) -> Acl:
    try:
        return parse_acl(path.read_text("utf-8-sig"))
    except AclError as error:
        raise SettingsError(f"the ACL file {path}, {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the ACL file {path} is not UTF-8") from None
    except OSError as error:
        raise SettingsError(f"the ACL file {path} cannot be read: {error.strerror}") from None


def _certificates(certificate: Path, key: Path | None) -> TlsCertificates:
    with _naming_certificates(certificate, key):
        return TlsCertificates(certificate, key)


@contextmanager
def _naming_certificates(certificate: Path | None, key: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        if isinstance(error, ssl.SSLError):
            is_mismatch = error.reason == "KEY_VALUES_MISMATCH"
            why = "the key is another certificate's" if is_mismatch else f"no PEM certificate and key ({error.reason})"
        files = f"tls_cert {certificate}" if key is None else f"tls_cert {certificate} and tls_key {key}"
        raise SettingsError(f"{files} cannot be used: {why}") from None


def verify_with(tokens: Tokens) -> Callable[[str], Identity]:
    """Whom a token is for, as the MQTT server asks."""

    def verify_token(token: str) -> Identity:
        try:
            user, expires_at_s = tokens.verify(token)
        except Unauthenticated as error:
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, error.message) from None
        if not (0 < len(user) <= _USER_CHARACTERS_MAX and user.isprintable()):
            text = f"the token's sub must be 1 to {_USER_CHARACTERS_MAX} printable characters"
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, text)
        return Identity(user, expires_at_s)

    return verify_token


@asynccontextmanager
async def running(settings: BrokerSettings) -> AsyncIterator[BrokerNode]:
    """Start everything; at the end of the block, drain and stop it. Raises SettingsError, DatabaseUnusable."""
    settings.check()
    limits = all_limits.with_changes(settings.limit, all_limits.STANDALONE, all_limits.STANDALONE_RELATIONS)
    tokens = Tokens(settings) if settings.secret or settings.jwks else None
    files = read_files(settings)
    async with AsyncExitStack() as stack:
        storage = _open_storage(settings, limits)
        stack.push_async_callback(storage.close)
        hooks = _hooks(settings, tokens, files, limits, stack)
        server = Server(hooks, limits.broker, storage)
        node = BrokerNode(settings, server, hooks, tokens, storage)
        await _serve_operators(node, limits, stack)
        await server.start()
        server.sys_topics.start()
        stack.push_async_callback(server.drain)
        await _listen(node, stack)
        _warn(settings, limits)
        log.info("ready", host=settings.host, **node.ports, **_in_force(settings))
        node.is_ready = True
        yield node
        node.is_ready = False
        log.info("stopping")


def _hooks(
    settings: BrokerSettings, tokens: Tokens | None, files: Files, limits: Limits, stack: AsyncExitStack
) -> StandaloneHooks:
    checks = None
    if files.passwords is not None:
        checks = PasswordChecks(files.passwords, limits.passwords)
        stack.callback(checks.close)
    return StandaloneHooks(
        passwords=checks,
        verify_token=None if tokens is None else verify_with(tokens),
        allow_anonymous=settings.allow_anonymous,
        acl=files.acl,
    )


async def _serve_operators(node: BrokerNode, limits: Limits, stack: AsyncExitStack) -> None:
    settings, server = node.settings, node.server
    for collector in (BrokerCollector(server.counters), SessionsCollector(server)):
        REGISTRY.register(collector)
        stack.callback(REGISTRY.unregister, collector)
    if settings.http_port != "off":
        pages = operators_pages(node.unreadiness)
        serving = serving_http(pages, settings.http_host, settings.http_port, limits, server.deadlines, "http_host")
        node.ports["http_port"] = await stack.enter_async_context(serving)


async def _listen(node: BrokerNode, stack: AsyncExitStack) -> None:
    settings = node.settings
    for setting, transport in PORTS.items():
        port = getattr(settings, setting)
        if port != "off":
            with naming(setting, settings.host, port):
                listening = await listen(node.server, _listener(node, transport, port))
            stack.callback(listening.close)
            node.ports[setting] = listening.port
    if settings.unix_socket is not None:
        with _naming_unix_socket(settings.unix_socket):
            listening = await listen(node.server, _listener(node, "unix", 0))
        stack.callback(listening.close)


def _listener(node: BrokerNode, transport: Transport, port: int) -> ListenerSettings:
    settings = node.settings
    return ListenerSettings(
        transport,
        host=settings.host,
        port=port,
        path=settings.unix_socket or Path(),
        ws_path=WS_PATH,
        allowed_origins=settings.origins(),
        trusts_host_names=not settings.allow_anonymous,
        certificates=node.certificates if transport in ("tls", "wss") else None,
        proxy_protocol=settings.proxy_protocol and transport != "unix",
        connections_max=settings.listener_connections.get(transport),
    )


@contextmanager
def _naming_unix_socket(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"cannot listen on {path}: {why}; name another path with --unix-socket") from None


def _open_storage(settings: BrokerSettings, limits: Limits) -> SqliteStorage:
    path = settings.database_path()
    if path is not None and not path.parent.is_dir():
        raise SettingsError(f"the database {path} cannot be made: there is no folder {path.parent}")
    return SqliteStorage.open(path, limits.storage)


def _in_force(settings: BrokerSettings) -> dict[str, object]:
    """What an operator wants to know first of a server that runs; no secret."""
    paths = {name: getattr(settings, name) for name in ("unix_socket", "password_file", "acl_file", "tls_cert")}
    return {
        "version": __version__,
        "database": settings.database,
        **{name: None if path is None else str(path) for name, path in paths.items()},
        "tokens": bool(settings.secret or settings.jwks),
        "allow_anonymous": settings.allow_anonymous,
    }


def _warn(settings: BrokerSettings, limits: Limits) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.broker.connections_max + _FILES_BESIDE_CONNECTIONS
    if files != resource.RLIM_INFINITY and files < most:
        log.warning(
            "few_open_files",
            ulimit=files,
            connections_max=limits.broker.connections_max,
            why=f"connections beyond the ulimit are not accepted: raise `ulimit -n` to {most}, or lower the limit",
        )
    if settings.is_open_to_strangers():
        log.warning(
            "open_to_strangers",
            host=settings.host,
            why="--allow-anonymous without TLS on an address that others reach: anybody may connect and read along",
        )
