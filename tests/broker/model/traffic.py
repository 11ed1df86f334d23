"""What a model's machine does with the bytes between its peers and the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic

from tests.broker.model.peer import AnyWire, Peer

ALL = 1_000_000
Work = tuple[bool, list[tuple[Any, ...]]]


class Traffic(Generic[AnyWire]):
    """`ghosts` are connections that their clients have given up, and the server has not."""

    peers: Mapping[str, Peer[AnyWire, Any]]
    ghosts: list[AnyWire]

    def run(self, act: Callable[[], Any]) -> None:
        raise NotImplementedError

    def everybody_connects(self) -> None:
        raise NotImplementedError

    def do(self, work: Work) -> None:
        everybody_connects, acts = work
        if everybody_connects:
            self.everybody_connects()
        for act, *told in acts:
            getattr(self, act)(*told)

    def client_to_server(self, name: str, count: int) -> None:
        wire = self.peers[name].wire
        if wire is not None and wire.to_server:
            self.run(lambda: wire.pass_on(count))

    def server_to_client(self, name: str, count: int) -> None:
        peer = self.peers[name]
        if peer.wire is not None and peer.wire.to_client:
            self.run(lambda: peer.take(count))

    def talk(self, name: str) -> None:
        """Everything goes through, both ways."""
        for _ in range(3):
            self.client_to_server(name, ALL)
            self.server_to_client(name, ALL)

    def answer(self, name: str, count: int) -> None:
        peer = self.peers[name]
        if peer.is_connected:
            peer.answer(count)
            self.client_to_server(name, ALL)

    def ghost(self, count: int, is_over: bool) -> None:
        """What a connection that its client has given up still had on its way gets there, or not."""
        if self.ghosts:
            wire = self.ghosts[0]
            self.run(lambda: wire.drop() if is_over else wire.pass_on(count))
            if wire.is_lost:
                self.ghosts.remove(wire)
