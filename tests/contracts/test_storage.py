"""What every QueueStorage promises the MQTT server, whatever keeps it."""

from __future__ import annotations

import asyncio
import time

import pytest

from recado.broker.storage import (
    Acknowledged,
    Claimed,
    ClearRetained,
    DeleteSubscription,
    EndSession,
    Enqueue,
    Expired,
    Forgotten,
    QueueStorage,
    Received,
    Released,
    Resumed,
    Retain,
    SaveSubscription,
    StorageFailed,
    Stored,
)
from recado.mqtt.packets import SubscriptionRequest, Will
from recado.mqtt.properties import PropertyId
from tests.contracts.storages import (
    StorageShelf,
    brief,
    enqueue,
    entry,
    plain,
    publication,
    session,
    written,
)

SIZE = publication("m1").size

PROPERTIES = {
    PropertyId.PAYLOAD_FORMAT_INDICATOR: 1,
    PropertyId.CONTENT_TYPE: "text/plain",
    PropertyId.CORRELATION_DATA: b"\x00\xff",
    PropertyId.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "1")],
}
NOW_MS = 1_000_000


# Sessions


async def test_a_new_storage_is_empty(storage_shelf: StorageShelf) -> None:
    assert await storage_shelf.open().load() == Stored([], [], 0, 0)


async def test_a_session_is_found_as_it_was_saved(storage_shelf: StorageShelf, storage: QueueStorage) -> None:
    will = Will("w", b"\x00gone", 2, True, PROPERTIES)
    saved = [session(3, "", "c", 0xFFFFFFFF, NOW_MS, will), session(7, "ana", "é/#", 1, None, Will("w", b""))]
    assert await written(storage, *saved)

    stored = await storage_shelf.stored()

    assert [each.saved for each in stored.sessions] == saved
    assert stored.sessions[0].saved.will is not None
    assert list(stored.sessions[0].saved.will.properties) == list(PROPERTIES)
    assert [(each.subscriptions, each.queued, each.queued_bytes) for each in stored.sessions] == [([], 0, 0)] * 2


