"""Pages behind a real nginx that lets less through than it should: each is connected by the best that passes, misses
nothing when that changes, and goes back up when it can."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deploy.services.ports import free_port
from tests.support.browser import (
    OpenPage,
    connected_by,
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
from tests.support.nginx import Nginx, behind_nginx
from tests.support.server import Server

AT_ONCE_MS = 2_000
FIRST_CLIMB_MS = 38_000  # it comes 22.5 to 37.5 s after the connection
UPGRADES = "proxy_set_header Upgrade $http_upgrade;"


class Shop:
    """A server behind nginx, and a conversation of Ana and Bruno."""

    def __init__(self, server: Server, nginx: Nginx) -> None:
        self.server = server
        self.nginx = nginx
        self.conversation = server.host_api.create_conversation(["ana", "bruno"])
        self.documented = nginx.documented(server)

    def open(self, open_page: OpenPage, user: str) -> Page:
        page = open_page(f"{self.nginx.url}/")
        sign_in(page, self.server.token(user))
        open_conversation(page, self.conversation)
        return page

    def log(self) -> list[str | None]:
        """The seqs of the messages."""
        return stored_seqs(self.server.host_api, self.conversation)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with behind_nginx(tmp_path) as (server, nginx):
        yield Shop(server, nginx)


def without_upgrades(servers: str) -> str:
    return servers.replace(UPGRADES, "")


def with_mqtt_at(servers: str, server: Server, port: int) -> str:
    """The same, but MQTT's WebSockets are handed to another port."""
    return servers.replace(f"http://127.0.0.1:{server.ws_port}", f"http://127.0.0.1:{port}")


def with_stream_refused(servers: str) -> str:
    refusal = 'if ($http_accept = "text/event-stream") { return 403; }'
    return servers.replace("location / {", f"location / {{ {refusal}")


def with_answers_collected(servers: str) -> str:
    collecting = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream;"
    collecting += " gzip_min_length 1; gzip_proxied any;"
    return servers.replace("proxy_buffering off;", collecting)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(100)
        yield port


def assert_talks(shop: Shop, one: Page, other: Page) -> None:
    """Messages go both ways, at once, and each page shows what the log has."""
    for page, reader in ((one, other), (other, one)):
        body = new_body("Chegou?")
        send(page, body)
        expect(message(reader, body, "sent")).to_be_visible(timeout=AT_ONCE_MS)
        expect(message(page, body, "sent")).to_be_visible(timeout=AT_ONCE_MS)
    assert shown_seqs(one) == shown_seqs(other) == shop.log()


@contextmanager
def talking(shop: Shop) -> Iterator[list[str]]:
    """Somebody goes on writing to the conversation, past the proxy, until the block ends; yields what was written."""
    bodies: list[str] = []
    is_over = threading.Event()

    def talk() -> None:
        api = shop.server.api("bruno")
        while not is_over.wait(0.03):
            body = f"line {len(bodies)}"
            api.send(shop.conversation, body)
            bodies.append(body)

    with ThreadPoolExecutor(1) as pool:
        talk_of_bruno = pool.submit(talk)
        try:
            yield bodies
        finally:
            is_over.set()
    talk_of_bruno.result()


def assert_nothing_missed(shop: Shop, page: Page) -> None:
    log = shop.log()
    expect(page.locator(f'[data-testid="message"][data-seq="{log[-1]}"]')).to_be_attached()
    assert shown_seqs(page) == log


