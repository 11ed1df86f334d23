"""What a client can make others pay: the bytes that wait for it, deep filters, and groups whose members are away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado.broker.publication import Publication
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, publish

WINDOW = LIMITS.inflight_max


@pytest.mark.parametrize(
    ("publication", "size"),
    [
        (Publication("a/b", b"12345", 1), 8),
        (Publication("ä/b", b"12345", 1), 4 * 3 + 5),
        (Publication("a", b"", 1, properties={PropertyId.USER_PROPERTY: [("k", "val"), ("", "")]}), 1 + 404),
        (Publication("a", b"", 1, properties={PropertyId.CORRELATION_DATA: b"123"}), 4),
        (Publication("a", b"", 1, properties={PropertyId.CONTENT_TYPE: "text"}), 5),
        (Publication("a", b"", 1, properties={PropertyId.PAYLOAD_FORMAT_INDICATOR: 1}), 1),
    ],
)
def test_a_publication_is_as_large_as_what_it_holds_in_memory(publication: Publication, size: int) -> None:
    assert publication.size == publication.size == publication.as_retained().size == size


@pytest.mark.parametrize("is_kept", [False, True])
async def test_user_properties_count_in_a_queue_too(public: PublicNode, sender: PublicClient, is_kept: bool) -> None:
    reader = await (public.kept("ana") if is_kept else public.connected("ana"))
    await reader.subscribe(TOPIC)
    for n in range(1, WINDOW + 1):
        await publish(sender, str(n))
    pairs: Properties = {PropertyId.USER_PROPERTY: [("k", "v")] * 99}
    size = Publication(TOPIC, b"x", 1, properties=pairs).size
    most = PUBLIC_LIMITS.queue_bytes_max // size
    for _ in range(most + 2):
        await publish(sender, "x", properties=pairs)
    session = public.session_of("ana")
    assert public.server.counters.queue_full == 2
    assert session.queued_bytes + session.queue_bytes == most * size
    assert len(await reader.take(WINDOW + most)) == WINDOW + most
    assert session.queued_bytes + session.queue_bytes == 0


async def test_the_levels_of_a_sessions_wildcard_filters_are_bounded(public: PublicNode) -> None:
    """Bug class: filters as deep as may be, each level of which a publish to a deep topic visits."""
    public.server.limits = replace(PUBLIC_LIMITS, wildcard_levels_max=12)
    client = await public.connected("ana")
    assert await client.subscribe("+/b/c/d/e") == [1]
    assert await client.subscribe("$share/g/+/b/c") == [1]
    assert await client.subscribe("a/b/c/d/e/f/g/h") == [1], "without a wildcard it is found at once"
    assert await client.subscribe("a/#") == [1]
    assert await client.subscribe("#") == [ReasonCode.QUOTA_EXCEEDED]
    assert await client.subscribe("+/b/c/d/e", qos=0) == [0], "it is there already"
    assert public.server.router.wildcard_levels(public.session_of("ana")) == 12


async def test_a_shared_publication_goes_past_those_that_have_left(public: PublicNode, sender: PublicClient) -> None:
    shared = f"$share/g/{TOPIC}"
    for n in (1, 2):
        away = await public.client()
        await away.keep("ana", f"away-{n}")
        await away.subscribe(shared)
        await public.leave(away)
    asked: list[Session] = []

    def ask(session: Session) -> bool:
        asked.append(session)
        return False

    for when in ("when they left", "after a start"):
        (group,) = public.server.router.route(TOPIC).groups
        assert group.next(ask) is not None
        assert asked == [], f"nobody has a connection {when}"
        await public.restart()
    back = await public.client()
    await back.keep("ana", "away-2")
    again = await public.connected("bruno")
    for text in ("1", "2", "3"):
        await publish(again, text)
    assert await back.take(3) == ["1", "2", "3"]
