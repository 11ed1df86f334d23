"""Notifications in a real browser: its service worker, its permission, and what it is sent by a real server through a
push service of the tests. Only `PushManager` is the tests' own: Chromium has no push service here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, Worker, expect

from deploy.services.child_process import running
from tests.support.browser import (
    DESKTOP,
    conversation_item,
    message,
    new_body,
    open_conversation,
    send,
    sign_in,
    wait_until_online,
)
from tests.support.push_service import PUSH_OPTIONS, Browser, PushService
from tests.support.server import Server

# What Chromium's own does where it has a push service: it keeps one subscription, over reloads too.
PUSH_MANAGER = """
const made = MADE;
const known = () => localStorage.getItem("tests.subscribed");
const subscription = {
  endpoint: made.endpoint,
  get options() { return { applicationServerKey: Uint8Array.from(JSON.parse(known())).buffer }; },
  toJSON: () => made,
  unsubscribe: async () => localStorage.removeItem("tests.subscribed"),
};
PushManager.prototype.getSubscription = async () => (known() ? subscription : null);
PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
  if (!userVisibleOnly || Notification.permission !== "granted") throw new DOMException("no", "NotAllowedError");
  localStorage.setItem("tests.subscribed", JSON.stringify([...applicationServerKey]));
  return subscription;
};
// A page of a headless browser is always visible: here it is what a test says.
let hidden = false;
Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
window.setHidden = (value) => { hidden = value; document.dispatchEvent(new Event("visibilitychange")); };
"""
SHOWN = "async () => (await registration.getNotifications()).map(({ title, body, tag }) => [title, body, tag])"
LEADS_TO = "async () => String(await fragmentWith('c'))"
CLICK = """async () => {
  const [notification] = await registration.getNotifications();
  dispatchEvent(new NotificationEvent("notificationclick", { notification }));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Server.serve(tmp_path_factory.mktemp("pushing"), *PUSH_OPTIONS)) as server:
        yield server


class Ana:
    """Ana's browser, which asks no questions, and a conversation of hers with Bruno and Carla, who is away."""

    def __init__(self, server: Server, service: PushService, context: BrowserContext) -> None:
        self.server, self.service, self.context = server, service, context
        self.user, self.bruno, carla = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("ana", "bruno", "carla"))
        self.conversation = server.host_api.create_conversation([self.user, self.bruno, carla])
        server.host_api.call("PUT", f"/users/{self.bruno}", {"name": "Bruno Lima"}).expect(200)
        self.carlas = service.subscribe(carla)
        server.host_api.acting_as(carla).call("PUT", "/push/subscriptions", self.carlas.subscription).expect(201)
        self.subscribed: Browser = service.subscribe(self.user)
        context.add_init_script(PUSH_MANAGER.replace("MADE", json.dumps(self.subscribed.subscription)))
        self.page = context.new_page()
        self._registrations: list[dict[str, Any]] = []

    def sign_in(self) -> None:
        self.page.goto(f"{self.server.http_url}/")
        sign_in(self.page, self.server.token(self.user))
        wait_until_online(self.page)

    def open_demo_link(self, user: str) -> None:
        """This server has no demo: the codes are the users, and the test exchanges them."""
        token = json.dumps({"token": self.server.token(user)})
        self.page.route("**/demo/token", lambda route: route.fulfill(body=token, content_type="application/json"))
        self.page.goto("about:blank")
        self.page.goto(f"{self.server.http_url}/#demo={user}")
        wait_until_online(self.page)

    def switch_on(self) -> None:
        self.bar("off").get_by_test_id("notify").click()
        expect(self.bar("on")).to_be_visible()

    def bar(self, state: str) -> Any:
        return self.page.locator(f'[data-testid="notify-bar"][data-state="{state}"]')

    def notified_of(self, body: str) -> dict[str, Any]:
        """Bruno writes, and Ana is notified: with this notice."""
        self.server.host_api.acting_as(self.bruno).send(self.conversation, body)
        self._wait_until_notified(self.subscribed, body)
        return self.service.shown(self.subscribed)[-1]

    def not_notified_of(self, body: str) -> None:
        """Bruno writes, and whoever is to be notified has been, by the time that Carla is of what he writes next."""
        for each in (body, new_body("next")):
            self.server.host_api.acting_as(self.bruno).send(self.conversation, each)
            self._wait_until_notified(self.carlas, each)
        assert self.notices(self.subscribed) == []

    def _wait_until_notified(self, browser: Browser, body: str) -> None:
        self.service.wait_until(lambda: body in self.notices(browser))

    def notices(self, browser: Browser) -> list[str]:
        return [notice["body"] for notice in self.service.shown(browser)]

    def worker(self) -> Worker:
        (worker,) = self.context.service_workers
        return worker

    def deliver(self, notice: dict[str, Any]) -> None:
        """To the service worker, as the browser does it when a push has come."""
        devtools = self.context.new_cdp_session(self.page)
        seen = self._registrations
        devtools.on("ServiceWorker.workerRegistrationUpdated", lambda event: seen.extend(event["registrations"]))
        devtools.send("ServiceWorker.enable")
        while not seen:
            self.page.evaluate("() => 0")  # the event comes on this very connection
        message = {"origin": self.server.http_url, "registrationId": seen[-1]["registrationId"]}
        devtools.send("ServiceWorker.deliverPushMessage", {**message, "data": json.dumps(notice)})


