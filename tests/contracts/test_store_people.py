"""People: what they are called, what they have muted, which pages they have open, and where they are to be called."""

from __future__ import annotations

import pytest

from recado.chat.errors import NotFound, TooLarge
from recado.ports import PushSubscription, PushTarget, Store
from tests.contracts.stores import Shelf, create, send

PAGES_MAX = 3
MOST = 2
NOW = 1_790_000_000_000
LATER = NOW + 75_000


def subscription(number: int, key: str = "key") -> PushSubscription:
    return PushSubscription(f"https://push.example.com/{number}", key, f"auth-{number}")


async def note(
    store: Store,
    user: str,
    page: str,
    visible: bool | None,
    until: int = LATER,
    at: int = NOW,
    pages_max: int = PAGES_MAX,
) -> None:
    await store.note_page(user, page, visible, at, until, pages_max)


# Names


async def test_a_user_is_called_what_was_said_last_and_nothing_once_that_is_taken_back(store: Store) -> None:
    await store.put_user("ana", "Ana")
    await store.put_user("ana", "Ana Souza")
    await store.put_user("bruno", "Bruno ✂ o 'Rápido'")
    assert await store.names(["carla", "bruno", "ana"]) == {"ana": "Ana Souza", "bruno": "Bruno ✂ o 'Rápido'"}
    await store.put_user("ana", None)
    await store.put_user("dora", None)
    assert await store.names(["ana", "bruno", "dora"]) == {"bruno": "Bruno ✂ o 'Rápido'"}
    assert await store.names([]) == {}


async def test_conversations_show_the_names_of_those_members_who_have_one(store: Store) -> None:
    await store.put_user("ana", "Ana Souza")
    await store.put_user("stranger", "Nobody here")
    view = await create(store, "bruno", "ana")
    assert view.names == {"ana": "Ana Souza"}
    await create(store, "bruno", conversation="alone")
    assert (await store.conversation("alone", "bruno")).names is None
    page = await store.conversations("bruno", None, 10)
    assert {each.id: each.names for each in page.conversations} == {"c": {"ana": "Ana Souza"}, "alone": None}
    assert view.members == ["bruno", "ana"], "names change nothing about the order of joining"


# Muting


async def test_a_member_mutes_a_conversation_for_itself_alone(store: Store) -> None:
    await create(store, "ana", "bruno")
    assert not (await store.conversation("c", "ana")).muted
    assert await store.set_muted("c", "ana", True)
    assert not await store.set_muted("c", "ana", True), "it was so already"
    assert (await store.conversation("c", "ana")).muted
    assert [view.muted for view in (await store.conversations("ana", None, 10)).conversations] == [True]
    assert not (await store.conversation("c", "bruno")).muted
    assert not (await store.conversation("c", None)).muted
    assert await store.set_muted("c", "ana", False)
    assert not (await store.conversation("c", "ana")).muted


async def test_who_is_no_member_mutes_nothing(store: Store) -> None:
    await create(store, "ana")
    for conversation in ("c", "unknown"):
        with pytest.raises(NotFound):
            await store.set_muted(conversation, "carla", True)
    await store.erase_conversation("c", 9_000)
    with pytest.raises(NotFound):
        await store.set_muted("c", "ana", True)


async def test_who_comes_back_has_muted_nothing(store: Store) -> None:
    await create(store, "ana", "bruno")
    await store.set_muted("c", "ana", True)
    await store.remove_member("c", "ana", None, 3_000)
    await store.put_member("c", "ana", None, 4_000, 10)
    assert not (await store.conversation("c", "ana")).muted


# Pages


async def test_a_page_is_open_until_it_ends_and_on_the_screen_or_not_as_was_said_last(store: Store) -> None:
    await note(store, "ana", "p1", True)
    await note(store, "bruno", "p1", False)
    users = ["ana", "bruno", "carla"]
    assert await store.pages(users, NOW) == {"ana": True, "bruno": False}
    assert await store.pages(["bruno"], LATER - 1) == {"bruno": False}
    assert await store.pages(users, LATER) == {}
    await note(store, "ana", "p1", False, until=LATER + 10)
    assert await store.pages(users, LATER) == {"ana": False}
    assert await store.pages([], NOW) == {}


