"""The demo as its two users have it: the URLs that it printed, and who is behind each."""

from __future__ import annotations

import json
import re
import time
from http.client import HTTPConnection
from pathlib import Path

from tests.support.api import Api
from tests.support.server import Server

DEMO_URL = re.compile(r"http://[^\s\x1b]+/#demo=([\w.~-]+)(?=[\s\x1b])")  # all of it, not what is written so far
USERS = 2
PRINT_TIMEOUT_S = 20


class Demo:
    def __init__(self, directory: Path) -> None:
        self.server = Server.demo(directory)
        self.urls: dict[str, str] = {}
        self.apis: dict[str, Api] = {}

    def start(self) -> None:
        """Start it and learn from each printed URL whose it is. It prints them when it is ready, so that comes last."""
        said_before = len(self.server.log)
        self.server.start()
        deadline = time.monotonic() + PRINT_TIMEOUT_S
        while len(printed_urls := list(DEMO_URL.finditer(self.server.log, said_before))) < USERS:
            assert time.monotonic() < deadline, f"the demo did not print {USERS} URLs:\n{self.server.log}"
            time.sleep(0.02)
        for printed in printed_urls:
            session = self._exchange(printed.group(1))
            self.urls[session["user"]] = printed.group(0)
            self.apis[session["user"]] = Api(self.server.http_url, session["token"])

    @property
    def conversation(self) -> str:
        """The id of the conversation that the demo made."""
        listed = self.apis["ana"].call("GET", "/conversations").expect(200)["conversations"]
        conversation = listed[0]["id"]
        assert isinstance(conversation, str)
        return conversation

    def _exchange(self, code: str) -> dict[str, str]:
        connection = HTTPConnection("127.0.0.1", self.server.http_port, timeout=20)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/demo/token", json.dumps({"code": code}), headers)
            session = json.loads(connection.getresponse().read())
            assert "token" in session, session
            return {"user": session["user"], "token": session["token"]}
        finally:
            connection.close()
