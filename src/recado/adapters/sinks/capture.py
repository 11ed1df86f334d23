"""Every event as one JSON object, bodies too: that is what capture is for."""

from recado.chat.event import Event, encode_event


def captured(conversation: str, event: Event) -> bytes:
    """`{"conversation":"c","event":{...}}`, in one line."""
    return b'{"conversation":"%b","event":%b}' % (conversation.encode(), encode_event(event))
