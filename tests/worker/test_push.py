"""Who is called for a message and who is not, what the notice says, and what becomes of calls that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.ports import (
    GiveUp,
    JobEvent,
    MessageChange,
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
REFUSED_REST_MS = DEFAULT.push.push_refused_rest_s * 1000
PATIENCE_MS = DEFAULT.push.push_patience_s * 1000
SOON_S = 20  # a test that waits for longer has failed


@dataclass
class ScriptedPush:
    """A push service that does with each endpoint what the test says."""

    does: dict[str, Exception] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: set[str] = field(default_factory=set)
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def push(self, subscription: PushSubscription, notice: bytes, topic: str) -> None:
        self.calls.append((subscription.endpoint, json.loads(notice), topic))
        await self.goes_on.wait()
        if subscription.endpoint in self.hangs:
            await self.hung.wait()
        if (error := self.does.get(subscription.endpoint)) is not None:
            raise error

    async def close(self) -> None:
        self.closed = True

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

    async def retry(self, entry: JobEvent, text: str | None = None) -> None:
        """An attempt that is to be made again, for what a service said; what it began has ended then."""
        with pytest.raises(TryLater, match=text) as later:
            await self.deliver(entry)
        assert later.value.sink_is_well, "or one user's failures would slow down all conversations' jobs"
        await self.calls_end()

    async def calls_end(self) -> None:
        async with asyncio.timeout(SOON_S):
            while calls := list(self.handler._calls.values()):
                await asyncio.gather(*calls)


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
    await stage.retry(entry, "500")
    assert stage.push.called() == ["bruno", "carla"]
    stage.now += REST_MS
    await stage.retry(entry, "500")
    assert stage.push.called() == ["bruno"]
    del stage.push.does["bruno"]
    stage.now += REST_MS
    await stage.retry(entry)
    assert stage.push.called() == ["bruno"]
    await stage.deliver(entry)
    assert stage.push.called() == []
    stage.now += PATIENCE_MS
    await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "carla"], "it was done: this is somebody's wish that all are called again"


async def test_what_a_service_refuses_is_left_alone_for_long_and_is_no_dead_letter(stage: Stage) -> None:
    """Or it would be one for each message, for ever."""
    stage.push.does["bruno"] = GiveUp("bruno's service answered 403")
    await stage.deliver(await stage.message("m1"))
    assert stage.push.called() == ["bruno", "carla"]
    stage.now += REFUSED_REST_MS - 1
    await stage.deliver(await stage.message("m2"))
    assert stage.push.called() == ["carla"]
    stage.now += 1
    del stage.push.does["bruno"]
    for message_id in ("m3", "m4"):
        await stage.deliver(await stage.message(message_id))
        assert stage.push.called() == ["bruno", "carla"]


@pytest.mark.parametrize("error", [UnicodeError("label empty or too long"), ValueError("secret"), RuntimeError()])
async def test_an_error_that_nobody_has_thought_of_is_that_subscriptions_failure_alone(
    stage: Stage, error: Exception
) -> None:
    stage.push.does["bruno"] = error
    entry = await stage.message("m1")
    await stage.retry(entry, f"^{type(error).__name__}$")
    assert stage.push.called() == ["bruno", "carla"]
    stage.now += PATIENCE_MS
    await stage.deliver(entry)
    await stage.deliver(await stage.message("m2"))
    assert stage.push.called() == ["bruno", "carla"], "the others are called, and nothing waits for it"


async def test_who_has_been_called_is_known_though_the_attempt_was_cut_off(stage: Stage) -> None:
    """A worker cuts off an attempt that takes too long."""
    entry = await stage.message()
    stage.push.goes_on.clear()
    attempt = asyncio.ensure_future(stage.deliver(entry))
    while len(stage.push.calls) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    stage.push.goes_on.set()
    await stage.calls_end()
    assert stage.push.called() == ["bruno", "carla"]
    await stage.deliver(entry)
    assert stage.push.called() == []


async def test_a_subscription_that_fails_is_left_alone_for_a_moment_by_all_conversations(stage: Stage) -> None:
    """Or one user's hanging endpoint would take up all of the worker's places."""
    await stage.store.put_conversation(NewConversation("other", list(MEMBERS), None, None, None, BEGAN))
    stage.push.does["bruno"] = TryLater("bruno's service answered 429", 60)
    await stage.retry(await stage.message())
    assert stage.push.called() == ["bruno", "carla"]
    sent = await stage.store.append_message(NewMessage("other", "ana", "m1", "hi", BEGAN))
    elsewhere = JobEvent(sent.event, frozenset(MEMBERS))
    stage.now += 59_999
    with pytest.raises(TryLater, match="429") as later:
        await stage.handler.deliver("other", elsewhere)
    assert later.value.retry_after_s is None, "the conversation's next message does not wait for so long"
    assert stage.push.called() == ["carla"], "the service has named a time"
    stage.now += 1
    del stage.push.does["bruno"]
    with pytest.raises(TryLater):
        await stage.handler.deliver("other", elsewhere)
    await stage.calls_end()
    await stage.handler.deliver("other", elsewhere)
    assert stage.push.called() == ["bruno"]


async def test_the_newest_message_alone_waits_for_a_subscription_that_fails(stage: Stage) -> None:
    """Or one member could keep all others of its conversation from being called: jobs are done in order."""
    stage.push.does["bruno"] = TryLater("500")
    first = await stage.message("m1")
    await stage.retry(first)
    second = await stage.message("m2")
    await stage.deliver(first)
    assert stage.push.called() == ["bruno", "carla"]
    await stage.retry(second)
    assert stage.push.called() == ["carla"]
    await stage.store.change_message(MessageChange("c", second.event.seq, None, None, stage.now, 0))
    third = await stage.message("m3")
    await stage.store.change_message(MessageChange("c", third.event.seq, None, None, stage.now, 0))
    await stage.retry(second)  # what was deleted notifies nobody, nor does its deletion
    stage.now += REST_MS
    del stage.push.does["bruno"]
    await stage.retry(second)
    await stage.deliver(second)
    assert [(endpoint, notice["seq"]) for endpoint, notice, _ in stage.push.calls] == [("bruno", second.event.seq)]


async def test_a_message_waits_for_a_failing_subscription_for_a_while_and_then_no_more(stage: Stage) -> None:
    stage.push.does["bruno"] = TryLater("500")
    first = await stage.message("m1")
    await stage.retry(first)
    stage.now += PATIENCE_MS - 1
    await stage.retry(first)
    stage.now += REST_MS
    stage.push.called()
    await stage.deliver(first)
    await stage.calls_end()
    assert stage.push.called() == ["bruno"], "tried for the last time"
    await stage.deliver(await stage.message("m2"))
    assert stage.push.called() == ["carla"], "nothing waits for it, and it is left alone"
    stage.now += PATIENCE_MS
    del stage.push.does["bruno"]
    await stage.deliver(await stage.message("m3"))
    assert stage.push.called() == ["bruno", "carla"], "tried again, and it has come back"
    stage.push.does["bruno"] = TryLater("500")
    await stage.retry(await stage.message("m4"))


async def test_who_names_a_new_endpoint_for_the_one_that_failed_is_not_waited_for_again(stage: Stage) -> None:
    """Or a member that does so now and then could make its conversations wait for ever."""
    rotation = ["bruno", *(f"bruno-{number}" for number in range(60))]
    stage.push.does |= {endpoint: TryLater("500") for endpoint in rotation}
    entry = await stage.message()
    for before, after in pairwise(rotation):
        if stage.now - BEGAN >= PATIENCE_MS:
            break
        await stage.retry(entry)
        await stage.store.delete_push_subscription("bruno", before)
        await stage.store.put_push_subscription("bruno", PushSubscription(after, "p256dh", "auth"), stage.now, 10)
        stage.now += REST_MS
    await stage.deliver(entry)


async def test_a_browser_that_answers_does_not_give_its_user_new_patience_for_the_others(stage: Stage) -> None:
    await stage.subscribe("bruno", device="-bad")
    stage.push.does |= {"bruno-bad": TryLater("500"), "bruno-worse": TryLater("500")}
    await stage.retry(await stage.message("m1"))
    stage.now += PATIENCE_MS - 1
    await stage.store.delete_push_subscription("bruno", "bruno-bad")
    await stage.subscribe("bruno", device="-worse")
    second = await stage.message("m2")
    await stage.retry(second)
    stage.push.called()
    stage.now += 1
    await stage.deliver(second)
    assert stage.push.called() == []
    await stage.deliver(await stage.message("m3"))
    await stage.calls_end()
    assert stage.push.called() == ["bruno", "carla"]


# Services that hang


async def test_a_job_waits_for_a_service_that_hangs_for_a_moment_and_finds_later_that_it_has_answered(
    stage: Stage,
) -> None:
    stage.handler = stage.open_handler(push_wait_s=1)
    stage.push.hangs.add("bruno")
    entry = await stage.message()
    with pytest.raises(TryLater, match="has not answered yet"):
        await stage.deliver(entry)
    with pytest.raises(TryLater, match="has not answered yet"):
        await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "carla"], "it is not called again while it is"
    stage.push.hung.set()
    await stage.calls_end()
    await stage.deliver(entry)
    assert stage.push.called() == []


async def test_a_service_that_is_known_to_hang_takes_none_of_a_workers_places(stage: Stage) -> None:
    """Or a user whose endpoints never answer would make all others' notices late."""
    stage.handler = stage.open_handler(push_wait_s=1)
    stage.push.hangs |= {"bruno", "bruno-new"}
    with pytest.raises(TryLater):
        await stage.deliver(await stage.message("m1"))
    await stage.subscribe("bruno", device="-new")
    stage.handler._limits = replace(stage.handler._limits, push_wait_s=3600)
    for number in range(3):
        with pytest.raises(TryLater):
            await asyncio.wait_for(stage.deliver(await stage.message(f"more-{number}")), SOON_S)
    assert stage.push.called().count("carla") == 4