async def test_a_session_that_is_saved_again_keeps_what_belongs_to_it(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    subscription = SubscriptionRequest("a/#", 1)
    assert await written(storage, session(1, will=Will("w", b"x")), SaveSubscription(1, subscription, 0))
    changed = session(1, "bruno", "tablet", 5, NOW_MS)
    assert await written(storage, enqueue(1, entry(1)), changed)

    (found,) = (await storage_shelf.stored()).sessions

    assert found.saved == changed
    assert (found.subscriptions, found.queued, found.queued_bytes) == ([(subscription, 0)], 1, SIZE)


async def test_subscriptions_are_replaced_by_their_filter_and_deleted(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    first, second = SubscriptionRequest("a/+", 1), SubscriptionRequest("a/+", 2, True, True, 2)
    other = SubscriptionRequest("$share/g/é", 0)
    assert await written(storage, session(1), session(2), SaveSubscription(1, first, 9), SaveSubscription(2, first, 7))
    assert await written(storage, SaveSubscription(1, second, 268_435_455), SaveSubscription(1, other, 0))
    assert await written(storage, SaveSubscription(2, other, 1), DeleteSubscription(2, "$share/g/é"))
    assert await written(storage, DeleteSubscription(2, "never/there"))

    one, two = (await storage_shelf.stored()).sessions

    assert sorted(one.subscriptions, key=lambda pair: pair[0].qos) == [(other, 0), (second, 268_435_455)]
    assert two.subscriptions == [(first, 7)]


async def test_nothing_of_a_session_is_left_when_it_has_ended(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    for key in (1, 2, 3):
        assert await written(storage, session(key), SaveSubscription(key, SubscriptionRequest("a"), 0))
        assert await written(storage, enqueue(10 * key, entry(key, 65_535)), Received(key, 1), Received(key, 65_535))
        assert await written(storage, enqueue(10 * key + 1, entry(key)))

    assert await written(storage, EndSession(2), session(2, "bruno"))

    storage, stored = await storage_shelf.restart()
    assert [(each.saved.user, len(each.subscriptions), each.queued) for each in stored.sessions] == [
        ("ana", 1, 1),
        ("bruno", 0, 0),
        ("ana", 1, 1),
    ]
    assert await storage.resume(2) == Resumed([], [])
    assert await storage.claim(2, [1], NOW_MS) == Claimed([], 0, 0, False)
    for key in (1, 3):
        inflight, received, _ = await storage.resume(key)
        assert (brief(inflight), received) == ([(65_535, f"m{10 * key}")], [1, 65_535])


async def test_the_largest_key_and_position_are_known_when_nothing_of_them_is_left(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(5), session(4), enqueue(7, entry(4, 1)), enqueue(8, entry(5, 1)))
    assert await written(storage, Acknowledged(4, 1), Acknowledged(5, 1), EndSession(5), EndSession(4))
    assert await storage_shelf.stored() == Stored([], [], 5, 8)

    storage, _ = await storage_shelf.restart()
    assert await written(storage, session(6), enqueue(9, entry(6, 1)))
    stored = await storage_shelf.stored()
    assert (stored.last_key, stored.last_position) == (6, 9)


# In flight


async def test_a_publish_in_flight_is_resumed_with_all_that_it_was(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    whole = publication("héllo\0", "a/é", 2, 41, retain=True, properties=PROPERTIES, expires_at_ms=NOW_MS)
    bare = publication("")
    assert await written(storage, session(1))
    assert await written(storage, Enqueue(1, whole, [entry(1, 9, 2, True, 3, 268_435_455)]))
    assert await written(storage, Enqueue(2, bare, [entry(1, 8, 1)]))

    storage, _ = await storage_shelf.restart()
    (first, second), received, _ = await storage.resume(1)

    assert received == []
    assert first.publication is not None
    assert second.publication is not None
    assert (plain(first.publication), plain(second.publication)) == (plain(whole), plain(bare))
    assert list(first.publication.properties) == list(PROPERTIES)
    assert (first._replace(publication=None), second._replace(publication=None)) == (
        (9, None, 2, True, (3, 268_435_455)),
        (8, None, 1, False, ()),
    )


async def test_each_session_acknowledges_its_own_copy(storage_shelf: StorageShelf, storage: QueueStorage) -> None:
    assert await written(storage, session(1), session(2), session(3))
    assert await written(storage, enqueue(1, entry(1, 5), entry(2, 5), entry(3)))

    assert await written(storage, Acknowledged(1, 5))

    storage, _ = await storage_shelf.restart()
    assert (await storage.resume(1)).inflight == []
    assert brief((await storage.resume(2)).inflight) == [(5, "m1")]
    assert await written(storage, Acknowledged(2, 5))
    assert brief((await storage.claim(3, [1], NOW_MS)).deliveries) == [(1, "m1")]


async def test_a_released_publish_leaves_its_packet_id_in_its_place(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1))
    for position in (1, 2, 3):
        assert await written(storage, enqueue(position, entry(1, 10 - position, 2)))

    assert await written(storage, Released(1, 8))
    assert await written(storage, Released(1, 77))

    storage, _ = await storage_shelf.restart()
    assert brief((await storage.resume(1)).inflight) == [(9, "m1"), (8, None), (7, "m3")]
    assert await written(storage, Acknowledged(1, 8), Acknowledged(1, 9))
    assert brief((await storage.resume(1)).inflight) == [(7, "m3")]


async def test_a_packet_id_is_free_for_the_next_publish_once_it_is_acknowledged(storage: QueueStorage) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1, 5)))

    kept = [
        written(storage, Acknowledged(1, 5), enqueue(2, entry(1, 5))),
        written(storage, Released(1, 5)),
        written(storage, Acknowledged(1, 5)),
        written(storage, enqueue(3, entry(1, 5))),
        written(storage, Acknowledged(1, 5), enqueue(4, entry(1, 5))),
    ]

    assert brief((await storage.resume(1)).inflight) == [(5, "m4")]
    assert await asyncio.gather(*kept) == [True] * 5


async def test_what_is_sent_under_a_packet_id_that_is_in_use_takes_its_place(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2), enqueue(1, entry(1, 5), entry(1, 6), entry(2)))
    assert await written(storage, enqueue(2, entry(1, 5)), Acknowledged(1, 6))

    kept = [written(storage, enqueue(n, entry(1, 5), entry(1, 5), entry(1), entry(1, 6))) for n in (3, 4, 5)]
    assert await asyncio.gather(*kept) == [True] * 3
    claimed = await storage.claim(1, [6], NOW_MS)

    assert brief(claimed.deliveries) == [(6, "m3")]
    storage, _ = await storage_shelf.restart()
    assert brief((await storage.resume(1)).inflight) == [(5, "m5"), (6, "m3")]
    assert brief((await storage.claim(2, [1], NOW_MS)).deliveries) == [(1, "m1")], "another session has it still"


