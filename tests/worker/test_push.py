"""Who is called for a message and who is not, what the notice says, and what becomes of calls that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.ports import (
    GiveUp,
    JobEvent,
    NewConversation,
    NewMessage,
    PushGone,
    PushSubscription,
    PushTarget,
    Store,
    TryLater,
)
from recado.worker.push import PushHandler

MEMBERS = ("ana", "bruno", "carla")
BEGAN = 1_790_000_000_000
LATER = BEGAN + 75_000
REST_MS = DEFAULT.push.push_rest_s * 1000
PATIENCE_MS = DEFAULT.push.push_patience_s * 1000


@dataclass
class ScriptedPush:
    """A push service that does with each endpoint what the test says."""

    does: dict[str, Exception] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def push(self, subscription: PushSubscription, notice: bytes, topic: str) -> None:
        self.calls.append((subscription.endpoint, json.loads(notice), topic))
        await self.goes_on.wait()
        if (error := self.does.get(subscription.endpoint)) is not None:
            raise error

    def called(self) -> list[str]:
        """The endpoints since this was last asked."""
        called = sorted(endpoint for endpoint, _, _ in self.calls)
        self.calls.clear()
        return called


@dataclass
class Stage:
    store: Store
    push: ScriptedPush
    here: set[str] = field(default_factory=set)
    now: int = BEGAN
    handler: PushHandler = field(init=False)

    def __post_init__(self) -> None:
        self.handler = self.open_handler()

    def open_handler(self, **limits: int) -> PushHandler:
        limited = replace(DEFAULT.push, **limits)
        return PushHandler(self.store, self.push, self.here.__contains__, lambda: self.now, b"key", limited)

    async def subscribe(self, *users: str, device: str = "") -> None:
        for user in users:
            subscription = PushSubscription(f"{user}{device}", "p256dh", "auth")
            await self.store.put_push_subscription(user, subscription, self.now, 10)

    async def message(self, message_id: str = "m1", sender: str = "ana", body: str = "Chegou!") -> JobEvent:
        """Send it; returns what a worker has of it."""
        sent = await self.store.append_message(NewMessage("c", sender, message_id, body, self.now))
        return JobEvent(sent.event, frozenset(MEMBERS))

    async def page(self, user: str, visible: bool, page: str = "p") -> None:
        await self.store.note_page(user, page, visible, self.now, self.now + 75_000, 10)

    async def deliver(self, entry: JobEvent) -> None:
        await self.handler.deliver("c", entry)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = SqliteStore.open(tmp_path / "recado.db", DEFAULT.store)
    await store.put_conversation(NewConversation("c", list(MEMBERS), "Order 4711", None, None, BEGAN))
    push = ScriptedPush()
    push.goes_on.set()
    stage = Stage(store, push)
    await stage.subscribe(*MEMBERS)
    yield stage
    await store.close()


# Who is called


async def test_the_recipients_are_called_at_all_their_browsers_and_the_sender_is_not(stage: Stage) -> None:
    await stage.subscribe("bruno", device="-phone")
    await stage.deliver(await stage.message())
    assert stage.push.called() == ["bruno", "bruno-phone", "carla"]


async def test_who_has_a_page_on_the_screen_is_not_called_and_who_has_only_hidden_ones_is(stage: Stage) -> None:
    await stage.page("bruno", True)
    await stage.page("bruno", False, page="behind")
    await stage.page("carla", False)
    await stage.deliver(await stage.message())
    assert stage.push.called() == ["carla"]


async def test_who_closed_the_page_or_said_nothing_any_more_is_called(stage: Stage) -> None:
    await stage.page("bruno", True)
    await stage.page("carla", True)
    await stage.store.note_page("carla", "p", None, BEGAN, BEGAN, 10)
    stage.now = LATER
    await stage.deliver(await stage.message())
    assert stage.push.called() == ["bruno", "carla"]


async def test_who_is_connected_here_is_not_called_unless_all_its_pages_are_hidden(stage: Stage) -> None:
    stage.here.update(["bruno", "carla"])
    await stage.page("carla", False)
    await stage.deliver(await stage.message())
    assert stage.push.called() == ["carla"]


async def test_who_has_muted_the_conversation_is_not_called_and_who_wants_it_again_is(stage: Stage) -> None:
    await stage.store.set_muted("c", "bruno", True)
    await stage.deliver(await stage.message("m1"))
    assert stage.push.called() == ["carla"]
    await stage.store.set_muted("c", "bruno", False)
    await stage.deliver(await stage.message("m2"))
    assert stage.push.called() == ["bruno", "carla"]


async def test_who_has_read_it_by_then_is_not_called(stage: Stage) -> None:
    entry = await stage.message()
    await stage.store.mark_read("c", "bruno", entry.event.seq)
    await stage.deliver(entry)
    assert stage.push.called() == ["carla"]


async def test_who_was_removed_by_then_is_not_called(stage: Stage) -> None:
    entry = await stage.message()
    await stage.store.remove_member("c", "bruno", None, BEGAN)
    await stage.deliver(entry)
    assert stage.push.called() == ["carla"]


async def test_nobody_is_called_for_what_was_deleted_or_erased_since(stage: Stage) -> None:
    entry = await stage.message("m1")
    deleted = structs.replace(entry.event, type="deleted", body=None)
    await stage.deliver(JobEvent(deleted, entry.recipients))
    await stage.store.erase_conversation("c", BEGAN)
    await stage.deliver(entry)
    assert stage.push.called() == []


# What the notice says


async def test_the_notice_says_who_wrote_what_where_and_when(stage: Stage) -> None:
    await stage.store.put_user("ana", "Ana Souza")
    entry = await stage.message(body="Chegou! ✂")
    await stage.deliver(entry)
    notices = [notice for _, notice, _ in stage.push.calls]
    assert (
        notices[0]
        == notices[1]
        == {
            "conversation": "c",
            "subject": "Order 4711",
            "seq": 1,
            "from": "ana",
            "name": "Ana Souza",
            "body": "Chegou! ✂",
            "at": BEGAN,
        }
    )


async def test_who_has_no_name_is_called_by_its_id(stage: Stage) -> None:
    await stage.deliver(await stage.message())
    assert stage.push.calls[0][1]["name"] == "ana"


@pytest.mark.parametrize(
    ("body", "shown"), [("é" * 500, "é" * 500), ("é" * 501, "é" * 500 + "…"), ("x" * 9_000, "x" * 1_000 + "…")]
)
async def test_a_long_body_is_cut_between_characters(stage: Stage, body: str, shown: str) -> None:
    await stage.deliver(await stage.message(body=body))
    assert stage.push.calls[0][1]["body"] == shown


async def test_a_notice_is_never_larger_than_a_push_service_takes(stage: Stage) -> None:
    """Control characters take six bytes each in JSON."""
    subject = "\x01" * 512
    await stage.store.put_conversation(NewConversation("c", [], subject, None, None, BEGAN))
    entry = await stage.message(body="\x02" * 1_000 + "end")
    await stage.deliver(entry)
    notice = stage.push.calls[0][1]
    assert notice["subject"] == subject
    assert 0 < len(notice["body"]) < 200
    assert len(json.dumps(notice, separators=(",", ":"), ensure_ascii=False).encode()) <= 3_993


async def test_notices_of_one_conversation_replace_one_another_and_the_service_learns_no_id(stage: Stage) -> None:
    await stage.store.put_conversation(NewConversation("other", list(MEMBERS), None, None, None, BEGAN))
    await stage.deliver(await stage.message("m1"))
    await stage.deliver(await stage.message("m2"))
    sent = await stage.store.append_message(NewMessage("other", "ana", "m1", "hi", BEGAN))
    await stage.handler.deliver("other", JobEvent(sent.event, frozenset(MEMBERS)))
    topics = [topic for endpoint, _, topic in stage.push.calls if endpoint == "bruno"]
    assert topics[0] == topics[1] != topics[2]
    assert all(len(topic) == 32 for topic in topics)
    elsewhere = PushHandler(stage.store, stage.push, stage.here.__contains__, lambda: BEGAN, b"other", DEFAULT.push)
    await elsewhere.deliver("c", await stage.message("m3"))
    assert stage.push.calls[-1][2] != topics[0], "who does not have the key cannot work the topic out"


# Calls that fail


async def test_a_subscription_that_has_ended_is_forgotten_and_the_others_are_called(stage: Stage) -> None:
    stage.push.does["bruno"] = PushGone()
    entry = await stage.message()
    await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "carla"]
    targets = await stage.store.push_targets("c", 1, MEMBERS)
    assert [target.user for target in targets] == ["ana", "carla"]


async def test_a_retry_calls_only_those_that_have_not_been_called(stage: Stage) -> None:
    stage.push.does["bruno"] = TryLater("bruno's service answered 500")
    entry = await stage.message()
    with pytest.raises(TryLater, match="500"):
        await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "carla"]
    stage.now += REST_MS
    with pytest.raises(TryLater):
        await stage.deliver(entry)
    assert stage.push.called() == ["bruno"]
    del stage.push.does["bruno"]
    stage.now += REST_MS
    await stage.deliver(entry)
    assert stage.push.called() == ["bruno"]
    await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "carla"], "it was done: this is somebody's wish that all are called again"


async def test_what_can_never_be_done_is_given_up_once_the_others_are_called(stage: Stage) -> None:
    await stage.subscribe("bruno", device="-phone")
    stage.push.does["bruno"] = GiveUp("bruno's service answered 403")
    stage.push.does["carla"] = TryLater("carla's service answered 500")
    entry = await stage.message()
    with pytest.raises(TryLater):
        await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "bruno-phone", "carla"]
    del stage.push.does["carla"]
    stage.now += REST_MS
    with pytest.raises(GiveUp, match="403"):
        await stage.deliver(entry)
    assert stage.push.called() == ["carla"], "nor is it called again before that"


async def test_who_has_been_called_is_known_though_the_attempt_was_cut_off(stage: Stage) -> None:
    """A worker cuts off an attempt that takes too long."""
    entry = await stage.message()
    stage.push.does["bruno"] = TryLater("500")
    with pytest.raises(TryLater):
        await stage.deliver(entry)
    stage.push.called()
    stage.now += REST_MS
    stage.push.goes_on.clear()
    attempt = asyncio.ensure_future(stage.deliver(entry))
    while not stage.push.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    stage.push.goes_on.set()
    del stage.push.does["bruno"]
    stage.push.called()
    await stage.deliver(entry)
    assert stage.push.called() == ["bruno"]


async def test_a_subscription_that_fails_is_left_alone_for_a_moment_by_all_conversations(stage: Stage) -> None:
    """Or one user's hanging endpoint would take up all of the worker's places."""
    await stage.store.put_conversation(NewConversation("other", list(MEMBERS), None, None, None, BEGAN))
    stage.push.does["bruno"] = TryLater("bruno's service answered 429", 60)
    with pytest.raises(TryLater):
        await stage.deliver(await stage.message())
    assert stage.push.called() == ["bruno", "carla"]
    sent = await stage.store.append_message(NewMessage("other", "ana", "m1", "hi", BEGAN))
    elsewhere = JobEvent(sent.event, frozenset(MEMBERS))
    stage.now += 59_000
    with pytest.raises(TryLater, match="429") as later:
        await stage.handler.deliver("other", elsewhere)
    assert later.value.retry_after_s == 1
    assert stage.push.called() == ["carla"], "the service has named a time"
    stage.now += 1_000
    del stage.push.does["bruno"]
    await stage.handler.deliver("other", elsewhere)
    assert stage.push.called() == ["bruno"]


async def test_messages_wait_for_a_failing_subscription_for_a_while_and_then_no_more(stage: Stage) -> None:
    """Or one member could keep all others of its conversation from being called."""
    stage.push.does["bruno"] = TryLater("500")
    first, second, third = [await stage.message(f"m{number}") for number in range(3)]
    with pytest.raises(TryLater):
        await stage.deliver(first)
    stage.now += PATIENCE_MS - 1
    with pytest.raises(TryLater):
        await stage.deliver(first)
    stage.now += REST_MS
    stage.push.called()
    await stage.deliver(first)
    assert stage.push.called() == ["bruno"], "tried for the last time"
    await stage.deliver(second)
    assert stage.push.called() == ["carla"], "nothing waits for it, and it is left alone"
    stage.now += PATIENCE_MS
    del stage.push.does["bruno"]
    await stage.deliver(third)
    assert stage.push.called() == ["bruno", "carla"], "tried again, and it has come back"
    stage.push.does["bruno"] = TryLater("500")
    with pytest.raises(TryLater):
        await stage.deliver(await stage.message("m4"))


async def test_what_is_remembered_of_failures_is_bounded(stage: Stage) -> None:
    stage.handler = stage.open_handler(push_failing_max=1, push_jobs_remembered_max=1)
    stage.push.does |= {"bruno": TryLater("500"), "carla": TryLater("500")}
    for number in range(3):
        with pytest.raises(TryLater):
            await stage.deliver(await stage.message(f"m{number}"))
    assert (len(stage.handler._over), len(stage.handler._failing)) == (1, 1)


async def test_who_has_no_subscription_costs_nothing_but_the_question(stage: Stage) -> None:
    for user in MEMBERS:
        await stage.store.delete_push_subscription(user, user)
    asked: list[tuple[str, int]] = []
    ask = stage.store.push_targets

    async def push_targets(conversation: str, seq: int, recipients: Any) -> list[PushTarget]:
        asked.append((conversation, seq))
        return await ask(conversation, seq, recipients)

    stage.store.push_targets = push_targets  # type: ignore[method-assign]
    await stage.deliver(await stage.message())
    assert asked == [("c", 1)]
    assert stage.push.called() == []
