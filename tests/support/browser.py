"""The pages in a real browser: what a person sees and does there, by the pages' test ids."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.support.api import Api
from tests.support.server import Server

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
RECONNECT_TIMEOUT_MS = 40_000

OpenPage = Callable[..., Page]

expect.set_options(timeout=10_000)


def connection_state(page: Page, state: str) -> Locator:
    return page.locator(f'[data-testid="connection-state"][data-state="{state}"]')


def connected_by(page: Page, link: str) -> Locator:
    return page.locator(f'[data-testid="connection-state"][data-state="online"][data-link="{link}"]')


def wait_until_connected_by(page: Page, link: str) -> None:
    expect(connected_by(page, link)).to_be_attached(timeout=RECONNECT_TIMEOUT_MS)


def wait_until_online(page: Page) -> None:
    expect(connection_state(page, "online")).to_be_attached(timeout=RECONNECT_TIMEOUT_MS)


def sign_in(page: Page, token: str) -> None:
    field = page.get_by_test_id("sign-in").locator("input[type=password]")
    field.fill(token)
    field.press("Enter")


def conversation_item(page: Page, conversation: str) -> Locator:
    return page.locator(f'[data-testid="conversation-item"][data-conversation="{conversation}"]')


def open_conversation(page: Page, conversation: str) -> None:
    wait_until_online(page)
    conversation_item(page, conversation).click()
    expect(page.get_by_test_id("composer")).to_be_visible()


def message(page: Page, body: str, status: str | None = None) -> Locator:
    """Return the messages with that text, and in that status if one is given."""
    state = "" if status is None else f'[data-status="{status}"]'
    return page.locator(f'[data-testid="message"]{state}').filter(has_text=body)


def expect_receipt(page: Page, body: str, receipt: str) -> None:
    expect(page.locator(f'[data-testid="message"][data-receipt="{receipt}"]').filter(has_text=body)).to_be_visible()


def shown_seqs(page: Page) -> list[str | None]:
    """Of the messages in the open conversation."""
    return [item.get_attribute("data-seq") for item in page.get_by_test_id("message").all()]


def stored_seqs(api: Api, conversation: str) -> list[str | None]:
    """Of the messages in the log, as the pages have them."""
    return [str(event["seq"]) for event in api.history(conversation) if "type" not in event]


def send(page: Page, body: str) -> None:
    page.get_by_test_id("composer").fill(body)
    page.get_by_test_id("send").click()


def new_body(text: str) -> str:
    """Return a text that no other message has."""
    return f"{text} {uuid.uuid4().hex[:6]}"


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The server holds its breath: connections stay, nothing is answered."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


class Witness:
    """What a page does from now on: requests, navigations, new WebSockets; and whether it is still the same page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.seen: list[str] = []
        self._mark = uuid.uuid4().hex
        page.evaluate("mark => { window.mark = mark }", self._mark)
        page.on("request", lambda request: self.seen.append(f"{request.method} {request.url}"))
        page.on("framenavigated", lambda frame: self.seen.append(f"navigation to {frame.url}"))
        page.on("websocket", lambda socket: self.seen.append(f"WebSocket {socket.url}"))

    @property
    def same_page(self) -> bool:
        return bool(self._page.evaluate("() => window.mark") == self._mark)


def tab_to(page: Page, test_id: str) -> None:
    """Press Tab until the focus is on, or in, that part; no page here has more than 30 stops."""
    for _ in range(30):
        if page.evaluate("id => document.activeElement?.closest(`[data-testid=${id}]`) != null", test_id):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reached {test_id}")
