"""Where a browser wants to be called, as it says so: checked for form, so that what is stored can be called."""

import base64
import binascii
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from recado.chat.errors import Invalid, TooLarge
from recado.chat.policy import ChatLimits
from recado.ports import PushSubscription

_PRINTABLE = re.compile(r"[!-~]+", re.ASCII).fullmatch
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,100}={0,2}", re.ASCII).fullmatch
_AUTH_BYTES = 16  # RFC 8291, section 3.2
_POINT_BYTES, _UNCOMPRESSED = 65, 4  # SEC 1, section 2.3.3
# P-256, as FIPS 186 has it: y^2 = x^3 - 3x + B modulo P.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


class PushTerms(NamedTuple):
    """What this server needs to be known of its web push: its public VAPID key in base64url, and whether it calls
    private addresses too, also without TLS."""

    public_key: str
    may_be_private: bool = False


def check_subscription(given: PushSubscription, terms: PushTerms, limits: ChatLimits) -> PushSubscription:
    """Returns it with its keys in their shortest form. Raises Invalid, TooLarge."""
    _check_endpoint(given.endpoint, terms, limits)
    point, auth = _decoded(given.p256dh, "p256dh"), _decoded(given.auth, "auth")
    if not _is_point(point):
        raise Invalid("keys.p256dh must be a point of P-256, uncompressed: 65 bytes in base64url")
    if len(auth) != _AUTH_BYTES:
        raise Invalid(f"keys.auth must be {_AUTH_BYTES} bytes in base64url")
    return PushSubscription(given.endpoint, _encoded(point), _encoded(auth))


def _check_endpoint(endpoint: str, terms: PushTerms, limits: ChatLimits) -> None:
    if (size := len(endpoint.encode())) > limits.push_endpoint_bytes_max:
        raise TooLarge(f"an endpoint may have {limits.push_endpoint_bytes_max} bytes, not {size}")
    schemes = ("https", "http") if terms.may_be_private else ("https",)
    try:
        parts = urlsplit(endpoint)
        is_good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not (is_good and _PRINTABLE(endpoint) and "@" not in parts.netloc and not parts.fragment):
        raise Invalid("endpoint must be an https:// URL, without a user name and a fragment")


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


def _is_point(value: bytes) -> bool:
    if len(value) != _POINT_BYTES or value[0] != _UNCOMPRESSED:
        return False
    x, y = int.from_bytes(value[1:33], "big"), int.from_bytes(value[33:], "big")
    return max(x, y) < _P and (y * y - (x**3 - 3 * x + _B)) % _P == 0
