"""The page of a comparison: one file, no reference to anything outside, light or dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from recado.bench.columns import IDLE, MESSAGE, SCENARIO, Column, cells
from recado.bench.plots import plots, svg
from recado.bench.results import Comparison
from recado.bench.scenario import loads

PAGE = "index.html"
_STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--faint:#d0d7de;--page:#fff;--box:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--faint:#3d444d;--page:#0d1117;--box:#151b23}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--page)}
body{max-width:62rem;margin:0 auto;padding:1rem}
h1{line-height:1.2}h2{margin-top:2.5rem}
figure{margin:1.5rem 0}figcaption{color:var(--soft);margin-bottom:.5rem}svg{width:100%;max-width:44rem;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--faint);white-space:nowrap}
thead th{white-space:normal;vertical-align:bottom;font-weight:600}
th:first-child{text-align:left;position:sticky;left:0;background:var(--page)}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.25rem 1rem;font-size:.9rem}
dt{font-weight:600}dd{margin:0;color:var(--soft)}
.note{background:var(--box);border-left:.25rem solid #e8833a;padding:.5rem 1rem}
.extrapolated{font-style:italic}code{overflow-wrap:anywhere}
@media(max-width:40rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}}
"""


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write the page and its plots, which are beside it too, into the folder; return the page. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {plot.name: (plot.caption, svg(plot)) for plot in plots(comparison)}
    for name, (_, text) in drawn.items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
    page = folder / PAGE
    page.write_text(_page(comparison, drawn), encoding="utf-8")
    return page


