"""`recado demo`: a server with one conversation about an order, and a way in for each of its two people.

A real host application mints tokens for its own signed-in users. Here a random code per user, kept in the demo's
folder and printed in the URL's fragment (which browsers do not send), is exchanged for a token by POST.
"""

import secrets
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recado.app.access import JwtAccess
from recado.app.config import Settings, SettingsError
from recado.app.wiring import Node
from recado.chat import actions
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import Invalid, Unauthenticated
from recado.chat.message import MessageDraft
from recado.chat.principal import Principal

CONVERSATION = "order-4711"
USERS = ("ana", "bruno")
_SUBJECT = "Order 4711 · handmade ceramic mug, blue"
_METADATA = b'{"order":4711,"buyer":"ana","seller":"bruno"}'
_GREETING = (
    ("ana", "welcome-1", "Hi Bruno! Could you engrave a name on the mug?"),
    ("bruno", "welcome-2", "Of course, Ana. Up to 12 letters. Which name?"),
)
_TOKEN_TTL_S = 3600
_REQUEST_BYTES_MAX = 1024


class _Exchange(msgspec.Struct, forbid_unknown_fields=True):
    code: str


class Keys(msgspec.Struct):
    """What the demo keeps beside its database, readable by its owner alone."""

    secret: str
    codes: dict[str, str]


def load_keys(folder: Path) -> Keys:
    """The keys of the demo in this folder, made at its first start. Raises SettingsError."""
    path = folder / "keys.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return msgspec.json.decode(path.read_bytes(), type=Keys) if path.exists() else _new_keys(path)
    except OSError as error:
        raise SettingsError(
            f"the demo cannot use the folder {folder}: {error.strerror}; name another with --data"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SettingsError(f"{path} is damaged: remove it, and the demo makes new keys and URLs") from None


def _new_keys(path: Path) -> Keys:
    keys = Keys(secrets.token_urlsafe(32), {user: secrets.token_urlsafe(9) for user in USERS})
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(msgspec.json.encode(keys))
    unfinished.rename(path)
    return keys


def token_route(keys: Keys, settings: Settings) -> Route:
    """`POST /demo/token`: a code for a token."""
    access = JwtAccess(settings)
    users = {code: user for user, code in keys.codes.items()}

    async def exchange(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _REQUEST_BYTES_MAX:
                raise Invalid('the body is {"code": text}')
        try:
            code = msgspec.json.decode(body, type=_Exchange).code
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Invalid('the body is {"code": text}') from None
        user = users.get(code)
        if user is None:
            raise Unauthenticated("this code is not one that the demo printed")
        token, expires_at = access.mint(user, _TOKEN_TTL_S)
        answer = msgspec.json.encode({"token": token, "user": user, "expires_at": expires_at})
        return Response(answer, media_type="application/json", headers={"Cache-Control": "no-store"})

    return Route("/demo/token", exchange, methods=["POST"])


async def prepare(node: Node) -> None:
    """Create the demo conversation, if it is not there from an earlier start."""
    host = Principal(None, is_host=True)
    draft = ConversationDraft(list(USERS), _SUBJECT, msgspec.Raw(_METADATA))
    _, created = await actions.put_conversation(node.chat, host, CONVERSATION, draft)
    if created:
        for user, message_id, body in _GREETING:
            await actions.send_message(node.chat, Principal(user), CONVERSATION, MessageDraft(body, message_id))
        await actions.mark_read(node.chat, Principal(USERS[1]), CONVERSATION, len(_GREETING) - 1)


def urls(keys: Keys, host: str, http_port: int) -> dict[str, str]:
    """Each user's way in."""
    return {user: f"http://{host}:{http_port}/#demo={code}" for user, code in keys.codes.items()}
