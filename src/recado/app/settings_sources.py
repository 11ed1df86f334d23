"""Where settings come from beside flags: the environment, and `recado.toml` where one starts, or another file.

They set settings and nothing else of a command: RECADO_USER is not the USER of `recado token`. A name that is no
setting of any command is an error, because it would not hold.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import cyclopts
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict, Env

from recado.app.broker_settings import BrokerSettings
from recado.app.config import Settings, SettingsError

FILE = "recado.toml"
_PREFIX = "RECADO_"
_KNOWN = {each.name for kind in (Settings, BrokerSettings) for each in fields(kind)}
_TEXTS = {
    name
    for kind in (Settings, BrokerSettings)
    for name, type_ in get_type_hints(kind).items()
    if type_ in (str, str | None)
}
_VARIABLES = {_PREFIX + name.upper() for name in _KNOWN}
_OF_OTHERS = f"{_PREFIX}URL"  # tells a client where the server is, as examples/host_app.py
_OF_A_TABLE = (f"{_PREFIX}LIMIT_", f"{_PREFIX}LISTENER_CONNECTIONS_")


class Environment:
    def __init__(self) -> None:
        self._environment = Env(_PREFIX, command=False)

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        settings = _settings_of(arguments)
        if settings:
            _check_variables(os.environ)
            self._environment(app, commands, settings)


class File:
    """One file serves every command: what another command's setting is, is none of this one's mistakes."""

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        settings = _settings_of(arguments)
        if not settings:
            return
        named = next((each.tokens[-1].value for each in settings if each.keys == ("config",) and each.tokens), None)
        path = Path(named or FILE)
        config = _read(path, must_exist=named is not None)
        _check_keys(path, config, [name for name in app.app_stack.current_frame[0] if not name.startswith("-")])
        own = {argument.keys[0] for argument in settings}
        Dict(
            {name: value for name, value in config.items() if name.replace("-", "_") in own},
            use_commands_as_keys=False,
            source=str(path.absolute()),
        )(app, commands, settings)


def _settings_of(arguments: ArgumentCollection) -> ArgumentCollection:
    """A command's settings; its other arguments are not fields of anything."""
    return ArgumentCollection(each for each in arguments if each.keys)  # type: ignore[no-untyped-call]


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Raises SettingsError, which names the file."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        if must_exist:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None


def _check_variables(environment: Mapping[str, str]) -> None:
    """Raises SettingsError for one that looks like a setting's and is not."""
    for name in sorted(environment):
        if not name.startswith(_PREFIX) or name.startswith(_OF_A_TABLE) or name == _OF_OTHERS:
            continue
        if name not in _VARIABLES:
            meant = _nearest(name.removeprefix(_PREFIX).lower(), _KNOWN, lambda known: _PREFIX + known.upper())
            raise SettingsError(f"{name} in the environment is no setting{meant}")


def _check_keys(path: Path, config: Mapping[str, Any], commands: list[str]) -> None:
    """Raises SettingsError for a key that is no setting, or that is a text and has another value."""
    known = _KNOWN - {"config"}
    for name, value in config.items():
        if name in commands and isinstance(value, dict):
            raise SettingsError(f"{path}: there are no tables per command, put the keys of [{name}] at the top")
        if name.replace("-", "_") in _TEXTS and not isinstance(value, str):
            raise SettingsError(f"{name} in {path} is one text, in quotes")  # what there is may be a password
        if name.replace("-", "_") in known:
            continue
        raise SettingsError(f"{name!r} in {path} is no setting{_nearest(name.replace('-', '_'), known)}")


def _nearest(name: str, known: set[str], written: Callable[[str], str] = str) -> str:
    """What was perhaps meant, or where to look."""
    found = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {written(found[0])}?" if found else "; docs/configuration.md lists them"
