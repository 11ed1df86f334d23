"""Mosquitto's users, made, remembered and deleted in the real plugin."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from deploy.services.mosquitto import Mosquitto
from recado.adapters.broker.mqtt import DynamicSecurity, Publisher, parse_address
from recado.adapters.broker.mqtt.dynamic_security import COMMANDS, RESPONSES
from recado.app.limits import DEFAULT
from recado.chat.errors import Unavailable
from recado.mqtt.packets import Publish
from recado.ports import Unusable
from tests.adapters.mqtt_peer import Accepted, Peer, listening
from tests.support.connection import Login, Session
from tests.support.paho_python import PahoPython

SECRET = "a secret of the tests that is long enough"


@pytest.fixture
async def processes(mosquitto: Mosquitto) -> AsyncIterator[tuple[DynamicSecurity, DynamicSecurity]]:
    """The users as two of Recado's processes see them."""
    async with AsyncExitStack() as stack:
        yield await connected(stack, mosquitto.url), await connected(stack, mosquitto.url)


async def connected(stack: AsyncExitStack, url: str, secret: str = SECRET, **limits: int) -> DynamicSecurity:
    publisher = Publisher(parse_address(url), DEFAULT.publisher)
    security = DynamicSecurity(publisher, secret, replace(DEFAULT.dynamic_security, **limits))
    await publisher.start()
    stack.push_async_callback(publisher.close, 0)
    return security


def new_user() -> str:
    return f"ana-{uuid.uuid4().hex[:8]}"


async def lets_in(mosquitto: Mosquitto, login: tuple[str, str]) -> bool:
    def connects() -> bool:
        with closing(PahoPython(Login(mosquitto.tcp_port, mosquitto.ws_url, *login))) as client:
            return client.connect() == 0

    return await asyncio.to_thread(connects)


async def test_every_process_gives_a_user_the_same_login_and_the_broker_takes_it(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity]
) -> None:
    user = new_user()
    logins = [await each.login(user, "") for each in (*processes, processes[0])]
    assert logins == [logins[0]] * 3
    assert logins[0][0] == f"u/{user}"
    assert await lets_in(mosquitto, logins[0])


async def test_processes_that_make_a_user_at_the_same_time_agree(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity]
) -> None:
    user = new_user()
    logins = await asyncio.gather(*(each.login(user, "") for each in processes for _ in range(5)))
    assert len(set(logins)) == 1
    assert await lets_in(mosquitto, logins[0])


async def test_who_was_cut_off_by_one_process_gets_a_new_password_from_the_other(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity]
) -> None:
    user = new_user()
    old = await processes[0].login(user, "")
    await processes[1].cut_off(user)
    assert not await lets_in(mosquitto, old)
    new = await processes[0].login(user, "")
    assert new != old
    assert await lets_in(mosquitto, new)
    assert not await lets_in(mosquitto, old)


async def test_who_was_never_there_can_be_cut_off(processes: tuple[DynamicSecurity, DynamicSecurity]) -> None:
    await processes[0].cut_off(new_user())


async def test_a_new_secret_gives_every_user_a_new_password(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity]
) -> None:
    user = new_user()
    old = await processes[0].login(user, "")
    async with AsyncExitStack() as stack:
        new = await (await connected(stack, mosquitto.url, "another secret of the tests")).login(user, "")
    assert await lets_in(mosquitto, new)
    assert not await lets_in(mosquitto, old)


@pytest.mark.parametrize("acltype", ["publishClientReceive", "publishClientSend", "subscribe"])
async def test_the_start_has_the_plugin_deny_what_no_role_says(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity], acltype: str
) -> None:
    await set_default(mosquitto, acltype, True)
    assert f"{acltype:20} : allow" in mosquitto.control("getDefaultACLAccess")
    await processes[0].check()
    assert f"{acltype:20} : deny" in mosquitto.control("getDefaultACLAccess")


async def test_who_takes_over_anothers_session_by_its_client_id_gets_nothing_of_it(
    mosquitto: Mosquitto, processes: tuple[DynamicSecurity, DynamicSecurity]
) -> None:
    await processes[0].check()
    victim, thief = new_user(), new_user()
    logins = [await processes[0].login(user, "") for user in (victim, thief)]

    def take_over() -> list[str]:
        session = Session(f"{victim}-phone", 3600)
        own, other = (
            PahoPython(Login(mosquitto.tcp_port, mosquitto.ws_url, *login), "3.1.1", session=session)
            for login in logins
        )
        with closing(PahoPython(Login(mosquitto.tcp_port, mosquitto.ws_url, *recado_login(mosquitto)))) as recado:
            assert recado.connect() == 0
            with closing(own):
                assert own.connect() == 0
                own.subscribe(f"u/{victim}/#")
            recado.publish(f"u/{victim}/c/order", "while she was away")
            with closing(other):
                assert other.connect() == 0
                other.subscribe(f"u/{thief}/#")
                recado.publish(f"u/{victim}/c/order", "live")
                recado.publish(f"u/{thief}/c/order", "his own")
                received = [other.received.get(timeout=10).payload]
                while not other.received.empty():
                    received.append(other.received.get().payload)
                return received

    assert await asyncio.to_thread(take_over) == ["his own"]


