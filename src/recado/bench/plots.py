"""The plots, as SVG that is readable on a light and on a dark page. The only module that needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recado.bench.columns import figure
from recado.bench.results import Comparison
from recado.bench.scenario import loads

_WIDTH_INCHES = 5.4
_BAR_INCHES = 0.36
_FRAME_INCHES = 1.1
_INK, _FAINT = "#010203", "#040506"  # stand for the page's colours
_COLOURS = ("#2f81f7", "#e8833a", "#8b949e")
_STYLE = (
    "<style>svg{--ink:#1f2328;--faint:#d0d7de}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--faint:#3d444d}}</style>"
)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Series(NamedTuple):
    """A number for each transport."""

    name: str
    values: Sequence[float]


class Plot(NamedTuple):
    """`caption` says what is to be seen; `is_stacked`: the series are parts of a whole."""

    name: str
    caption: str
    unit: str
    titles: Sequence[str]
    series: Sequence[Series]
    is_stacked: bool = False
    is_logarithmic: bool = False


def plots(comparison: Comparison) -> list[Plot]:
    return [*_message_plots(comparison), *_idle_plots(comparison), _scenario_plot(comparison)]


def _message_plots(comparison: Comparison) -> list[Plot]:
    transports = comparison.transports
    titles = [each.title for each in transports]
    messages = [each.message for each in transports]
    return [
        Plot(
            "bytes-per-message",
            "Bytes on the TCP streams for one message: its sending, both deliveries, and all requests meanwhile.",
            "bytes for one message",
            titles,
            [Series("up", [m.bytes_up for m in messages]), Series("down", [m.bytes_down for m in messages])],
            is_stacked=True,
        ),
        Plot(
            "cpu-per-message",
            "Processor time for one message, durable on disk when it is acknowledged.",
            "µs for one message",
            titles,
            [
                Series("server", [m.server_cpu_ms_per_1000 for m in messages]),
                Series("clients", [m.client_cpu_ms_per_1000 for m in messages]),
            ],
        ),
        Plot(
            "latency",
            "Time from sending a message to its arrival at the other user.",
            "ms, logarithmic",
            titles,
            [Series("p50", [m.latency_p50_ms for m in messages]), Series("p99", [m.latency_p99_ms for m in messages])],
            is_logarithmic=True,
        ),
    ]


def _idle_plots(comparison: Comparison) -> list[Plot]:
    interval = f"keep-alive and wait {comparison.parameters.interval_s} s"

    def of(name: str, caption: str, unit: str, field: str, scale: float = 1, is_logarithmic: bool = False) -> Plot:
        series = [
            Series(_tabs(tabs), [getattr(each.idle[number], field) / scale for each in comparison.transports])
            for number, tabs in enumerate(comparison.parameters.tabs)
        ]
        titles = [each.title for each in comparison.transports]
        return Plot(name, caption, unit, titles, series, is_logarithmic=is_logarithmic)

    wire = "bytes_with_tcp_ip_estimate"
    return [
        of(
            "idle-bytes",
            f"Bytes of one user in one minute without a message, with TCP/IP estimated ({interval}).",
            "bytes a minute, logarithmic",
            wire,
            is_logarithmic=True,
        ),
        of("idle-radio", f"Seconds of a minute in which a phone's radio would be up ({interval}).", "s", "radio_on_s"),
        of(
            "idle-cpu",
            f"Processor time of the server for one user in one minute without a message ({interval}).",
            "ms a minute, logarithmic",
            "server_cpu_ms",
            is_logarithmic=True,
        ),
        of(
            "memory",
            "Memory of the server for one user with one tab, and with three.",
            "KiB",
            "server_memory_bytes",
            1024,
        ),
    ]


def _scenario_plot(comparison: Comparison) -> Plot:
    found = loads(comparison)
    titles = [each.title for each in comparison.transports]
    series = [
        Series(_tabs(tabs), [load.cores for load in found if load.tabs == tabs]) for tabs in comparison.parameters.tabs
    ]
    caption = "10,000 users and no message, keep-alive 60 s: cores that the server needs. Extrapolated: see the table."
    return Plot("scenario-cores", caption, "cores, logarithmic", titles, series, is_logarithmic=True)


def _tabs(count: int) -> str:
    return "1 tab" if count == 1 else f"{count} tabs"


def svg(plot: Plot) -> str:
    """One `<svg>` element, with no reference to anything outside."""
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": plot.name}):
        height = _FRAME_INCHES + _BAR_INCHES * len(plot.titles) * (1 if plot.is_stacked else 1.35)
        drawn = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        _draw(drawn.add_subplot(), plot)
        written = io.StringIO()
        drawn.savefig(
            written, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return _for_pages(written.getvalue(), plot.caption)


def _draw(axes: Axes, plot: Plot) -> None:
    rows = range(len(plot.titles))
    draw = _draw_dots if plot.is_logarithmic else _draw_stacked if plot.is_stacked else _draw_grouped
    draw(axes, plot)
    axes.set_yticks(list(rows), plot.titles)
    axes.invert_yaxis()
    axes.set_xlabel(plot.unit)
    axes.margins(x=0.12)
    axes.tick_params(length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(plot.series))


def _draw_stacked(axes: Axes, plot: Plot) -> None:
    ends = [0.0] * len(plot.titles)
    for series, colour in zip(plot.series, _COLOURS, strict=False):
        bars = axes.barh(range(len(ends)), series.values, left=ends, height=0.7, color=colour, label=series.name)
        ends = [end + value for end, value in zip(ends, series.values, strict=True)]
    axes.bar_label(bars, [figure(end) for end in ends], padding=3)


def _draw_grouped(axes: Axes, plot: Plot) -> None:
    height = 0.8 / len(plot.series)
    for number, (series, colour) in enumerate(zip(plot.series, _COLOURS, strict=False)):
        middle = (number - (len(plot.series) - 1) / 2) * height
        places = [row + middle for row in range(len(plot.titles))]
        bars = axes.barh(places, series.values, height=height, color=colour, label=series.name)
        axes.bar_label(bars, [figure(value) for value in series.values], padding=3, fontsize=8)


def _draw_dots(axes: Axes, plot: Plot) -> None:
    """A bar has no length where there is no zero."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: figure(value))
    axes.minorticks_off()
    for number, (series, colour) in enumerate(zip(plot.series, _COLOURS, strict=False)):
        middle = (number - (len(plot.series) - 1) / 2) * 0.4
        dots = [(value, row + middle) for row, value in enumerate(series.values) if value > 0]
        axes.plot(*zip(*dots, strict=True), "o", color=colour, label=series.name)
        for dot in dots:
            axes.annotate(figure(dot[0]), dot, (6, 0), textcoords="offset points", va="center", fontsize=8)


def _for_pages(text: str, caption: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s(width|height)=\"[\d.]+pt\"", "", text, count=2)
    head, _, rest = text.partition(">")
    rest = rest.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    return f'{head} role="img" aria-label="{caption}">{_STYLE}{rest}'
