"""`recado broker` as a user runs it, and clients of bare bytes for it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

from recado.broker.passwords import set_password
from recado.mqtt.packets import MQTT_5, Connack, Connect, Publish, Suback, Subscribe, SubscriptionRequest, Will
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.client import Client, TcpStream
from tests.support.server import Server

RELOAD_TIMEOUT_S = 20


class Broker(Server):
    """Its files are `users`, `acl` and `recado.toml` in its directory; those that are there are used."""

    def __init__(self, directory: Path, *options: str, **settings: str) -> None:
        files = [
            f"--{flag}={directory / name}"
            for flag, name in (("password-file", "users"), ("acl-file", "acl"))
            if (directory / name).exists()
        ]
        environment = {f"RECADO_{name}": value for name, value in settings.items()}
        super().__init__(directory, "broker", ("--log-format=json", *files, *options), environment)

    def lines(self, *events: str) -> list[dict[str, Any]]:
        """What it logged of these events."""
        lines = [json.loads(line) for line in self.printed if line.startswith("{")]
        return [line for line in lines if line["event"] in events]

    def awaited(self, event: str) -> dict[str, Any]:
        """The first line of this event, which may be still to come."""
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while not (lines := self.lines(event)):
            assert time.monotonic() < deadline, f"no {event}:\n{self.log}"
            time.sleep(0.02)
        return lines[0]

    def reload(self) -> dict[str, Any]:
        """SIGHUP; returns the line with which it says how that went."""
        before = len(self.lines("reloaded", "not_reloaded"))
        self.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while len(said := self.lines("reloaded", "not_reloaded")) == before:
            assert time.monotonic() < deadline, f"it was not reloaded:\n{self.log}"
            time.sleep(0.02)
        assert len(said) == before + 1
        return said[-1]

    async def client(self, level: int = MQTT_5) -> Client:
        """A client that has not sent CONNECT yet."""
        return Client(await TcpStream.open(self.mqtt_port), level)

    async def connect(
        self,
        user: str | None = None,
        password: str | None = None,
        client_id: str = "phone",
        level: int = MQTT_5,
        properties: Properties = EMPTY_PROPERTIES,
        will: Will | None = None,
    ) -> tuple[Client, Connack]:
        client = await self.client(level)
        secret = None if password is None else password.encode()
        await client.send(Connect(client_id, level, True, 0, will, user, secret, properties))
        return client, await client.expect(Connack)

    async def connected(self, user: str | None = None, password: str | None = None, **connect: Any) -> Client:
        client, connack = await self.connect(user, password, **connect)
        assert connack.reason_code == ReasonCode.SUCCESS, connack
        return client


def users(directory: Path, **passwords: str) -> None:
    """Write the password file."""
    for user, password in passwords.items():
        set_password(directory / "users", user, password)


async def subscribe(client: Client, topic_filter: str, qos: int = 0) -> ReasonCode:
    await client.send(Subscribe(client.next_packet_id(), [SubscriptionRequest(topic_filter, qos)]))
    return (await client.expect(Suback)).reason_codes[0]


async def received(client: Client) -> list[tuple[str, str]]:
    """Topic and payload of all that came up to now. Fails on anything that is no publish."""
    packets = await client.before_pong()
    publishes = [packet for packet in packets if isinstance(packet, Publish)]
    assert len(publishes) == len(packets), packets
    return [(publish.topic_name, publish.payload.decode()) for publish in publishes]
