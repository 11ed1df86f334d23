"""The command line: `recado serve`, `demo`, `token`, `backup`.

A wrong or missing setting is one clear line and exit status 2. Ctrl-C and SIGTERM stop a server in order: status 0.
"""

from __future__ import annotations

import asyncio
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
from recado.adapters.store.sqlite import DatabaseUnusable, backup
from recado.app import demo as demonstration
from recado.app import limits as all_limits
from recado.app import logs, wiring
from recado.app.access import JwtAccess
from recado.app.config import DATABASE_PREFIX, Settings, SettingsError
from recado.chat.errors import ChatError

_ENVIRONMENT = cyclopts.config.Env("RECADO_", command=False)
_FILE = cyclopts.config.Toml("recado.toml", use_commands_as_keys=False, must_exist=False)
_GIL_SWITCH_S = 0.001  # the store's threads get their turn within this, also while the loop is busy (Python's is 5 ms)

app = cyclopts.App(
    name="recado",
    help="A self-hosted realtime conversation server.",
    version=__version__,
    config=[_ENVIRONMENT, _FILE],
)
_DEFAULTS = Settings()
AllSettings = Annotated[Settings, Parameter(name="*")]
HiddenSettings = Annotated[Settings, Parameter(name="*", show=False)]


@app.command
def serve(*, settings: AllSettings = _DEFAULTS) -> None:
    """Run the server. It needs RECADO_SECRET in the environment; RECADO_API_KEY lets your back end in."""
    _start(settings)
    _run(_serve(settings))


def _start(settings: Settings) -> None:
    try:
        settings.check()
    except SettingsError as error:
        _fail(str(error))
    logs.set_up(settings.log_format, settings.log_level)


async def _serve(settings: Settings) -> None:
    stopped = _stop_on_signals()
    async with wiring.running(settings):
        await stopped.wait()


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
    settings = replace(settings, secret=keys.secret, database=f"{DATABASE_PREFIX}{data.resolve()}/recado.db")
    _start(replace(settings, log_level="warning") if settings.log_level == _DEFAULTS.log_level else settings)
    _run(_demo(keys, _with_free_ports(settings)))


async def _demo(keys: demonstration.Keys, settings: Settings) -> None:
    stopped = _stop_on_signals()
    async with wiring.running(settings, [demonstration.token_route(keys, settings)]) as node:
        await demonstration.prepare(node)
        console = Console(highlight=False, soft_wrap=True)
        console.print("\n[bold]Recado is running.[/bold] Open each of these in a window of its own:\n")
        for user, url in demonstration.urls(keys, settings.host, node.http_port).items():
            console.print(f"  {user:8} {url}")
        console.print(f"\nMQTT: tcp port {node.mqtt_port}, WebSocket port {node.ws_port}. Ctrl-C stops it.\n")
        await stopped.wait()


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
    limits = all_limits.with_changes(settings.limit).http
    ttl_s = limits.token_ttl_s_default if asked_s is None else asked_s
    if not 1 <= ttl_s <= limits.token_ttl_s_max:
        raise SettingsError(f"ttl_s is 1 to {limits.token_ttl_s_max} seconds, not {ttl_s}")
    return ttl_s


@app.command(name="backup")
def back_up(file: Path, *, settings: HiddenSettings = _DEFAULTS) -> None:
    """Copy the database to a file, also while a server uses it.

    Parameters
    ----------
    file
        Where to put the copy; it must not exist.
    """
    try:
        size = backup(settings.database_path(), file)
    except (SettingsError, DatabaseUnusable) as error:
        _fail(str(error))
    print(f"{file}: {size} bytes, checked")


def _stop_on_signals() -> asyncio.Event:
    """Set once SIGINT or SIGTERM came; from before the start, so that none is lost and none cuts it in the middle."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _run(main: Coroutine[Any, Any, None]) -> None:
    sys.setswitchinterval(_GIL_SWITCH_S)
    try:
        _runner()(main)
    except (SettingsError, DatabaseUnusable) as error:
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
    app()