async def test_a_user_with_several_pages_looks_if_one_of_them_is_on_the_screen(store: Store) -> None:
    await note(store, "ana", "hidden", False, until=LATER + 10)
    await note(store, "ana", "visible", True)
    assert await store.pages(["ana"], NOW) == {"ana": True}
    assert await store.pages(["ana"], LATER) == {"ana": False}, "the one on the screen has ended"


async def test_a_page_that_is_closed_is_gone_at_once_and_the_others_stay(store: Store) -> None:
    await note(store, "ana", "p1", True)
    await note(store, "ana", "p2", False)
    await note(store, "bruno", "p1", True)
    await note(store, "ana", "p1", None)
    await note(store, "ana", "never", None)
    assert await store.pages(["ana", "bruno"], NOW) == {"ana": False, "bruno": True}
    await note(store, "ana", "p2", None)
    assert await store.pages(["ana", "bruno"], NOW) == {"bruno": True}


async def test_of_too_many_pages_those_that_end_first_are_forgotten(store: Store) -> None:
    await note(store, "bruno", "p1", True)
    await note(store, "ana", "soon", True, until=NOW + 1)
    for number in range(PAGES_MAX):
        await note(store, "ana", f"p{number}", False, until=LATER + number)
    assert await store.pages(["ana", "bruno"], NOW) == {"ana": False, "bruno": True}


async def test_pages_that_have_ended_do_not_pile_up(shelf: Shelf) -> None:
    store = await shelf.open()
    for number in range(10):
        await note(store, f"user-{number}", "p", True)
    everybody = [f"user-{number}" for number in range(10)]
    assert len(await store.pages(everybody, NOW)) == 10
    await note(store, "ana", "p", True, at=LATER, until=LATER + 75_000)
    assert await store.pages([*everybody, "ana"], NOW) == {"ana": True}, "they are gone, whatever time it is"


