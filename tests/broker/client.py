"""An MQTT client of bare bytes, over TCP or WebSocket: it reads only when a test asks, and checks what it decodes."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode

TIMEOUT_S = 20
PACKET_BYTES_MAX = 1_000_000
CHUNK = 65_536
P = TypeVar("P", bound=Packet)


class Stream(Protocol):
    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """What came next, b"" at the end."""

    def close(self) -> None: ...


class TcpStream:
    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @classmethod
    async def open(cls, port: int, receive_buffer_bytes: int | None = None) -> TcpStream:
        connecting = socket.socket()
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes is not None:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", port))
        return cls(connecting)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.get_running_loop().sock_recv(self.socket, CHUNK)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.socket.close()


class WsStream:
    """Frames over TCP, as RFC 6455 has them. `close_code` is the server's, once it has closed."""

    def __init__(self, tcp: TcpStream) -> None:
        self.tcp = tcp
        self.close_code: int | None = None
        self.pongs: list[bytes] = []
        self._received = bytearray()

    @classmethod
    async def open(cls, port: int, receive_buffer_bytes: int | None = None) -> WsStream:
        stream = cls(await TcpStream.open(port, receive_buffer_bytes))
        status, _ = await stream.upgrade()
        assert status == 101
        return stream

    async def upgrade(
        self, path: str = "/mqtt", headers: Mapping[str, str | None] = MappingProxyType({}), after: bytes = b""
    ) -> tuple[int, str]:
        """Ask for the upgrade; returns the status and the headers and the body. A header of None is left out."""
        asked: dict[str, str | None] = {
            "Host": "127.0.0.1",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "mqtt",
            **headers,
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items() if value is not None)]
        await self.tcp.send("\r\n".join([*lines, "", ""]).encode("latin-1") + after)
        answer = b""
        while b"\r\n\r\n" not in answer and (data := await self.tcp.receive()):
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1]) if head else 0
        if status == 101:
            self._received += rest
            return status, head.decode()
        while data := await self.tcp.receive():
            rest += data
        return status, (head + b"\r\n\r\n" + rest).decode()

    async def send(self, data: bytes) -> None:
        await self.send_frame(0x82, data)

    async def send_frame(self, first: int, data: bytes) -> None:
        await self.tcp.send(self.frame(first, data))

    @staticmethod
    def frame(first: int, data: bytes) -> bytes:
        mask = os.urandom(4)
        size = len(data)
        if size < 126:
            head = bytes((first, 0x80 | size))
        elif size < 65_536:
            head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
        return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))

    async def receive(self) -> bytes:
        while True:
            frame = self._next_frame()
            if frame is not None:
                opcode, data = frame
                if opcode == 2:
                    return data
                if opcode == 8:
                    self.close_code = int.from_bytes(data[:2], "big")
                if opcode == 10:
                    self.pongs.append(data)
                continue
            received = await self.tcp.receive()
            if not received:
                return b""
            self._received += received

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        assert data[0] & 0x80, "the server sends whole frames"
        assert not data[1] & 0x80, "a server does not mask"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        frame = data[0] & 0x0F, bytes(data[start : start + size])
        del data[: start + size]
        return frame

    def close(self) -> None:
        self.tcp.close()


class Client:
    def __init__(self, stream: Stream, level: int = MQTT_5) -> None:
        self.stream = stream
        self.level = level
        self._decoder = Decoder(packet_bytes_max=PACKET_BYTES_MAX, role="client", protocol_level=level)
        self._packet_id = 0

    def next_packet_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    async def connect(
        self,
        user: str,
        client_id: str = "phone",
        keep_alive: int = 0,
        clean_start: bool = True,
        properties: Properties = EMPTY_PROPERTIES,
    ) -> Connack:
        await self.send(Connect(client_id, self.level, clean_start, keep_alive, None, user, b"secret", properties))
        return await self.expect(Connack)

    async def send(self, *packets: Packet) -> None:
        await self.stream.send(b"".join(encode(packet, self.level) for packet in packets))

    async def next(self) -> Packet | None:
        """The next packet, None if the server has closed."""
        while (packet := self._decoder.next_packet()) is None:
            data = await self.stream.receive()
            if not data:
                return None
            self._decoder.receive(data)
        return packet

    async def expect(self, kind: type[P]) -> P:
        packet = await self.next()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    async def rest(self) -> list[Packet]:
        """Everything until the server has closed."""
        packets = []
        while (packet := await self.next()) is not None:
            packets.append(packet)
        return packets

    async def before_pong(self) -> list[Packet]:
        """Everything that the server sent before it answers a ping that is sent now."""
        await self.send(Pingreq())
        packets: list[Packet] = []
        while not isinstance(packet := await self.next(), Pingresp):
            assert packet is not None, "the server has closed"
            packets.append(packet)
        return packets

    async def subscribe(
        self, *topic_filters: str, qos: int = 1, after: tuple[str, ...] = (), no_local: bool = False
    ) -> list[ReasonCode]:
        await self.send(self.subscription(*topic_filters, qos=qos, after=after, no_local=no_local))
        return (await self.expect(Suback)).reason_codes

    def subscription(
        self, *topic_filters: str, qos: int = 1, after: tuple[str, ...] = (), no_local: bool = False
    ) -> Subscribe:
        properties = {PropertyId.USER_PROPERTY: [("after", each) for each in after]} if after else EMPTY_PROPERTIES
        requests = [SubscriptionRequest(each, qos, no_local) for each in topic_filters]
        return Subscribe(self.next_packet_id(), requests, properties)

    async def publish(self, topic_name: str, payload: str, packet_id: int = 0, dup: bool = False) -> Puback:
        """Publish at QoS 1 and wait for the answer."""
        packet_id = packet_id or self.next_packet_id()
        await self.send(Publish(topic_name, payload.encode(), 1, packet_id=packet_id, dup=dup))
        puback = await self.expect(Puback)
        assert puback.packet_id == packet_id
        return puback

    async def take(self, count: int, acknowledge: bool = True) -> list[str]:
        """The payloads of the next deliveries."""
        payloads = []
        for _ in range(count):
            publish = await self.expect(Publish)
            payloads.append(publish.payload.decode())
            if publish.qos and acknowledge:
                await self.send(Puback(publish.packet_id))
        return payloads

    def close(self) -> None:
        self.stream.close()
