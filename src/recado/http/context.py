"""What the calls act on."""

from dataclasses import dataclass

from recado.chat.actions import Chat
from recado.chat.feed import Feed
from recado.http.settings import Access, HttpSettings


@dataclass(slots=True)
class Door:
    chat: Chat
    feed: Feed
    access: Access
    settings: HttpSettings
    openapi: bytes = b""
