"""Two people in two real browsers, on the pages that the server serves."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.support.api import JsonObject
from tests.support.browser import (
    PHONE,
    RECONNECT_TIMEOUT_MS,
    OpenPage,
    Witness,
    connection_state,
    conversation_item,
    frozen,
    message,
    new_body,
    open_conversation,
    send,
    shown_seqs,
    sign_in,
    tab_to,
    wait_until_online,
)
from tests.support.demo import Demo
from tests.support.server import Server


def test_a_message_appears_in_the_others_open_page_with_no_reload_and_no_request(ana: Page, bruno: Page) -> None:
    witness = Witness(bruno)

    body = new_body("Já postou?")
    send(ana, body)
    expect(message(bruno, body, "sent")).to_be_visible()

    assert witness.seen == []
    assert witness.same_page


def test_both_write_and_both_pages_show_the_same_order_as_the_log(ana: Page, bruno: Page, demo: Demo) -> None:
    bodies = [new_body(f"line {number}") for number in range(6)]
    for number, body in enumerate(bodies):
        page = (ana, bruno)[number % 2]
        send(page, body)
        expect(message(page, body, "sent")).to_be_visible()
    for page in (ana, bruno):
        expect(message(page, bodies[-1], "sent")).to_be_visible()

    log = demo.apis["ana"].history(demo.conversation)
    seqs = [str(event["seq"]) for event in log if "type" not in event]
    for page in (ana, bruno):
        assert shown_seqs(page) == seqs


def test_an_own_message_shows_sending_until_the_server_has_it(ana: Page, bruno: Page, demo: Demo) -> None:
    body = new_body("Vou levar")
    with frozen(demo.server):
        send(ana, body)
        expect(message(ana, body, "sending")).to_be_visible()
        expect(ana.get_by_test_id("composer")).to_have_value("")
    expect(message(ana, body, "sent")).to_be_visible()
    expect(message(ana, body)).to_have_count(1)
    expect(message(bruno, body)).to_have_count(1)


def test_typing_is_shown_to_the_other_and_ends_with_the_message(ana: Page, bruno: Page) -> None:
    ana.get_by_test_id("composer").press_sequentially("Escrevendo", delay=30)
    expect(bruno.get_by_test_id("typing")).to_contain_text(re.compile("ana", re.IGNORECASE))
    expect(ana.get_by_test_id("typing")).to_have_text("")

    ana.get_by_test_id("send").click()
    expect(message(bruno, "Escrevendo")).to_be_visible()
    expect(bruno.get_by_test_id("typing")).to_have_text("")


def test_what_was_typed_while_the_server_was_dead_arrives_exactly_once(ana: Page, bruno: Page, demo: Demo) -> None:
    before = new_body("before")
    send(ana, before)
    expect(message(bruno, before, "sent")).to_be_visible()
    witnesses = [(page, Witness(page)) for page in (ana, bruno)]

    demo.server.kill()
    typed = [new_body("from Ana"), new_body("and again"), new_body("from Bruno")]
    for page, body in ((ana, typed[0]), (ana, typed[1]), (bruno, typed[2])):
        expect(connection_state(page, "online")).not_to_be_attached()
        send(page, body)
        expect(message(page, body, "sending")).to_be_visible()
    demo.server.start()

    for page, witness in witnesses:
        wait_until_online(page)
        for body in (before, *typed):
            expect(message(page, body, "sent")).to_have_count(1, timeout=RECONNECT_TIMEOUT_MS)
            expect(message(page, body)).to_have_count(1)
        assert witness.same_page
    log = demo.apis["ana"].history(demo.conversation)
    assert_each_once_and_in_order(log, typed)
    assert shown_seqs(ana) == shown_seqs(bruno) == [str(event["seq"]) for event in log if "type" not in event]


def assert_each_once_and_in_order(log: list[JsonObject], typed: list[str]) -> None:
    bodies = [event.get("body") for event in log]
    assert [bodies.count(body) for body in typed] == [1] * len(typed)
    assert bodies.index(typed[0]) < bodies.index(typed[1]), "one sender's messages changed places"
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))


def test_what_the_other_sent_while_this_page_was_cut_off_is_there_after_the_reconnect(
    ana: Page, bruno: Page, demo: Demo
) -> None:
    demo.server.kill()
    expect(connection_state(bruno, "online")).not_to_be_attached()
    demo.server.start()
    body = new_body("behind your back")
    demo.apis["ana"].send(demo.conversation, body)
    for page in (ana, bruno):
        expect(message(page, body, "sent")).to_have_count(1, timeout=RECONNECT_TIMEOUT_MS)


def test_on_a_phone_the_list_counts_unread_messages_and_the_conversation_fits(
    demo: Demo, open_page: OpenPage, ana: Page
) -> None:
    phone = open_page(demo.urls["bruno"], PHONE)
    wait_until_online(phone)
    item = conversation_item(phone, demo.conversation)
    expect(item).to_be_visible()
    item.click()
    expect(phone.get_by_test_id("message").last).to_be_in_viewport()  # what the demo begins with is read
    phone.go_back()
    expect(item).to_be_visible()
    expect(item.get_by_test_id("unread-count")).not_to_be_visible()

    body = new_body("Chegou aí?")
    send(ana, body)
    expect(item.get_by_test_id("unread-count")).to_have_text(re.compile(r"\b1\b"))

    item.click()
    expect(message(phone, body)).to_be_in_viewport()
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for control in ("composer", "send"):
        expect(phone.get_by_test_id(control)).to_be_in_viewport()
    answer = new_body("Chegou!")
    send(phone, answer)
    expect(message(ana, answer, "sent")).to_be_visible()


def test_a_conversation_can_be_opened_read_and_answered_with_the_keyboard_alone(
    demo: Demo, open_page: OpenPage, bruno: Page
) -> None:
    page = open_page(demo.urls["ana"])
    wait_until_online(page)
    tab_to(page, "conversation-item")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("composer")).to_be_visible()
    tab_to(page, "composer")

    body = new_body("sem mouse")
    page.keyboard.type(body)
    page.keyboard.press("Enter")
    expect(message(bruno, body, "sent")).to_be_visible()


def test_a_message_is_text_whatever_it_looks_like(ana: Page, bruno: Page) -> None:
    body = '<img src=x onerror="window.pwned=1"> <b>bold</b> <script>window.pwned=1</script>'
    send(ana, body)
    for page in (ana, bruno):
        shown = page.get_by_test_id("message").filter(has_text="window.pwned=1")
        expect(shown).to_contain_text(body)
        assert shown.locator("img, b, script").count() == 0
        assert page.evaluate("() => window.pwned") is None


def test_without_a_code_the_page_asks_for_a_token(shared_server: Server, open_page: OpenPage) -> None:
    conversation = shared_server.host_api.create_conversation(["visitor", "ana"])
    page = open_page(f"{shared_server.http_url}/")
    sign_in(page, shared_server.token("visitor"))

    open_conversation(page, conversation)
    body = new_body("Olá")
    shared_server.api("ana").send(conversation, body)
    expect(message(page, body, "sent")).to_be_visible()


def test_a_second_start_of_the_demo_finds_the_same_conversation(ana: Page, demo: Demo, open_page: OpenPage) -> None:
    body = new_body("ainda aqui")
    send(ana, body)
    expect(message(ana, body, "sent")).to_be_visible()
    conversation = demo.conversation

    demo.server.stop()
    demo.start()

    assert demo.conversation == conversation
    page = open_page(demo.urls["bruno"])
    open_conversation(page, conversation)
    expect(message(page, body, "sent")).to_have_count(1)
