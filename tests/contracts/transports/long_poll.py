"""Long polling, by http.client: a request is always under way, and the next one follows as soon as it is answered."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from tests.contracts.transports.contract import ANSWER_TIMEOUT_S, Arrival, JsonObject, Refused, cut
from tests.support.server import Server

WAIT_S = 10


class PollReader:
    def __init__(self, server: Server, user: str, token: str) -> None:
        self.token = token
        self._address = f"127.0.0.1:{server.http_port}"
        self._conversation: str | None = None
        self._place: dict[str, str] = {}  # `after` or `cursor`, from the last answer
        self._arrivals: deque[Arrival] = deque()
        self._connection: HTTPConnection | None = None
        self._is_asking = False

    def follow(self, conversation: str, after: int | None = None) -> None:
        self._conversation = conversation
        self._place = {"after": str(after if after is not None else self._ask_at_once(limit="1")["last_seq"])}
        self.resume()

    def follow_all(self, cursor: str | None = None) -> None:
        self._place = {"cursor": cursor if cursor is not None else self._ask_at_once()["cursor"]}
        self.resume()

    def next(self) -> Arrival:
        while not self._arrivals:
            if not self._is_asking:
                self._ask(wait=str(WAIT_S), **self._place)
            self._take(self._answer())
            self._ask(wait=str(WAIT_S), **self._place)
        return self._arrivals.popleft()

    def rest(self) -> list[Arrival]:
        """Up to an answer of nothing; or up to a 404, for who is no member has nothing to come."""
        self._disconnect()
        try:
            while answer := self._ask_at_once(wait="0", **self._place):
                self._take(answer)
        except Refused as refused:
            if refused.code != "not_found":
                raise
        arrivals = list(self._arrivals)
        self._arrivals.clear()
        return arrivals

    def drop(self) -> None:
        """What was answered has come, and is kept: the place is past it."""
        if self._connection is not None and self._connection.sock is not None:
            with suppress(OSError):  # the server may be gone
                cut(self._connection.sock.fileno())
        self._disconnect()

    def resume(self) -> None:
        """The first request is answered at once: so it is known whether the others will be held."""
        self._disconnect()
        self._take(self._ask_at_once(wait="0", **self._place))
        self._ask(wait=str(WAIT_S), **self._place)

    def close(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._is_asking = False

    def _ask_at_once(self, **query: str) -> JsonObject:
        self._ask(**query)
        return self._answer()

    def _ask(self, **query: str) -> None:
        if self._connection is None:
            self._connection = HTTPConnection(self._address, timeout=ANSWER_TIMEOUT_S)
        of_one = "" if self._conversation is None else f"/conversations/{self._conversation}"
        headers = {"Authorization": f"Bearer {self.token}"}
        self._connection.request("GET", f"/v1{of_one}/events?{urlencode(query)}", headers=headers)
        self._is_asking = True

    def _answer(self) -> JsonObject:
        """The page that was answered; empty if nothing is new."""
        assert self._connection is not None, "not connected"
        self._is_asking = False
        response = self._connection.getresponse()
        text = response.read()
        page: Any = json.loads(text) if text else {}
        if response.status >= 400:
            raise Refused(page["error"]["code"])
        assert isinstance(page, dict)
        return page

    def _take(self, page: JsonObject) -> None:
        events = page.get("events", [])
        if self._conversation is None:
            self._arrivals += [Arrival(each["conversation"], each["event"]) for each in events]
            self._place = {"cursor": page["cursor"]} if page else self._place
        else:
            self._arrivals += [Arrival(self._conversation, event) for event in events]
            last = events[-1]["seq"] if events else page.get("last_seq")
            self._place = {"after": str(last)} if page else self._place