async def test_a_session_may_get_one_message_twice(storage_shelf: StorageShelf, storage: QueueStorage) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1, 5), entry(1, 6), entry(1), entry(1)))

    storage, stored = await storage_shelf.restart()

    assert (stored.sessions[0].queued, stored.sessions[0].queued_bytes) == (2, 2 * SIZE)
    assert brief((await storage.claim(1, [7, 8, 9], NOW_MS)).deliveries) == [(7, "m1"), (8, "m1")]
    assert await written(storage, Acknowledged(1, 5), Acknowledged(1, 6), Acknowledged(1, 7))
    assert brief((await storage.resume(1)).inflight) == [(8, "m1")]


async def test_what_is_for_a_session_that_has_ended_reaches_the_others(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2))
    assert await written(storage, EndSession(1))
    assert await written(storage, enqueue(1, entry(1, 5), entry(2, 5)), Received(1, 5), Acknowledged(1, 5))

    storage, _ = await storage_shelf.restart()
    assert brief((await storage.resume(2)).inflight) == [(5, "m1")]
    assert await written(storage, session(1))
    assert await storage.resume(1) == Resumed([], [])


# QoS 2 that comes


async def test_packet_ids_that_came_are_known_until_they_are_forgotten(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2), *(Received(1, n) for n in (3, 1, 65_535)), Received(2, 1))
    assert await written(storage, Received(1, 3), Forgotten(1, 1), Forgotten(1, 50))
    assert await written(storage, Received(2, 9), Forgotten(2, 9), Received(2, 9))

    storage, _ = await storage_shelf.restart()

    assert (await storage.resume(1)).received == [3, 65_535]
    assert (await storage.resume(2)).received == [1, 9]


# The queue


async def test_a_claim_takes_the_head_of_the_queue_into_flight_in_order(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2))
    for position in range(1, 6):
        assert await written(storage, enqueue(position, entry(2), entry(1, 0, 2, True, 4)))

    first = await storage.claim(1, [30, 10], NOW_MS)
    storage, stored = await storage_shelf.restart()
    rest = await storage.claim(1, [20, 40, 50, 60], NOW_MS)

    assert brief(first.deliveries) == [(30, "m1"), (10, "m2")]
    assert first.deliveries[0][2:] == (2, True, (4,))
    assert first[1:] == (2, 2 * SIZE, True)
    assert [(each.queued, each.queued_bytes) for each in stored.sessions] == [(3, 3 * SIZE), (5, 5 * SIZE)]
    assert brief(rest.deliveries) == [(20, "m3"), (40, "m4"), (50, "m5")]
    assert rest[1:] == (3, 3 * SIZE, False)
    assert brief((await storage.resume(1)).inflight) == brief([*first.deliveries, *rest.deliveries])


async def test_a_claim_without_packet_ids_tells_whether_the_queue_has_anything(storage: QueueStorage) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1), expires_at_ms=1))

    assert await storage.claim(1, [], NOW_MS) == Claimed([], 0, 0, True)
    assert await storage.claim(2, [], NOW_MS) == Claimed([], 0, 0, False)


async def test_what_has_expired_in_the_queue_is_dropped_and_counted(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1))
    for position, expires_at_ms in enumerate((NOW_MS, 0, NOW_MS - 1, NOW_MS + 1, 1, NOW_MS, 0, 1), 1):
        assert await written(storage, enqueue(position, entry(1), expires_at_ms=expires_at_ms))

    first = await storage.claim(1, [1, 2], NOW_MS)
    rest = await storage.claim(1, [3, 4], NOW_MS)

    assert (brief(first.deliveries), *first[1:]) == ([(1, "m2"), (2, "m4")], 4, 4 * SIZE, True)
    assert (brief(rest.deliveries), *rest[1:]) == ([(3, "m7")], 4, 4 * SIZE, False)
    assert (await storage_shelf.stored()).sessions[0].queued == 0


