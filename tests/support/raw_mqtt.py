"""A client of bare packets, of MQTT 5 unless told otherwise, for what the usual clients cannot be made to do."""

from __future__ import annotations

import socket
from typing import TypeVar

from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import MQTT_5, Connack, Connect, Packet, Suback, Subscribe, SubscriptionRequest, Will
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.support.server import Server

P = TypeVar("P", bound=Packet)
PACKET_BYTES_MAX = 1024 * 1024
TIMEOUT_S = 20
METHOD = "token"


class RawClient:
    """Connected when it is made; with `token` by the authentication method, else by the password."""

    def __init__(
        self,
        server: Server,
        user: str,
        *,
        token: str | None = None,
        will: Will | None = None,
        properties: Properties = EMPTY_PROPERTIES,
        client_id: str | None = None,
        clean_start: bool = True,
        level: int = MQTT_5,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.mqtt_port), TIMEOUT_S)
        self.level = level
        self._decoder = Decoder(packet_bytes_max=PACKET_BYTES_MAX, role="client", protocol_level=level)
        password = None if token else server.token(user).encode()
        if token:
            properties = {**properties, **authentication(token)}
        username = None if token else user
        client_id = client_id or f"raw-{user}"
        self.send(Connect(client_id, level, clean_start, 0, will, username, password, properties))
        self.connack = self.expect(Connack)
        assert self.connack.reason_code is ReasonCode.SUCCESS

    def send(self, packet: Packet) -> None:
        self.socket.sendall(encode(packet, self.level))

    def receive(self) -> Packet:
        while (packet := self._decoder.next_packet()) is None:
            data = self.socket.recv(65_536)
            assert data, "the server closed the connection"
            self._decoder.receive(data)
        return packet

    def expect(self, kind: type[P]) -> P:
        packet = self.receive()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    def subscribe(self, topic_filter: str, qos: int = 1, identifier: int = 0) -> ReasonCode:
        properties = {PropertyId.SUBSCRIPTION_IDENTIFIER: identifier} if identifier else EMPTY_PROPERTIES
        self.send(Subscribe(1, [SubscriptionRequest(topic_filter, qos)], properties))
        (granted,) = self.expect(Suback).reason_codes
        return granted

    def close(self) -> None:
        self.socket.close()


def authentication(token: str) -> Properties:
    return {PropertyId.AUTHENTICATION_METHOD: METHOD, PropertyId.AUTHENTICATION_DATA: token.encode()}
