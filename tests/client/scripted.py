"""A server that says what a test tells it to: for answers that the real one gives only when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties
from recado.mqtt.reason_codes import ReasonCode


class Peer:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(packet_bytes_max=1 << 20, role="server")
        self.pings = 0

    async def next(self) -> Packet | None:
        """None once the client is gone."""
        while (packet := self._decoder.next_packet()) is None:
            try:
                data = await self._reader.read(65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._decoder.receive(data)
        if isinstance(packet, Pingreq):
            self.pings += 1
            self.send(Pingresp())
            return await self.next()
        return packet

    def send(self, *packets: Packet) -> None:
        self._writer.write(b"".join(encode(packet, MQTT_5) for packet in packets))

    async def accept(self, is_session_present: bool = False, properties: Properties = EMPTY_PROPERTIES) -> Connect:
        connect = await self.next()
        assert isinstance(connect, Connect)
        self.send(Connack(is_session_present, properties=properties))
        return connect

    async def subscribed(self) -> Subscribe:
        """The next SUBSCRIBE, which is granted."""
        subscribe = await self.next()
        assert isinstance(subscribe, Subscribe), subscribe
        self.send(Suback(subscribe.packet_id, [ReasonCode.GRANTED_QOS_1]))
        return subscribe

    def event(self, seq: int, packet_id: int = 0, conversation: str = "x") -> None:
        payload = b'{"seq":%d,"from":"ana","at":1,"id":"m%d","body":"b%d"}' % (seq, seq, seq)
        self.send(Publish(f"c/{conversation}", payload, 1 if packet_id else 0, packet_id=packet_id))

    def acknowledge(self, publish: Publish, reason_code: ReasonCode = ReasonCode.SUCCESS) -> None:
        self.send(Puback(publish.packet_id, reason_code))

    def disconnect(self, reason_code: ReasonCode) -> None:
        self.send(Disconnect(reason_code))
        self.close()

    async def rest(self) -> list[Packet]:
        packets = []
        while (packet := await self.next()) is not None:
            packets.append(packet)
        return packets

    def close(self) -> None:
        self._writer.close()


Script = Callable[[Peer], Awaitable[None]]


class Scripted:
    """Its connections go through the scripts in turn; the last one is repeated. `connections` counts them."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.connections = 0
        self.errors: list[BaseException] = []
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        if self._running:
            await asyncio.wait(self._running, timeout=5)
        assert not self.errors, self.errors

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        running = asyncio.current_task()
        assert running is not None
        self._running.add(running)
        peer = Peer(reader, writer)
        try:
            await script(peer)
        except Exception as error:
            self.errors.append(error)
        finally:
            peer.close()
