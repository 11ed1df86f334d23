"""Where settings come from beside flags: the environment, and `recado.toml` where one starts.

They set settings and nothing else of a command: RECADO_USER is not the USER of `recado token`.
"""

from dataclasses import fields
from typing import Any

import cyclopts
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict, Env, Toml

from recado.app.broker_settings import BrokerSettings
from recado.app.config import Settings

FILE = "recado.toml"
_KNOWN = {each.name for kind in (Settings, BrokerSettings) for each in fields(kind)}


class Environment:
    def __init__(self) -> None:
        self._environment = Env("RECADO_", command=False)

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        self._environment(app, commands, _settings_of(arguments))


class File:
    """One file serves every command: what another command's setting is, is none of this one's mistakes."""

    def __init__(self) -> None:
        self._file = Toml(FILE, use_commands_as_keys=False, must_exist=False)

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        settings = _settings_of(arguments)
        own = {argument.keys[0] for argument in settings}
        config: dict[str, Any] = {
            name: value
            for name, value in self._file.config.items()
            if name.replace("-", "_") in own or name.replace("-", "_") not in _KNOWN
        }
        Dict(config, use_commands_as_keys=False, source=self._file.source)(app, commands, settings)


def _settings_of(arguments: ArgumentCollection) -> ArgumentCollection:
    """A command's settings; its other arguments are not fields of anything."""
    return ArgumentCollection(each for each in arguments if each.keys)  # type: ignore[no-untyped-call]
