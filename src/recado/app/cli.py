"""The command line: `recado serve`, `worker`, `jobs`, `broker`, `demo`, `token`, `passwd`, `backup`, `bench`.

A wrong or missing setting is one clear line and exit status 2. Ctrl-C and SIGTERM stop a server in order: status 0.
SIGHUP has `recado broker` read its files again.
"""

from __future__ import annotations

import asyncio
import gc
import getpass
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import cyclopts
import jwt
from cyclopts import Parameter
from rich.console import Console

from recado import __version__
from recado.adapters.push.vapid import VapidKey
from recado.adapters.store.sqlite import DatabaseUnusable, backup
from recado.app import bench, broker_config, broker_node, jobs, logs, wiring, worker_node
from recado.app import demo as demonstration
from recado.app import limits as all_limits
from recado.app.access import JwtAccess
from recado.app.broker_settings import BrokerSettings
from recado.app.config import DATABASE_PREFIX, Settings, SettingsError, SharedSettings
from recado.app.settings_sources import Environment, File
from recado.broker.passwords import PasswordError, delete_user, set_password
from recado.broker.storage import StorageFailed
from recado.chat.errors import ChatError
from recado.ports import Unusable

_GIL_SWITCH_S = 0.001  # the store's threads get their turn within this, also while the loop is busy (Python's is 5 ms)
# A message makes some forty objects that the collector counts, none of them in a cycle: it took a tenth of the time.
_GC_THRESHOLDS = (20_000, 20, 100)
_ERRORS = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

app = cyclopts.App(
    name="recado",
    help="A self-hosted realtime conversation server.",
    version=__version__,
    config=[Environment(), File()],
    error_console=_ERRORS,
    error_formatter=lambda error: f"recado: {error}",
)
app.command(bench.app)
app.command(broker_config.app)
app.command(jobs.app)
_DEFAULTS = Settings()
_BROKER_DEFAULTS = BrokerSettings()
AllSettings = Annotated[Settings, Parameter(name="*")]
HiddenSettings = Annotated[Settings, Parameter(name="*", show=False)]


@app.command
def serve(*, settings: AllSettings = _DEFAULTS) -> None:
    """Run the server. It needs RECADO_SECRET in the environment; RECADO_API_KEY lets your back end in."""
    _start(settings)
    _run(_serve(settings))


def _start(settings: SharedSettings, check: Callable[[], None] | None = None) -> None:
    try:
        (check or settings.check)()
    except SettingsError as error:
        _fail(str(error))
    logs.set_up(settings.log_format, settings.log_level)


async def _serve(settings: Settings) -> None:
    stop = _Stop()
    async with wiring.running(settings):
        await stop.wait()


@app.command
def worker(*, settings: AllSettings = _DEFAULTS) -> None:
    """Run the jobs behind the commit, beside `recado serve` on the same PostgreSQL and with the same settings."""
    _start(settings, settings.check_without_keys)
    _run(_worker(settings))


async def _worker(settings: Settings) -> None:
    stop = _Stop()
    async with worker_node.running(settings):
        await stop.wait()


@app.command
def broker(*, settings: Annotated[BrokerSettings, Parameter(name="*")] = _BROKER_DEFAULTS) -> None:
    """Run an MQTT server for any topics. It needs --password-file, RECADO_SECRET, --jwks or --allow-anonymous."""
    _start(settings)
    _run(_broker(settings))


async def _broker(settings: BrokerSettings) -> None:
    stop = _Stop()
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    async with broker_node.running(settings) as node:
        reloading = asyncio.create_task(_reload_when(hung_up, node))
        await stop.wait()
        reloading.cancel()


async def _reload_when(hung_up: asyncio.Event, node: broker_node.BrokerNode) -> None:
    while await hung_up.wait():
        hung_up.clear()
        await node.reload(_broker_settings_again)


