"""The page and the terminal's tables say what was measured, and what was not."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from recado.bench.agreement import pairs
from recado.bench.columns import figure
from recado.bench.documentation import write_documentation
from recado.bench.plots import plots
from recado.bench.report import write_report
from recado.bench.results import percentile
from recado.bench.scenario import loads
from recado.bench.table import show
from recado.bench.transports import TRANSPORTS
from tests.bench.comparisons import comparison, message_cost


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(comparison(), tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


def test_the_page_has_every_plot_and_every_transport(page: str) -> None:
    found = plots(comparison())
    assert page.count("<svg ") == len(found)
    assert all(plot.caption in page for plot in found)
    assert all(transport.title in page for transport in TRANSPORTS.values())


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    references = re.findall(r"""(?:href|src|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)|@import""", page)
    outside = [reference for found in references if not (reference := "".join(found)).startswith("#")]
    assert outside == []
    names = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "only XML's names"


def test_the_plots_beside_the_page_are_whole_files_for_light_and_dark(tmp_path: Path) -> None:
    write_report(comparison(), tmp_path)
    files = sorted(tmp_path.glob("*.svg"))
    assert [file.stem for file in files] == sorted(plot.name for plot in plots(comparison()))
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("<svg ")
        assert 'xmlns="http://www.w3.org/2000/svg"' in text
        assert "prefers-color-scheme:dark" in text


def test_what_is_extrapolated_is_marked_and_says_from_what(page: str) -> None:
    assert "200 users \N{MULTIPLICATION SIGN} 50 \N{DIVISION SIGN} 12" in page
    assert page.count("<tr class=extrapolated>") == 2 * len(TRANSPORTS)


def test_what_was_measured_in_full_is_not_marked_as_extrapolated() -> None:
    assert not any(load.is_extrapolated for load in loads(comparison(full=True, users=10_000)))


def test_the_scenario_of_polling_is_the_articles() -> None:
    one, three, *_ = loads(comparison())
    assert (one.connections, round(one.requests_per_s)) == (10_000, 10_000)
    assert (three.connections, round(three.requests_per_s)) == (30_000, 30_000)


def test_a_keep_alive_that_was_shortened_is_said_to_be() -> None:
    _, _, long_polling, *_ = loads(comparison())
    assert long_polling.interval_factor == 12
    assert long_polling.cores == pytest.approx(1.2 / 60_000 * 10_000 / 12)


def test_the_terminal_shows_every_table() -> None:
    written = io.StringIO()
    show(comparison(), Console(file=written, width=200))
    titles = ("One message of 100 bytes", "1 tab, keep-alive", "3 tabs, keep-alive", "10,000 users")
    assert all(title in written.getvalue() for title in titles)


def test_a_narrow_terminal_gets_the_main_columns_whole() -> None:
    written = io.StringIO()
    show(comparison(), Console(file=written, width=80))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line]
    assert "shows more columns" in lines[-1]


def test_two_runs_agree_if_bytes_are_within_3_percent_and_processor_time_within_30() -> None:
    near = comparison(sse=message_cost(bytes_up=514, server_cpu_ms=1_100))
    assert all(pair.agrees for pair in pairs(comparison(), near))
    far = comparison(sse=message_cost(bytes_up=520, server_cpu_ms=1_200))
    apart = [pair.what for pair in pairs(comparison(), far) if not pair.agrees]
    assert apart == [f"Server-sent events, a message: {name}" for name in ("bytes_up", "server_cpu_ms_per_1000")]


def test_the_documentation_gets_new_figures_and_keeps_its_words(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    page = tmp_path / "comparison.md"
    page.write_text("Words.\n<!-- figures: message -->\nold\n<!-- end of figures -->\nMore.\n", encoding="utf-8")
    write_documentation(comparison(), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Words.\n<!-- figures: message -->\n| | bytes up |".replace("| |", "|  |"))
    assert text.endswith("|\n<!-- end of figures -->\nMore.\n")
    assert "old" not in text
    assert len(list((tmp_path / "images").iterdir())) == len(plots(comparison()))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (4.561, "4.56"), (789.4, "789"), (999.7, "1,000"), (12_345, "12,300")],
)
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_the_99th_percentile_of_a_hundred_values_is_the_last_and_of_one_is_that() -> None:
    assert percentile(range(100), 99) == 99
    assert percentile([7.0], 50) == 7.0
