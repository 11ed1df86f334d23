"""The embedded MQTT server as the conversations' broker: what topics mean, who may use them, where their logs are.

`c/<conversation>` is a conversation's log and `c/<conversation>/live` its signals (DESIGN §4). A publish there is an
action of the user; what comes out is the event as committed, for its recipients. Membership is the permission: it is
checked at SUBSCRIBE, inside the transaction of a send, and again at each delivery by the event's own recipients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from recado.adapters.broker.recent_events import RecentEvents
from recado.broker.hooks import Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.publication import Place, Publication
from recado.broker.server import Server, Settle
from recado.broker.storage import Storage, StorageFailed
from recado.chat import actions
from recado.chat.actions import SEQ_MAX, Chat
from recado.chat.errors import ChatError, Invalid, NotFound, Unauthenticated, Unavailable
from recado.chat.event import Committed, Event, encode_event
from recado.chat.ids import is_valid_id
from recado.chat.message import parse_message
from recado.chat.principal import Principal
from recado.chat.stages import accepted_at
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.topics import has_wildcard
from recado.ports import KeptSession

_QOS_MAX = 2
_METHOD = "token"
_log = logging.getLogger(__name__)

# What a client is told for each refusal. SERVER_BUSY ends the connection without an acknowledgement, so that the client
# keeps what it sent and tries again.
REASON_CODES: dict[str, ReasonCode] = {
    "invalid": ReasonCode.PAYLOAD_FORMAT_INVALID,
    "too_large": ReasonCode.QUOTA_EXCEEDED,
    "unauthenticated": ReasonCode.NOT_AUTHORIZED,
    "forbidden": ReasonCode.NOT_AUTHORIZED,
    "not_found": ReasonCode.NOT_AUTHORIZED,
    "conflict": ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
    "rate_limited": ReasonCode.QUOTA_EXCEEDED,
    "unavailable": ReasonCode.SERVER_BUSY,
}


class _Signal(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may publish on `c/<conversation>/live`."""

    type: str
    seq: int | None = None


_decode_signal = msgspec.json.Decoder(_Signal).decode


