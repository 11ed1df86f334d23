"""Which pages may open a WebSocket: a browser sends its page's origin, and lets any page try."""

from urllib.parse import urlsplit

from recado.http.settings import HttpSettings


def allows(settings: HttpSettings, origin: str | None, host: str) -> bool:
    """Programs send no origin. A page of the same host may, on any port, and the origins that the operator named."""
    if origin is None or origin in settings.allowed_origins or "*" in settings.allowed_origins:
        return True
    if settings.public_url is not None and origin == settings.public_url:
        return True
    try:
        own = urlsplit(f"//{host}").hostname
        return own is not None and urlsplit(origin).hostname == own
    except ValueError:
        return False
