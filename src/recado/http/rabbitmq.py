"""What a RabbitMQ asks of Recado about the users of its MQTT plugins (`rabbitmq_auth_backend_http`): four paths that
take a form by POST and answer `allow` or `deny`. docs/external-brokers.md has the other side.

A user may do one thing: read `u/<itself>/#`. RabbitMQ keeps a session's messages in a queue named by the client id,
and gives it to whoever comes with that id. So a client id has its user's name in front: without that, a user could
take over another's queue. Publishing, and everything else, is refused.

Only who has the broker's key is answered, so that strangers can neither try passwords here nor keep the server busy.
"""

import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from time import perf_counter
from urllib.parse import parse_qsl

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from recado.chat.errors import ChatError, Invalid, Unauthenticated
from recado.chat.ids import is_valid_id
from recado.http import metrics
from recado.http.answer import Answer, send_answer
from recado.http.asked import ClientGone, Headers, read_body, read_headers
from recado.http.refusals import WrongMethod, refusal_answer
from recado.http.settings import Access

PATH = "/broker/rabbitmq"
VHOST = "/"
EXCHANGE = "amq.topic"
Form = Mapping[str, str]
Question = Callable[[Access, Form], bool]

_FIELDS_MAX = 16
_HEADERS = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_MADE_BY_RABBITMQ = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII).fullmatch  # 128 random bits, if a client names no id


def may_connect(access: Access, form: Form) -> bool:
    """The password is a token of that user."""
    try:
        principal = access.authenticate(form.get("password", ""))
    except ChatError:
        return False
    is_user = not principal.is_host and principal.user is not None and principal.user == form.get("username")
    return is_user and _has_own_client_id(form)


def may_use_vhost(_access: Access, form: Form) -> bool:
    return form.get("vhost") == VHOST and _has_own_client_id(form)


def may_use_resource(_access: Access, form: Form) -> bool:
    """Its own queues; of the exchange, what binding them needs."""
    if not _has_own_client_id(form):
        return False
    if form.get("resource") == "queue":
        return form.get("name") in {f"mqtt-subscription-{form['client_id']}qos{qos}" for qos in (0, 1)}
    return form.get("resource") == "exchange" and form.get("name") == EXCHANGE and form.get("permission") == "read"


def may_use_topic(_access: Access, form: Form) -> bool:
    """`routing_key` is the topic filter with `.` for `/` and `*` for `+`."""
    root, user, *_ = [*form.get("routing_key", "").split("."), ""]
    is_own = root == "u" and user == form.get("username") and is_valid_id(user)
    return is_own and form.get("name") == EXCHANGE and form.get("permission") == "read"


def _has_own_client_id(form: Form) -> bool:
    """Ids of users have no dot: no user's client ids can begin like another's."""
    user, client_id = form.get("username", ""), form.get("client_id", "")
    return is_valid_id(user) and (client_id.startswith(f"{user}.") or _MADE_BY_RABBITMQ(client_id) is not None)


QUESTIONS: Mapping[str, Question] = {
    "user": may_connect,
    "vhost": may_use_vhost,
    "resource": may_use_resource,
    "topic": may_use_topic,
}


def rabbitmq_routes(access: Access, key: str, form_bytes_max: int) -> list[Route]:
    """The four paths, for who has the key."""
    return [
        Route(f"{PATH}/{name}", Answering(name, question, access, key.encode(), form_bytes_max))
        for name, question in QUESTIONS.items()
    ]


class Answering:
    """One of the paths."""

    def __init__(self, name: str, question: Question, access: Access, key: bytes, form_bytes_max: int) -> None:
        self._name = name
        self._question = question
        self._access = access
        self._key = key
        self._form_bytes_max = form_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except ChatError as error:
            metrics.count_refusal(error.code)
            answer = refusal_answer(error)
        await send_answer(send, answer)
        metrics.count_request(f"{PATH}/{self._name}", scope["method"], answer.status, perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise WrongMethod("POST")
        headers = read_headers(scope)
        if not hmac.compare_digest(_key_in(headers), self._key):
            raise Unauthenticated("this is for the broker: `recado broker-config rabbitmq` prints the URL with its key")
        form = _parse(await read_body(receive, headers, self._form_bytes_max))
        is_allowed = self._question(self._access, form)
        metrics.count_broker_answer(self._name, is_allowed)
        return Answer(200, b"allow" if is_allowed else b"deny", _HEADERS)


def _key_in(headers: Headers) -> bytes:
    """The password of Basic authentication, which is how a URL's comes."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return b64decode(credentials, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _parse(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        raise Invalid(f"the body must be a form of at most {_FIELDS_MAX} fields in UTF-8") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Invalid("the form has a field twice")
    return form
