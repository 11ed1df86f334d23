"""The architecture as tables: which layer may import which, which modules are pure, and where drivers live.

Every import counts: absolute or relative, at the top, inside a function, under TYPE_CHECKING, or by importlib with a
literal name. A breach names its file and line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# The first pattern that matches a module names its layer.
LAYERS = [
    ("recado.mqtt", "mqtt"),
    ("recado.chat.actions*", "chat actions"),
    ("recado.chat.feed", "chat actions"),
    ("recado.chat.jobs", "chat actions"),
    ("recado.chat.following", "chat actions"),
    ("recado.chat.listener", "chat actions"),
    ("recado.chat.membership", "chat actions"),
    ("recado.chat.people", "chat actions"),
    ("recado.chat.presence", "chat actions"),
    ("recado.chat.push_subscription", "chat actions"),
    ("recado.chat.receipts", "chat actions"),
    ("recado.chat.stages", "chat actions"),
    ("recado.chat.wheel", "chat actions"),
    ("recado.chat", "chat rules"),
    ("recado.ports", "ports"),
    ("recado.grouping", "grouping"),
    ("recado.adapters.broker", "adapters/broker"),
    ("recado.adapters", "adapters"),
    ("recado.broker", "broker"),
    ("recado.client", "client"),
    ("recado.http", "http"),
    ("recado.worker", "worker"),
    ("recado.app", "app"),
    ("recado.__main__", "app"),
    ("recado.bench", "bench"),
    ("recado.web", "web"),
]

EVERYTHING = {layer for _, layer in LAYERS}
CHAT = {"chat rules", "chat actions"}

# A layer may import itself, the version in recado/__init__.py, and:
MAY_IMPORT: dict[str, set[str]] = {
    "mqtt": set(),
    "chat rules": set(),
    "ports": CHAT,
    "chat actions": {"chat rules", "ports"},
    "grouping": set(),
    "worker": {*CHAT, "ports", "grouping"},
    "broker": {"mqtt"},
    "client": {"mqtt"},
    "http": CHAT,
    "adapters": {*CHAT, "ports", "grouping"},
    "adapters/broker": {*CHAT, "ports", "grouping", "adapters", "broker", "mqtt"},
    "web": set(),
    "app": EVERYTHING,
    "bench": EVERYTHING,
}

# No clock, no randomness, no I/O and no concurrency: bytes, values and `now` come in as arguments.
PURE_LAYERS = {"mqtt", "chat rules"}
IMPURE = {
    *("asyncio", "concurrent", "contextvars", "multiprocessing", "queue", "sched", "signal", "subprocess", "threading"),
    *("http", "os", "pathlib", "selectors", "shutil", "socket", "socketserver", "ssl", "sys", "tempfile", "urllib"),
    *("datetime", "random", "secrets", "time", "uuid"),
    *("logging", "structlog", "prometheus_client", "picows", "uvicorn", "starlette", "uvloop"),
}

DRIVER_LAYERS = {"adapters", "adapters/broker"}
DRIVERS = {
    *("aiosqlite", "apsw", "asyncpg", "psycopg", "psycopg2", "sqlalchemy", "sqlite3"),
    *("aio_pika", "aiobotocore", "boto3", "botocore", "kafka", "nats", "pika", "redis"),
    *("aiohttp", "aiomqtt", "gmqtt", "httpx", "opentelemetry", "paho", "pywebpush", "requests"),
}


class Import(NamedTuple):
    """`name` is the dotted name that was asked for; of `from m import n` it is m.n, which may be a module or not."""

    name: str
    line: int


def layer_of(module: str) -> str | None:
    """Return the module's layer; None for recado itself (the version) and for what is not ours."""
    for pattern, layer in LAYERS:
        if fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*"):
            return layer
    return None


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (Import(alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=named, names=names, level=level):
                base = absolute(named, level, module, is_package)
                yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                match node.args:
                    case [ast.Constant(value=str(name)), *_]:
                        yield Import(name, node.lineno)


def absolute(named: str | None, level: int, module: str, is_package: bool) -> str:
    """Return what `from <level dots><named>` names, seen from `module`."""
    if level == 0:
        return named or ""
    parts = module.split(".")
    kept = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*kept, *([named] if named else [])])


