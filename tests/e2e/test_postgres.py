"""A whole server on PostgreSQL: what its clients notice, and what does not work there and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.services.child_process import running
from deploy.services.postgres import Postgres
from recado.mqtt.packets import Publish, Suback, Subscribe, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.app.commands import refusal
from tests.support.raw_mqtt import RawClient
from tests.support.server import API_KEY, SECRET, Server

HOUR_S = 3_600
ENVIRONMENT = {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY}


def on_postgres(folder: Path, url: str) -> Server:
    """A server that is not started yet."""
    folder.mkdir(exist_ok=True)
    return Server(folder, "serve", (), {**ENVIRONMENT, "RECADO_DATABASE": url})


@pytest.fixture
def node(tmp_path: Path, postgres_database: str) -> Iterator[Server]:
    with running(on_postgres(tmp_path, postgres_database)) as server:
        yield server


def seqs(client: RawClient, count: int) -> list[int]:
    return [json.loads(client.expect(Publish).payload)["seq"] for _ in range(count)]


def subscribe(client: RawClient, conversation: str, after: int) -> None:
    properties: dict[PropertyId, Any] = {PropertyId.USER_PROPERTY: [("after", f"{conversation}={after}")]}
    client.send(Subscribe(1, [SubscriptionRequest(f"c/{conversation}", 1)], properties))
    assert client.expect(Suback).reason_codes == [ReasonCode.GRANTED_QOS_1]


def readiness(server: Server) -> int:
    with closing(HTTPConnection("127.0.0.1", server.http_port, timeout=20)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


def test_a_session_ends_with_its_connection_and_its_client_goes_on_where_it_was(node: Server) -> None:
    conversation = node.host_api.create_conversation(["ana", "bruno"])
    kept: dict[PropertyId, Any] = {PropertyId.SESSION_EXPIRY_INTERVAL: HOUR_S}
    with closing(RawClient(node, "bruno", properties=kept, client_id="phone", clean_start=False)) as bruno:
        assert bruno.connack.properties[PropertyId.SESSION_EXPIRY_INTERVAL] == 0
        subscribe(bruno, conversation, 0)
        node.api("ana").send(conversation, "one")
        assert seqs(bruno, 1) == [1]
    for body in ("two", "three"):
        node.api("ana").send(conversation, body)

    with closing(RawClient(node, "bruno", properties=kept, client_id="phone", clean_start=False)) as bruno:
        assert not bruno.connack.session_present
        subscribe(bruno, conversation, 1)
        assert seqs(bruno, 2) == [2, 3]


def test_a_message_sent_at_one_node_reaches_a_member_at_another(
    node: Server, tmp_path: Path, postgres_database: str
) -> None:
    conversation = node.host_api.create_conversation(["ana", "bruno"])
    with running(on_postgres(tmp_path / "other", postgres_database)) as other:
        with closing(RawClient(other, "bruno")) as bruno:
            subscribe(bruno, conversation, 0)
            for body in ("one", "two"):
                node.api("ana").send(conversation, body)
            assert seqs(bruno, 2) == [1, 2]
        other.stop()


def test_while_postgresql_is_away_nothing_is_accepted_and_it_goes_on_by_itself(
    node: Server, postgres: Postgres, postgres_database: str
) -> None:
    conversation = node.host_api.create_conversation(["ana", "bruno"])
    ana, name = node.api("ana"), urlsplit(postgres_database).path[1:]
    ana.send(conversation, "before")
    postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')  # away for this server alone
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    node.awaited_line("is away")

    assert readiness(node) == 503
    refused = ana.call("POST", f"/conversations/{conversation}/messages", {"body": "lost"})
    assert refused.expect(503)["error"]["code"] == "unavailable"
    assert ana.call("GET", "/conversations").expect(503)["error"]["code"] == "unavailable"

    postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    node.awaited_line("is back")
    assert readiness(node) == 200
    ana.send(conversation, "after")
    assert [event["body"] for event in node.api("bruno").history(conversation)] == ["before", "after"]
    node.stop()


def test_a_server_that_does_not_let_it_in_is_one_line_and_exit_status_2(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.url("postgres").replace("@", "x@")
    line = refusal(tmp_path, "serve", "--http-port=0", "--mqtt-port=0", "--ws-port=0", SECRET=SECRET, DATABASE=url)
    assert 'password authentication failed for user "recado"' in line
    assert line.count("\n") == 0


def test_a_backup_of_postgresql_is_pg_dumps(tmp_path: Path) -> None:
    url = "postgresql://recado:password@127.0.0.1/recado"
    line = refusal(tmp_path, "backup", "copy.db", SECRET=SECRET, DATABASE=url)
    assert "pg_dump" in line
