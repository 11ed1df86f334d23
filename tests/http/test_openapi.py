"""The description of the calls: complete, and true when schemathesis tries it on a real server."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from recado.http.calls import CALLS
from recado.http.openapi import describe
from tests.http.conftest import API_KEY, LIMITS, SETTINGS, World, bearer, open_world

TRIES = settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


class ServedWorld:
    """A world behind uvicorn on a socket, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.token = ""
        self._path = path
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        world = await open_world(self._path)
        await world.host("PUT", "/v1/conversations/order-4711", {"members": ["ana", "bruno"], "metadata": {"sum": 1}})
        await world.user("ana")("POST", "/v1/conversations/order-4711/messages", {"body": "Chegou!"})
        self.token = world.token("ana")
        self.server = uvicorn.Server(uvicorn.Config(world.app, log_level="error", lifespan="off"))
        self._ready.set()
        await self.server.serve(sockets=[self._socket])
        await world.chat.store.close()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(timeout=10)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorld]:
    served = ServedWorld(tmp_path_factory.mktemp("served") / "recado.db")
    served.start()
    yield served
    served.stop()


REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "415"]
CONFIG = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}})

schema = schemathesis.openapi.from_dict(describe(CALLS, LIMITS, SETTINGS), config=CONFIG)


def try_call(case: schemathesis.Case[Any], served: ServedWorld, token: str) -> None:
    """Make the call and hold the answer against the description. A refusal of well-formed data is no failure: not
    every rule can be said in a schema (a seq past the log's end, a cursor that the server did not make)."""
    case.call_and_validate(served.url, headers=bearer(token), excluded_checks=[positive_data_acceptance])


@schema.parametrize()
@TRIES
def test_what_the_host_calls_answers_as_described(case: schemathesis.Case[Any], served: ServedWorld) -> None:
    try_call(case, served, API_KEY)


@schema.parametrize()
@TRIES
def test_what_a_member_calls_answers_as_described(case: schemathesis.Case[Any], served: ServedWorld) -> None:
    if "conversation" in (case.path_parameters or {}):
        case.path_parameters["conversation"] = "order-4711"
    try_call(case, served, served.token)


async def test_every_call_is_described_with_its_refusals(world: World) -> None:
    document = (await world.nobody("GET", "/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert described == {(call.method.lower(), call.path) for call in CALLS}
    send = document["paths"]["/v1/conversations/{conversation}/messages"]["post"]
    assert set(send["responses"]) == {
        *("200", "201", "400", "401", "403", "404", "405", "413", "415", "500", "503"),
    }
    assert send["security"] == [{"userToken": []}, {"apiKey": []}]


async def test_the_description_names_this_servers_limits(world: World) -> None:
    document = (await world.nobody("GET", "/openapi.json")).json()
    query = document["paths"]["/v1/conversations/{conversation}/events"]["get"]["parameters"]
    (limit,) = [parameter["schema"] for parameter in query if parameter["name"] == "limit"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, LIMITS.page_max, LIMITS.page_default)