async def test_a_queue_of_nothing_but_expired_messages_is_empty_after_a_claim(storage: QueueStorage) -> None:
    assert await written(storage, session(1))
    for position in range(1, 4):
        assert await written(storage, enqueue(position, entry(1), expires_at_ms=1))

    assert await storage.claim(1, [1], NOW_MS) == Claimed([], 3, 3 * SIZE, False)


async def test_what_has_expired_anywhere_in_a_queue_is_dropped_on_demand(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2))
    for position, expires_at_ms in enumerate((0, NOW_MS, NOW_MS + 7, 1, NOW_MS + 5, 0), 1):
        both = (entry(1), entry(2)) if position != 4 else (entry(1, 9), entry(1))
        assert await written(storage, enqueue(position, *both, expires_at_ms=expires_at_ms))

    expired = await storage.forget_expired(1, NOW_MS)

    size = publication("m1").size
    assert expired == Expired(2, 2 * size, NOW_MS + 5)
    assert await storage.forget_expired(1, NOW_MS) == Expired(0, 0, NOW_MS + 5)
    assert await storage.forget_expired(1, NOW_MS + 7) == Expired(2, 2 * size, 0)
    assert await storage.forget_expired(3, NOW_MS) == Expired(0, 0, 0)
    storage, stored = await storage_shelf.restart()
    assert [(each.queued, each.queued_bytes) for each in stored.sessions] == [(2, 2 * size), (5, 5 * size)]
    assert brief((await storage.resume(1)).inflight) == [(9, "m4")]
    assert brief((await storage.claim(2, [1, 2], 1)).deliveries) == [(1, "m1"), (2, "m2")]


async def test_what_is_in_flight_is_resumed_when_it_has_expired_too(storage: QueueStorage) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1, 5), expires_at_ms=1))

    assert brief((await storage.resume(1)).inflight) == [(5, "m1")]


async def test_in_flight_are_in_the_order_of_their_first_sending_not_of_their_coming(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1)), enqueue(2, entry(1, 9)))
    await storage.claim(1, [3], NOW_MS)
    assert await written(storage, enqueue(3, entry(1, 6)))

    storage, _ = await storage_shelf.restart()

    assert brief((await storage.resume(1)).inflight) == [(9, "m2"), (3, "m1"), (6, "m3")]


# Retained


async def test_the_last_retained_message_of_a_topic_is_kept(storage_shelf: StorageShelf, storage: QueueStorage) -> None:
    last = publication("2", "a", 2, 3, retain=True, properties=PROPERTIES)
    other = publication("", "b")
    assert await written(storage, Retain(publication("1", "a", properties=PROPERTIES)), Retain(other))
    assert await written(storage, Retain(publication("x", "c")), Retain(last), ClearRetained("c"), ClearRetained("d"))

    found = (await storage_shelf.stored()).retained

    assert sorted(map(plain, found)) == [plain(last), plain(other)]


async def test_retained_messages_that_have_expired_are_dropped_at_a_start(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    now_ms = time.time_ns() // 1_000_000
    expired, alive = (
        Retain(publication("x", topic_name, expires_at_ms=at))
        for topic_name, at in (("old", now_ms - 1), ("new", now_ms + 3_600_000))
    )
    assert await written(storage, expired, alive, Retain(publication("x", "ever")))

    assert sorted(each.topic_name for each in (await storage_shelf.stored()).retained) == ["ever", "new"]


# Transactions


async def test_reads_see_all_that_was_written_before_them_and_nothing_of_what_comes_after(
    storage: QueueStorage,
) -> None:
    assert await written(storage, session(1))

    written(storage, enqueue(1, entry(1)), enqueue(2, entry(1)))
    first = asyncio.ensure_future(storage.claim(1, [1], NOW_MS))
    before = asyncio.ensure_future(storage.resume(1))
    await asyncio.sleep(0)  # both are under way, in this order
    written(storage, enqueue(3, entry(1)), Acknowledged(1, 1), Received(1, 4))
    second = asyncio.ensure_future(storage.claim(1, [1, 2, 3], NOW_MS))
    after = asyncio.ensure_future(storage.resume(1))

    assert (brief((await first).deliveries), (await first).rest) == ([(1, "m1")], True)
    assert (brief((await before).inflight), (await before).received) == ([(1, "m1")], [])
    assert brief((await second).deliveries) == [(1, "m2"), (2, "m3")]
    assert (brief((await after).inflight), (await after).received) == ([(1, "m2"), (2, "m3")], [4])


async def test_the_changes_of_a_transaction_are_made_in_their_order(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2))
    assert await written(storage, enqueue(1, entry(1, 1)), Acknowledged(1, 1), enqueue(2, entry(1, 3)))
    assert await written(storage, enqueue(3, entry(1, 2)), Released(1, 2))
    assert await written(storage, Acknowledged(1, 3), enqueue(4, entry(1, 3)), Acknowledged(1, 3), Released(1, 3))
    assert await written(storage, enqueue(5, entry(2, 1)), EndSession(2), session(2), enqueue(6, entry(2, 1)))
    assert await written(storage, Received(1, 1), Forgotten(1, 1), Forgotten(1, 2), Received(1, 2))
    assert await written(storage, Retain(publication("x", "a")), ClearRetained("a"), Retain(publication("y", "b")))

    storage, stored = await storage_shelf.restart()
    inflight, received, _ = await storage.resume(1)
    assert (brief(inflight), received) == ([(2, None)], [2])
    assert brief((await storage.resume(2)).inflight) == [(1, "m6")]
    assert [each.topic_name for each in stored.retained] == ["b"]


