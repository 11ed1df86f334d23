"""Edits and deletes in real browsers: they appear on the other screen by themselves, and go with the keyboard alone."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import (
    PHONE,
    RECONNECT_TIMEOUT_MS,
    OpenPage,
    Witness,
    connection_state,
    message,
    new_body,
    open_conversation,
    send,
    sign_in,
    tab_to,
    wait_until_online,
)
from tests.support.demo import Demo
from tests.support.server import Server

DELETED = "Message deleted"


@pytest.fixture
def sent(ana: Page) -> str:
    """A message of Ana's that is on her screen, and in the log."""
    body = new_body("Vou avizar")
    send(ana, body)
    expect(stored(ana, body)).to_be_visible()
    return body


def stored(page: Page, body: str) -> Locator:
    return page.locator('[data-testid="message"][data-seq]').filter(has_text=body)


def open_menu(page: Page, body: str) -> None:
    row = stored(page, body)
    row.hover()
    row.get_by_test_id("message-menu-button").click()
    expect(page.get_by_test_id("message-menu")).to_be_visible()


def edit(page: Page, body: str, new: str) -> None:
    open_menu(page, body)
    page.get_by_test_id("menu-edit").click()
    expect(page.get_by_test_id("composer")).to_have_value(body)
    page.get_by_test_id("composer").fill(new)
    page.keyboard.press("Enter")


def test_an_edit_appears_on_the_other_screen_with_no_reload_and_no_request(ana: Page, bruno: Page, sent: str) -> None:
    expect(message(bruno, sent)).to_be_visible()
    witness = Witness(bruno)

    new = new_body("Vou avisar")
    edit(ana, sent, new)

    for page in (ana, bruno):
        expect(message(page, new)).to_contain_text("edited")
        expect(message(page, sent)).to_have_count(0)
    expect(ana.get_by_test_id("edit-bar")).to_be_hidden()
    assert witness.seen == []
    assert witness.same_page


def test_a_delete_is_asked_about_and_leaves_a_place_without_the_text_on_both_screens(
    ana: Page, bruno: Page, sent: str
) -> None:
    expect(message(bruno, sent)).to_be_visible()
    witness = Witness(bruno)
    seq = stored(ana, sent).get_attribute("data-seq")
    open_menu(ana, sent)
    ana.get_by_test_id("menu-delete").click()
    expect(ana.get_by_test_id("delete-dialog")).to_be_visible()
    expect(message(ana, sent)).to_be_visible()

    ana.get_by_test_id("delete-confirm").click()

    for page in (ana, bruno):
        expect(page.locator(f'[data-testid="message"][data-seq="{seq}"]')).to_contain_text(DELETED)
        expect(message(page, sent)).to_have_count(0)
    assert witness.seen == []


def test_what_was_edited_and_deleted_is_so_after_a_reload_too(ana: Page, sent: str, demo: Demo) -> None:
    new = new_body("Vou avisar")
    edit(ana, sent, new)
    expect(message(ana, new)).to_be_visible()
    mine = demo.apis["ana"]
    seq = mine.send(demo.conversation, new_body("apagada"))["seq"]
    mine.call("DELETE", f"/conversations/{demo.conversation}/messages/{seq}").expect(200)

    ana.reload()
    wait_until_online(ana)
    expect(message(ana, new)).to_contain_text("edited")
    expect(ana.locator(f'[data-testid="message"][data-seq="{seq}"]')).to_contain_text(DELETED)


def test_only_own_messages_have_a_menu(ana: Page, bruno: Page, sent: str) -> None:
    expect(stored(ana, sent).get_by_test_id("message-menu-button")).to_have_count(1)
    expect(stored(bruno, sent)).to_be_visible()
    expect(stored(bruno, sent).get_by_test_id("message-menu-button")).to_have_count(0)


