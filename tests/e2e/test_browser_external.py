"""Two people in two real browsers, at a Mosquitto of its own: what happens comes from there, what they do goes up over
HTTP, and what Mosquitto loses while it is dead is not missed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from deploy.services.child_process import running
from deploy.services.mosquitto import Mosquitto
from tests.support.api import Api
from tests.support.browser import (
    RECONNECT_TIMEOUT_MS,
    OpenPage,
    Witness,
    conversation_item,
    expect_receipt,
    message,
    new_body,
    open_conversation,
    send,
    shown_seqs,
    sign_in,
    stored_seqs,
    wait_until_connected_by,
    wait_until_online,
)
from tests.support.connection import Login, next_delivery
from tests.support.mosquitto import broker_options
from tests.support.node import NodeClient
from tests.support.rabbitmq import RecadoAtRabbitmq, new_user
from tests.support.server import Server

GONE_TIMEOUT_MS = 30_000


class Shop:
    """A server whose MQTT is Mosquitto's, and a conversation of an Ana and a Bruno whom no other test has."""

    def __init__(self, server: Server, mosquitto: Mosquitto) -> None:
        self.server = server
        self.mosquitto = mosquitto
        self.users = {name: new_user(name) for name in ("ana", "bruno")}
        self.conversation = self.new_conversation()

    def new_conversation(self) -> str:
        return self.server.host_api.create_conversation(list(self.users.values()))

    def api(self, name: str) -> Api:
        return self.server.api(self.users[name])

    def open(self, open_page: OpenPage, name: str) -> Page:
        page = open_page(f"{self.server.http_url}/")
        sign_in(page, self.server.token(self.users[name]))
        open_conversation(page, self.conversation)
        wait_until_connected_by(page, "mqtt")
        return page


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """For the tests of this file, which leave it running."""
    with running(Mosquitto(tmp_path_factory.mktemp("mosquitto"))) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mosquitto: Mosquitto) -> Iterator[Server]:
    options = (*broker_options(mosquitto), "--limit.presence_grace_s=2")  # so long is who went waited for
    with running(Server.serve(tmp_path_factory.mktemp("server"), *options)) as server:
        yield server


@pytest.fixture
def shop(server: Server, mosquitto: Mosquitto) -> Shop:
    return Shop(server, mosquitto)


@pytest.fixture
def ana(shop: Shop, open_page: OpenPage) -> Page:
    return shop.open(open_page, "ana")


@pytest.fixture
def bruno(shop: Shop, open_page: OpenPage) -> Page:
    return shop.open(open_page, "bruno")


def expect_the_whole_log(page: Page, shop: Shop, last: str) -> None:
    expect(message(page, last, "sent")).to_have_count(1)
    assert shown_seqs(page) == stored_seqs(shop.server.host_api, shop.conversation), (
        "something is missing, twice or out of order"
    )


def test_messages_come_both_ways_from_mosquitto_and_no_page_asks_for_them(ana: Page, bruno: Page, shop: Shop) -> None:
    witnesses = [Witness(page) for page in (ana, bruno)]
    bodies = [new_body(f"line {number}") for number in range(6)]
    for number, body in enumerate(bodies):
        send((ana, bruno)[number % 2], body)
        for page in (ana, bruno):
            expect(message(page, body, "sent")).to_be_visible()

    for page, witness in zip((ana, bruno), witnesses, strict=True):
        expect_the_whole_log(page, shop, bodies[-1])
        assert witness.same_page
        assert [seen for seen in witness.seen if not seen.startswith(("POST ", "PUT "))] == []


def test_typing_shows_and_ticks_go_from_sent_to_delivered_to_read(ana: Page, bruno: Page, shop: Shop) -> None:
    ana.get_by_test_id("composer").press_sequentially("Escrevendo", delay=30)
    expect(bruno.get_by_test_id("typing")).to_contain_text(re.compile("ana", re.IGNORECASE))
    ana.get_by_test_id("send").click()
    expect_receipt(ana, "Escrevendo", "read")
    expect(bruno.get_by_test_id("typing")).to_have_text("")

    other = shop.new_conversation()
    shop.api("ana").send(other, "first")  # Bruno's page, which has never heard of it, shows it at once
    expect(conversation_item(bruno, other)).to_contain_text("first")
    conversation_item(ana, other).click()
    body = new_body("Chegou?")
    send(ana, body)
    expect_receipt(ana, body, "delivered")
    conversation_item(bruno, other).click()
    expect_receipt(ana, body, "read")


def test_who_is_there_is_told_by_the_pages_themselves_and_a_closed_page_is_gone(
    ana: Page, shop: Shop, open_page: OpenPage
) -> None:
    bruno = shop.open(open_page, "bruno")
    expect(ana.get_by_test_id("presence")).to_have_text("online")
    bruno.reload()
    wait_until_online(bruno)
    expect(ana.get_by_test_id("presence")).to_have_text("online")
    bruno.goto("about:blank")
    expect(ana.get_by_test_id("presence")).to_have_text(re.compile("last seen"), timeout=GONE_TIMEOUT_MS)


