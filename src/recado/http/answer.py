"""An answer as plain data, and how it is sent."""

from typing import NamedTuple

import msgspec
from starlette.types import Send

JSON_HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)

encode_json = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """`body` None means that there is none (204, 304). `is_held`: how long it took says nothing about the server."""

    status: int
    body: bytes | None
    headers: tuple[tuple[bytes, bytes], ...] = JSON_HEADERS
    is_held: bool = False


def json_answer(status: int, value: object) -> Answer:
    return Answer(status, encode_json(value))


async def send_answer(send: Send, answer: Answer) -> None:
    headers = list(answer.headers)
    if answer.body is not None:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body or b""})