@pytest.fixture
def ana(browser: Chromium, server: Server, service: PushService) -> Iterator[Ana]:
    context = browser.new_context(viewport=DESKTOP, permissions=["notifications"])
    yield Ana(server, service, context)
    context.close()


def eventually(page: Page, condition: Callable[[], bool]) -> None:
    """By the page's clock, so that its events go on meanwhile."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come about")


def test_a_message_to_a_closed_page_is_shown_as_a_notification_and_a_click_opens_the_conversation(ana: Ana) -> None:
    ana.sign_in()
    ana.switch_on()
    ana.page.goto("about:blank")
    body = new_body("Chegou!")
    ana.deliver(ana.notified_of(body))

    eventually(ana.page, lambda: bool(ana.worker().evaluate(SHOWN)))
    assert ana.worker().evaluate(SHOWN) == [["Bruno Lima", body, ana.conversation]]
    ana.page.go_back()
    wait_until_online(ana.page)
    ana.worker().evaluate(CLICK)
    expect(message(ana.page, body)).to_be_visible()
    eventually(ana.page, lambda: ana.worker().evaluate(SHOWN) == [])


def test_a_newer_notice_of_a_conversation_takes_the_place_of_the_older(ana: Ana) -> None:
    ana.sign_in()
    ana.switch_on()
    ana.page.goto("about:blank")
    for body in ("one", "two"):
        ana.deliver(ana.notified_of(body))
    eventually(ana.page, lambda: ana.worker().evaluate(SHOWN) == [["Bruno Lima", "two", ana.conversation]])


def test_a_page_on_the_screen_is_quiet_and_one_that_is_hidden_is_notified(ana: Ana) -> None:
    ana.sign_in()
    ana.switch_on()
    seen, missed = new_body("seen"), new_body("missed")
    ana.not_notified_of(seen)
    expect(conversation_item(ana.page, ana.conversation)).to_contain_text("next")

    with ana.page.expect_response("**/v1/presence"):
        ana.page.evaluate("() => window.setHidden(true)")
    assert ana.notified_of(missed)["body"] == missed


def test_nobody_is_asked_before_the_click_and_nothing_is_sent_after_switching_off(ana: Ana) -> None:
    ana.sign_in()
    expect(ana.bar("off")).to_be_visible()
    assert ana.page.evaluate("() => localStorage.getItem('tests.subscribed')") is None
    ana.switch_on()
    ana.page.reload()
    ana.bar("on").get_by_test_id("notify").click()
    expect(ana.bar("off")).to_be_visible()
    ana.page.goto("about:blank")
    ana.not_notified_of(new_body("after"))


def test_who_signs_out_is_notified_no_more(ana: Ana) -> None:
    ana.sign_in()
    ana.switch_on()
    ana.page.locator("#sign-out").click()
    expect(ana.page.get_by_test_id("sign-in")).to_be_visible()
    ana.not_notified_of(new_body("after"))
    assert ana.page.evaluate("() => localStorage.getItem('tests.subscribed')") is None


def test_a_notification_leads_to_the_page_of_whose_it_is_and_never_to_that_of_an_earlier_user(ana: Ana) -> None:
    ana.open_demo_link(ana.user)
    ana.switch_on()
    assert ana.worker().evaluate(LEADS_TO) == f"demo={ana.user}&conversation=c"
    ana.open_demo_link(ana.bruno)
    expect(ana.bar("on")).to_be_visible()
    assert ana.worker().evaluate(LEADS_TO) == f"demo={ana.bruno}&conversation=c"

    ana.page.goto("about:blank")
    ana.sign_in()
    expect(ana.bar("on")).to_be_visible()
    assert ana.worker().evaluate(LEADS_TO) == "conversation=c"


def test_a_conversation_is_muted_and_unmuted_in_its_head_and_the_list_shows_it(ana: Ana) -> None:
    ana.sign_in()
    open_conversation(ana.page, ana.conversation)
    item, button = conversation_item(ana.page, ana.conversation), ana.page.get_by_test_id("mute")
    button.click()
    expect(item.get_by_test_id("muted")).to_be_visible()
    expect(button).to_have_accessible_name("Unmute this conversation")
    expect(button).to_be_focused()
    assert ana.server.api(ana.user).call("GET", f"/conversations/{ana.conversation}").expect(200)["muted"] is True

    ana.page.reload()
    expect(item.get_by_test_id("muted")).to_be_visible()
    expect(button).to_have_accessible_name("Unmute this conversation")
    button.press("Enter")
    expect(item.get_by_test_id("muted")).to_have_count(0)
    assert "muted" not in ana.server.api(ana.user).call("GET", f"/conversations/{ana.conversation}").expect(200)


def test_people_are_called_by_their_names_everywhere(ana: Ana) -> None:
    ana.sign_in()
    open_conversation(ana.page, ana.conversation)
    body = new_body("Olá")
    ana.server.host_api.acting_as(ana.bruno).send(ana.conversation, body)
    expect(message(ana.page, body)).to_contain_text("Bruno Lima")
    expect(conversation_item(ana.page, ana.conversation)).to_contain_text(f"Bruno: {body}")
    expect(ana.page.locator("#members")).to_contain_text("Bruno Lima")
    send(ana.page, "Oi")
    expect(message(ana.page, "Oi", "sent")).to_be_visible()