def _broker_settings_again() -> BrokerSettings:
    """What the command line, the environment and the file say now. Raises SettingsError."""
    try:
        _, bound, _ = app.parse_args(sys.argv[1:], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise SettingsError(str(error)) from None
    settings: BrokerSettings = bound.arguments.get("settings", _BROKER_DEFAULTS)
    settings.check()
    return settings


@app.command
def demo(*, data: Path = Path("demo-data"), settings: AllSettings = _DEFAULTS) -> None:
    """Run a server with a conversation between two people, and print a URL for each.

    Parameters
    ----------
    data
        The folder that keeps the demo's database and keys; a second start goes on with them.
    """
    try:
        keys = demonstration.load_keys(data)
    except SettingsError as error:
        _fail(str(error))
    own = f"{DATABASE_PREFIX}{data.resolve()}/recado.db"
    database = own if settings.database == _DEFAULTS.database else settings.database
    settings = replace(settings, secret=keys.secret, database=database)
    _start(replace(settings, log_level="warning") if settings.log_level == _DEFAULTS.log_level else settings)
    _run(_demo(keys, _with_free_ports(settings)))


async def _demo(keys: demonstration.Keys, settings: Settings) -> None:
    stop = _Stop()
    async with wiring.running(settings, [demonstration.token_route(keys, settings)]) as node:
        await demonstration.prepare(node)
        console = Console(highlight=False, soft_wrap=True)
        console.print("\n[bold]Recado is running.[/bold] Open each of these in a window of its own:\n")
        for user, url in demonstration.urls(keys, settings.host, node.http_port).items():
            console.print(f"  {user:8} {url}")
        own_mqtt = f"tcp port {node.mqtt_port}, WebSocket port {node.ws_port}"
        mqtt = own_mqtt if node.mqtt_port is not None else f"{settings.broker_tcp_url}, {settings.broker_ws_url}"
        console.print(f"\nMQTT: {mqtt}. Ctrl-C stops it.\n")
        await stop.wait()


def _with_free_ports(settings: Settings) -> Settings:
    """So that a newcomer whose machine has an MQTT broker already sees the demo all the same."""
    return replace(
        settings,
        http_port=_free_or(settings.http_port, _DEFAULTS.http_port, settings.host),
        mqtt_port=_free_or(settings.mqtt_port, _DEFAULTS.mqtt_port, settings.host),
        ws_port=_free_or(settings.ws_port, _DEFAULTS.ws_port, settings.host),
    )


def _free_or(port: int, default: int, host: str) -> int:
    """The port, or 0 for any if it was not asked for and is taken."""
    return port if port != default or _is_free(host, port) else 0


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


@app.command
def token(user: str, *, ttl_s: int | None = None, settings: HiddenSettings = _DEFAULTS) -> None:
    """Print a token for a user, signed with RECADO_SECRET.

    Parameters
    ----------
    user
        The user's id in your application.
    ttl_s
        Seconds until it expires.
    """
    try:
        settings.check()
        print(JwtAccess(settings).mint(user, _token_ttl_s(settings, ttl_s))[0])
    except (SettingsError, ChatError, jwt.PyJWTError) as error:
        _fail(str(error))


def _token_ttl_s(settings: Settings, asked_s: int | None) -> int:
    limits = all_limits.with_changes(settings.limit, relations=all_limits.TOKEN_RELATIONS).http
    ttl_s = limits.token_ttl_s_default if asked_s is None else asked_s
    if not 1 <= ttl_s <= limits.token_ttl_s_max:
        raise SettingsError(f"ttl_s is 1 to {limits.token_ttl_s_max} seconds, not {ttl_s}")
    return ttl_s


@app.command
def passwd(file: Path, user: str, *, delete: bool = False) -> None:
    """Write a user's password into a password file, or delete the user. SIGHUP has a running broker read it.

    Parameters
    ----------
    file
        The password file; it is made if there is none.
    user
        The user's name.
    delete
        Delete the user. Otherwise the password is asked for, or read from standard input.
    """
    try:
        if delete:
            delete_user(file, user)
        else:
            set_password(file, user, _asked_password())
    except PasswordError as error:
        _fail(str(error))


def _asked_password() -> str:
    if not sys.stdin.isatty():
        try:
            return sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise PasswordError("a password is UTF-8") from None
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise PasswordError("the two are not the same")
    return password


@app.command(name="push-key")
def push_key() -> None:
    """Make a key for web push: print it as RECADO_PUSH_KEY, and its public part."""
    key = VapidKey.make()
    print(f"RECADO_PUSH_KEY={key}")
    print(f"# public key, as GET /v1/push tells it: {VapidKey(key).public}")


@app.command(name="backup")
def back_up(file: Path, *, settings: HiddenSettings = _DEFAULTS) -> None:
    """Copy the database to a file, also while a server uses it.

    Parameters
    ----------
    file
        Where to put the copy; it must not exist.
    """
    try:
        size = backup(_database_to_copy(settings), file)
    except (SettingsError, DatabaseUnusable) as error:
        _fail(str(error))
    print(f"{file}: {size} bytes, checked")


def _database_to_copy(settings: Settings) -> Path:
    if settings.is_postgres():
        raise SettingsError("`recado backup` copies a database of SQLite: copy one of PostgreSQL with pg_dump")
    path, of_broker = settings.database_path(), _BROKER_DEFAULTS.database_path()
    if not path.exists() and of_broker is not None and of_broker.exists():
        hint = f"if you mean that of `recado broker`, add --database {_BROKER_DEFAULTS.database}"
        raise SettingsError(f"there is no database {path}; {hint}")
    return path


class _Stop:
    """SIGINT and SIGTERM, from before the start: they end a start, which may be waiting for a database, and what has
    started stops in order."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)

    def _stop(self) -> None:
        self._came.set()
        if self._starting is not None:
            self._starting.cancel()

    async def wait(self) -> None:
        """Until one comes; what is awaited before is the start."""
        self._starting = None
        await self._came.wait()


def _run(main: Coroutine[Any, Any, None]) -> None:
    sys.setswitchinterval(_GIL_SWITCH_S)
    gc.freeze()  # what is there by now stays: modules, types, routes
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        _runner()(main)
    except asyncio.CancelledError:  # a signal, while it started
        pass
    except (SettingsError, Unusable, StorageFailed) as error:
        _fail(str(error))


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: asyncio's own loop does the same, slower
        return asyncio.run
    return uvloop.run


def _fail(text: str) -> NoReturn:
    print(f"recado: {text}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    try:
        app()
    except SettingsError as error:  # of the environment or the file
        _fail(str(error))
