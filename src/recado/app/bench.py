"""`recado bench`: the transports compared on this machine, and two such comparisons beside each other.

What only a comparison needs is imported when one is asked for.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from recado.bench.compare import OnProgress, Step
    from recado.bench.parameters import Asked, Parameters
    from recado.bench.results import Comparison

_INTERRUPTED = 130
_REFRESHES_PER_S = 2  # drawing takes processor time from what is measured
_TABLE_WIDTH = 150  # where there is no terminal to ask

app = cyclopts.App(name="bench", help="Measure on this machine.")


@app.command
def compare(
    *,
    users: int | None = None,
    period_s: float | None = None,
    seconds: float | None = None,
    body_bytes: int = 100,
    idle_users: int | None = None,
    interval_s: int | None = None,
    transport: Annotated[list[str] | None, Parameter(negative=())] = None,
    full: Annotated[bool, Parameter(negative=())] = False,
    json: Path | None = None,
    report: Path | None = None,
) -> None:
    """Compare every transport with the same chat: bytes, packets, requests, processor time, memory, latency.

    It starts servers of its own, on free ports, and takes about two minutes.

    Parameters
    ----------
    users
        How many there are while there are messages, in conversations of two: 500, or 1,000 with --full.
    period_s
        Every user sends a message each so many seconds: 3, or 5.
    seconds
        For how long; a whole number of periods: one, or six.
    body_bytes
        The size of each message's text.
    idle_users
        How many there are while there are none: 200, or as many as open files allow.
    interval_s
        The keep-alive, and the wait of a long poll, while there are no messages: 5, or 60.
    transport
        Only this one; may be given again: polling, long-polling, sse, websocket, mqtt-ws-qos0, -qos1, -qos2,
        mqtt311-ws-qos1 or mqtt-tcp-qos1.
    full
        Longer, with a keep-alive of 60 s and as many idle users as the machine's limit of open files allows.
    json
        Write the figures to this file.
    report
        Write a page with plots into this folder. Needs matplotlib: pip install '.[bench]'.
    """
    from recado.bench.parameters import Asked

    asked = Asked(
        users=users,
        idle_users=idle_users,
        period_s=period_s,
        seconds=seconds,
        body_bytes=body_bytes,
        interval_s=interval_s,
        transports=transport or (),
        full=full,
    )
    given = _parameters(asked)
    _check_outputs(json, report)
    comparison = _compare(given)
    _tell(comparison)
    _write(comparison, json, report)


def _parameters(asked: Asked) -> Parameters:
    from recado.bench.parameters import ParametersError, parameters

    try:
        return parameters(asked)
    except ParametersError as error:
        _fail(str(error))


def _check_outputs(json: Path | None, report: Path | None) -> None:
    """Before two minutes are spent."""
    if not sys.platform.startswith("linux"):
        _fail("bench compare reads Linux's counters of sockets and processes, and this is no Linux")
    if json is not None and not json.absolute().parent.is_dir():
        _fail(f"there is no folder {json.absolute().parent} for {json.name}")
    if report is None:
        return
    if report.exists() and not report.is_dir():
        _fail(f"{report} is no folder: name one that the report may be written into")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        _fail("--report draws with matplotlib, which is not installed: pip install '.[bench]'")
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(f"the report cannot be written into {report}: {error.strerror}")


def _compare(given: Parameters) -> Comparison:
    from recado.bench.compare import steps
    from recado.bench.failure import RunFailed

    try:
        with _progress_bar(steps(given)) as on_progress:
            return asyncio.run(_stoppable(given, on_progress))
    except RunFailed as error:
        _fail(str(error), status=1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _fail("stopped: nothing was written", status=_INTERRUPTED)


async def _stoppable(given: Parameters, on_progress: OnProgress) -> Comparison:
    """SIGTERM ends it as Ctrl-C does."""
    from recado.bench.compare import compare as run

    running = asyncio.ensure_future(run(given, on_progress))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


@contextmanager
def _progress_bar(planned: list[Step]) -> Iterator[OnProgress]:
    """One bar for all of it, on a terminal."""
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    whole_s = _length_s(planned, dict.fromkeys(planned, 1.0))
    done: dict[Step, float] = {}
    with Progress(
        *columns,
        console=console,
        refresh_per_second=_REFRESHES_PER_S,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("starting", total=whole_s)

        def on_progress(step: Step, part: float) -> None:
            done[step] = part
            name = "idle tabs" if step.is_idle else step.transport
            progress.update(bar, completed=_length_s(planned, done), description=name)

        yield on_progress


def _length_s(planned: list[Step], done: dict[Step, float]) -> float:
    """Those of idle tabs go on beside each other, so each counts for its part."""
    idle = [step for step in planned if step.is_idle]
    messages_s = sum(step.seconds * done.get(step, 0.0) for step in planned if not step.is_idle)
    return messages_s + sum(step.seconds * done.get(step, 0.0) for step in idle) / max(1, len(idle))


def _tell(comparison: Comparison) -> None:
    from recado.bench.table import show

    console = Console(highlight=False)
    show(comparison, console if console.is_terminal else Console(highlight=False, width=_TABLE_WIDTH))


def _write(comparison: Comparison, json: Path | None, report: Path | None) -> None:
    try:
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n")
            print(f"figures: {json}")
        if report is not None:
            from recado.bench.report import write_report

            print(f"report: {write_report(comparison, report)}")
    except OSError as error:
        _fail(f"{error.filename} cannot be written: {error.strerror}", status=1)


@app.command
def agree(first: Path, second: Path) -> None:
    """Tell whether two comparisons agree: bytes within 3 %, processor time within 30 %. Exit status 1 if they do not.

    Parameters
    ----------
    first
        What `--json` wrote.
    second
        The same, of another time.
    """
    from recado.bench.agreement import NotComparable, pairs

    try:
        found = pairs(_read(first), _read(second))
    except NotComparable as error:
        _fail(str(error))
    table = Table("figure", "first", "second", "difference", "may be", box=None)
    apart = [pair for pair in found if not pair.agrees]
    for pair in apart:
        numbers = (f"{pair.first:.4g}", f"{pair.second:.4g}", f"{pair.difference:.1%}", f"{pair.within:.0%}")
        table.add_row(pair.what, *numbers)
    if apart:
        Console(highlight=False).print(table)
    print(f"{len(found) - len(apart)} of {len(found)} figures agree")
    sys.exit(1 if apart else 0)


def _read(file: Path) -> Comparison:
    from recado.bench.results import Comparison

    try:
        return msgspec.json.decode(file.read_bytes(), type=Comparison)
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _fail(f"{file} is not what `recado bench compare --json` writes: {error}")


def _fail(text: str, status: int = 2) -> NoReturn:
    print(f"recado: {text}", file=sys.stderr)
    sys.exit(status)
