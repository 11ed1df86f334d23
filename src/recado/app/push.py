"""Web push, as the settings have it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recado.adapters.push.vapid import VapidKey
from recado.app.config import Settings
from recado.app.extras import needing
from recado.chat.subscription import PushTerms
from recado.worker.push import PushHandler

if TYPE_CHECKING:
    from recado.app.sinks import Surroundings


def push_terms(settings: Settings) -> PushTerms | None:
    """None if the settings do not ask for it."""
    if settings.push_key is None:
        return None
    return PushTerms(VapidKey(settings.push_key).public, settings.push_private)


async def open_push(around: Surroundings) -> PushHandler:
    """Raises Unusable."""
    with needing("push", "push_key"):
        from recado.adapters.push.webpush import WebPush
    settings, limits = around.settings, around.limits
    assert settings.push_key is not None
    assert settings.push_contact is not None, "Settings.check has seen to it"
    key = VapidKey(settings.push_key)
    push = WebPush(key, settings.push_contact, limits.web_push, allow_private=settings.push_private)
    return PushHandler(around.store, push, around.is_here, _now_ms, key.secret, limits.push)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