def _page(comparison: Comparison, drawn: dict[str, tuple[str, str]]) -> str:
    figures = {
        name: f"<figure><figcaption>{escape(caption)}</figcaption>{text}</figure>"
        for name, (caption, text) in drawn.items()
    }
    body = "".join(
        (
            _opening(comparison),
            _messages(comparison, figures),
            _idle(comparison, figures),
            _scenario(comparison, figures),
            _limits(comparison),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Transports compared</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _opening(comparison: Comparison) -> str:
    given, machine = comparison.parameters, comparison.machine
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    return f"""
<h1>The transports of a chat, compared</h1>
<p>The same conversations, on the same server and the same machine, over each way of bringing a message to an
open page: polling, long polling, server-sent events, a WebSocket with HTTP for sending, and MQTT. Everything
here was measured, on the sockets and from the kernel's counters, but for what is called an estimate or
extrapolated. Every client checked that it got every message, in order, once.</p>
<p>Made on {escape(comparison.made_at)} by <code>{escape(comparison.command)}</code> on
{escape(machine["cpu"])}, {machine["cores"]} cores, {machine["memory_bytes"] / 2**30:.0f} GiB,
{escape(machine["system"])}; {escape(versions)}.</p>
<p>{given.users} users in conversations of two; each sends {given.body_bytes} bytes of text every
{given.period_s:g} s, for {given.seconds:g} s, at moments of its own. Then {given.idle_users} users with
nothing to say.</p>
"""


def _messages(comparison: Comparison, figures: dict[str, str]) -> str:
    rows = [(each.title, cells(MESSAGE, each.message), False) for each in comparison.transports]
    return f"""
<h2>What a message costs</h2>
<p>For one message: its sending, its delivery to the other user and, as other tabs need it, to the sender's
own page, and whatever the two pages ask in the meantime. Sending is a POST for the first four, and a PUBLISH
for the others. The fewer messages there are, the more polls and held requests fall on each: that part is
below, under what an idle minute costs.</p>
{_table(MESSAGE, rows)}{figures["bytes-per-message"]}{figures["cpu-per-message"]}{figures["latency"]}
{_meanings(MESSAGE)}
"""


def _idle(comparison: Comparison, figures: dict[str, str]) -> str:
    given = comparison.parameters
    tables = []
    for number, tabs in enumerate(given.tabs):
        rows = [(each.title, cells(IDLE, each.idle[number]), False) for each in comparison.transports]
        tables.append(f"<h3>{_tabs(tabs)} per user</h3>{_table(IDLE, rows)}")
    counts = sorted({idle.users for each in comparison.transports for idle in each.idle})
    users = " or ".join(f"{count:,}" for count in counts)
    return f"""
<h2>What an idle minute costs</h2>
<p>One user, one minute, no message. Most chats are silent most of the time, so this is most of what they
cost. The keep-alive, and the wait of a long poll, are {given.interval_s} s. A radio is up for
{given.radio_tail_s:g} s after the last byte (its tail), and all tabs of a user share one. Measured with
{users} users.</p>
{_shortened(given.interval_s)}{"".join(tables)}
{figures["idle-bytes"]}{figures["idle-radio"]}{figures["idle-cpu"]}{figures["memory"]}
{_meanings(IDLE)}
"""


def _shortened(interval_s: int) -> str:
    if interval_s == 60:
        return ""
    return f"""<p class="note">To be short, this run has a keep-alive of {interval_s} s, where 60 s are usual: but for
polling, all of this but memory is about {60 / interval_s:.3g} times what it is then.</p>"""


def _scenario(comparison: Comparison, figures: dict[str, str]) -> str:
    rows = [
        (f"{load.title}, {_tabs(load.tabs)}", cells(SCENARIO, load), load.is_extrapolated) for load in loads(comparison)
    ]
    return f"""
<h2>10,000 users, and nothing happens</h2>
<p>The scenario that argues against polling: 10,000 users on line, one request a second from each of their
three tabs, so 30,000 requests a second that find nothing. Here it is for every transport, with a keep-alive
of 60 s.</p>
<p class="note">Rows in <i>italics</i> are extrapolated in proportion: the last column says from how many
users, and by what. Cores are those of the machine above; more than one of them needs more than one
server.</p>
{_table(SCENARIO, rows)}{figures["scenario-cores"]}
{_meanings(SCENARIO)}
"""


def _limits(comparison: Comparison) -> str:
    late = max(each.message.late_p99_ms for each in comparison.transports)
    waited = max(each.message.server_waited_ms_per_s for each in comparison.transports)
    return f"""
<h2>What to know about these figures</h2>
<ul>
<li>HTTP is version 1.1 with open connections, and the headers are those that Chromium sends from a page
without cookies. HTTP/2 would compress them; it was not measured. Neither was TLS, which adds some 20 to 30
bytes to each record on all of them alike.</li>
<li>Server and clients share one machine, so packets are not delayed or lost. Over a real network there are
more bare acknowledgements here and fewer there.</li>
<li>Nobody is typing, reads or comes: signals are not counted. At QoS 1 and 2 each delivery is acknowledged,
which is what says "delivered" in a chat; the transports over HTTP say it by further requests or frames, which
are not in here.</li>
<li>Opening a connection (TCP, upgrade, CONNECT, SUBSCRIBE) is not in the figures:
{_handshakes(comparison)}.</li>
<li>99 of 100 messages left less than {late:.3g} ms after their time, and the server waited up to {waited:.3g}
ms a second for a core: high figures say that the machine had something else to do.</li>
</ul>
"""


def _handshakes(comparison: Comparison) -> str:
    return "; ".join(
        f"{escape(each.title)} {each.handshake.bytes_up:.0f} bytes up and {each.handshake.bytes_down:.0f} down"
        for each in comparison.transports
    )


def _table(columns: Sequence[Column[Any]], rows: Iterable[tuple[str, list[str], bool]]) -> str:
    heads = "".join(f"<th>{escape(column.title)}</th>" for column in columns)
    lines = "".join(
        f"<tr{' class=extrapolated' if is_extrapolated else ''}><th>{escape(name)}</th>"
        + "".join(f"<td>{escape(text)}</td>" for text in texts)
        + "</tr>"
        for name, texts, is_extrapolated in rows
    )
    return f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _meanings(columns: Sequence[Column[Any]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(c.title)}</dt><dd>{escape(c.meaning)}</dd>" for c in columns) + "</dl>"


def _tabs(count: int) -> str:
    return "1 tab" if count == 1 else f"{count} tabs"
