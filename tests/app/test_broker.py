"""`recado broker` as a process: who is let in, what they may do, what SIGHUP changes, how it stops, what it tells."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy.services.child_process import running
from recado import __version__
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5, Auth, Connack, Connect, Disconnect, Puback, Publish, Will
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.app.brokers import Broker, received, subscribe, users
from tests.app.commands import SECRET
from tests.support.connection import Login, next_delivery
from tests.support.paho_python import PahoPython
from tests.support.tokens import mint_token

ACL = """
everyone
topic read news/#
pattern readwrite home/%u/#

user ana
topic readwrite sensors/#
topic deny sensors/vault/#
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One with users, tokens and an ACL, which tests leave as it is; it must stop cleanly."""
    directory = tmp_path_factory.mktemp("broker")
    users(directory, ana="secret of ana", bruno="secret of bruno")
    (directory / "acl").write_text(ACL)
    with running(Broker(directory, SECRET=SECRET)) as broker:
        yield broker
        broker.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    """One of the test's own, with users and an ACL."""
    users(tmp_path, ana="secret of ana", bruno="secret of bruno")
    (tmp_path / "acl").write_text(ACL)
    with running(Broker(tmp_path)) as broker:
        yield broker


# Who connects


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
async def test_a_user_with_the_right_password_is_let_in_and_nobody_without_one(broker: Broker, level: int) -> None:
    await broker.connected("ana", "secret of ana", level=level)
    for user, password, said in [
        ("ana", "secret of bruno", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("ana", None, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("ana", "", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("nobody", "secret of ana", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ("", "secret of ana", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (None, None, ReasonCode.NOT_AUTHORIZED),
    ]:
        client, connack = await broker.connect(user, password, level=level)
        assert connack.reason_code == said, (user, password)
        assert await client.rest() == [], "and the connection is closed"


async def test_nothing_tells_an_unknown_user_from_a_wrong_password(broker: Broker) -> None:
    _, unknown = await broker.connect("nobody", "x")
    _, wrong = await broker.connect("ana", "x")
    assert unknown == wrong
    assert unknown.properties[PropertyId.REASON_STRING]


async def test_a_password_without_a_user_name_is_a_token_or_nothing(broker: Broker) -> None:
    _, connack = await broker.connect(None, "secret of ana")
    assert connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    await broker.connected(None, mint_token(SECRET, "carla"))


async def test_a_token_is_a_password_for_the_user_it_names(broker: Broker) -> None:
    await broker.connected("carla", mint_token(SECRET, "carla"), client_id="a")
    for user, token in [
        ("ana", mint_token(SECRET, "carla")),
        ("carla", mint_token(SECRET, "carla", -5)),
        ("carla", mint_token("x" * 40, "carla")),
    ]:
        _, connack = await broker.connect(user, token)
        assert connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_a_token_can_be_given_and_renewed_by_the_authentication_method_token(broker: Broker) -> None:
    def by(token: str) -> dict[PropertyId, object]:
        return {PropertyId.AUTHENTICATION_METHOD: "token", PropertyId.AUTHENTICATION_DATA: token.encode()}

    client, connack = await broker.connect(properties=by(mint_token(SECRET, "carla", 60)))
    assert connack.reason_code == ReasonCode.SUCCESS
    await client.send(Auth(ReasonCode.REAUTHENTICATE, by(mint_token(SECRET, "carla", 600))))
    assert (await client.expect(Auth)).reason_code == ReasonCode.SUCCESS
    await client.send(Auth(ReasonCode.REAUTHENTICATE, by(mint_token(SECRET, "ana", 600))))
    assert (await client.expect(Disconnect)).reason_code == ReasonCode.NOT_AUTHORIZED


async def test_another_authentication_method_is_refused(broker: Broker) -> None:
    _, connack = await broker.connect("ana", "secret of ana", properties={PropertyId.AUTHENTICATION_METHOD: "SCRAM"})
    assert connack.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD


async def test_anonymous_clients_are_let_in_if_the_operator_says_so_but_no_user_is_without_a_password(
    tmp_path: Path,
) -> None:
    users(tmp_path, ana="secret of ana")
    broker = Broker(tmp_path, "--allow-anonymous", "--database=off")
    try:
        broker.start()
        await broker.connected(client_id="a")
        await broker.connected("ana", "secret of ana", client_id="b")
        for user, password in [("ana", None), ("ana", "x"), ("", None), (None, "x")]:
            _, connack = await broker.connect(user, password)
            assert connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
        broker.stop()
        assert names(tmp_path) == {"users", "server.log"}, "nothing was kept"
    finally:
        broker.close()


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


async def test_a_storm_of_wrong_passwords_does_not_hold_up_who_is_connected(broker: Broker) -> None:
    ana = await broker.connected("ana", "secret of ana")
    storm = [await broker.client() for _ in range(8)]
    for n, client in enumerate(storm):
        await client.send(Connect(f"c{n}", username="ana", password=b"wrong %d" % n))
    assert await ana.before_pong() == []
    refused = [(await client.expect(Connack)).reason_code for client in storm]
    assert set(refused) == {ReasonCode.BAD_USER_NAME_OR_PASSWORD}


# What they may do


@pytest.mark.parametrize(
    ("topic_filter", "said"),
    [
        ("sensors/#", ReasonCode.GRANTED_QOS_1),
        ("#", ReasonCode.GRANTED_QOS_1),
        ("home/ana/#", ReasonCode.GRANTED_QOS_1),
        ("$share/g/sensors/+", ReasonCode.GRANTED_QOS_1),
        ("$SYS/#", ReasonCode.GRANTED_QOS_1),
        ("home/bruno/#", ReasonCode.NOT_AUTHORIZED),
        ("sensors/vault/#", ReasonCode.NOT_AUTHORIZED),
        ("$share/g/home/bruno/x", ReasonCode.NOT_AUTHORIZED),
        ("other", ReasonCode.NOT_AUTHORIZED),
    ],
)
async def test_a_subscription_is_granted_if_anything_of_it_may_be_read(
    broker: Broker, topic_filter: str, said: ReasonCode
) -> None:
    ana = await broker.connected("ana", "secret of ana", client_id=f"sub-{said}")
    assert await subscribe(ana, topic_filter, 1) == said


async def test_a_publish_without_permission_is_refused_and_goes_to_nobody(broker: Broker) -> None:
    ana = await broker.connected("ana", "secret of ana", client_id="ana-w")
    bruno = await broker.connected("bruno", "secret of bruno", client_id="bruno-w")
    assert await subscribe(ana, "#") == 0
    for topic_name in ("sensors/x", "home/ana/x", "news/x", "$SYS/x", "$share/g/x", "$other"):
        assert (await bruno.publish(topic_name, "x")).reason_code == ReasonCode.NOT_AUTHORIZED, topic_name
    assert (await bruno.publish("home/bruno/x", "mine")).reason_code < ReasonCode.UNSPECIFIED_ERROR
    assert await received(ana) == []


async def test_each_delivery_is_checked_where_a_filter_matches_more_than_may_be_read(broker: Broker) -> None:
    ana = await broker.connected("ana", "secret of ana", client_id="ana-d")
    bruno = await broker.connected("bruno", "secret of bruno", client_id="bruno-d")
    assert await subscribe(bruno, "home/#") == 0
    assert await subscribe(bruno, "home/bruno/#") == 0
    await ana.publish("home/ana/x", "not for bruno")
    await bruno.send(Publish("home/bruno/x", b"for bruno"))
    assert {payload for _, payload in await received(bruno)} == {"for bruno"}


async def test_a_will_goes_where_its_user_may_publish_and_nowhere_else(broker: Broker) -> None:
    ana = await broker.connected("ana", "secret of ana", client_id="ana-will")
    assert await subscribe(ana, "sensors/will/#") == 0
    for user, payload in (("bruno", b"stolen"), ("ana", b"gone")):
        will = Will("sensors/will/x", payload)
        client = await broker.connected(user, f"secret of {user}", client_id=f"{user}-dies", will=will)
        client.close()
    assert (await ana.expect(Publish)).payload == b"gone"


def test_paho_with_a_password_gets_what_it_may(broker: Broker) -> None:
    ana = PahoPython(Login(broker.mqtt_port, broker.ws_url, "ana", "secret of ana"), "3.1.1")
    web = PahoPython(Login(broker.mqtt_port, broker.ws_url, "ana", "secret of ana"), "5", "websocket")
    try:
        assert (ana.connect(), web.connect()) == (0, 0)
        assert (ana.subscribe("sensors/#", 2), ana.subscribe("other")) == (2, 0x80)
        assert web.publish("sensors/paho", "21", qos=2) == 0
        assert next_delivery(ana).payload == "21"
    finally:
        ana.close()
        web.close()


# SIGHUP


async def test_a_reload_revokes_and_grants_for_those_who_are_connected(own: Broker) -> None:
    ana = await own.connected("ana", "secret of ana", client_id="a")
    bruno = await own.connected("bruno", "secret of bruno", client_id="b")
    assert await subscribe(ana, "#") == 0
    assert await subscribe(bruno, "sensors/#") == ReasonCode.NOT_AUTHORIZED
    await ana.send(Publish("sensors/x", b"before"))
    assert await received(ana) == [("sensors/x", "before")]

    (own.directory / "acl").write_text("user ana\ntopic write sensors/#\nuser bruno\ntopic read sensors/#")
    assert own.reload()["event"] == "reloaded"

    assert await subscribe(bruno, "sensors/#") == 0
    await ana.publish("sensors/x", "after")
    assert await received(ana) == []
    assert await received(bruno) == [("sensors/x", "after")]
    assert (await ana.publish("home/ana/x", "x")).reason_code == ReasonCode.NOT_AUTHORIZED


async def test_a_reload_cuts_off_users_who_are_gone_or_have_another_password_and_nobody_else(own: Broker) -> None:
    users(own.directory, carla="secret of carla")
    own.reload()
    clients = {
        user: await own.connected(user, f"secret of {user}", client_id=user) for user in ("ana", "bruno", "carla")
    }
    lines = (own.directory / "users").read_text().splitlines(keepends=True)
    (own.directory / "users").write_text("".join(line for line in lines if not line.startswith("ana:")))
    users(own.directory, bruno="new secret")

    assert own.reload()["users_cut_off"] == 2

    for user in ("ana", "bruno"):
        assert (await clients[user].expect(Disconnect)).reason_code == ReasonCode.ADMINISTRATIVE_ACTION
        _, connack = await own.connect(user, f"secret of {user}")
        assert connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await clients["carla"].before_pong() == []
    await own.connected("bruno", "new secret")


@pytest.mark.parametrize("restart", [False, True])
async def test_what_waits_for_an_absent_user_is_not_delivered_once_it_may_not_be_read(
    own: Broker, restart: bool
) -> None:
    kept = {PropertyId.SESSION_EXPIRY_INTERVAL: 600}
    acl = "user ana\ntopic readwrite #\nuser bruno\ntopic read {}"
    (own.directory / "acl").write_text(acl.format("#"))
    own.reload()
    bruno = await own.connected("bruno", "secret of bruno", properties=kept)
    assert await subscribe(bruno, "#", 1) == 1
    await bruno.send(Disconnect())
    assert await bruno.rest() == []
    ana = await own.connected("ana", "secret of ana")
    for topic_name in ("sensors/x", "news/x"):
        assert (await ana.publish(topic_name, topic_name)).reason_code == ReasonCode.SUCCESS

    (own.directory / "acl").write_text(acl.format("news/#"))
    if restart:
        own.kill()
        own.start()
    else:
        own.reload()

    bruno = await own.client()
    await bruno.send(Connect("phone", MQTT_5, False, 0, None, "bruno", b"secret of bruno", kept))
    assert (await bruno.expect(Connack)).session_present
    assert (await bruno.expect(Publish)).topic_name == "news/x"
    assert await received(bruno) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("acl", "everyone\ntopic all #", "line 2: a rule is"),
        ("users", "ana:secret of ana", "line 1 is not"),
        ("recado.toml", 'log_level = "loud"', "log_level is debug"),
        ("recado.toml", "log_level = [", "TOML"),
    ],
)
async def test_a_reload_with_an_error_is_one_line_and_changes_nothing(
    own: Broker, name: str, text: str, said: str
) -> None:
    ana = await own.connected("ana", "secret of ana", client_id="a")
    if name != "acl":
        (own.directory / "acl").write_text("")
    (own.directory / name).write_text(text)
    before = len(own.printed)

    line = own.reload()

    assert (line["event"], line["level"]) == ("not_reloaded", "error")
    assert said in line["error"]
    assert len(own.printed) == before + 1
    assert (await ana.publish("sensors/x", "x")).reason_code < ReasonCode.UNSPECIFIED_ERROR
    await own.connected("bruno", "secret of bruno", client_id="b")


async def test_a_reload_takes_up_the_log_level_and_names_what_it_does_not_take_up(own: Broker) -> None:
    await own.connected("ana", "secret of ana")
    assert own.lines("connected") == []
    (own.directory / "recado.toml").write_text('log_level = "debug"\nallow_anonymous = true\n')
    assert own.reload()["after_a_restart"] == ["allow_anonymous"]
    await own.connected("ana", "secret of ana")
    line = own.awaited("connected")
    assert (line["user"], line["client_id"], line["listener"]) == ("ana", "phone", "tcp")
    assert line["address"].startswith("127.0.0.1:")
    _, connack = await own.connect()
    assert connack.reason_code == ReasonCode.NOT_AUTHORIZED


# Stopping, and starting again


async def test_sigterm_tells_the_clients_and_ends_with_status_0_and_a_restart_has_what_was_kept(own: Broker) -> None:
    ana = await own.connected("ana", "secret of ana")
    await ana.send(Publish("sensors/x", b"kept", 1, retain=True, packet_id=1))
    assert (await ana.expect(Puback)).reason_code < ReasonCode.UNSPECIFIED_ERROR

    own.stop()

    assert (await ana.expect(Disconnect)).reason_code == ReasonCode.SERVER_SHUTTING_DOWN
    assert [line["event"] for line in own.lines("ready", "stopping")] == ["ready", "stopping"]
    own.start()
    ana = await own.connected("ana", "secret of ana")
    assert await subscribe(ana, "sensors/#") == 0
    assert await received(ana) == [("sensors/x", "kept")]


async def test_a_restart_does_not_hand_out_what_may_not_be_read_any_more(own: Broker) -> None:
    ana = await own.connected("ana", "secret of ana")
    await ana.send(Publish("sensors/x", b"kept", 1, retain=True, packet_id=1))
    await ana.expect(Puback)
    own.kill()
    (own.directory / "acl").write_text("user ana\ntopic write #\ntopic read sensors/y")
    own.start()
    ana = await own.connected("ana", "secret of ana")
    assert await subscribe(ana, "sensors/#") == 0
    assert await received(ana) == []


# What it tells


def get(broker: Broker, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", broker.http_port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def test_the_metrics_count_what_happened_and_the_health_pages_answer(own: Broker) -> None:
    ana = await own.connected("ana", "secret of ana")
    await own.connect("ana", "wrong")
    assert await subscribe(ana, "sensors/#") == 0
    await ana.send(Publish("sensors/x", b"x"))
    assert await received(ana) == [("sensors/x", "x")]
    status, text = get(own, "/metrics")
    assert status == 200
    for line in (
        'recado_mqtt_connections{transport="tcp"} 1.0',
        "recado_mqtt_published_total 1.0",
        "recado_mqtt_delivered_total 1.0",
        "recado_mqtt_subscriptions 1.0",
        'recado_mqtt_refusals_total{reason="bad_user_name_or_password"} 1.0',
    ):
        assert line in text.splitlines(), text
    assert (get(own, "/healthz")[0], get(own, "/readyz")[0], get(own, "/other")[0]) == (200, 200, 404)
    assert get(own, "/metrics", "POST")[0] == 405


async def test_what_it_logs_says_where_it_listens_and_holds_no_secret(own: Broker) -> None:
    await own.connected("ana", "secret of ana")
    await own.connect("ana", "wrong secret")
    (ready,) = own.lines("ready")
    assert (ready["mqtt_port"], ready["ws_port"], ready["http_port"]) == (own.mqtt_port, own.ws_port, own.http_port)
    assert (ready["version"], ready["database"]) == (__version__, "sqlite:///recado-broker.db")
    assert ready["password_file"] == str(own.directory / "users")
    assert ready["acl_file"] == str(own.directory / "acl")
    assert (ready["tokens"], ready["allow_anonymous"]) == (False, False)
    assert "secret" not in own.log


async def test_readyz_is_503_from_a_commit_that_failed_to_one_that_works(own: Broker) -> None:
    first = await own.connected("ana", "secret of ana", client_id="a")
    await first.send(Publish("sensors/y", b"y" * 20_000, 1, retain=True, packet_id=1))
    await first.expect(Puback)  # so that the write-ahead log is longer than what is logged, which has the limit too
    wal = own.directory / "recado-broker.db-wal"
    former = resource.prlimit(own.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(own.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, former[1]))
    assert get(own, "/readyz")[0] == 200, "nobody knows yet"

    ana = await own.connected("ana", "secret of ana")
    await ana.send(Publish("sensors/x", b"x", 1, retain=True, packet_id=1))
    assert (await ana.expect(Disconnect)).reason_code == ReasonCode.SERVER_BUSY

    assert get(own, "/readyz") == (503, '{"status":"the database sqlite:///recado-broker.db cannot be written"}')
    assert get(own, "/readyz")[0] == 503
    assert get(own, "/healthz")[0] == 200
    assert "recado-broker.db: the store could not commit" in own.log
    resource.prlimit(own.pid, resource.RLIMIT_FSIZE, former)
    deadline = time.monotonic() + 20
    while get(own, "/readyz")[0] != 200:  # though nobody writes
        assert time.monotonic() < deadline


def test_too_few_open_files_for_the_connections_that_may_come_is_a_warning(tmp_path: Path) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for connections, warnings in ((files - 100, 0), (files - 99, 1)):
        directory = tmp_path / str(connections)
        directory.mkdir()
        broker = Broker(directory, "--allow-anonymous", f"--limit.connections_max={connections}")
        try:
            broker.start()
            assert len(broker.lines("few_open_files")) == warnings, most
        finally:
            broker.close()


async def test_a_connection_that_never_was_one_is_a_line_with_its_address(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "--allow-anonymous", "--proxy-protocol", "--database=off")
    try:
        broker.start()
        client = await broker.client()
        await client.send(Connect("phone"))
        assert await client.rest() == []
        (line,) = broker.lines("connection_refused")
        assert (line["reason"], line["listener"], line["level"]) == ("proxy_protocol", "tcp", "info")
        assert "signature" in line["detail"]
        assert line["address"].startswith("127.0.0.1:")
    finally:
        broker.close()


async def test_each_refusal_is_a_line_with_who_and_why(own: Broker) -> None:
    await own.connect("ana", "wrong secret", client_id="stranger")
    ana = await own.connected("ana", "secret of ana")
    assert await subscribe(ana, "sensors/vault/#") == ReasonCode.NOT_AUTHORIZED
    assert (await ana.publish("sensors/vault/x", "precious")).reason_code == ReasonCode.NOT_AUTHORIZED
    (connect,) = own.lines("connect_refused")
    (refused_subscribe,) = own.lines("subscribe_refused")
    (publish,) = own.lines("publish_refused")
    assert (connect["user"], connect["client_id"]) == ("ana", "stranger")
    assert connect["reason"] == "bad_user_name_or_password"
    for line, topic in ((refused_subscribe, "sensors/vault/#"), (publish, "sensors/vault/x")):
        assert (line["user"], line["client_id"], line["topic"]) == ("ana", "phone", topic)
        assert line["reason"] == "not_authorized"
    for line in (connect, refused_subscribe, publish):
        assert (line["level"], line["listener"]) == ("info", "tcp")
        assert line["address"].startswith("127.0.0.1:")
    for hidden in ("wrong secret", "precious"):
        assert hidden not in own.log


async def test_a_reload_that_cannot_read_its_settings_is_not_the_last_one(own: Broker) -> None:
    file = own.directory / "recado.toml"
    file.mkdir()
    for _ in range(2):
        line = own.reload()
        assert (line["event"], line["error"]) == ("not_reloaded", "recado.toml cannot be read: Is a directory")
    file.rmdir()
    assert own.reload()["event"] == "reloaded"
