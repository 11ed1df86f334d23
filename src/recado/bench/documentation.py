"""The figures and plots of docs/comparison.md, written again from a comparison's JSON.

    python -m recado.bench.documentation comparison.json docs

What stands between `<!-- figures: NAME -->` and `<!-- end of figures -->` is replaced; the words around are people's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from recado.bench.columns import IDLE, MESSAGE, SCENARIO, cells, figure
from recado.bench.plots import plots, svg
from recado.bench.results import Comparison
from recado.bench.scenario import loads

PAGE = "comparison.md"
IMAGES = "images"
_BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def write_documentation(comparison: Comparison, docs: Path) -> None:
    """Raises KeyError for a block that there is no such figure for."""
    for plot in plots(comparison):
        (docs / IMAGES / f"{plot.name}.svg").write_text(svg(plot), encoding="utf-8")
    page = docs / PAGE
    blocks = _blocks(comparison)
    text = page.read_text(encoding="utf-8")
    page.write_text(_BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", text), encoding="utf-8")


def _blocks(comparison: Comparison) -> dict[str, str]:
    transports = comparison.transports
    message_rows = [[each.title, *cells(MESSAGE, each.message)] for each in transports]
    blocks = {
        "made": _made(comparison),
        "message": _table([column.title for column in MESSAGE], message_rows),
        "sending": _sending(comparison),
        "handshake": _handshake(comparison),
    }
    for number, tabs in enumerate(comparison.parameters.tabs):
        rows = [[each.title, *cells(IDLE, each.idle[number])] for each in transports]
        blocks[f"idle-{tabs}"] = _table([column.title for column in IDLE], rows)
        of_tabs = [load for load in loads(comparison) if load.tabs == tabs]
        scenario_rows = [[load.title, *cells(SCENARIO, load)] for load in of_tabs]
        blocks[f"scenario-{tabs}"] = _table([column.title for column in SCENARIO], scenario_rows)
    return blocks


def _made(comparison: Comparison) -> str:
    given, machine = comparison.parameters, comparison.machine
    shown = ("recado", "python", "uvloop", "uvicorn", "picows")
    versions = ", ".join(f"{name} {comparison.versions[name]}" for name in shown)
    waited = max(each.message.server_waited_ms_per_s for each in comparison.transports)
    return "\n".join(
        (
            f"{comparison.made_at[:10]}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}.",
            f"{given.users} users, each with a message of {given.body_bytes} bytes every {given.period_s:g} s; "
            f"{given.idle_users} idle users,",
            f"keep-alive and `wait` {given.interval_s} s. While messages were measured, the server waited for a core "
            f"for up to {figure(waited)} ms a second.",
        )
    )


def _sending(comparison: Comparison) -> str:
    """Where the bytes of those that send by HTTP go."""
    rows = [
        [
            each.title,
            *(figure(value) for value in (each.message.sending_bytes_up, each.message.sending_bytes_down)),
            figure(each.message.bytes_up - each.message.sending_bytes_up),
            figure(each.message.bytes_down - each.message.sending_bytes_down),
        ]
        for each in comparison.transports
        if each.sends_by == "HTTP"
    ]
    return _table(["POST up", "its answer down", "the rest up", "the rest down"], rows)


def _handshake(comparison: Comparison) -> str:
    rows = [
        [
            each.title,
            figure(each.handshake.bytes_up),
            figure(each.handshake.bytes_down),
            figure(each.handshake.packets_up + each.handshake.packets_down),
        ]
        for each in comparison.transports
    ]
    return _table(["bytes up", "bytes down", "packets"], rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [["", *titles], ["---", *("--:" for _ in titles)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    file, docs = map(Path, sys.argv[1:])
    write_documentation(msgspec.json.decode(file.read_bytes(), type=Comparison), docs)


if __name__ == "__main__":
    main()
