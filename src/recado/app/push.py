"""Web push, as the settings have it."""

from __future__ import annotations

from recado.adapters.push.vapid import VapidKey, is_point
from recado.app.clock import now_ms
from recado.app.config import Settings
from recado.app.extras import needing
from recado.app.sink_context import SinkContext
from recado.chat.push_subscription import PushTerms
from recado.worker.push import PushHandler


def push_terms(settings: Settings) -> PushTerms | None:
    """None if the settings do not ask for it."""
    if settings.push_key is None:
        return None
    return PushTerms(VapidKey(settings.push_key).public, is_point, settings.push_private)


async def open_push(context: SinkContext) -> PushHandler:
    """Raises Unusable."""
    with needing("push", "push_key"):
        from recado.adapters.push.webpush import WebPush
    settings, limits = context.settings, context.limits
    assert settings.push_key is not None
    assert settings.push_contact is not None, "Settings.check has seen to it"
    key = VapidKey(settings.push_key)
    push = WebPush(key, settings.push_contact, limits.web_push, allow_private=settings.push_private)
    return PushHandler(context.store, push, context.is_here, now_ms, key.secret, limits.push)
