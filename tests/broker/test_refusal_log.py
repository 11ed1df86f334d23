"""What the log says of refusals, and how much of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from recado.broker.refusal_log import RefusalLog, fields

RATE_MAX = 3


class Lines(logging.Handler):
    """Keeps the records that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.came = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.msg == "refusals_left_out":
            self.came.set()

    def events(self) -> list[str]:
        return [record.msg for record in self.records]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    log = logging.getLogger("recado.broker.refusal_log")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


async def test_a_flood_is_a_few_lines_and_then_one_that_says_how_many_were_left_out(lines: Lines) -> None:
    refusals = RefusalLog(RATE_MAX)
    for n in range(100):
        refusals.log("connect_refused", "NOT_AUTHORIZED", user=str(n))
    assert lines.events() == ["connect_refused"] * RATE_MAX
    async with asyncio.timeout(20):
        await lines.came.wait()
    assert lines.events() == [*["connect_refused"] * RATE_MAX, "refusals_left_out"]
    assert vars(lines.records[-1])["count"] == 100 - RATE_MAX
    refusals.log("connect_refused", "NOT_AUTHORIZED")
    assert lines.events()[-1] == "connect_refused", "the next second has its own"
    refusals.close()


async def test_a_server_that_stops_tells_what_it_left_out(lines: Lines) -> None:
    refusals = RefusalLog(RATE_MAX)
    for _ in range(RATE_MAX):
        refusals.log("connect_refused", "NOT_AUTHORIZED")
    refusals.close()
    assert "refusals_left_out" not in lines.events(), "nothing was"
    for _ in range(RATE_MAX + 2):
        refusals.log("connect_refused", "NOT_AUTHORIZED")
    refusals.close()
    assert vars(lines.records[-1])["count"] == 2


async def test_nothing_is_counted_or_timed_while_the_level_hides_it(lines: Lines) -> None:
    logging.getLogger("recado.broker.refusal_log").setLevel(logging.WARNING)
    refusals = RefusalLog(1)
    refusals.log("connect_refused", "NOT_AUTHORIZED")
    logging.getLogger("recado.broker.refusal_log").setLevel(logging.INFO)
    refusals.log("connect_refused", "NOT_AUTHORIZED")
    assert lines.events() == ["connect_refused"]
    refusals.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("joão", "joão"),
        ("a\x1b[2Jb", r"'a\x1b[2Jb'"),
        ("a\nready", r"'a\nready'"),
        ("\u202eevil", r"'\u202eevil'"),
        ("x" * 1000, "x" * 256),
    ],
    ids=["plain", "escape", "line", "direction", "long"],
)
def test_what_a_stranger_calls_itself_is_no_command_and_no_flood(text: str, shown: str) -> None:
    assert fields(user=text) == {"user": shown}


def test_what_is_not_known_is_no_field() -> None:
    assert fields(user=None, topic="", reason="x") == {"reason": "x"}