async def test_pages_names_and_subscriptions_outlive_the_process(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await note(store, "ana", "p", True)
    await store.put_user("ana", "Ana Souza")
    await store.set_muted("c", "bruno", True)
    await store.put_push_subscription("ana", subscription(1), NOW, MOST)
    store = await shelf.reopen()
    await send(store, "bruno", "m1")
    assert await store.pages(["ana"], NOW) == {"ana": True}
    assert await store.names(["ana"]) == {"ana": "Ana Souza"}
    assert (await store.conversation("c", "bruno")).muted
    assert await store.push_targets("c", 1, ["ana"]) == [PushTarget("ana", subscription(1))]


# Subscriptions


async def test_those_recipients_are_called_who_are_members_want_it_and_have_not_read_so_far(store: Store) -> None:
    await create(store, "ana", "bruno", "carla", "dora")
    for number, user in enumerate(["ana", "bruno", "carla", "dora", "stranger"]):
        assert await store.put_push_subscription(user, subscription(number), NOW, MOST)
    assert await store.put_push_subscription("bruno", subscription(10), NOW + 1, MOST)
    for number in range(3):
        await send(store, "ana", f"m{number}")
    await store.set_muted("c", "carla", True)
    await store.mark_read("c", "dora", 2)
    everybody = ["bruno", "carla", "dora", "stranger"]
    of_bruno = [PushTarget("bruno", subscription(1)), PushTarget("bruno", subscription(10))]
    assert await store.push_targets("c", 2, everybody) == of_bruno
    assert await store.push_targets("c", 3, everybody) == [*of_bruno, PushTarget("dora", subscription(3))]
    assert await store.push_targets("c", 3, ["dora"]) == [PushTarget("dora", subscription(3))]
    assert await store.push_targets("c", 3, []) == []
    assert await store.push_targets("unknown", 3, everybody) == []
    await store.remove_member("c", "bruno", None, 5_000)
    assert await store.push_targets("c", 2, everybody) == []


async def test_nobody_is_called_for_an_erased_conversation(store: Store) -> None:
    await create(store, "ana", "bruno")
    await store.put_push_subscription("bruno", subscription(1), NOW, MOST)
    await send(store, "ana", "m1")
    await store.erase_conversation("c", 9_000)
    assert await store.push_targets("c", 1, ["bruno"]) == []


async def test_a_subscription_that_comes_again_has_the_keys_that_came_last(store: Store) -> None:
    await create(store, "ana", "bruno")
    assert await store.put_push_subscription("ana", subscription(1, "old"), NOW, MOST)
    assert not await store.put_push_subscription("ana", subscription(1, "new"), NOW + 1, MOST)
    assert await store.push_targets("c", 1, ["ana"]) == [PushTarget("ana", subscription(1, "new"))]


async def test_an_endpoint_belongs_to_who_named_it_last(store: Store) -> None:
    await create(store, "ana", "bruno")
    await store.put_push_subscription("ana", subscription(1), NOW, MOST)
    await store.put_push_subscription("bruno", subscription(1), NOW + 1, MOST)
    assert await store.push_targets("c", 1, ["ana", "bruno"]) == [PushTarget("bruno", subscription(1))]
    await store.delete_push_subscription("ana", subscription(1).endpoint)
    assert await store.push_targets("c", 1, ["bruno"]) == [PushTarget("bruno", subscription(1))], "it is not ana's"
    await store.delete_push_subscription("bruno", subscription(1).endpoint)
    assert await store.push_targets("c", 1, ["bruno"]) == []


async def test_one_that_has_ended_is_forgotten_whosever_it_is(store: Store) -> None:
    await create(store, "ana")
    await store.put_push_subscription("ana", subscription(1), NOW, MOST)
    await store.put_push_subscription("ana", subscription(2), NOW, MOST)
    await store.delete_push_subscription(None, subscription(1).endpoint)
    await store.delete_push_subscription(None, "https://push.example.com/unknown")
    assert await store.push_targets("c", 1, ["ana"]) == [PushTarget("ana", subscription(2))]


async def test_a_user_has_no_more_than_so_many_subscriptions(store: Store) -> None:
    await create(store, "ana", "bruno")
    for number in range(MOST):
        await store.put_push_subscription("ana", subscription(number), NOW, MOST)
    await store.put_push_subscription("bruno", subscription(7), NOW, MOST)
    for refused in (subscription(8), subscription(7)):
        with pytest.raises(TooLarge):
            await store.put_push_subscription("ana", refused, NOW, MOST)
    assert await store.push_targets("c", 1, ["bruno"]) == [PushTarget("bruno", subscription(7))], "it stays bruno's"
    assert not await store.put_push_subscription("ana", subscription(0, "new"), NOW, MOST), "its own may come again"
    await store.delete_push_subscription("ana", subscription(0).endpoint)
    assert await store.put_push_subscription("ana", subscription(8), NOW, MOST)


async def test_an_erased_user_has_no_name_no_page_and_no_subscription(store: Store) -> None:
    await create(store, "ana", "bruno")
    for user, number in (("ana", 1), ("bruno", 2), ("loner", 3)):
        await store.put_user(user, user.title())
        await note(store, user, "p", True)
        await store.put_push_subscription(user, subscription(number), NOW, MOST)
    await store.erase_user("ana", 9_000)
    await store.erase_user("loner", 9_000)
    users = ["ana", "bruno", "loner"]
    assert await store.names(users) == {"bruno": "Bruno"}
    assert await store.pages(users, NOW) == {"bruno": True}
    await store.put_member("c", "ana", None, 9_500, 10)
    assert await store.push_targets("c", 9, users) == [PushTarget("bruno", subscription(2))]
    assert await store.put_push_subscription("carla", subscription(1), NOW, MOST), "the endpoint is nobody's"
