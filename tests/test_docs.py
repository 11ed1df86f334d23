"""The docs keep up with the code: what can be set, called, published or refused is described, and links lead somewhere.

Each test reads the names from the code itself, so that a new setting, limit, call, reason code or command fails here
until its page says what it is.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from recado.app.broker_settings import BrokerSettings
from recado.app.cli import app
from recado.app.config import Settings
from recado.app.limits import DEFAULT, STANDALONE
from recado.http.calls import CALLS
from recado.mqtt.reason_codes import ReasonCode
from tests.support.metrics import get_text
from tests.support.server import Server

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "recado"

TOPIC_FORMS = ("c/<conversation>", "c/<conversation>/live", "c/+", "c/+/live", "#")
CODES_ARE_CHOSEN_IN = ("broker", "adapters/broker", "mqtt")
NOT_OURS = {".git", ".venv", "node_modules", "__pycache__", "dist"}
NOT_OURS |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "demo-data"}
# Split, so that this file does not name them either.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        *(("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com")),
        *(("crates", "io"), ("proxy", "golang", "org"), ("maven", "org"), ("deb", "debian", "org"), ("unpkg", "com")),
    )
]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_setting_is_described_with_its_variable() -> None:
    text = page("configuration.md")
    names = {setting.name for kind in (Settings, BrokerSettings) for setting in dataclasses.fields(kind)}
    missing = sorted(name for name in names if f"RECADO_{name.upper()}" not in text)
    assert not missing, f"docs/configuration.md does not describe {missing}"


def limits() -> dict[str, int]:
    """Return every limit and its number by its name."""
    numbers: dict[str, int] = {}
    for group in dataclasses.fields(DEFAULT):
        numbers |= dataclasses.asdict(getattr(DEFAULT, group.name))
    return numbers


def test_every_limit_is_described_with_its_number() -> None:
    lines = page("configuration.md").splitlines()
    numbers = limits()
    missing = [
        f"{name} = {number}"
        for name, number in sorted(numbers.items())
        if not any(f"`{name}`" in line and shows_number(line, number) for line in lines)
    ]
    assert not missing, f"docs/configuration.md has no line with the name and the number of {missing}"


def test_every_limit_that_is_another_for_the_stand_alone_server_is_described_with_its_number() -> None:
    text = page("configuration.md").partition("`recado broker` takes what other applications send")[2]
    paragraph = " ".join(text.partition("\n\n")[0].split())
    others = {
        name: number
        for name, number in dataclasses.asdict(STANDALONE.broker).items()
        if number != getattr(DEFAULT.broker, name)
    }
    assert [f"`{name}` {number}" for name, number in others.items() if f"`{name}` {number}" not in paragraph] == []
    assert paragraph.count("`") == 2 * len(others), "it names a limit that is the same for both"


def shows_number(line: str, number: int) -> bool:
    """Tell whether a line has that number, with or without thousands separators."""
    return str(number) in re.findall(r"\d+", re.sub(r"(?<=\d)[,_ ](?=\d{3})", "", line))


def test_every_http_call_is_described() -> None:
    text = page("http.md")
    missing = [f"{call.method} {call.path}" for call in CALLS if not describes_call(text, call.method, call.path)]
    assert not missing, f"docs/http.md does not describe {missing}"


def describes_call(text: str, method: str, path: str) -> bool:
    """Tell whether a line has the method and the path, whatever its variables are called, with or without /v1."""
    steps = (r"\{\w+\}" if step.startswith("{") else re.escape(step) for step in path.removeprefix("/v1").split("/"))
    whole_path = re.compile(r"(?<![\w}])(?:/v1)?" + "/".join(steps) + r"(?![\w/{])")
    return any(re.search(rf"\b{method}\b", line) and whole_path.search(line) for line in text.splitlines())


def test_every_topic_form_is_described() -> None:
    text = page("mqtt.md")
    assert not [form for form in TOPIC_FORMS if f"`{form}`" not in text]


def test_every_reason_code_that_the_server_chooses_is_described() -> None:
    text = page("mqtt.md").lower()
    used = reason_codes_in_use()
    assert ReasonCode.NOT_AUTHORIZED in used, "found no reason codes: has the broker moved?"
    missing = [f"0x{code:02X} {code.name}" for code in sorted(used) if f"0x{code:02x}" not in text]
    assert not missing, f"docs/mqtt.md does not describe {missing}"


def reason_codes_in_use() -> set[ReasonCode]:
    """Return each ReasonCode that a line of the server names; the table that defines them does not count."""
    files = [path for part in CODES_ARE_CHOSEN_IN for path in (SOURCE / part).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files if path.name != "reason_codes.py"]
    return {
        ReasonCode[node.attr]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ReasonCode.__members__
    }


def test_every_metric_is_described(shared_server: Server) -> None:
    """`recado broker` has a part of the same ones."""
    families = re.findall(r"^# TYPE (recado_\S+)", get_text(shared_server, "/metrics"), re.MULTILINE)
    names = [name for name in families if not name.endswith("_created")]
    assert "recado_mqtt_connections" in names, "found no metrics: has the page changed?"
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert not [name for name in names if not re.search(rf"`{name}[`{{]", text)]


def test_every_command_is_described() -> None:
    commands = [name for name in app if not name.startswith("-")]
    assert "serve" in commands
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert not [command for command in commands if f"recado {command}" not in text]


LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def markdown_files() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def broken_links(text: str, directory: Path, own_path: Path) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of one."""
    broken: list[str] = []
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (directory / path) if path else own_path
        found = target.exists()
        if not found or (heading and heading not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def anchors(text: str) -> set[str]:
    """Return the anchors that a forge makes of a text's headings."""
    titles = re.findall(r"^#+ +(.+?)\s*$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_relative_link_leads_somewhere() -> None:
    broken = {
        str(path.relative_to(ROOT)): found
        for path in markdown_files()
        if (found := broken_links(path.read_text(encoding="utf-8"), path.parent, path))
    }
    assert not broken


def test_the_link_checker_finds_what_is_broken() -> None:
    text = (
        "[a](no-such-file.md) [b](pyproject.toml) [c](#no-such-heading) [d](mailto:a@b.c) ![e](docs/no.png)\n# Here\n"
    )
    assert broken_links(text, ROOT, ROOT / "README.md") == ["no-such-file.md", "#no-such-heading", "docs/no.png"]
    assert anchors("# One `Two`, three\n") == {"one-two-three"}


def files_of_the_project() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and not NOT_OURS.intersection(path.relative_to(ROOT).parts):
            yield path


def test_no_file_names_the_host_of_a_package_registry() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in files_of_the_project()
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert not named
