"""`recado jobs`: what a running server has to do behind the commit, seen and corrected over its HTTP port.

It is a client of `/admin/jobs`, so it works for every database alike, and needs the API key. What is wrong is one
clear line; the exit status is then 2, or 1 if the server is not there or refuses.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlencode, urlsplit

import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from recado.app.clock import now_ms
from recado.app.config import Settings
from recado.app.sinks import NAMES

_TIMEOUT_S = 60
_DEFAULTS = Settings()
State = Literal["waiting", "claimed", "dead"]
Changeable = Literal["waiting", "dead"]

app = cyclopts.App(name="jobs", help="Show, retry or drop the jobs behind the commit, at a running server.")


@dataclass(frozen=True, kw_only=True)
class Which:
    sink: str | None = None
    """Only this sink's: push, notify, webhook, capture_file or capture_queue."""
    conversation: str | None = None
    """Only those about this conversation."""
    seq: int | None = None
    """Only those about the event with this seq."""


@dataclass(frozen=True, kw_only=True)
class Where:
    url: Annotated[str | None, Parameter(env_var="RECADO_URL")] = None
    """Of the server. Without it: this machine, at http_port."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the server's answer as it is."""


SomeJobs = Annotated[Which, Parameter(name="*")]
Server = Annotated[Where, Parameter(name="*")]
Everything = Annotated[bool, Parameter(name="--all", negative="")]
HiddenSettings = Annotated[Settings, Parameter(name="*", show=False)]


@app.command(name="list")
def list_jobs(
    *,
    state: State | None = None,
    limit: int | None = None,
    which: SomeJobs = Which(),
    where: Server = Where(),
    settings: HiddenSettings = _DEFAULTS,
) -> None:
    """List jobs, the oldest first.

    Parameters
    ----------
    state
        Only those in this state.
    limit
        At most so many.
    """
    asked = {**_named(which, state), "limit": limit}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    answer = _ask(where, settings, "GET", f"/admin/jobs?{query}" if query else "/admin/jobs")
    if not answer["jobs"]:
        _check_sink(which.sink)
    if not where.json:
        _print_jobs(answer["jobs"])


@app.command
def stats(*, where: Server = Where(), settings: HiddenSettings = _DEFAULTS) -> None:
    """Show how many jobs of each sink are in which state, and how old the oldest is."""
    answer = _ask(where, settings, "GET", "/admin/jobs/stats")
    if not where.json:
        _print_stats(answer["counts"])


@app.command
def retry(
    *,
    state: Changeable | None = None,
    everything: Everything = False,
    which: SomeJobs = Which(),
    where: Server = Where(),
    settings: HiddenSettings = _DEFAULTS,
) -> None:
    """Run dead letters, and jobs that wait for another attempt, at once, as if they had never been tried.

    Parameters
    ----------
    state
        Only those in this state.
    everything
        Every one of them: without it something must be named.
    """
    _change("retry", {**_named(which, state), "all": everything}, where, settings)


@app.command
def drop(
    *,
    state: Changeable | None = None,
    everything: Everything = False,
    which: SomeJobs = Which(),
    where: Server = Where(),
    settings: HiddenSettings = _DEFAULTS,
) -> None:
    """Forget jobs: what they were to do is never done. The messages stay.

    Parameters
    ----------
    state
        Only those in this state.
    everything
        Every one of them: without it something must be named.
    """
    _change("drop", {**_named(which, state), "all": everything}, where, settings)


def _named(which: Which, state: str | None) -> dict[str, Any]:
    return {"sink": which.sink, "state": state, "conversation": which.conversation, "seq": which.seq}


def _check_sink(name: str | None) -> None:
    """Nothing is good news only of a sink that there is. One that is not configured may have jobs from before."""
    if name is not None and name not in NAMES:
        _fail(f"no jobs of the sink {name[:40]!r}; it is not one of: {', '.join(NAMES)}", 2)


def _change(what: Literal["retry", "drop"], body: dict[str, Any], where: Where, settings: Settings) -> None:
    answer = _ask(where, settings, "POST", f"/admin/jobs/{what}", body)
    if not answer["count"]:
        _check_sink(body["sink"])
    if not where.json:
        print(f"{answer['count']} {'retried' if what == 'retry' else 'dropped'}")


def _ask(where: Where, settings: Settings, method: str, path: str, body: object = None) -> Any:
    """The server's answer, which is printed if it is asked for as it is."""
    if not settings.api_key:
        _fail("RECADO_API_KEY is not set: jobs are shown to who has the server's key", 2)
    url = where.url or f"http://127.0.0.1:{settings.http_port}"
    headers = {"Authorization": f"Bearer {settings.api_key}"}
    connection = _connection(url)
    try:
        connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
        response = connection.getresponse()
        status, content = response.status, response.read()
    except (OSError, HTTPException) as error:
        _fail(f"no Recado answers at {url} ({_reason(error)}): start it, or name another one with --url", 1)
    finally:
        connection.close()
    return _checked(status, content, url, where)


def _connection(url: str) -> HTTPConnection:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # the port is no number
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        shown = "" if "@" in url else f", not {url!r}"  # it may be a password
        _fail(f"url is http://host:port or https://host, without a user and a path{shown}", 2)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, port, timeout=_TIMEOUT_S)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _checked(status: int, content: bytes, url: str, where: Where) -> Any:
    try:
        answer = msgspec.json.decode(content)
        if status != 200:
            refusal = answer["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        _fail(
            f"what answers at {url} is no Recado, or a proxy that does not pass /admin on: "
            "name the API process itself with --url, such as http://127.0.0.1:8000",
            1,
        )
    if status == 401:
        _fail(f"the server at {url} has another API key than RECADO_API_KEY", 1)
    if status != 200:
        _fail(refusal, 1)
    if where.json:
        print(content.decode())
    return answer


def _print_jobs(jobs: list[dict[str, Any]]) -> None:
    if not jobs:
        print("no jobs")
        return
    now = now_ms()
    table = Table("sink", "conversation", "seq", "state", "attempt", "age", "due", "error", box=None, pad_edge=False)
    for job in jobs:
        due = "" if job["state"] == "dead" else f"in {_age(job['due_at'] - now)}"
        age = _age(now - job["created_at"])
        cells = (job["sink"], job["conversation"], job["seq"], job["state"], job["attempt"], age, due, job["error"])
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    _print(table)


def _print_stats(counts: list[dict[str, Any]]) -> None:
    if not counts:
        print("no jobs")
        return
    now = now_ms()
    table = Table("sink", "state", "count", "oldest", box=None, pad_edge=False)
    for each in counts:
        table.add_row(each["sink"], each["state"], str(each["count"]), _age(now - each["oldest_at"]))
    _print(table)


def _print(table: Table) -> None:
    """Whole lines, also where the output is no terminal."""
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, markup=False, width=width).print(table)


def _age(ms: int) -> str:
    """The largest unit that gives two digits: 250ms, 42s, 17min, 30h, 12d."""
    for unit, size, most in (("ms", 1, 1_000), ("s", 1_000, 100), ("min", 60_000, 100), ("h", 3_600_000, 100)):
        if ms < size * most:
            return f"{max(ms, 0) // size}{unit}"
    return f"{ms // 86_400_000}d"


def _fail(text: str, status: int) -> NoReturn:
    print(f"recado: {text}", file=sys.stderr)
    sys.exit(status)