def test_escape_cancels_an_edit_and_gives_the_draft_back(ana: Page, sent: str) -> None:
    composer = ana.get_by_test_id("composer")
    composer.fill("um rascunho")
    open_menu(ana, sent)
    ana.get_by_test_id("menu-edit").click()
    composer.fill("outra coisa")

    ana.keyboard.press("Escape")

    expect(ana.get_by_test_id("edit-bar")).to_be_hidden()
    expect(composer).to_have_value("um rascunho")
    expect(message(ana, sent)).to_be_visible()


def test_an_edit_that_the_server_does_not_take_is_said_in_words_and_can_be_tried_again(
    ana: Page, sent: str, demo: Demo
) -> None:
    new = new_body("Vou avisar")
    demo.server.kill()
    edit(ana, sent, new)
    expect(ana.get_by_test_id("refusal")).to_contain_text("cannot be reached")
    expect(message(ana, sent)).to_be_visible()
    expect(ana.get_by_test_id("composer")).to_have_value(new)

    demo.server.start()
    expect(connection_state(ana, "online")).to_be_attached(timeout=RECONNECT_TIMEOUT_MS)
    ana.get_by_test_id("composer").press("Enter")
    expect(message(ana, new)).to_contain_text("edited")
    expect(ana.get_by_test_id("refusal")).to_have_text("")


def test_what_is_too_old_to_be_changed_is_refused_in_words_and_stays(
    ana: Page, sent: str, demo: Demo, tmp_path: Path
) -> None:
    demo.server.stop()
    [database] = (tmp_path / "data").glob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE events SET at = at - ?", (25 * 3600 * 1000,))
    demo.server.start()
    expect(connection_state(ana, "online")).to_be_attached(timeout=RECONNECT_TIMEOUT_MS)

    edit(ana, sent, new_body("tarde demais"))
    expect(ana.get_by_test_id("refusal")).to_contain_text("too late")
    ana.keyboard.press("Escape")
    expect(ana.get_by_test_id("refusal")).to_have_text("")

    open_menu(ana, sent)
    ana.get_by_test_id("menu-delete").click()
    ana.get_by_test_id("delete-confirm").click()
    expect(ana.get_by_test_id("refusal")).to_contain_text("too late")
    expect(message(ana, sent)).to_be_visible()


def test_a_message_that_is_deleted_while_it_is_edited_ends_the_edit_with_a_word(
    ana: Page, sent: str, demo: Demo
) -> None:
    seq = stored(ana, sent).get_attribute("data-seq")
    open_menu(ana, sent)
    ana.get_by_test_id("menu-edit").click()
    expect(ana.get_by_test_id("edit-bar")).to_be_visible()

    demo.apis["ana"].call("DELETE", f"/conversations/{demo.conversation}/messages/{seq}").expect(200)

    expect(ana.get_by_test_id("edit-bar")).to_be_hidden()
    expect(ana.get_by_test_id("refusal")).to_contain_text("deleted")
    expect(ana.get_by_test_id("composer")).to_have_value("")


def test_a_message_can_be_edited_and_deleted_with_the_keyboard_alone(ana: Page, bruno: Page, sent: str) -> None:
    ana.get_by_test_id("composer").focus()
    tab_back_to(ana, "message-menu-button")
    ana.keyboard.press("Enter")
    expect(ana.get_by_test_id("menu-edit")).to_be_focused()
    ana.keyboard.press("Escape")
    expect(ana.get_by_test_id("message-menu")).to_be_hidden()
    expect(stored(ana, sent).get_by_test_id("message-menu-button")).to_be_focused()

    ana.keyboard.press("Enter")
    ana.keyboard.press("Enter")
    expect(ana.get_by_test_id("composer")).to_be_focused()
    ana.keyboard.type(" já")
    ana.keyboard.press("Enter")
    expect(message(bruno, f"{sent} já")).to_contain_text("edited")

    tab_back_to(ana, "message-menu-button")
    ana.keyboard.press("Enter")
    ana.keyboard.press("ArrowDown")
    expect(ana.get_by_test_id("menu-delete")).to_be_focused()
    ana.keyboard.press("Enter")
    expect(ana.get_by_test_id("delete-dialog")).to_be_visible()
    ana.keyboard.press("Escape")
    expect(ana.get_by_test_id("delete-dialog")).to_be_hidden()
    expect(stored(ana, sent).get_by_test_id("message-menu-button")).to_be_focused()

    for key in ("Enter", "ArrowDown", "Enter"):
        ana.keyboard.press(key)
    tab_to(ana, "delete-confirm")
    ana.keyboard.press("Enter")
    expect(message(bruno, sent)).to_have_count(0)
    expect(bruno.get_by_test_id("message").filter(has_text=DELETED)).to_have_count(1)
    expect(ana.get_by_role("log")).to_be_focused()


