"""What users and the host say of people: their display names, what they do not want to be notified of, which pages
they have open, and where they want to be notified. Actions, as in `actions`.
"""

from recado.chat.actions import Chat, take_signal
from recado.chat.errors import Conflict, Invalid
from recado.chat.ids import check_id
from recado.chat.name import check_name
from recado.chat.principal import Principal
from recado.chat.push_subscription import check_named, check_subscription
from recado.ports import PushSubscription


async def name_user(chat: Chat, principal: Principal, user: str, name: str | None) -> None:
    """Host only: the user's display name, None for nothing but its id. Raises Forbidden, Invalid, TooLarge."""
    principal.require_host()
    check_id(user, "user id")
    if name is not None:
        check_name(name, chat.limits)
    await chat.store.put_user(user, name)


async def mute(chat: Chat, principal: Principal, conversation: str, *, muted: bool) -> None:
    """Whether the caller wants no notifications of this conversation. Raises NotFound."""
    check_id(conversation, "conversation id")
    await chat.store.set_muted(conversation, principal.require_user(), muted)


async def report_page(chat: Chat, principal: Principal, page: str, *, visible: bool) -> None:
    """The caller has this page open, for `presence_page_s` from now. Raises RateLimited, Unavailable."""
    check_id(page, "page")
    user = principal.require_user()
    take_signal(chat, user)
    await chat.presence.report_page(user, page, visible=visible)


async def leave_page(chat: Chat, principal: Principal, page: str) -> None:
    """The caller has closed it. Raises RateLimited, Unavailable."""
    check_id(page, "page")
    user = principal.require_user()
    take_signal(chat, user)
    await chat.presence.leave_page(user, page)


async def subscribe(chat: Chat, principal: Principal, endpoint: str, p256dh: str, auth: str) -> bool:
    """Notify the caller there; True if that is new. Raises Conflict if nobody is notified here, Invalid, TooLarge,
    RateLimited."""
    user = principal.require_user()
    if chat.push_terms is None:
        raise Conflict("this server notifies nobody: it has no RECADO_PUSH_KEY")
    subscription = check_subscription(PushSubscription(endpoint, p256dh, auth), chat.push_terms, chat.limits)
    take_signal(chat, user)
    most = chat.limits.push_subscriptions_per_user_max
    return await chat.store.put_push_subscription(user, subscription, chat.now_ms(), most)


async def unsubscribe(chat: Chat, principal: Principal, endpoint: str | None) -> None:
    """Do not notify the caller there any more; nothing if it is not notified there. Raises Invalid."""
    user = principal.require_user()
    if endpoint is None:
        raise Invalid("name the subscription's endpoint in the query")
    check_named(endpoint)
    await chat.store.delete_push_subscription(user, endpoint)
