"""Hooks under which anyone may do anything, but for what a test of a refusal needs.

Topics under `forbidden/` are refused, with many words. Those under `held/` are under way until the test settles them.
The password `wrong` and the client id `refused` are. The authentication method `words` asks for the
word that was announced, in one step or, if CONNECT carries none, in two; it is right if it is `sesame`.
"""

from __future__ import annotations

from collections.abc import Callable

from recado.broker.hooks import ROUTE, Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.publication import Place, Publication
from recado.broker.server import Server, Settle
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session

METHOD = "words"
WORD = b"sesame"
ASKED = b"which word?"
WELCOME = b"come in"
REASON = "no " * 60


class OpenHooks:
    server: Server
    shared_subscriptions = True
    on_acknowledged: Callable[[Session, Publication | Place], None] | None = None
    may_receive: Callable[[Session, str], bool] | None = None

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.disconnected: list[tuple[str, ReasonCode | None]] = []
        self.held: list[Settle] = []

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        method = connect.properties.get(PropertyId.AUTHENTICATION_METHOD)
        if method is not None:
            data = connect.properties.get(PropertyId.AUTHENTICATION_DATA, b"")
            return await self._ask(method, data, challenge)
        if connect.client_id == "refused":
            raise Refused(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "another one, please")
        if connect.password == b"wrong":
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, REASON)
        return Identity(connect.username or "")

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        return await self._ask(method, data, challenge)

    async def _ask(self, method: str, data: bytes, challenge: Challenge) -> Identity:
        if method != METHOD:
            raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, "the one method is: words")
        if not data:
            data = await challenge(ASKED)
        if data != WORD:
            raise Refused(ReasonCode.NOT_AUTHORIZED, "not that word")
        return Identity("", authentication_data=WELCOME)

    def response_information(self, session: Session) -> str | None:
        return f"answers/{session.client_id}"

    def on_connected(self, session: Session) -> None:
        self.connected.append(session.client_id)

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        self.disconnected.append((session.client_id, reason_code))

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        if subscription.topic_filter.startswith("forbidden/"):
            return ReasonCode.NOT_AUTHORIZED
        return ReasonCode(subscription.qos)

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        return {}

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        if publish.topic_name.startswith("forbidden/"):
            return Outcome(ReasonCode.NOT_AUTHORIZED, REASON)
        if publish.topic_name.startswith("held/"):
            self.held.append(self.server.settling(session, publish))
            return None
        return ROUTE

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "no topic is a log")