def recado_login(mosquitto: Mosquitto) -> tuple[str, str]:
    address = urlsplit(mosquitto.url)
    assert address.username is not None
    assert address.password is not None
    return address.username, address.password


async def set_default(mosquitto: Mosquitto, acltype: str, allow: bool) -> None:
    """As mosquitto_ctrl does, in versions where it does."""
    command = {"command": "setDefaultACLAccess", "acls": [{"acltype": acltype, "allow": allow}]}

    def publish() -> None:
        with closing(PahoPython(Login(mosquitto.tcp_port, mosquitto.ws_url, *mosquitto.admin))) as admin:
            assert admin.connect() == 0
            admin.publish(COMMANDS, json.dumps({"commands": [command]}))

    await asyncio.to_thread(publish)


async def test_the_check_at_the_start_refuses_who_may_not_administer_the_plugin(mosquitto: Mosquitto) -> None:
    mosquitto.control("createClient", "reader", "-p", "reader")
    mosquitto.control("createRole", "reader")
    for right in ("subscribeLiteral", "publishClientReceive"):
        mosquitto.control("addRoleACL", "reader", right, RESPONSES, "allow")
    mosquitto.control("addClientRole", "reader", "reader")
    async with AsyncExitStack() as stack:
        url = f"mqtt://reader:reader@127.0.0.1:{mosquitto.tcp_port}"
        security = await connected(stack, url, broker_command_s=1)
        with pytest.raises(Unusable, match="does not answer commands"):
            await security.check()


async def at_peer(peer: Peer, stack: AsyncExitStack) -> tuple[DynamicSecurity, Accepted]:
    """With limits of two: commands under way, and users remembered."""
    connecting = asyncio.create_task(
        connected(
            stack,
            f"mqtt://127.0.0.1:{peer.port}",
            broker_commands_max=2,
            broker_logins_remembered_max=2,
            broker_command_s=1,
        )
    )
    accepted = await peer.accept()
    await accepted.sign_in()
    assert await accepted.grant() == RESPONSES
    return await connecting, accepted


async def answer(accepted: Accepted, data: dict[str, object]) -> str:
    """To the next command; returns which it was."""
    (command,) = await accepted.publishes(1)
    assert command.topic_name == COMMANDS
    commands = json.loads(command.payload)["commands"]
    responses = [
        {"command": each["command"], "correlationData": each["correlationData"], "data": data} for each in commands
    ]
    accepted.send(Publish(RESPONSES, json.dumps({"responses": responses}).encode()))
    return str(commands[0]["command"])


async def test_while_the_broker_does_not_answer_who_had_a_login_here_gets_it_again() -> None:
    async with listening() as peer, AsyncExitStack() as stack:
        security, accepted = await at_peer(peer, stack)
        logins = {}
        for user in ("ana", "bob", "carla"):
            asking = asyncio.create_task(security.login(user, ""))
            made = await commands_that_make(accepted)
            logins[user] = await asking
            assert logins[user] == (f"u/{user}", made)
        accepted.lose()
        peer.close()
        for user in ("bob", "carla"):
            assert await security.login(user, "") == logins[user]
        for unknown in ("ana", "dora"):
            with pytest.raises(Unavailable):
                await security.login(unknown, "")
        with pytest.raises(Unavailable):
            await security.cut_off("bob")


async def commands_that_make(accepted: Accepted) -> str:
    """Answer as a plugin does that does not know the user; returns the password that the user is given."""
    textname = password = ""
    while True:
        (command,) = await accepted.publishes(1)
        commands = json.loads(command.payload)["commands"]
        responses = []
        for each in commands:
            response = {"command": each["command"], "correlationData": each["correlationData"]}
            if each["command"] == "getClient":
                known = {"data": {"client": {"textname": textname}}} if textname else {"error": "Client not found"}
                response |= known
            if each["command"] == "createClient":
                textname, password = each["textname"], each["password"]
            responses.append(response)
        accepted.send(Publish(RESPONSES, json.dumps({"responses": responses}).encode()))
        if textname and commands[0]["command"] == "getClient":
            return password


async def test_answers_that_are_somebody_elses_are_passed_over() -> None:
    async with listening() as peer, AsyncExitStack() as stack:
        security, accepted = await at_peer(peer, stack)
        asking = asyncio.create_task(security.cut_off("ana"))
        for payload in (
            b"",
            b"{",
            b"[]",
            b'{"responses":[]}',
            b'{"responses":[{}]}',
            b'{"responses":[{"correlationData":"1"}]}',
        ):
            accepted.send(Publish(RESPONSES, payload))
        assert await answer(accepted, {}) == "deleteClient"
        await asking


@pytest.mark.parametrize("ask", ["login", "cut_off"])
async def test_more_commands_than_may_wait_are_refused_at_once(ask: str) -> None:
    async with listening() as peer, AsyncExitStack() as stack:
        security, _ = await at_peer(peer, stack)
        asked = {"login": lambda user: security.login(user, ""), "cut_off": security.cut_off}[ask]
        ended = await asyncio.gather(*(asked(user) for user in ("ana", "bob", "carla")), return_exceptions=True)
        texts = [refused.message.partition(";")[0] for refused in ended if isinstance(refused, Unavailable)]
        assert texts == [*["the broker does not answer"] * 2, "too many sessions wait for the broker"]
