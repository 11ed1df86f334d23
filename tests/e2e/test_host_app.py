"""The example shop in real browsers: its own page, on an origin of its own, shows an order's conversation live."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.services.child_process import ChildProcess, running
from deploy.services.ports import answers, free_port
from tests.support.server import API_KEY, Server

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_MS = 20_000


class Shop:
    """The example as its head comment starts it, on free ports."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.recado = Server.serve(directory, f"--allowed-origins={self.url}")
        self._process = ChildProcess(
            "the shop",
            [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "host_app:app", f"--port={self._port}"],
            directory / "shop.log",
            lambda: answers(self._port, "/order_page.js"),
            environment={**os.environ, "RECADO_URL": self.recado.http_url, "RECADO_API_KEY": API_KEY},
        )

    def start(self) -> None:
        self.recado.start()
        self._process.start()

    def restart(self) -> None:
        """The shop alone."""
        self._process.kill()
        self._process.start()

    def close(self) -> None:
        self._process.close()
        self.recado.close()

    def call(self, method: str, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_MS / 1000)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Location") or answer.read().decode()
        finally:
            connection.close()

    def place_order(self, buyer: str) -> str:
        """Return the path of the order's page."""
        status, location = self.call("POST", f"/orders?user={buyer}")
        assert status == 303, location
        return location.partition("?")[0]


OpenPage = Callable[[str, str], Page]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with running(Shop(tmp_path_factory.mktemp("shop"))) as shop:
        yield shop


@pytest.fixture
def open_order(browser: Browser, shop: Shop) -> Iterator[OpenPage]:
    """Open an order's page as a user, in a browser context of its own, and wait until it is live."""
    contexts = []
    errors: list[str] = []

    def open_order(path: str, user: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{shop.url}{path}?user={user}")
        expect(page.get_by_role("status")).to_have_text("online", timeout=TIMEOUT_MS)
        return page

    yield open_order
    for context in contexts:
        context.close()
    assert not errors, f"the pages threw: {errors}"


def say(page: Page, body: str) -> None:
    page.get_by_label("Message").fill(body)
    page.get_by_label("Message").press("Enter")


def expect_line(page: Page, line: str) -> None:
    expect(page.get_by_role("listitem").filter(has_text=line)).to_have_text([line], timeout=TIMEOUT_MS)


def test_a_message_from_the_buyer_appears_on_the_sellers_order_page_without_a_reload(
    shop: Shop, open_order: OpenPage
) -> None:
    order = shop.place_order("ana")
    ana, bruno = open_order(order, "ana"), open_order(order, "bruno")
    for page in (ana, bruno):
        expect_line(page, "The shop: Order received. Bruno is packing it.")
    mark = uuid.uuid4().hex
    bruno.evaluate("mark => { window.mark = mark }", mark)

    say(ana, "<b>Is it blue?</b>")
    expect_line(bruno, "Ana Souza: <b>Is it blue?</b>")
    say(bruno, "It is.")
    expect_line(ana, "Bruno Lima: It is.")

    assert bruno.evaluate("() => window.mark") == mark


def test_an_order_is_still_there_after_the_shop_was_restarted(shop: Shop, open_order: OpenPage) -> None:
    order = shop.place_order("ana")
    shop.restart()
    assert shop.place_order("ana") != order
    assert order in shop.call("GET", "/?user=ana")[1]
    expect_line(open_order(order, "ana"), "The shop: Order received. Bruno is packing it.")


def test_the_shop_gives_no_token_for_another_users_order(shop: Shop) -> None:
    order = shop.place_order("ana")
    for path in (order, f"{order}/token"):
        assert shop.call("GET", f"{path}?user=carla")[0] == 404
    assert shop.call("GET", "/orders/1/token?user=ana")[0] == 404


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/orders"), ("GET", "/orders/1/token")])
def test_what_is_no_user_id_is_refused(shop: Shop, method: str, path: str) -> None:
    assert shop.call(method, f"{path}?user=%3Cb%3E")[0] == 400


def test_what_recado_refuses_is_shown_in_its_own_words(shop: Shop) -> None:
    status, said = shop.call("GET", f"/orders/{'9' * 70}?user=ana")
    assert status == 502
    assert "conversation id must be 1 to 64" in said
