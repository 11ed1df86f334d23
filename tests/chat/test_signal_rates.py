"""What a user may signal in a second, and what of typing is news; the clock is the test's."""

from __future__ import annotations

import pytest

from recado.chat import actions
from recado.chat.actions import Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import RateLimited
from recado.chat.event import Committed, Event
from recado.chat.principal import Principal
from recado.chat.signal_rates import SignalRates, TypingRenewals
from tests.chat.conftest import LIMITS, RecordingBroker

ANA = Principal("ana")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_user_has_so_many_signals_in_each_second(clock: Clock) -> None:
    rates = SignalRates(2, clock)
    assert [rates.take("ana") for _ in range(3)] == [True, True, False]
    assert rates.take("bruno"), "it is the user's own"
    assert rates.limited == 1
    clock.now_s += 1
    assert rates.take("ana")


def test_a_renewal_within_the_interval_is_no_news_and_does_not_prolong_it(clock: Clock) -> None:
    typing = TypingRenewals(2.0, 10, clock)
    assert typing.is_news("c", "ana")
    clock.now_s += 1.5
    assert not typing.is_news("c", "ana")
    assert typing.is_news("c", "bruno")
    assert typing.is_news("d", "ana")
    assert typing.coalesced == 1
    clock.now_s += 0.5
    assert typing.is_news("c", "ana")


@pytest.mark.parametrize(
    ("event", "is_news"),
    [
        (Event(seq=1, sender="ana", at=1, id="x", body="hi"), True),
        (Event(seq=1, sender="bruno", at=1, id="x", body="hi"), False),
        (Event(seq=1, sender="ana", at=1, type="edited", body="hi"), False),
    ],
)
def test_typing_after_the_own_message_is_news(clock: Clock, event: Event, is_news: bool) -> None:
    typing = TypingRenewals(2.0, 10, clock)
    assert typing.is_news("c", "ana")
    typing.apply([Committed("d", event, frozenset()), Committed("c", event, frozenset())])
    assert typing.is_news("c", "ana") == is_news


def test_the_memory_of_who_types_is_bounded_and_forgets_the_oldest(clock: Clock) -> None:
    typing = TypingRenewals(2.0, 2, clock)
    for user in ("ana", "bruno", "carla"):
        assert typing.is_news("c", user)
    assert not typing.is_news("c", "carla")
    assert typing.is_news("c", "ana"), "it was forgotten"


async def test_a_renewal_is_accepted_and_not_passed_on(chat: Chat, broker: RecordingBroker) -> None:
    await actions.put_conversation(chat, Principal(None, is_host=True), "c", ConversationDraft(["ana", "bruno"]))
    await actions.signal_typing(chat, ANA, "c")
    await actions.signal_typing(chat, ANA, "c")
    assert len(broker.signals) == 1


async def test_typing_and_reading_share_one_rate_and_a_paced_door_is_not_refused(chat: Chat) -> None:
    await actions.put_conversation(chat, Principal(None, is_host=True), "c", ConversationDraft(["ana", "bruno"]))
    chat.signal_rates = SignalRates(LIMITS.signal_rate_max, Clock())
    for _ in range(LIMITS.signal_rate_max // 2):
        await actions.signal_typing(chat, ANA, "c")
        await actions.mark_read(chat, ANA, "c", 0)
    for refused in (actions.signal_typing(chat, ANA, "c"), actions.mark_read(chat, ANA, "c", 0)):
        with pytest.raises(RateLimited) as error:
            await refused
        assert error.value.retry_after_s == 1
    await actions.signal_typing(chat, ANA, "c", is_paced=True)
    await actions.mark_read(chat, ANA, "c", 0, is_paced=True)
