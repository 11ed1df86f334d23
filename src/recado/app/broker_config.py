"""`recado broker-config`: the configuration of an external broker, as it has to be for Recado's users, with the
commands that set it up. It is printed, for the operator to read and to put where it belongs; nothing is changed.
"""

import re
import secrets
from pathlib import Path
from typing import Annotated

import cyclopts

from recado.adapters.broker.mqtt.address import parse_address
from recado.app import mosquitto_config, rabbitmq_config
from recado.app.config import Settings, SettingsError

_DEFAULTS = Settings()
_HOST_AND_PORT = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", re.ASCII).fullmatch

app = cyclopts.App(name="broker-config", help="Print the configuration of a broker for --broker mqtt://...")


@app.command
def mosquitto() -> None:
    """Print a mosquitto.conf, and how to set up its dynamic security plugin for Recado."""
    print(mosquitto_config.printed(), end="")


@app.command
def rabbitmq(
    *,
    recado: str = "127.0.0.1:8000",
    folder: Path | None = None,
    settings: Annotated[Settings, cyclopts.Parameter(name="*", show=False)] = _DEFAULTS,
) -> None:
    """Print a rabbitmq.conf, enabled_plugins and definitions.json. It needs --broker and RECADO_SECRET.

    Parameters
    ----------
    recado
        Where RabbitMQ's nodes reach the HTTP port of Recado: host:port.
    folder
        Write the three files there instead, readable by their owner and group; none of them may exist.
    """
    files = _rabbitmq_files(settings, recado)
    if folder is None:
        print("\n".join(f"##### {name}\n{text}" for name, text in files.items()), end="")
        return
    for name, text in files.items():
        _write(folder / name, text)


def _rabbitmq_files(settings: Settings, recado: str) -> dict[str, str]:
    settings.check()
    if not settings.is_broker_external() or settings.secret is None:
        raise SettingsError(
            "this needs --broker mqtt://user:password@host:1883, as for recado serve, and RECADO_SECRET"
        )
    if not _HOST_AND_PORT(recado):
        raise SettingsError(f"recado is host:port, not {recado!r}")
    address = parse_address(settings.broker)
    if not address.username or not address.password:
        raise SettingsError("broker must have the user and the password that Recado is to publish with")
    return {
        "rabbitmq.conf": rabbitmq_config.configuration(recado, rabbitmq_config.broker_key(settings.secret)),
        "enabled_plugins": rabbitmq_config.enabled_plugins(),
        "definitions.json": rabbitmq_config.definitions(address.username, address.password, secrets.token_bytes(4)),
    }


def _write(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o640, exist_ok=False)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
