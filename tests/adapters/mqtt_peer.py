"""A broker for one test, by script: what it takes, what it answers, and when it goes, the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from deploy.services.ports import free_ports
from recado.mqtt.codec import Decoder, encode, puback_bytes
from recado.mqtt.packets import MQTT_3_1_1, Connack, Connect, Packet, Pingreq, Pingresp, Publish, Suback, Subscribe
from recado.mqtt.reason_codes import ReasonCode

TIMEOUT_S = 20
P = TypeVar("P", bound=Packet)


class Accepted:
    """One connection that was made to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(packet_bytes_max=1_000_000, role="server")

    async def next(self) -> Packet | None:
        """The next packet; None at the end."""
        async with asyncio.timeout(TIMEOUT_S):
            while (packet := self._decoder.next_packet()) is None:
                data = await self._reader.read(65_536)
                if not data:
                    return None
                self._decoder.receive(data)
            return packet

    async def expect(self, kind: type[P]) -> P:
        packet = await self.next()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    async def publishes(self, count: int) -> list[Publish]:
        """The next so many; pings in between are answered."""
        found: list[Publish] = []
        while len(found) < count:
            packet = await self.next()
            if isinstance(packet, Pingreq):
                self.send(Pingresp())
                continue
            assert isinstance(packet, Publish), f"{packet} came after {len(found)} publishes"
            found.append(packet)
        return found

    async def sign_in(self) -> Connect:
        connect = await self.expect(Connect)
        self.send(Connack())
        return connect

    async def grant(self) -> str:
        """The filter of a SUBSCRIBE."""
        subscribe = await self.expect(Subscribe)
        self.send(Suback(subscribe.packet_id, [ReasonCode.GRANTED_QOS_0]))
        return subscribe.subscriptions[0].topic_filter

    def acknowledge(self, *publishes: Publish) -> None:
        for publish in publishes:
            self.write(puback_bytes(publish.packet_id))

    def send(self, packet: Packet) -> None:
        self.write(encode(packet, MQTT_3_1_1))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def lose(self) -> None:
        self._writer.transport.abort()

    async def ended(self) -> None:
        """Returns when the other side has ended it."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(TIMEOUT_S):
                while await self.next() is not None:
                    pass


class Peer:
    """`accept` waits for the next connection. It keeps its port while it does not listen."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        (self.port,) = free_ports(1)
        self._context = context
        self._accepted: asyncio.Queue[Accepted] = asyncio.Queue()
        self._all: list[Accepted] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._context)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = Accepted(reader, writer)
        self._all.append(accepted)
        self._accepted.put_nowait(accepted)

    async def accept(self) -> Accepted:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._accepted.get()

    def close(self) -> None:
        """Listen no more, and end its connections."""
        if self._server is not None:
            self._server.close()
        for accepted in self._all:
            accepted.lose()


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer(context)
    await peer.listen()
    try:
        yield peer
    finally:
        peer.close()
