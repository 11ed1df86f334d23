"""`make production-demo`: the article's whole system, as one command starts it and Ctrl-C ends it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from recado.app import demo
from tests.support.browser import OpenPage, message, new_body, open_conversation, send

_END_TIMEOUT_S = 60
_LAST_LINE = "Ctrl-C stops everything"
PROCESSES_MIN = 5  # two API processes, a worker, PostgreSQL, Mosquitto; moto's command line does not name the folder


class Running:
    """What the command says once everything runs."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "deploy.production_demo"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith(_LAST_LINE):
                break
        else:
            pytest.fail(f"it ended:\n{self.printed}")

    def said(self, pattern: str) -> str:
        found = re.search(pattern, self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def url(self, user: str) -> str:
        return self.said(rf"^  {user} +(http\S+)")

    @property
    def folder(self) -> Path:
        return Path(self.said(r"^logs: +(\S+),"))

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_END_TIMEOUT_S)


@pytest.fixture
def system() -> Iterator[Running]:
    running = Running()
    yield running
    if running.process.poll() is None:
        running.interrupt()


def test_two_people_at_two_api_processes_talk_and_one_interrupt_ends_it_all(
    system: Running, open_page: OpenPage
) -> None:
    people = {user: open_page(system.url(user)) for user in demo.USERS}
    for page in people.values():
        open_conversation(page, demo.CONVERSATION)
    bodies = [new_body(f"from {user}") for user in people]
    for page, body in zip(people.values(), bodies, strict=True):
        send(page, body)
        for each in people.values():
            expect(message(each, body, "sent")).to_be_visible()
            expect(message(each, body)).to_have_count(1)
    folder = system.folder
    assert len(_processes_of(folder)) >= PROCESSES_MIN

    assert system.interrupt() == 0

    assert not folder.exists()
    assert not _processes_of(folder)


def _processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has gone
            continue
        if str(folder) in command:
            found.append(command)
    return found
