"""Browsers, and the demo's two users in one each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.support.browser import DESKTOP, OpenPage, open_conversation
from tests.support.demo import Demo
from tests.support.push_service import PushService

CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert executable, "no Chromium: tests/install_needs.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        demo.start()
        yield demo
    finally:
        demo.server.close()


@pytest.fixture
def service() -> Iterator[PushService]:
    """A push service, which finds no fault with who calls it."""
    service = PushService()
    yield service
    service.close()
    assert service.problems == []


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a URL as a person of its own: a browser context shares nothing with another."""
    contexts = []
    errors: list[str] = []

    def open_page(url: str, viewport: ViewportSize = DESKTOP) -> Page:
        context = browser.new_context(viewport=viewport)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, f"the pages threw: {errors}"


@pytest.fixture
def ana(demo: Demo, open_page: OpenPage) -> Page:
    page = open_page(demo.urls["ana"])
    open_conversation(page, demo.conversation)
    return page


@pytest.fixture
def bruno(demo: Demo, open_page: OpenPage) -> Page:
    page = open_page(demo.urls["bruno"])
    open_conversation(page, demo.conversation)
    return page