async def test_the_newest_notice_is_sent_after_one_that_is_under_way_and_none_overtakes_it(stage: Stage) -> None:
    """Also to a user whom nothing waits for any more."""
    await stage.subscribe("bruno", device="-bad")
    stage.push.does["bruno-bad"] = TryLater("500")
    await stage.retry(await stage.message("m1"))
    stage.now += PATIENCE_MS - 1
    await stage.retry(await stage.message("m2"))
    stage.now += 1
    stage.push.called()
    stage.push.hangs.add("bruno")
    for number in range(3):
        await stage.deliver(await stage.message(f"more-{number}", body=f"{number}"))
    stage.push.hung.set()
    await stage.calls_end()
    assert [notice["body"] for endpoint, notice, _ in stage.push.calls if endpoint == "bruno"] == ["0", "2"]
    assert (stage.handler._calls, stage.handler._next) == ({}, {})


async def test_one_user_has_no_more_calls_under_way_than_its_share(stage: Stage) -> None:
    stage.handler = stage.open_handler(push_wait_s=1, push_user_calls_max=2)
    for number in range(4):
        await stage.subscribe("bruno", device=f"-{number}")
    stage.push.hangs |= {"bruno", *(f"bruno-{number}" for number in range(4))}
    entry = await stage.message()
    with pytest.raises(TryLater):
        await stage.deliver(entry)
    assert stage.push.called() == ["bruno", "bruno-0", "carla"]
    stage.push.hung.set()
    for expected in (["bruno-1", "bruno-2"], ["bruno-3"]):
        await stage.calls_end()
        await stage.retry(entry)
        assert stage.push.called() == expected
    await stage.deliver(entry)


async def test_a_handler_that_closes_ends_its_calls_and_closes_the_push_service(stage: Stage) -> None:
    stage.handler = stage.open_handler(push_wait_s=1)
    stage.push.hangs.add("bruno")
    with pytest.raises(TryLater):
        await stage.deliver(await stage.message())
    (call,) = stage.handler._calls.values()
    await stage.handler.close()
    assert call.cancelled()
    assert stage.push.closed


async def test_what_is_remembered_of_failures_is_bounded(stage: Stage) -> None:
    stage.handler = stage.open_handler(push_failing_max=1, push_jobs_remembered_max=1)
    stage.push.does |= {"bruno": TryLater("500"), "carla": TryLater("500")}
    for number in range(3):
        await stage.retry(await stage.message(f"m{number}"))
    assert (len(stage.handler._over), len(stage.handler._failures), len(stage.handler._calls_of)) == (1, 1, 0)


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
