"""One request, read: who asks, the path's ids, the query and the decoded body.

The order is fixed: credentials, query, content type, size, JSON. So a stranger cannot make the server read a body, and
a body over the limit is never held in memory.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from recado.chat.errors import Forbidden, Invalid, Unauthenticated
from recado.chat.ids import check_id
from recado.chat.principal import Principal
from recado.http.refusals import BodyTooLarge, WrongContentType
from recado.http.settings import Access

B = TypeVar("B")
Headers = Mapping[bytes, bytes]

ANYONE = Principal(None)
_QUERY_FIELDS_MAX = 16
_SINGLE_HEADERS = (b"host", b"authorization", b"recado-user", b"content-type", b"content-length")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII).fullmatch


class ClientGone(Exception):
    """The client left while its body was being read: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter."""

    name: str
    kind: Literal["seq", "limit", "wait", "text"]
    description: str


@dataclass(slots=True)
class Asked(Generic[B]):
    principal: Principal
    token: str = field(repr=False)
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: B = field(repr=False)
    scope: Scope = field(repr=False)

    def number(self, name: str) -> int | None:
        """A query parameter that is a whole number."""
        text = self.query.get(name)
        return None if text is None else _number(name, text)

    def path_number(self, name: str) -> int:
        """A part of the path that is a whole number."""
        return _number(name, self.path[name])


def _number(name: str, text: str) -> int:
    if not _NUMBER(text):
        raise Invalid(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


def read_headers(scope: Scope) -> Headers:
    """The headers by name. Raises Invalid if one that decides something is given twice."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _SINGLE_HEADERS:
            if names.count(name) > 1:
                raise Invalid(f"the header {name.decode()} is given twice")
    return headers


def identify(access: Access, headers: Headers) -> tuple[Principal, str]:
    """The caller and its token. Raises Unauthenticated, or Forbidden for a user who wants to act as another."""
    token = _bearer_token(headers)
    principal = access.authenticate(token)
    header = headers.get(b"recado-user")
    if header is None:
        return principal, token
    user = check_id(header.decode("latin-1"), "Recado-User")
    if principal.is_host:
        return msgspec.structs.replace(principal, user=user), token
    if user != principal.user:
        raise Forbidden("only the host application may act as another user")
    return principal, token


def _bearer_token(headers: Headers) -> str:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise Unauthenticated("this call needs the header Authorization: Bearer <token>")
    return token.strip().decode("latin-1")


def read_query(query_string: bytes, parameters: tuple[Parameter, ...]) -> dict[str, str]:
    """Raises Invalid for a parameter that the call does not know, or that is given twice."""
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        raise Invalid(f"a query may have {_QUERY_FIELDS_MAX} parameters") from None
    known = [parameter.name for parameter in parameters]
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Invalid(f"there is no query parameter {name[:40]!r} here; known: {', '.join(known) or 'none'}")
        if name in query:
            raise Invalid(f"the query parameter {name} is given twice")
        query[name] = value
    return query


async def read_body(receive: Receive, headers: Headers, bytes_max: int) -> bytes:
    """The whole body. Raises WrongContentType, Invalid, BodyTooLarge, ClientGone."""
    _check_content_type(headers)
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


# What curl -d and urllib say of any body unless told otherwise counts as saying nothing.
_JSON_TYPES = (b"application/json", b"application/x-www-form-urlencoded")


def _check_content_type(headers: Headers) -> None:
    content_type = headers.get(b"content-type", _JSON_TYPES[0])
    if content_type not in _JSON_TYPES and content_type.partition(b";")[0].strip().lower() not in _JSON_TYPES:
        raise WrongContentType("the body must be application/json")


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"a request's body may have {bytes_max} bytes")


def decode_body(decode: Callable[[bytes], B], body: bytes) -> B:
    """Raises Invalid for what is not JSON, not UTF-8, or not of the call's shape."""
    if not body:
        raise Invalid("this call needs a JSON body")
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
    except UnicodeDecodeError:
        raise Invalid("the body must be valid UTF-8") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"malformed JSON: {error}") from None
    except RecursionError:
        raise Invalid("the JSON is nested too deeply") from None
