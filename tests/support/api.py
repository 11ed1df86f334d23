"""The HTTP API as one caller uses it: a user with a token, or the host with its key."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

JsonObject = dict[str, Any]
TIMEOUT_S = 20.0
PAGE = 200


@dataclass(frozen=True)
class Answer:
    status: int
    body: JsonObject

    def expect(self, *statuses: int) -> JsonObject:
        """Return the body, or fail with what the server said."""
        assert self.status in statuses, f"expected HTTP {statuses}, got {self.status}: {self.body}"
        return self.body


class Api:
    def __init__(self, http_url: str, bearer: str, acting_as: str | None = None) -> None:
        self._http_url = http_url
        self._address = urlsplit(http_url).netloc
        self._bearer = bearer
        self._headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        if acting_as is not None:
            self._headers["Recado-User"] = acting_as

    def acting_as(self, user: str) -> Api:
        """Return the same caller, which must be the host, acting as a user."""
        return Api(self._http_url, self._bearer, user)

    def call(self, method: str, path: str, body: JsonObject | None = None, **query: int | str) -> Answer:
        """Make one call under /v1 on a connection of its own."""
        target = f"/v1{path}" + (f"?{urlencode(query)}" if query else "")
        connection = HTTPConnection(self._address, timeout=TIMEOUT_S)
        try:
            connection.request(method, target, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, json.loads(text) if text else {})
        finally:
            connection.close()

    def create_conversation(self, members: list[str], conversation: str | None = None) -> str:
        """Create a conversation, under an id that no test used before if none is given, and return its id."""
        conversation = conversation or f"t-{uuid.uuid4().hex[:12]}"
        self.call("PUT", f"/conversations/{conversation}", {"members": members}).expect(201)
        return conversation

    def add_member(self, conversation: str, user: str) -> JsonObject:
        return self.call("PUT", f"/conversations/{conversation}/members/{user}").expect(201)

    def remove_member(self, conversation: str, user: str) -> JsonObject:
        return self.call("DELETE", f"/conversations/{conversation}/members/{user}").expect(200)

    def send(self, conversation: str, body: str, message_id: str | None = None) -> JsonObject:
        """Send a message and return its event; a retry returns the first one."""
        message = {"body": body} if message_id is None else {"id": message_id, "body": body}
        return self.call("POST", f"/conversations/{conversation}/messages", message).expect(200, 201)

    def history(self, conversation: str) -> list[JsonObject]:
        """Return the conversation's whole log."""
        return self.history_after(conversation, 0)

    def history_after(self, conversation: str, seq: int) -> list[JsonObject]:
        """Return the conversation's log past a seq, page by page."""
        events: list[JsonObject] = []
        while True:
            after = events[-1]["seq"] if events else seq
            page = self.call("GET", f"/conversations/{conversation}/events", after=after, limit=PAGE).expect(200)
            events += page["events"]
            if not page["events"] or events[-1]["seq"] >= page["last_seq"]:
                return events
