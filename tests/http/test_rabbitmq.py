"""What a RabbitMQ is told about Recado's users. The forms are those that RabbitMQ 3.10 posts."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import httpx
import pytest

from recado.chat.principal import Principal
from recado.http import metrics
from tests.http.conftest import API_KEY, Caller, World

KEY = "the-key-of-the-broker-of-the-tests"
ANA = {"username": "ana", "vhost": "/", "client_id": "ana.k3x9"}
TOPIC = {**ANA, "resource": "topic", "name": "amq.topic", "permission": "read", "tags": ""}
QUEUE = {**ANA, "resource": "queue", "name": "mqtt-subscription-ana.k3x9qos1", "permission": "configure", "tags": ""}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"recado:{password}".encode()).decode()}


@pytest.fixture
def rabbitmq(world: World) -> Caller:
    return Caller(world.with_settings(broker_key=KEY).app, basic(KEY))


async def asked(rabbitmq: Caller, question: str, **form: str) -> str:
    answer = await rabbitmq("POST", f"/broker/rabbitmq/{question}", data=form)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


async def test_a_users_token_lets_it_in_and_nobody_elses_does(world: World, rabbitmq: Caller) -> None:
    token = world.token("ana")
    assert await asked(rabbitmq, "user", **ANA, password=token) == "allow"
    assert await asked(rabbitmq, "user", **ANA, password=world.token("bruno")) == "deny"
    assert await asked(rabbitmq, "user", **ANA, password=token[:-1]) == "deny"
    assert await asked(rabbitmq, "user", **ANA, password="") == "deny"
    assert await asked(rabbitmq, "user", **ANA) == "deny"
    assert await asked(rabbitmq, "user", password=token) == "deny"


async def test_the_host_is_no_user_of_the_broker(rabbitmq: Caller) -> None:
    assert await asked(rabbitmq, "user", **ANA, password=API_KEY) == "deny"
    assert await asked(rabbitmq, "user", **{**ANA, "username": ""}, password=API_KEY) == "deny"


@pytest.mark.parametrize("client_id", ["k3x9", "ana", "bruno.k3x9", "ana-b.k3x9", "anab.k3x9", "ana/k3x9", ""])
async def test_a_client_id_that_could_be_another_users_is_refused(
    world: World, rabbitmq: Caller, client_id: str
) -> None:
    form = {**ANA, "client_id": client_id}
    assert await asked(rabbitmq, "user", **form, password=world.token("ana")) == "deny"
    queue = {**QUEUE, "client_id": client_id, "name": f"mqtt-subscription-{client_id}qos1"}
    assert await asked(rabbitmq, "resource", **queue) == "deny"
    assert await asked(rabbitmq, "vhost", **form) == "deny"


async def test_who_names_no_client_id_has_the_one_that_rabbitmq_made(world: World, rabbitmq: Caller) -> None:
    form = {**ANA, "client_id": "WWRgYYF6cqGMmL2tI1U_NA"}
    assert await asked(rabbitmq, "user", **form, password=world.token("ana")) == "allow"
    queue = {**QUEUE, **form, "name": "mqtt-subscription-WWRgYYF6cqGMmL2tI1U_NAqos0"}
    assert await asked(rabbitmq, "resource", **queue) == "allow"


async def test_a_user_has_the_default_vhost_alone(rabbitmq: Caller) -> None:
    assert await asked(rabbitmq, "vhost", **ANA, ip="127.0.0.1", tags="") == "allow"
    assert await asked(rabbitmq, "vhost", **{**ANA, "vhost": "other"}) == "deny"


@pytest.mark.parametrize("permission", ["configure", "write", "read"])
async def test_a_user_may_do_with_its_own_queues_what_a_subscription_needs(rabbitmq: Caller, permission: str) -> None:
    form = {**QUEUE, "permission": permission}
    assert await asked(rabbitmq, "resource", **form) == "allow"
    for name in ("mqtt-subscription-ana.otherqos1", "mqtt-subscription-ana.k3x9qos1x", "orders", ""):
        assert await asked(rabbitmq, "resource", **{**form, "name": name}) == "deny"


async def test_of_exchanges_a_user_may_read_that_of_mqtt(rabbitmq: Caller) -> None:
    form = {**ANA, "resource": "exchange", "name": "amq.topic", "permission": "read"}
    assert await asked(rabbitmq, "resource", **form) == "allow"
    assert await asked(rabbitmq, "resource", **{**form, "permission": "write"}) == "deny"
    assert await asked(rabbitmq, "resource", **{**form, "permission": "configure"}) == "deny"
    assert await asked(rabbitmq, "resource", **{**form, "name": "amq.direct"}) == "deny"
    assert await asked(rabbitmq, "resource", **{**form, "resource": "topic"}) == "deny"


@pytest.mark.parametrize("routing_key", ["u.ana.#", "u.ana", "u.ana.c.*", "u.ana.c.order-4711", "u.ana.c.x.live"])
async def test_a_user_may_read_what_is_below_its_own_topic(rabbitmq: Caller, routing_key: str) -> None:
    assert await asked(rabbitmq, "topic", **TOPIC, routing_key=routing_key) == "allow"


@pytest.mark.parametrize(
    "routing_key",
    [
        "u.bruno.#",
        "#",
        "*.ana.#",
        "u.*.#",
        "u.#",
        "u",
        "",
        "u.anab.#",
        "u.ana-b.#",
        "U.ana.#",
        ".u.ana.#",
        "c.x",
        "u..#",
    ],
)
async def test_a_user_may_read_nothing_else(rabbitmq: Caller, routing_key: str) -> None:
    assert await asked(rabbitmq, "topic", **TOPIC, routing_key=routing_key) == "deny"


@pytest.mark.parametrize("user", ["*", "#", "", "ana.#", "an a"])
async def test_a_user_name_that_is_no_user_id_widens_nothing(rabbitmq: Caller, user: str) -> None:
    form = {**TOPIC, "username": user, "client_id": f"{user}.k3x9"}
    assert await asked(rabbitmq, "topic", **form, routing_key=f"u.{user}.#") == "deny"
    assert await asked(rabbitmq, "vhost", **{**ANA, "username": user, "client_id": f"{user}.k3x9"}) == "deny"


async def test_users_publish_nothing(rabbitmq: Caller) -> None:
    for routing_key in ("u.ana.c.x", "u.bruno.c.x", "c.x"):
        form = {**TOPIC, "permission": "write", "routing_key": routing_key}
        assert await asked(rabbitmq, "topic", **form) == "deny"
    assert await asked(rabbitmq, "topic", **{**TOPIC, "name": "other"}, routing_key="u.ana.#") == "deny"


@pytest.mark.parametrize(
    "headers",
    [{}, basic("wrong"), basic(""), {"Authorization": "Basic %%%"}, {"Authorization": f"Bearer {KEY}"}],
    ids=["none", "another", "empty", "no base64", "bearer"],
)
async def test_nobody_is_answered_without_the_brokers_key(world: World, headers: dict[str, str]) -> None:
    checked: list[str] = []
    app = world.with_settings(broker_key=KEY).app
    world.access.authenticate = watching(world.access.authenticate, checked)  # type: ignore[method-assign]
    answer = await Caller(app, headers)("POST", "/broker/rabbitmq/user", data={**ANA, "password": world.token("ana")})
    assert answer.status_code == 401
    assert "broker-config rabbitmq" in answer.json()["error"]["message"]
    assert checked == []


def watching(authenticate: Any, checked: list[str]) -> Any:
    def watched(token: str) -> Principal:
        checked.append(token)
        principal: Principal = authenticate(token)
        return principal

    return watched


async def test_without_a_broker_to_ask_there_is_nothing_at_the_paths(world: World) -> None:
    answer = await Caller(world.app, basic(KEY))("POST", "/broker/rabbitmq/user", data=ANA)
    assert answer.status_code == 404


async def test_what_is_no_form_of_that_kind_is_refused(rabbitmq: Caller) -> None:
    async def status(**request: Any) -> int:
        answer: httpx.Response = await rabbitmq("POST", "/broker/rabbitmq/user", **request)
        return answer.status_code

    assert await status(content=b"x" * 4_001) == 413
    assert await status(content=b"&".join(b"f%d=1" % number for number in range(17))) == 400
    assert await status(content=b"username=ana&username=bruno") == 400
    assert await status(content=b"username=%ff") == 400
    assert await status(content="username=ana\N{LATIN SMALL LETTER A WITH TILDE}".encode()) == 400
    assert (await rabbitmq("GET", "/broker/rabbitmq/user")).status_code == 405


async def test_operators_see_what_the_broker_was_told(world: World, rabbitmq: Caller) -> None:
    def counted() -> dict[str, float]:
        page = (metrics.render().body or b"").decode()
        found = re.findall(r'^recado_broker_answers_total\{answer="(\w+)",question="topic"\} (\S+)', page, re.MULTILINE)
        return {answer: float(number) for answer, number in found}

    before = counted()
    await asked(rabbitmq, "topic", **TOPIC, routing_key="u.ana.#")
    await asked(rabbitmq, "topic", **TOPIC, routing_key="u.bruno.#")
    after = counted()
    assert {answer: after[answer] - before.get(answer, 0) for answer in after} == {"allow": 1, "deny": 1}
