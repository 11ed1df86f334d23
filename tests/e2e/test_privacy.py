"""What people write and what lets them in is in no log, no metric and no trace, whatever becomes of it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

from deploy.services.child_process import running
from recado.app.rabbitmq_config import broker_key
from tests.support.collector import Collector, collecting
from tests.support.connection import Login, next_event
from tests.support.metrics import get_text, wait_for
from tests.support.paho_python import PahoPython
from tests.support.raw_http import ask
from tests.support.server import API_KEY, SECRET, Server
from tests.support.webhook_receiver import Told, receiving

MARK = "a-body-that-nobody-else-is-to-read"
WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
WRONG_TOKEN = "a-token-that-is-none-and-is-not-to-be-repeated"
ALL = ("--log-level=debug", "--log-format=json", "--limit.trace_one_in=1", "--limit.trace_interval_ms=50")


def post(server: Server, path: str, body: bytes, **headers: str) -> int:
    with closing(HTTPConnection("127.0.0.1", server.http_port, timeout=20)) as connection:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status


def write_in_every_way(server: Server, conversation: str) -> None:
    """Right and wrong: each with the mark in it."""
    token = server.token("ana")
    messages, bearer = f"/v1/conversations/{conversation}/messages", {"Authorization": f"Bearer {token}"}
    event = server.api("ana").send(conversation, MARK, "first")
    server.api("ana").call("PATCH", f"/conversations/{conversation}/messages/{event['seq']}", {"body": MARK + "!"})
    for body in (
        f'{{"body": "{MARK}"',
        f'{{"body": ["{MARK}"]}}',
        f'{{"{MARK}": 1}}',
        '{"body": "' + MARK * 1000 + '"}',
    ):
        assert post(server, messages, body.encode(), **bearer) >= 400
    good = json.dumps({"body": MARK}).encode()
    assert post(server, messages, good, Authorization=f"Bearer {WRONG_TOKEN}") == 401
    assert post(server, messages, good, Authorization=f"Basic {token}") == 401
    assert post(server, "/v1/conversations/nobodys/messages", good, **bearer) == 404
    ask(server, f"/events?wait={MARK}", "ana").close()


def write_over_mqtt(server: Server, conversation: str) -> None:
    login = Login(server.mqtt_port, server.ws_url, "ana", server.token("ana"))
    client = PahoPython(login)
    assert client.connect() == 0
    assert client.subscribe("c/+") == 1
    assert client.publish(f"c/{conversation}", json.dumps({"body": MARK})) == 0
    assert next_event(client)["body"] == MARK
    for topic_name, payload in (("c/nobodys", MARK), (f"c/{conversation}", "\udcff" + MARK), ("x/nobodys", MARK)):
        with suppress(UnicodeEncodeError):
            assert client.publish(topic_name, payload) != 0
    client.close()
    for token in (WRONG_TOKEN, server.token("bruno"), server.token("ana", ttl_s=-1)):
        refused = PahoPython(Login(server.mqtt_port, server.ws_url, "ana", token))
        assert refused.connect() != 0
        refused.close()


def secrets_of(server: Server) -> list[str]:
    """What is searched for. Of tokens the signatures, which no two have in common."""
    signatures = [server.token(user).rpartition(".")[2] for user in ("ana", "bruno")]
    return [MARK, SECRET, API_KEY, WEBHOOK_SECRET, WRONG_TOKEN, broker_key(SECRET), "eyJ", *signatures]


def found(server: Server, collector: Collector, others: Callable[[], str] = lambda: "") -> list[tuple[str, str]]:
    written = {"log": server.log, "metrics": get_text(server, "/metrics"), "jobs": others()}
    written["traces"] = collector.raw.decode("latin-1")
    assert all(written[name] for name in ("log", "metrics", "traces")), "there is nothing to search"
    return [(name, secret) for name, text in written.items() for secret in secrets_of(server) if secret in text]


def test_nothing_that_was_written_or_said_to_be_let_in_is_told_to_operators(tmp_path: Path) -> None:
    with collecting() as collector, receiving() as receiver:
        receiver.usually(Told(400, body=f"you said {MARK}".encode()))
        webhook = (f"--webhook-url={receiver.url}", f"--webhook-secret={WEBHOOK_SECRET}", "--webhook-private")
        with running(Server.serve(tmp_path, f"--traces={collector.url}", *webhook, *ALL)) as server:
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            write_in_every_way(server, conversation)
            write_over_mqtt(server, conversation)
            collector.wait_for(lambda spans: any(span.name == "job webhook" and span.failed for span in spans))

            def jobs() -> str:
                return get_text(server, "/admin/jobs")

            wait_for(lambda: '"error"' in jobs())
            assert found(server, collector, jobs) == []


def test_nor_at_a_broker_of_its_own(tmp_path: Path) -> None:
    """Nobody listens at its address: everything is tried again and again."""
    with collecting() as collector:
        broker = "--broker=mqtt://recado:the-password-of-the-publisher@127.0.0.1:9"
        with running(Server.serve(tmp_path, broker, f"--traces={collector.url}", *ALL)) as server:
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            write_in_every_way(server, conversation)
            login = f"username=ana&client_id=ana.1&password={server.token('ana')}".encode()
            key = b64encode(f"recado:{broker_key(SECRET)}".encode()).decode()
            for authorization in (f"Basic {key}", f"Basic {b64encode(WRONG_TOKEN.encode()).decode()}"):
                assert post(server, "/broker/rabbitmq/user", login, Authorization=authorization) in (200, 401)
            collector.wait_for(lambda spans: any(span.name == "commit" for span in spans))
            assert found(server, collector) == []
            assert "the-password-of-the-publisher" not in server.log