def test_the_documented_configuration_carries_mqtt_and_every_other_way(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(shop.documented)
    ana, bruno = shop.open(open_page, "ana"), shop.open(open_page, "bruno")
    for page in (ana, bruno):
        wait_until_connected_by(page, "mqtt")
        expect(page.get_by_test_id("connection-state")).to_have_text("Connected")
    assert_talks(shop, ana, bruno)


@pytest.mark.parametrize("way", ["refused", "silent"])
def test_where_mqtts_port_is_closed_the_pages_talk_over_the_http_ports_websocket(
    shop: Shop, open_page: OpenPage, way: str
) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(silent_port()) if way == "silent" else free_port()
        shop.nginx.start(with_mqtt_at(shop.documented, shop.server, port))
        ana, bruno = shop.open(open_page, "ana"), shop.open(open_page, "bruno")
        for page in (ana, bruno):
            wait_until_connected_by(page, "websocket")
        assert_talks(shop, ana, bruno)
        ana.get_by_test_id("composer").press_sequentially("Escrevendo", delay=30)
        expect(bruno.get_by_test_id("typing")).to_contain_text(re.compile("ana", re.IGNORECASE))


def test_where_upgrades_are_stripped_the_pages_talk_over_an_event_stream(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(without_upgrades(shop.documented))
    ana, bruno = shop.open(open_page, "ana"), shop.open(open_page, "bruno")
    for page in (ana, bruno):
        wait_until_connected_by(page, "event-stream")
        expect(page.get_by_test_id("connection-state")).to_contain_text("event stream")
    assert_talks(shop, ana, bruno)
    ana.get_by_test_id("composer").press_sequentially("Escrevendo", delay=30)
    expect(bruno.get_by_test_id("typing")).to_contain_text(re.compile("ana", re.IGNORECASE))


@pytest.mark.parametrize("worsen", [with_stream_refused, with_answers_collected])
def test_where_no_event_stream_gets_through_either_the_pages_ask_again_and_again(
    shop: Shop, open_page: OpenPage, worsen: Callable[[str], str]
) -> None:
    shop.nginx.start(worsen(without_upgrades(shop.documented)))
    ana, bruno = shop.open(open_page, "ana"), shop.open(open_page, "bruno")
    for page in (ana, bruno):
        wait_until_connected_by(page, "long-poll")
    assert_talks(shop, ana, bruno)
    assert any(re.fullmatch(r"GET /v1/events\?cursor=\d+&wait=25 200", line) for line in shop.nginx.asked)


def test_no_token_is_ever_in_a_url(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(with_stream_refused(without_upgrades(shop.documented)))
    page = open_page(f"{shop.nginx.url}/")
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.on("websocket", lambda socket: urls.append(socket.url))
    token = shop.server.token("ana")
    sign_in(page, token)
    wait_until_connected_by(page, "long-poll")
    assert len(urls) > 5
    assert not [url for url in urls if token in url]


def test_when_upgrades_pass_again_the_page_climbs_while_messages_go_on(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(without_upgrades(shop.documented))
    ana = shop.open(open_page, "ana")
    wait_until_connected_by(ana, "event-stream")
    states = watch_states(ana)
    with talking(shop) as written:
        shop.nginx.reload(shop.documented)
        own = new_body("from the page")
        send(ana, own)
        ana.evaluate("dispatchEvent(new Event('online'))")
        wait_until_connected_by(ana, "mqtt")
        expect(message(ana, own, "sent")).to_have_count(1)
        before = len(written)
        expect(message(ana, f"line {before + 10}")).to_be_attached()
    assert_nothing_missed(shop, ana)
    assert states() == ["online mqtt"], "the climb interrupted the page"


def watch_states(page: Page) -> Callable[[], list[str]]:
    """Return what says which states the connection has had since."""
    page.evaluate("""() => {
        window.states = [];
        const line = document.getElementById("connection-state");
        new MutationObserver(() => {
            const state = `${line.dataset.state} ${line.dataset.link}`;
            if (window.states.at(-1) !== state) window.states.push(state);
        }).observe(line, { attributes: true });
    }""")
    return lambda: list(page.evaluate("() => window.states"))


def test_the_climb_comes_by_itself_after_a_while(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(with_stream_refused(without_upgrades(shop.documented)))
    page = open_page(f"{shop.nginx.url}/")
    page.clock.install()
    sign_in(page, shop.server.token("ana"))
    wait_until_connected_by(page, "long-poll")
    shop.nginx.reload(shop.documented)
    page.clock.fast_forward(FIRST_CLIMB_MS)
    wait_until_connected_by(page, "mqtt")


def test_a_way_that_closes_under_the_page_costs_no_message_and_doubles_none(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(shop.documented)
    ana = shop.open(open_page, "ana")
    wait_until_connected_by(ana, "mqtt")
    with talking(shop):
        for worsen, link in ((without_upgrades, "event-stream"), (with_everything_refused, "long-poll")):
            shop.nginx.stop()
            own = [new_body("while it changes"), new_body("and one more")]
            for body in own:
                send(ana, body)
            shop.nginx.start(worsen(shop.documented))
            wait_until_connected_by(ana, link)
            for body in own:
                expect(message(ana, body, "sent")).to_have_count(1)
    assert_nothing_missed(shop, ana)


def with_everything_refused(servers: str) -> str:
    return with_stream_refused(without_upgrades(servers))


def test_a_reload_of_the_page_begins_with_what_got_through_before(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(without_upgrades(shop.documented))
    ana = shop.open(open_page, "ana")
    wait_until_connected_by(ana, "event-stream")
    tried_before = sockets_tried(shop.nginx)
    ana.reload()
    wait_until_connected_by(ana, "event-stream")
    assert sockets_tried(shop.nginx) == tried_before > 0


def sockets_tried(nginx: Nginx) -> int:
    return len([line for line in nginx.asked if re.match(r"GET /(mqtt|v1/ws) ", line)])


def test_a_server_that_is_away_is_waited_for_and_is_no_reason_to_go_down(shop: Shop, open_page: OpenPage) -> None:
    shop.nginx.start(shop.documented)
    ana = shop.open(open_page, "ana")
    wait_until_connected_by(ana, "mqtt")
    states = watch_states(ana)
    shop.server.kill()
    expect(connected_by(ana, "mqtt")).not_to_be_attached()
    body = new_body("nobody is there")
    send(ana, body)
    expect(message(ana, body, "sending")).to_be_visible()
    shop.server.start()
    wait_until_online(ana)
    expect(message(ana, body, "sent")).to_have_count(1)
    assert states() == ["reconnecting ", "online mqtt"]


def test_a_message_that_the_server_refuses_over_http_says_so_and_the_next_one_goes_on(
    shop: Shop, open_page: OpenPage
) -> None:
    shop.nginx.start(without_upgrades(shop.documented))
    ana = shop.open(open_page, "ana")
    wait_until_connected_by(ana, "event-stream")
    send(ana, "x" * 20_000)
    expect(message(ana, "xxx", "failed")).to_contain_text("shorter message")
    body = new_body("short")
    send(ana, body)
    expect(message(ana, body, "sent")).to_be_visible(timeout=AT_ONCE_MS)
    wait_until_connected_by(ana, "event-stream")