async def test_the_ends_of_transactions_are_told_in_order_and_never_inside_write(storage: QueueStorage) -> None:
    told: list[tuple[int, bool]] = []
    storage.write([session(1)])
    for n in range(250):
        storage.write([enqueue(n + 1, entry(1))], lambda kept, n=n: told.append((n, kept)))  # type: ignore[misc]
    assert told == []

    await storage.resume(1)

    assert told == [(n, True) for n in range(250)]


async def test_who_is_told_may_fail_and_the_others_are_told(storage: QueueStorage) -> None:
    def fail(_: bool) -> None:
        raise RuntimeError("on purpose")

    storage.write([session(1)], fail)
    assert await written(storage, session(2))


async def test_a_transaction_that_cannot_be_done_leaves_nothing_and_fails_alone(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    assert await written(storage, session(1), session(2))
    no_session = SaveSubscription(99, SubscriptionRequest("a"), 0)
    no_utf8 = Retain(publication("x", "\ud800"))

    kept = [written(storage, enqueue(n, entry(1), entry(2, n)), Received(1, n)) for n in range(1, 20)]
    kept += [
        written(storage, enqueue(20, entry(1)), Received(1, 100), Acknowledged(2, 3), no_session),
        written(storage, no_utf8, session(3)),
        written(storage, enqueue(22, entry(1), entry(2, 5)), no_session),
    ]
    kept += [written(storage, enqueue(n, entry(1), entry(3))) for n in range(23, 30)]
    resumed = await storage.resume(2)

    assert await asyncio.gather(*kept) == [n not in (19, 20, 21) for n in range(29)]
    assert brief(resumed.inflight) == [(n, f"m{n}") for n in range(1, 20)]
    storage, stored = await storage_shelf.restart()
    assert [(each.saved.key, each.queued) for each in stored.sessions] == [(1, 26), (2, 0)]
    assert stored.retained == []
    assert (await storage.resume(1)).received == list(range(1, 20))


async def test_a_read_that_cannot_be_done_fails_alone(storage: QueueStorage) -> None:
    assert await written(storage, session(1), enqueue(1, entry(1, 5)), enqueue(2, entry(1)))

    with pytest.raises(StorageFailed):
        await storage.claim(2**63, [5], NOW_MS)

    assert brief((await storage.claim(1, [6], NOW_MS)).deliveries) == [(6, "m2")]


# The end


async def test_what_was_written_before_the_end_is_kept_and_told(
    storage_shelf: StorageShelf, storage: QueueStorage
) -> None:
    told: list[bool] = []
    for key in range(1, 301):
        storage.write([session(key)], told.append)
    await asyncio.gather(storage.close(), storage.close())

    assert told == [True] * 300
    await storage.close()


async def test_after_the_end_nothing_is_kept_and_that_is_told(storage: QueueStorage) -> None:
    await storage.close()

    kept = written(storage, session(1))
    storage.write([session(1)])

    assert not kept.done()
    assert not await kept
    with pytest.raises(StorageFailed):
        await storage.resume(1)
