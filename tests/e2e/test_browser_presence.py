"""Receipts and presence in real browsers: ticks that only go forward, and who is there, through a reload too."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.support.browser import (
    OpenPage,
    connection_state,
    conversation_item,
    expect_receipt,
    message,
    new_body,
    open_conversation,
    send,
    sign_in,
    wait_until_online,
)
from tests.support.demo import Demo
from tests.support.server import Server

GRACE_TIMEOUT_MS = 30_000

RECORD = """() => {
  const line = document.querySelector("[data-testid=presence]");
  window.presenceSeen = [line.textContent];
  new MutationObserver(() => window.presenceSeen.push(line.textContent))
    .observe(line, { childList: true, characterData: true, subtree: true });
}"""


def test_one_tick_becomes_two_when_it_is_delivered_and_coloured_when_it_is_read(
    ana: Page, demo: Demo, open_page: OpenPage
) -> None:
    body = new_body("Chegou?")
    send(ana, body)
    expect_receipt(ana, body, "stored")

    bruno = open_page(demo.urls["bruno"])
    wait_until_online(bruno)
    another = new_body("E agora?")
    send(ana, another)
    expect_receipt(ana, another, "delivered")
    expect(message(ana, another)).to_contain_text("Delivered")

    conversation_item(bruno, demo.conversation).click()
    for sent in (body, another):
        expect_receipt(ana, sent, "read")
        expect(message(ana, sent)).to_contain_text("Read")
    ticks = [message(ana, sent).locator(".state .icon") for sent in (body, another)]
    assert ticks[0].evaluate("icon => getComputedStyle(icon).color") != message(ana, body).evaluate(
        "row => getComputedStyle(row.querySelector('.meta')).color"
    )


def test_receipts_are_there_after_a_reload_of_the_sender(ana: Page, bruno: Page) -> None:
    body = new_body("Lida")
    send(ana, body)
    expect_receipt(ana, body, "read")
    ana.reload()
    expect_receipt(ana, body, "read")


def test_what_was_read_while_the_sender_was_away_shows_when_the_sender_is_back(
    ana: Page, demo: Demo, open_page: OpenPage
) -> None:
    body = new_body("Lida depois")
    send(ana, body)
    expect_receipt(ana, body, "stored")
    ana.context.set_offline(True)
    demo.server.kill()
    demo.server.start()
    expect(connection_state(ana, "online")).not_to_be_attached()
    bruno = open_page(demo.urls["bruno"])
    open_conversation(bruno, demo.conversation)
    expect(message(bruno, body)).to_be_visible()
    elsewhere = open_page(demo.urls["ana"])
    open_conversation(elsewhere, demo.conversation)
    expect_receipt(elsewhere, body, "read")
    expect_receipt(ana, body, "stored")

    ana.context.set_offline(False)
    wait_until_online(ana)
    expect_receipt(ana, body, "read")


def test_in_a_conversation_of_more_than_fifty_nothing_is_told(shared_server: Server, open_page: OpenPage) -> None:
    members = ["flora", *(f"guest-{number}" for number in range(50))]
    conversation = shared_server.host_api.create_conversation(members)
    page = open_page(f"{shared_server.http_url}/")
    sign_in(page, shared_server.token("flora"))
    open_conversation(page, conversation)
    body = new_body("a todos")
    send(page, body)
    stored = page.locator('[data-testid="message"][data-seq]').filter(has_text=body)
    expect(stored).to_be_visible()
    expect(stored.locator(".state")).to_have_count(0)
    expect(page.get_by_test_id("presence")).to_have_text("")


def test_who_reloads_the_page_does_not_flicker_and_who_goes_was_last_seen(
    ana: Page, demo: Demo, open_page: OpenPage
) -> None:
    bruno = open_page(demo.urls["bruno"])
    open_conversation(bruno, demo.conversation)
    expect(ana.get_by_test_id("presence")).to_have_text("online")
    expect(conversation_item(ana, demo.conversation).get_by_test_id("online-dot")).to_be_visible()

    ana.evaluate(RECORD)
    bruno.reload()
    wait_until_online(bruno)
    body = new_body("de volta")
    send(bruno, body)
    expect(message(ana, body)).to_be_visible()
    assert set(ana.evaluate("() => window.presenceSeen")) == {"online"}

    bruno.context.close()
    expect(ana.get_by_test_id("presence")).to_have_text(re.compile("last seen"), timeout=GRACE_TIMEOUT_MS)
    expect(conversation_item(ana, demo.conversation).get_by_test_id("online-dot")).to_have_count(0)
