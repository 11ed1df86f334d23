"""compose.yaml and what goes with it, as far as it can be checked where no containers run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from recado.adapters.push.vapid import VapidKey
from recado.app.config import Settings
from recado.app.mosquitto_config import conf, control_commands
from tests.support.nginx import nginx_program

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SERVICES_INSIDE = ("api-1", "api-2", "mosquitto")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def made_environment() -> dict[str, str]:
    printed = subprocess.run([sys.executable, COMPOSE / "make_env.py"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in printed.stdout.splitlines())


def filled_in(value: str, environment: dict[str, str]) -> str:
    """As Compose does it with ${NAME:?text} and ${NAME:-default}."""

    def replaced(found: re.Match[str]) -> str:
        name, sign, text = found.groups()
        if name in environment:
            return environment[name]
        assert sign == ":-", f"{name} is asked for and make_env.py does not make it"
        return text

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", replaced, value)


def settings_of(service: dict[str, Any]) -> Settings:
    environment = made_environment()
    given: dict[str, Any] = {
        name.removeprefix("RECADO_").lower(): filled_in(value, environment)
        for name, value in service["environment"].items()
        if name.startswith("RECADO_")
    }
    given["capture_file"] = Path(given["capture_file"])
    assert given.keys() <= {field.name for field in fields(Settings)}
    return Settings(**given)


def test_every_variable_of_recado_is_a_setting_and_together_they_are_accepted(compose: dict[str, Any]) -> None:
    for name in ("api-1", "api-2"):
        settings_of(compose["services"][name]).check()
    settings_of(compose["services"]["worker"]).check_without_keys()


def test_the_worker_has_the_settings_of_the_others_and_no_key_that_lets_users_in(compose: dict[str, Any]) -> None:
    services = {name: compose["services"][name]["environment"] for name in ("api-1", "api-2", "worker")}
    assert services["api-1"] == services["api-2"]
    assert services["api-1"].keys() - services["worker"].keys() == {"RECADO_SECRET", "RECADO_API_KEY"}
    assert services["worker"].items() <= services["api-1"].items()


def test_what_the_worker_captures_outlives_its_container(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    path = settings_of(worker).capture_file
    assert path is not None
    folder = str(path.parent)
    assert folder in [volume.split(":")[1] for volume in worker["volumes"]]
    # A new volume is its user's because the folder of the image is.
    assert f"--create-home --home-dir {folder} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_each_process_of_recado_is_asked_whether_it_is_ready_at_a_port_that_it_has(compose: dict[str, Any]) -> None:
    for name in ("api-1", "api-2", "worker"):
        service = compose["services"][name]
        settings = settings_of(service)
        port = settings.worker_port if service["command"] == "worker" else settings.http_port
        assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]


def test_the_queue_lets_a_job_fail_as_often_as_sqs_can() -> None:
    """As docs/jobs.md asks for."""
    redrive = re.search(r"maxReceiveCount = (\d+)", (COMPOSE / "elasticmq.conf").read_text(encoding="utf-8"))
    assert redrive is not None
    assert redrive[1] == "1000"


def test_what_is_made_for_it_is_new_each_time_and_a_key_for_web_push_is_one() -> None:
    one, other = made_environment(), made_environment()
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())
    VapidKey(one["RECADO_PUSH_KEY"])


def test_every_service_that_one_waits_for_is_there_and_so_is_every_file(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in compose["volumes"]


def test_mosquitto_is_configured_as_broker_config_says() -> None:
    wanted = _settings(conf("/mosquitto/data/dynamic-security.json", [], "/usr/lib/mosquitto_dynamic_security.so"))
    found = _settings((COMPOSE / "mosquitto.conf").read_text(encoding="utf-8"))
    assert found[: len(wanted)] == wanted
    assert found[len(wanted) :] == ["listener 1883", "listener 8083", "protocol websockets"]


def _settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_recados_user_in_mosquitto_has_the_rights_that_broker_config_says() -> None:
    script = (COMPOSE / "mosquitto-users.sh").read_text(encoding="utf-8")
    said = [line.removeprefix("control ").replace("'", "").replace('"', "").split() for line in script.splitlines()]
    assert [words for words in said if words in control_commands("$RECADO_BROKER_PASSWORD")] == control_commands(
        "$RECADO_BROKER_PASSWORD"
    )


@pytest.mark.parametrize("name", ["mosquitto.sh", "mosquitto-users.sh"])
def test_the_scripts_are_ones_of_a_plain_shell(name: str) -> None:
    subprocess.run(["sh", "-n", COMPOSE / name], check=True)


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    text = (COMPOSE / "nginx.conf").read_text(encoding="utf-8")
    for name in SERVICES_INSIDE:
        text = text.replace(f"{name}:", "127.0.0.1:")
    path = tmp_path / "nginx.conf"
    own = f"pid {tmp_path}/pid; error_log stderr;"
    path.write_text(f"{own}\n{text}", encoding="utf-8")
    tested = subprocess.run(
        [nginx_program(), "-t", "-c", path, "-p", tmp_path], capture_output=True, text=True, check=False, env=os.environ
    )
    assert tested.returncode == 0, tested.stderr


def test_the_image_is_built_from_what_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists()
                assert f"!{source.removeprefix('./')}" in ignored
