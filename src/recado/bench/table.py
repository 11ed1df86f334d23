"""The comparison on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recado.bench.columns import IDLE, MESSAGE, SCENARIO, Column, cells
from recado.bench.results import Comparison
from recado.bench.scenario import loads

WIDE = 110  # characters, for all columns


def show(comparison: Comparison, console: Console) -> None:
    is_wide = console.width >= WIDE
    for title, columns, rows in _tables(comparison):
        shown = [number for number, column in enumerate(columns) if is_wide or column.is_main]
        titles = [columns[number].title for number in shown]
        console.print(_table(title, titles, [(name, [texts[number] for number in shown]) for name, texts in rows]))
    if not is_wide:
        console.print(f"A terminal of {WIDE} characters shows more columns; --json has all.")


def _tables(comparison: Comparison) -> Iterable[tuple[str, Sequence[Column[Any]], list[tuple[str, list[str]]]]]:
    """Titles, columns and rows."""
    given, transports = comparison.parameters, comparison.transports
    title = f"One message of {given.body_bytes} bytes, sent and delivered ({given.users} users)"
    yield title, MESSAGE, [(each.title, cells(MESSAGE, each.message)) for each in transports]
    for number, tabs in enumerate(given.tabs):
        title = f"One user in one minute without a message, {_tabs(tabs)}, keep-alive and wait {given.interval_s} s"
        yield title, IDLE, [(each.title, cells(IDLE, each.idle[number])) for each in transports]
    rows = [(f"{load.title}, {_tabs(load.tabs)}", cells(SCENARIO, load)) for load in loads(comparison)]
    yield "10,000 users and no message, keep-alive 60 s (extrapolated)", SCENARIO, rows


def _table(title: str, titles: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for number, column in enumerate(titles):
        widths = map(len, [*column.split(), *(texts[number] for _, texts in rows)])
        table.add_column(column, justify="right", overflow="fold", width=max(widths))
    for name, texts in rows:
        table.add_row(name, *texts)
    return table


def _tabs(count: int) -> str:
    return "1 tab" if count == 1 else f"{count} tabs"