def test_a_reload_shows_the_same_and_goes_on(ana: Page, bruno: Page, shop: Shop) -> None:
    before, after = new_body("before"), new_body("after")
    send(ana, before)
    expect(message(bruno, before, "sent")).to_be_visible()
    bruno.reload()
    wait_until_connected_by(bruno, "mqtt")
    send(ana, after)
    expect_the_whole_log(bruno, shop, after)


def test_who_is_removed_gets_nothing_more_and_is_told_so(ana: Page, bruno: Page, shop: Shop) -> None:
    shop.server.host_api.remove_member(shop.conversation, shop.users["bruno"])
    expect(bruno.locator("#removed-notice")).to_be_visible()
    body = new_body("só nós")
    send(ana, body)
    expect(message(ana, body, "sent")).to_be_visible()
    other = shop.new_conversation()
    shop.api("ana").send(other, "later")
    expect(conversation_item(bruno, other)).to_be_visible()  # what came after it has come
    expect(message(bruno, body)).to_have_count(0)


def test_mosquitto_dies_and_comes_back_and_nothing_is_missing_or_there_twice(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, open_page: OpenPage
) -> None:
    with closing(Mosquitto(tmp_path_factory.mktemp("mortal"))) as mosquitto:
        mosquitto.start()
        with running(Server.serve(tmp_path, *broker_options(mosquitto))) as server:
            shop = Shop(server, mosquitto)
            pages = [shop.open(open_page, user) for user in ("ana", "bruno")]
            witnesses = [Witness(page) for page in pages]
            before, during, after = (
                [new_body(f"{when} {n}") for n in range(4)] for when in ("before", "during", "after")
            )
            say(pages, before)

            mosquitto.kill()
            say(pages, during)
            for page in pages:
                expect(message(page, during[-1], "sent")).to_be_visible(timeout=RECONNECT_TIMEOUT_MS)
                wait_until_connected_by(page, "websocket")  # Recado itself is there

            mosquitto.start()
            for page in pages:
                page.evaluate("() => dispatchEvent(new Event('online'))")  # a page looks for a better way then
                wait_until_connected_by(page, "mqtt")
            say(pages, after)
            for page, witness in zip(pages, witnesses, strict=True):
                expect_the_whole_log(page, shop, after[-1])
                assert len(shown_seqs(page)) == len([*before, *during, *after])
                assert witness.same_page


def say(pages: list[Page], bodies: list[str]) -> None:
    for number, body in enumerate(bodies):
        page = pages[number % len(pages)]
        send(page, body)
        expect(message(page, body, "sent")).to_be_visible(timeout=RECONNECT_TIMEOUT_MS)


def test_paho_in_a_browser_needs_no_more_than_the_session_says(shop: Shop) -> None:
    mqtt = shop.api("bruno").call("GET", "/session").expect(200)["mqtt"]
    login = Login(shop.mosquitto.tcp_port, mqtt["ws_url"], mqtt["username"], mqtt["password"])
    with closing(NodeClient("pahojs", login, "3.1.1", "websocket")) as bruno:
        assert bruno.connect() == 0
        assert [bruno.subscribe(topic_filter) for topic_filter in mqtt["topics"]["subscribe"]] == [1]

        sent = shop.api("ana").send(shop.conversation, "Chegou! ☕")

        delivery = next_delivery(bruno)
        assert delivery.topic == mqtt["topics"]["events"].replace("{conversation}", shop.conversation)
        assert (delivery.qos, delivery.event) == (1, sent)


def test_at_a_rabbitmq_of_3_1_1_alone_the_page_is_connected_by_mqtt_all_the_same(
    at_rabbitmq: RecadoAtRabbitmq, open_page: OpenPage
) -> None:
    server, user = at_rabbitmq.server, new_user("ana")
    conversation = server.host_api.create_conversation([user, "bruno"])
    page = open_page("about:blank")
    page.route("**/v1/session", lambda route: with_mqtt_at(route, at_rabbitmq.cluster.nodes[0].ws_url))
    page.goto(f"{server.http_url}/")
    sign_in(page, server.token(user))
    open_conversation(page, conversation)
    wait_until_connected_by(page, "mqtt")
    body, answer = new_body("Chegou?"), new_body("Chegou!")
    send(page, body)
    expect(message(page, body, "sent")).to_be_visible()
    server.host_api.acting_as("bruno").send(conversation, answer)
    expect(message(page, answer)).to_be_visible()


def with_mqtt_at(route: Route, ws_url: str) -> None:
    """The session as it is, with one node's address for the cluster's."""
    response = route.fetch()
    session = response.json()
    session["mqtt"]["ws_url"] = ws_url
    route.fulfill(response=response, json=session)
