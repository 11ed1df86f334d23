"""What a way of reading, and a way of sending, is to the tests: the same for all five transports.

Nothing reads ahead: what `next` has not asked for stays in the connection, so a reader that is not asked has stopped
reading. Nothing reconnects by itself: a test that goes on reading has shown that its reader was not disconnected.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.support.server import Server

JsonObject = dict[str, Any]
ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Arrival:
    """An event or a signal, as it came."""

    conversation: str
    content: JsonObject
    is_signal: bool = False


class Refused(Exception):
    """The server said no, or ended what it had begun. `code` is what HTTP calls it, whatever the transport does."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reader(Protocol):
    """One reader of a user's: of one conversation, or of all. A connection that breaks raises ConnectionError."""

    token: str
    """With which it connects."""

    def follow(self, conversation: str, after: int | None = None) -> None:
        """Connect and read from past a seq on, or from now on. Raises Refused."""

    def follow_all(self, cursor: str | None = None) -> None:
        """Connect and read everything of the user from now on, or past a cursor if the transport has one. Raises
        Refused."""

    def next(self) -> Arrival:
        """Raises Refused when the server ends it."""

    def rest(self) -> list[Arrival]:
        """What comes before a sign of life that the server was asked for now, and that comes after all it has."""

    def drop(self) -> None:
        """Lose the connection, with no word to the server, and what was in it."""

    def resume(self) -> None:
        """Connect anew, and go on after what `next` returned last. Raises Refused."""

    def close(self) -> None: ...


class Sender(Protocol):
    def send(self, conversation: str, body: str, message_id: str) -> int | None:
        """Return when it is acknowledged, with the message's seq if the transport tells it. Raises Refused."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Transport:
    """The makers take the server, a user and its token."""

    new_reader: Callable[[Server, str, str], Reader]
    new_sender: Callable[[Server, str, str], Sender]
    tells_seqs: bool
    """Whether a sender is told its message's seq: a PUBACK does not say it."""
    has_cursor: bool
    """Whether everything is resumed at one place, past which a removal is told too; else at seqs."""


def cut(fileno: int) -> None:
    """End a connection below its protocol: no DISCONNECT, no close frame."""
    with socket.socket(fileno=os.dup(fileno)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