def tab_back_to(page: Page, test_id: str) -> None:
    for _ in range(30):
        if page.evaluate("id => document.activeElement?.dataset.testid === id", test_id):
            return
        page.keyboard.press("Shift+Tab")
    raise AssertionError(f"Shift+Tab never reached {test_id}")


def test_a_message_that_comes_in_leaves_the_menu_open_at_its_message_until_that_is_scrolled_away(
    ana: Page, sent: str, demo: Demo
) -> None:
    open_menu(ana, sent)
    was_at = top_of_menu_button(ana, sent)

    comes = "\n".join([new_body("Enquanto isso"), *("linha" for _ in range(8))])
    demo.apis["bruno"].send(demo.conversation, comes)
    expect(message(ana, comes.splitlines()[0])).to_be_visible()

    assert top_of_menu_button(ana, sent) < was_at
    expect(ana.get_by_test_id("menu-edit")).to_be_focused()
    menu = ana.get_by_test_id("message-menu").bounding_box()
    assert menu is not None
    assert abs(menu["y"] - top_of_menu_button(ana, sent)) < menu["height"] + 40

    for number in range(3):
        demo.apis["bruno"].send(demo.conversation, "\n".join([f"mais {number}", *("linha" for _ in range(12))]))
    expect(ana.get_by_test_id("message-menu")).to_be_hidden()


def top_of_menu_button(page: Page, body: str) -> float:
    box = stored(page, body).get_by_test_id("message-menu-button").bounding_box()
    assert box is not None
    return box["y"]


def test_on_a_phone_the_menu_is_there_without_a_mouse_and_everything_fits(
    demo: Demo, open_page: OpenPage, ana: Page, sent: str
) -> None:
    phone = open_page(demo.urls["ana"], PHONE)
    open_conversation(phone, demo.conversation)
    button = stored(phone, sent).get_by_test_id("message-menu-button")
    expect(button).to_be_in_viewport(ratio=1)
    button.click()
    for item in ("menu-edit", "menu-delete"):
        expect(phone.get_by_test_id(item)).to_be_in_viewport(ratio=1)
    phone.get_by_test_id("menu-edit").click()
    for part in ("edit-bar", "composer", "send"):
        expect(phone.get_by_test_id(part)).to_be_in_viewport(ratio=1)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    new = new_body("do celular")
    phone.get_by_test_id("composer").fill(new)
    phone.get_by_test_id("send").click()
    expect(message(ana, new)).to_contain_text("edited")


def test_a_conversation_that_the_host_erases_leaves_the_list_and_the_screen(
    shared_server: Server, open_page: OpenPage
) -> None:
    conversation = shared_server.host_api.create_conversation(["dora", "elias"])
    body = new_body("segredo")
    shared_server.api("elias").send(conversation, body)
    page = open_page(f"{shared_server.http_url}/")
    sign_in(page, shared_server.token("dora"))
    open_conversation(page, conversation)
    expect(message(page, body)).to_be_visible()

    shared_server.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)

    expect(page.get_by_text(re.compile("conversation was deleted"))).to_be_visible()
    expect(message(page, body)).to_have_count(0)
    expect(page.locator(f'[data-conversation="{conversation}"]')).to_have_count(0)
    expect(page.get_by_test_id("composer")).to_be_hidden()
