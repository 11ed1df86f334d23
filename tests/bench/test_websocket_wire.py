"""The clients' WebSocket: frames come in any pieces, pings are answered, and what the server refuses is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recado.bench.failure import Failure, RunFailed
from recado.bench.radio import Radio
from recado.bench.websocket_wire import BINARY, PONG, WebSocketWire
from recado.bench.wire import Wire

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
PING = b"\x89\x02hi"
MESSAGES = [b"short", b"m" * 200, b"l" * 70_000]
STREAM = HEAD + PING + b"\x82\x05short" + b"\x82\x7e\x00\xc8" + b"m" * 200 + b"\x82\x7f" + (70_000).to_bytes(8, "big")
STREAM += b"l" * 70_000


class Client(Wire):
    """A wire that keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__(Radio(1.0), Failure())
        self.sent: list[bytes] = []
        self.opened = 0
        self.messages: list[bytes] = []
        self.websocket = WebSocketWire(self, BINARY, self._open, self.messages.append)

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def _open(self) -> None:
        self.opened += 1


def cuts() -> Iterator[int]:
    yield from range(len(HEAD) + 30)
    yield from range(len(STREAM) - 70_020, len(STREAM) - 69_980)


async def test_messages_come_whole_wherever_the_stream_is_cut() -> None:
    for cut in cuts():
        client = Client()
        for piece in (STREAM[:cut], STREAM[cut:]):
            client.receive(piece)
        assert client.opened == 1, cut
        assert client.messages == MESSAGES, cut
        assert client.sent == [bytes((0x80 | PONG, 0x82)) + bytes(4) + b"hi"], cut


@pytest.mark.parametrize(("size", "head"), [(125, b"\x82\xfd"), (126, b"\x82\xfe\x00\x7e")])
async def test_what_is_sent_is_masked_and_has_the_shortest_length(size: int, head: bytes) -> None:
    client = Client()
    client.websocket.send(b"x" * size)
    assert client.sent == [head + bytes(4) + b"x" * size]


async def test_a_refused_upgrade_and_a_closed_websocket_are_said() -> None:
    with pytest.raises(RunFailed, match=r"no WebSocket: b'HTTP/1\.1 403 Forbidden"):
        Client().receive(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    client = Client()
    client.receive(HEAD)
    with pytest.raises(RunFailed, match="the server closed a WebSocket: 4401 no token came in time"):
        client.receive(b"\x88\x17\x11\x31no token came in time")
