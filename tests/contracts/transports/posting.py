"""Messages that go up by POST, for the transports of the HTTP port."""

from __future__ import annotations

from tests.contracts.transports.contract import Refused
from tests.support.api import Answer, Api
from tests.support.server import Server


class PostSender:
    def __init__(self, server: Server, user: str, token: str) -> None:
        self._api = Api(server.http_url, token)

    def send(self, conversation: str, body: str, message_id: str) -> int | None:
        answer = self._api.call("POST", f"/conversations/{conversation}/messages", {"id": message_id, "body": body})
        seq: int = checked(answer).body["seq"]
        return seq

    def close(self) -> None:
        """Each call has a connection of its own."""


def checked(answer: Answer) -> Answer:
    if answer.status >= 400:
        raise Refused(answer.body["error"]["code"])
    return answer
