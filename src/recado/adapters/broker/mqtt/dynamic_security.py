"""Mosquitto's users, as its dynamic security plugin keeps them: one client and one role for each, both named
`u/<user>`, with the right to read `u/<user>/#` and nothing else. Neither ever changes: the plugin disconnects a client
whose rights do.

The password follows from RECADO_SECRET, the user and a salt that the client's record has, so every process knows it
and none stores it. To cut a user off is to delete the client, which ends its connections; its next session makes
another one, with another salt, and what it knew is worth nothing. No user id contains a slash, so no user can be
mistaken for an operator's account.

What no role allows is denied. By default the plugin lets everybody receive: then who takes over another user's session,
by its client id, would get what waits there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Collection
from itertools import count
from typing import Any

import msgspec

from recado.adapters.broker.mqtt.limits import DynamicSecurityLimits
from recado.adapters.broker.mqtt.publisher import Publisher
from recado.chat.errors import Unavailable
from recado.mqtt.packets import Publish
from recado.ports import Unusable

COMMANDS = "$CONTROL/dynamic-security/v1"
RESPONSES = "$CONTROL/dynamic-security/v1/response"
_TRIES = 3  # another process may make the client, or delete it, in between
_DENIED = ("publishClientReceive", "publishClientSend", "subscribe")
_log = logging.getLogger(__name__)
_Answers = list[dict[str, Any]]


class DynamicSecurity:
    """A `Users` (see `external`). It asks for each login, as another process may have cut the user off; while the
    broker does not answer, who has had a login here gets that one again."""

    def __init__(self, publisher: Publisher, secret: str, limits: DynamicSecurityLimits) -> None:
        self._publisher = publisher
        self._limits = limits
        self._key = secret.encode()
        self._secret_name = self._digest("the name of this secret")[:8]
        self._logins: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._asked: dict[str, asyncio.Future[_Answers]] = {}
        self._changing = asyncio.Lock()
        self._changes = 0
        self._numbers = count(1)
        self._me = secrets.token_hex(8)  # every process that listens gets everybody's answers
        publisher.listens_to = RESPONSES
        publisher.on_publish = self._answered

    async def check(self) -> None:
        """Have the plugin deny what it was not told to allow. A broker that is away is not asked. Raises Unusable."""
        if not self._publisher.is_connected:
            return
        try:
            if allowed := await self._allowed_by_default():
                # mosquitto_ctrl of Mosquitto 2.0.11 cannot: it says that it did, and nothing has changed
                acls = [{"acltype": acltype, "allow": False} for acltype in allowed]
                await self._ask({"command": "setDefaultACLAccess", "acls": acls})
                allowed = await self._allowed_by_default()
        except Unavailable:
            text = (
                "does not answer commands: load its dynamic security plugin, and let the user in the URL administer it"
            )
            raise Unusable(f"the broker {self._publisher.address} {text} (recado broker-config mosquitto)") from None
        if allowed:
            text = f"allows by default, and cannot be told not to: {', '.join(allowed)}"
            raise Unusable(f"the broker {self._publisher.address} {text}")

    async def _allowed_by_default(self) -> list[str]:
        (answer,) = await self._ask({"command": "getDefaultACLAccess"})
        acls = answer.get("data", {}).get("acls", ())
        return [acl["acltype"] for acl in acls if acl["allow"] and acl["acltype"] in _DENIED]

    async def login(self, user: str, token: str) -> tuple[str, str]:
        try:
            login = client_name(user), self._password(user, await self._salt(user))
        except Unavailable:
            if user not in self._logins:
                raise
            return self._logins[user]
        self._remember(user, login)
        return login

    async def cut_off(self, user: str) -> None:
        name = client_name(user)
        self._logins.pop(user, None)
        await self._change(
            {"command": "deleteClient", "username": name},
            {"command": "deleteRole", "rolename": name},
            done_already=("Client not found", "Role not found"),
        )

    async def _salt(self, user: str) -> str:
        """That of the user's client, which is made if there is none."""
        for _ in range(_TRIES):
            (answer,) = await self._ask({"command": "getClient", "username": client_name(user)})
            salt, _, secret_name = _label(answer).partition(" ")
            if secret_name == self._secret_name:
                return salt
            if "error" not in answer:  # made with another secret
                await self.cut_off(user)
            await self._make(user)
        raise Unavailable("the broker's users change too fast; try again")

    async def _make(self, user: str) -> None:
        name = client_name(user)
        salt = secrets.token_urlsafe(12)
        rights = [
            {"acltype": acltype, "topic": f"u/{user}/#", "allow": True}
            for acltype in ("subscribePattern", "publishClientReceive", "unsubscribePattern")
        ]
        await self._change(
            {"command": "createRole", "rolename": name, "acls": rights},
            {
                "command": "createClient",
                "username": name,
                "password": self._password(user, salt),
                "textname": f"{salt} {self._secret_name}",
                "roles": [{"rolename": name}],
            },
            done_already=("Role already exists", "Client already exists"),
        )

    def _password(self, user: str, salt: str) -> str:
        return self._digest(f"broker password\0{user}\0{salt}")

    def _digest(self, text: str) -> str:
        digest = hmac.digest(self._key, f"recado\0{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _remember(self, user: str, login: tuple[str, str]) -> None:
        self._logins[user] = login
        self._logins.move_to_end(user)
        if len(self._logins) > self._limits.broker_logins_remembered_max:
            self._logins.popitem(last=False)

    # Commands and their answers

    async def _change(self, *commands: dict[str, Any], done_already: Collection[str]) -> None:
        """One change at a time: for each the plugin writes all its users to its file, and the broker does nothing else
        meanwhile. An error that is `done_already` says that a command has nothing left to do: it counts as success.
        Raises Unavailable."""
        if self._changes >= self._limits.broker_commands_max:
            raise Unavailable("too many sessions wait for the broker; try again")
        self._changes += 1
        try:
            async with self._changing:
                answers = await self._ask(*commands)
        finally:
            self._changes -= 1
        for answer in answers:
            error = answer.get("error")
            if error is not None and error not in done_already:
                _log.error("the broker %s refused %s: %s", self._publisher.address, answer.get("command"), error)
                raise Unavailable("the broker refused to do it; its operator must look into it")

    async def _ask(self, *commands: dict[str, Any]) -> _Answers:
        """Raises Unavailable if there is no answer."""
        if len(self._asked) >= self._limits.broker_commands_max:
            raise Unavailable("too many sessions wait for the broker; try again")
        correlation = f"{self._me}.{next(self._numbers)}"
        marked = [{**command, "correlationData": correlation} for command in commands]
        answered = self._asked[correlation] = asyncio.get_running_loop().create_future()
        try:
            if not self._publisher.signal([COMMANDS], msgspec.json.encode({"commands": marked})):
                raise Unavailable("the broker is away; try again")
            return await asyncio.wait_for(answered, self._limits.broker_command_s)
        except TimeoutError:
            raise Unavailable("the broker does not answer; try again") from None
        finally:
            del self._asked[correlation]

    def _answered(self, publish: Publish) -> None:
        try:
            answers: _Answers = msgspec.json.decode(publish.payload)["responses"]
            answered = self._asked.get(answers[0]["correlationData"])
        except (msgspec.DecodeError, LookupError, TypeError):
            return  # another administrator's, whose answers need no correlation
        if answered is not None and not answered.done():
            answered.set_result(answers)


def client_name(user: str) -> str:
    return f"u/{user}"


def _label(answer: dict[str, Any]) -> str:
    """The client's text, "" for a client that there is not."""
    client: dict[str, Any] = answer.get("data", {}).get("client", {})
    return str(client.get("textname", ""))
