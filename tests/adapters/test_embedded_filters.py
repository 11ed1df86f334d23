"""Which topic filters the embedded broker grants: those that a topic of a conversation can match."""

from __future__ import annotations

import pytest

from recado.adapters.broker.embedded import EmbeddedBroker
from recado.app.limits import DEFAULT
from recado.chat.principal import Principal
from recado.mqtt.packets import SubscriptionRequest
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session

ID = "z" * 64  # the longest


async def answer(topic_filter: str) -> ReasonCode:
    broker = EmbeddedBroker(lambda token: Principal("ana"), DEFAULT.broker)
    broker.server._ticker.cancel()
    return await broker.authorize_subscription(Session("ana", "phone", 1), SubscriptionRequest(topic_filter, 1))


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "c/#", "+/#", "c/+", "+/+", "c/+/live", "c/+/+", "+/+/live", "+/+/#", "c/+/#", "c/+/live/#", f"+/{ID}"],
)
async def test_a_wildcard_that_a_topic_can_match_is_granted(topic_filter: str) -> None:
    assert await answer(topic_filter) == ReasonCode.GRANTED_QOS_1


@pytest.mark.parametrize(
    "topic_filter",
    ["+", "c", "c/", "+/", "x/+", "x/#", "$SYS/#", "c//#", "c/+/", "c/+/x", "c/+/live/+", "+/+/+/+", f"+/{ID}z"],
)
async def test_a_filter_that_no_topic_can_match_is_refused_and_takes_no_memory(topic_filter: str) -> None:
    assert await answer(topic_filter) == ReasonCode.NOT_AUTHORIZED