def breaches(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return what the module breaks, each with its line."""
    layer = layer_of(module)
    if layer is None:
        return [] if module == "recado" else [f"{module} is in no layer: name its layer in tests/test_layers.py"]
    found: list[str] = []
    for imported in imports(source, module, is_package):
        top, target = imported.name.split(".")[0], layer_of(imported.name)
        if target not in {None, layer, *MAY_IMPORT[layer]}:
            found.append(f"{module}:{imported.line}: {layer} imports {imported.name} ({target})")
        if layer in PURE_LAYERS and top in IMPURE:
            found.append(f"{module}:{imported.line}: {layer} is pure, but imports {imported.name}")
        if layer not in DRIVER_LAYERS and top in DRIVERS:
            found.append(f"{module}:{imported.line}: {imported.name} is a driver: its home is adapters/")
    if layer in PURE_LAYERS:
        found += [f"{module}:{line}: {layer} is pure, but has a coroutine" for line in coroutines(source)]
    return found


def coroutines(source: str) -> list[int]:
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, asynchronous)]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_what_its_layer_may_not() -> None:
    found: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        found += breaches(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py")
    assert not found, "\n".join(found)


def test_every_layer_of_the_table_has_its_rule() -> None:
    assert set(MAY_IMPORT) == EVERYTHING


BREACHES = [
    ("recado.mqtt.codec", "import recado.chat", "mqtt imports recado.chat"),
    ("recado.mqtt.codec", "from ..chat import message", "mqtt imports recado.chat.message"),
    ("recado.mqtt.codec", "import asyncio", "mqtt is pure, but imports asyncio"),
    ("recado.mqtt.codec", "def now():\n    from time import monotonic", ":2: mqtt is pure, but imports time.monotonic"),
    ("recado.mqtt.codec", "async def read(): ...", "mqtt is pure, but has a coroutine"),
    ("recado.chat.message", "from recado.ports import Store", "chat rules imports recado.ports.Store"),
    ("recado.chat.message", "from . import actions", "chat rules imports recado.chat.actions"),
    ("recado.chat.policy", "import random", "chat rules is pure, but imports random"),
    ("recado.chat.actions", "from recado.adapters.store import sqlite", "chat actions imports recado.adapters.store"),
    ("recado.chat.actions", "from recado.http import door", "chat actions imports recado.http.door"),
    ("recado.ports", "import recado.adapters", "ports imports recado.adapters"),
    ("recado.broker.connection", "from recado.chat import event", "broker imports recado.chat.event"),
    ("recado.broker.connection", "from recado import chat", "broker imports recado.chat"),
    ("recado.http.door", "from recado.ports import Store", "http imports recado.ports.Store"),
    ("recado.http.door", "from recado.app import config", "http imports recado.app.config"),
    ("recado.http.door", "if TYPE_CHECKING:\n    import recado.broker", ":2: http imports recado.broker"),
    ("recado.adapters.store.sqlite", "from recado.mqtt import codec", "adapters imports recado.mqtt.codec"),
    ("recado.adapters.store.sqlite", "from recado.broker import hooks", "adapters imports recado.broker.hooks"),
    ("recado.adapters.broker.embedded", "import recado.http", "adapters/broker imports recado.http"),
    ("recado.app.wiring", "import apsw", "apsw is a driver"),
    ("recado.http.door", "import importlib\nimportlib.import_module('sqlite3')", ":2: sqlite3 is a driver"),
    ("recado.helpers", "", "recado.helpers is in no layer"),
]


@pytest.mark.parametrize(("module", "source", "complaint"), BREACHES)
def test_the_checker_catches(module: str, source: str, complaint: str) -> None:
    (found,) = breaches(source, module)
    assert complaint in found


ALLOWED = [
    ("recado.mqtt.session", "from recado.mqtt.packets import Publish\nfrom . import codec\nimport struct"),
    ("recado.mqtt.session", "from recado import __version__"),
    ("recado.chat.actions", "import secrets\nfrom recado.ports import Store\nfrom .message import MessageDraft"),
    ("recado.chat.membership", "from recado.ports import Store\nasync def members(): ..."),
    ("recado.ports", "from recado.chat.event import Event"),
    ("recado.http.door", "from recado.chat import actions\nimport starlette"),
    ("recado.adapters.store.sqlite", "import apsw\nfrom recado.ports import Store"),
    ("recado.adapters.broker.embedded", "from recado.broker import hooks\nfrom recado.mqtt import codec"),
    ("recado.app.wiring", "import recado.http\nimport recado.adapters.store.sqlite\nimport recado.broker"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert breaches(source, module) == []


def test_the_checker_resolves_relative_imports_from_a_module_and_from_a_package() -> None:
    (from_module,) = breaches("from ..chat import event", "recado.mqtt.codec")
    (from_package,) = breaches("from ..chat import event", "recado.mqtt", is_package=True)
    assert "recado.chat.event" in from_module
    assert "recado.chat.event" in from_package
