"""Where a browser wants to be notified, as it says so: checked for form, so that what is stored can be used."""

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

from recado.chat.errors import Invalid, TooLarge
from recado.chat.policy import ChatLimits
from recado.ports import PushSubscription

_PRINTABLE = re.compile(r"[!-~]+", re.ASCII).fullmatch
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,100}={0,2}", re.ASCII).fullmatch
_AUTH_BYTES = 16  # RFC 8291, section 3.2
_HOST_CHARACTERS_MAX = 253  # RFC 1035, section 3.1, without the root
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII).fullmatch  # RFC 1123, section 2.1
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII).fullmatch  # resolvers take such a last label for an address


class PushTerms(NamedTuple):
    """What is to be known of this server's web push: its public VAPID key in base64url, what tells a point of P-256
    (uncompressed) from other bytes, and whether push services may be at private addresses too, also without TLS."""

    public_key: str
    is_point: Callable[[bytes], bool]
    may_be_private: bool = False


def check_subscription(given: PushSubscription, terms: PushTerms, limits: ChatLimits) -> PushSubscription:
    """Returns it with its keys in their shortest form. Raises Invalid, TooLarge."""
    _check_endpoint(given.endpoint, terms, limits)
    point, auth = _decoded(given.p256dh, "p256dh"), _decoded(given.auth, "auth")
    if not terms.is_point(point):
        raise Invalid("keys.p256dh must be a point of P-256, uncompressed: 65 bytes in base64url")
    if len(auth) != _AUTH_BYTES:
        raise Invalid(f"keys.auth must be {_AUTH_BYTES} bytes in base64url")
    return PushSubscription(given.endpoint, _encoded(point), _encoded(auth))


def check_room(subscriptions: int, most: int) -> None:
    """Raises TooLarge if a user who has so many push subscriptions can have no other one."""
    if subscriptions >= most:
        raise TooLarge(f"a user may have {most} push subscriptions: delete one that is not needed any more")


def check_named(endpoint: str) -> None:
    """That it could be one that was subscribed. Raises Invalid."""
    if not _PRINTABLE(endpoint):
        raise Invalid("endpoint must be the URL that was subscribed, which is printable ASCII without spaces")


def _check_endpoint(endpoint: str, terms: PushTerms, limits: ChatLimits) -> None:
    if (size := len(endpoint.encode())) > limits.push_endpoint_bytes_max:
        raise TooLarge(f"an endpoint may have {limits.push_endpoint_bytes_max} bytes, not {size}")
    schemes = ("https", "http") if terms.may_be_private else ("https",)
    try:
        parts = urlsplit(endpoint)
        is_good = parts.scheme in schemes and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        is_good = False
    if not (is_good and _PRINTABLE(endpoint) and "@" not in parts.netloc and not parts.fragment):
        raise Invalid(
            "endpoint must be an https:// URL without a user name and a fragment, whose host is a name such as "
            "push.example.com or an address"
        )


def _is_host(host: str) -> bool:
    """A name that can be looked up, or an address as it is usually written. Raises ValueError for other addresses."""
    if ":" in host:
        return "%" not in host and IPv6Address(host) is not None
    labels = host.split(".")
    if _NUMBER(labels[-1]):
        return bool(IPv4Address(host))
    return len(host) <= _HOST_CHARACTERS_MAX and all(map(_LABEL, labels))


def _decoded(text: str, name: str) -> bytes:
    try:
        if _BASE64URL(text):
            text = text.rstrip("=")
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        pass
    raise Invalid(f"keys.{name} must be base64url")


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
