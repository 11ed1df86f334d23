"""MQTT clients of a benchmark: `Wire` for many of them on one event loop, `BlockingClient` for one by itself."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId

PACKET_BYTES_MAX = 1 << 20
TIMEOUT_S = 30
TRANSPORTS = ["tcp", "ws"]
KEPT: Properties = {PropertyId.SESSION_EXPIRY_INTERVAL: 3600}


class Where(Protocol):
    """A server, and what a user's password is there."""

    @property
    def mqtt_port(self) -> int: ...
    @property
    def ws_port(self) -> int: ...
    def token(self, user: str) -> str: ...


class Wire:
    """One client over TCP or WebSocket. `on_packet` gets every PUBLISH and PUBACK, `on_lost` hears that the connection
    ended, if `drop` did not end it. `answered_at` is when the last other packet came."""

    def __init__(self, on_packet: Callable[[Wire, Packet], None], on_lost: Callable[[str], None]) -> None:
        self.send: Callable[[bytes], None]
        self._abort: Callable[[], None]
        self._dropped = False
        self.answered_at = 0.0
        self.packets: asyncio.Queue[Packet] = asyncio.Queue()
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._decoder = Decoder(packet_bytes_max=PACKET_BYTES_MAX, role="client", protocol_level=MQTT_5)

    def receive(self, data: bytes) -> None:
        self._decoder.receive(data)
        while (packet := self._decoder.next_packet()) is not None:
            if isinstance(packet, Publish | Puback):
                self._on_packet(self, packet)
            else:
                self.answered_at = time.perf_counter()
                self.packets.put_nowait(packet)

    def lost(self) -> None:
        if not self._dropped:
            last = self.packets.get_nowait() if not self.packets.empty() else "nothing"
            self._on_lost(f"a connection ended; the last that was heard: {last}")

    async def connect(
        self,
        server: Where,
        transport: str,
        user: str,
        client_id: str,
        clean_start: bool = True,
        properties: Properties = EMPTY_PROPERTIES,
    ) -> Connack:
        await self._open(server, transport)
        self.send(encode(_connect_packet(server, user, client_id, clean_start, properties), MQTT_5))
        connack = await asyncio.wait_for(self.packets.get(), TIMEOUT_S)
        assert isinstance(connack, Connack), connack
        assert connack.reason_code == 0, connack
        return connack

    async def _open(self, server: Where, transport: str) -> None:
        if transport == "tcp":
            loop = asyncio.get_running_loop()
            tcp, _ = await loop.create_connection(lambda: _TcpClient(self), "127.0.0.1", server.mqtt_port)
            self.send, self._abort = tcp.write, tcp.abort
        else:
            url = f"ws://127.0.0.1:{server.ws_port}/mqtt"
            ws, _ = await ws_connect(lambda: _WsClient(self), url, extra_headers={"Sec-WebSocket-Protocol": "mqtt"})
            self.send = lambda data: ws.send(WSMsgType.BINARY, data)
            self._abort = ws.disconnect

    async def subscribe(self, topic_filter: str) -> None:
        self.send(encode(Subscribe(1, [SubscriptionRequest(topic_filter, qos=1)]), MQTT_5))
        check_granted(await asyncio.wait_for(self.packets.get(), TIMEOUT_S))

    def drop(self) -> None:
        """End the connection as a broken network does, without a word."""
        self._dropped = True
        self._abort()


class _TcpClient(asyncio.Protocol):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.data_received = wire.receive  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.lost()


class _WsClient(WSListener):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._wire.receive(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._wire.lost()


class BlockingClient:
    """One client over TCP, connected when it is made. `receive_buffer_bytes` makes its socket's buffer a small one."""

    def __init__(
        self,
        server: Where,
        user: str,
        clean_start: bool = True,
        properties: Properties = EMPTY_PROPERTIES,
        receive_buffer_bytes: int = 0,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(TIMEOUT_S)
        self._open(server)
        self._decoder = Decoder(packet_bytes_max=PACKET_BYTES_MAX, role="client", protocol_level=MQTT_5)
        self.send(_connect_packet(server, user, user, clean_start, properties))
        connack = self.receive()
        assert isinstance(connack, Connack), connack
        assert connack.reason_code == 0, connack
        self.session_present = connack.session_present

    def _open(self, server: Where) -> None:
        self.socket.connect(("127.0.0.1", server.mqtt_port))

    def send(self, packet: Packet) -> None:
        self.send_bytes(encode(packet, MQTT_5))

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Packet:
        while (packet := self._decoder.next_packet()) is None:
            self._decoder.receive(self.receive_bytes())
        return packet

    def receive_some(self) -> list[Packet]:
        """At least one packet, and all that came with it."""
        packets = [self.receive()]
        while (packet := self._decoder.next_packet()) is not None:
            packets.append(packet)
        return packets

    def receive_bytes(self) -> bytes:
        data = self.socket.recv(1 << 18)
        assert data, "the server closed the connection"
        return data

    def subscribe(self, topic_filter: str, properties: Properties = EMPTY_PROPERTIES) -> None:
        """Does not wait for the answer."""
        self.send(Subscribe(1, [SubscriptionRequest(topic_filter, qos=1)], properties))


def check_granted(packet: Packet) -> None:
    assert isinstance(packet, Suback), packet
    assert packet.reason_codes == [1], packet


def _connect_packet(server: Where, user: str, client_id: str, clean_start: bool, properties: Properties) -> Connect:
    password = server.token(user).encode()
    return Connect(client_id, MQTT_5, clean_start, 0, username=user, password=password, properties=properties)