class EmbeddedBroker:
    """Both sides of the seam: `recado.ports.Broker` for the conversations, `recado.broker.hooks.Hooks` for the server.

    `chat` is set by the wiring before the first listener opens.
    """

    chat: Chat
    shared_subscriptions = False
    may_receive = None

    def __init__(
        self, authenticate: Callable[[str], Principal], limits: BrokerLimits, storage: Storage | None = None
    ) -> None:
        self._authenticate = authenticate
        self._connected: set[Session] = set()
        self._recent = RecentEvents(limits.read_page, limits.recent_bytes_max)
        self.server = Server(self, limits, storage)

    # recado.ports.Broker

    def publish(self, committed: Sequence[Committed]) -> None:
        published: list[tuple[str, Event, int]] = []
        for entry in committed:
            topic_name = f"c/{entry.conversation}"
            event = entry.event
            payload = encode_event(event)
            self._recent.add(entry.conversation, event, payload)
            closed_to = entry.closed_to()
            if closed_to:
                self._publish_last(topic_name, event.seq, payload, closed_to)
            recipients = entry.recipients - closed_to if closed_to else entry.recipients
            if not recipients:
                continue
            is_followed = len(recipients) <= self.chat.limits.receipt_members_max
            publication = Publication(
                topic_name, payload, _QOS_MAX, event.seq, is_followed=is_followed, accepted_at_ms=event.at
            )
            sent = self.server.publish_to(publication, recipients, entry.origin)
            published.append((entry.conversation, event, sent))
        self.chat.stages.publish(published)

    def _publish_last(self, topic_name: str, seq: int, payload: bytes, users: frozenset[str]) -> None:
        """The last that these users get of a log: they may not read it there any more."""
        for user in users:
            self.server.stop_log(user, topic_name)
        publication = Publication(topic_name, payload, _QOS_MAX, seq, is_followed=False, is_last=True)
        self.server.publish_to(publication, users)

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        self.server.publish_to(Publication(f"c/{conversation}/live", payload, 0), recipients)

    async def disconnect(self, user: str) -> None:
        text = "the host application ended your sessions"
        try:
            await self.server.end_sessions(user, ReasonCode.ADMINISTRATIVE_ACTION, text)
        except StorageFailed:
            raise Unavailable("the end of the user's sessions could not be stored; try again") from None

    def recent(self, conversation: str, after: int, limit: int) -> LogPage | None:
        """The entries past a seq, if they are in memory."""
        return self._recent.page(conversation, after, limit)

    def forget_recent(self) -> None:
        """Events in memory may read otherwise in the store now, though no event says so."""
        self._recent.clear()

    # recado.broker.hooks.Hooks

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        """The password is the user's token, or the data of the authentication method `token`; a user name, if given,
        must be the token's own."""
        method = connect.properties.get(PropertyId.AUTHENTICATION_METHOD)
        if method is None:
            identity = self._identity(connect.password or b"")
        else:
            _check_method(method)
            identity = self._identity(connect.properties.get(PropertyId.AUTHENTICATION_DATA, b""))
        if connect.username not in (None, identity.user):
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the user name is not the one that the token is for")
        return identity

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        """A newer token: the connection goes on until that one expires."""
        _check_method(method)
        return self._identity(data)

    def _identity(self, token: bytes) -> Identity:
        try:
            principal = self._authenticate(token.decode())
        except (Unauthenticated, UnicodeDecodeError) as error:
            text = error.message if isinstance(error, Unauthenticated) else "the password is no token"
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, text) from None
        if principal.is_host or principal.user is None:
            raise Refused(ReasonCode.NOT_AUTHORIZED, "connect as a user: the host application talks over HTTP")
        return Identity(principal.user, principal.expires_at_s)

    def response_information(self, session: Session) -> str | None:
        return None

    def on_connected(self, session: Session) -> None:
        self._connected.add(session)
        self.chat.presence.connected(session.user)

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        if session in self._connected:  # not if its CONNACK could not be sent
            self._connected.remove(session)
            self.chat.presence.disconnected(session.user)

    def on_acknowledged(self, session: Session, publication: Publication | Place) -> None:
        if isinstance(publication, Place) and publication.position is not None:
            conversation = publication.topic_name[2:]
            self.chat.receipts.delivered(session.user, conversation, publication.position, publication.start)
            if (at := publication.accepted_at_ms or accepted_at(publication.start)) is not None:
                self.chat.stages.acknowledge(conversation, publication.position, at)

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        if not _may_match(subscription.topic_filter):
            return ReasonCode.NOT_AUTHORIZED
        root, _, rest = subscription.topic_filter.partition("/")
        conversation = rest.partition("/")[0]
        granted = ReasonCode(subscription.qos)
        if root != "c" or has_wildcard(conversation):
            return granted  # it follows the user's membership, whatever it matches
        return granted if await self._is_member(conversation, session.user) else ReasonCode.NOT_AUTHORIZED

    async def _is_member(self, conversation: str, user: str) -> bool:
        if not is_valid_id(conversation):
            return False
        try:
            return user in await self.chat.members.members(conversation)
        except NotFound:
            return False
        except Unavailable as error:
            raise Refused(ReasonCode.SERVER_BUSY, error.message) from None

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        """All that is asked for: who may not read a log finds out when it is read, not before, as a user may be added
        in between."""
        positions = {}
        for name, value in user_properties:
            if name == "after":
                conversation, _, seq = value.partition("=")
                if not is_valid_id(conversation) or not _is_seq(seq):
                    text = "the user property after is <conversation>=<seq>"
                    raise Refused(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, text)
                positions[f"c/{conversation}"] = int(seq)
        return positions

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        root, _, rest = publish.topic_name.partition("/")
        conversation, slash, below = rest.partition("/")
        if root != "c" or not is_valid_id(conversation) or (slash and below != "live"):
            return Outcome(ReasonCode.NOT_AUTHORIZED, "publish to c/<conversation> or c/<conversation>/live")
        principal = Principal(session.user)
        kept: KeptSession | None = None
        try:
            if below:
                if not self.chat.signal_rates.take(session.user):
                    self.server.slow_down(session)
                work = self._signal(principal, conversation, publish.payload)
                ended: asyncio.Future[Any] = asyncio.ensure_future(work)
            else:
                draft = parse_message(publish.payload)
                if session.key:
                    kept = self._kept(session, publish)
                sent = actions.send_message(self.chat, principal, conversation, draft, session, kept)
                ended = asyncio.ensure_future(sent)
        except ChatError as refusal:
            return _outcome(refusal)
        ended.add_done_callback(partial(_ended, self.server.settling(session, publish, kept is not None)))
        return None

    def _kept(self, session: Session, publish: Publish) -> KeptSession:
        granted = self.server.router.granted(session, publish.topic_name)
        packet_id = publish.packet_id if publish.qos == _QOS_MAX else 0
        return KeptSession(session.key, packet_id, granted is not None and granted.no_local)

    async def _signal(self, principal: Principal, conversation: str, payload: bytes) -> None:
        try:
            signal = _decode_signal(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            signal = None
        if signal is not None and signal.type == "typing" and signal.seq is None:
            await actions.signal_typing(self.chat, principal, conversation, is_paced=True)
        elif signal is not None and signal.type == "read" and signal.seq is not None:
            await actions.mark_read(self.chat, principal, conversation, signal.seq, is_paced=True)
        else:
            raise Invalid('a signal is {"type": "typing"} or {"type": "read", "seq": number}')

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        conversation = topic_name.partition("/")[2]
        if await self._is_member(conversation, user) and (recent := self._recent.page(conversation, after, limit)):
            return recent
        try:
            page_max = min(limit, self.chat.limits.page_max)
            page = await actions.read_events(self.chat, Principal(user), conversation, after, None, page_max)
        except NotFound as error:
            raise Refused(ReasonCode.NOT_AUTHORIZED, error.message) from None
        except ChatError as error:
            raise Refused(ReasonCode.SERVER_BUSY, error.message) from None
        return LogPage([(event.seq, encode_event(event)) for event in page.events], page.last_seq)


def _may_match(topic_filter: str) -> bool:
    """Whether there can be a topic for it, `c/<conversation>` or `c/<conversation>/live`: a kept session would hold a
    longer filter in memory and on the disk for nothing."""
    root, *below = topic_filter.removesuffix("/#").split("/")
    if not below:
        return topic_filter in ("#", "c/#", "+/#")
    conversation, *last = below
    return root in ("c", "+") and (conversation == "+" or is_valid_id(conversation)) and last in ([], ["live"], ["+"])


def _check_method(method: str) -> None:
    if method != _METHOD:
        text = f"the authentication method is {_METHOD}, or none with the token as the password"
        raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, text)  # [MQTT5-4.12.0-1]


def _ended(settle: Settle, ended: asyncio.Future[Any]) -> None:
    error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
    if error is None:
        settle(ReasonCode.SUCCESS, "")
    elif isinstance(error, ChatError):
        settle(*_outcome(error))
    else:
        _log.error("a publish failed", exc_info=error)
        settle(ReasonCode.SERVER_BUSY, "the server failed; try again")


def _outcome(refusal: ChatError) -> Outcome:
    return Outcome(REASON_CODES[refusal.code], refusal.message)


def _is_seq(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= SEQ_MAX
