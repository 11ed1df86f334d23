"""The MQTT server for its own sake: any topics, for whoever the password file, a token or anonymity lets in, as far as
the access control file says.

Without that file everybody may publish and read everything, but nobody publishes to `$SYS` or `$share`. With it, a
subscription is granted if anything of it may be read, and each delivery is checked (`may_receive`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from recado.broker.acl import ANONYMOUS, Acl
from recado.broker.hooks import ROUTE, Challenge, Identity, LogPage, Outcome, Refused
from recado.broker.passwords import PasswordChecks, TooManyChecks
from recado.broker.publication import Place, Publication
from recado.broker.refusal_log import fields, fields_of
from recado.mqtt.packets import Connect, Publish, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.topics import split_share

TOKEN_METHOD = "token"  # noqa: S105
_MORE_THAN_A_LEVEL = frozenset("+#/")
_NOT_PUBLISHED: Final = ("$SYS", "$share")
_WRONG = "the user name or the password is wrong"
_log = logging.getLogger(__name__)


class StandaloneHooks:
    """`verify_token` returns whom a token is for, or raises Refused. What is None lets nobody in."""

    shared_subscriptions = True

    def __init__(
        self,
        *,
        passwords: PasswordChecks | None = None,
        verify_token: Callable[[str], Identity] | None = None,
        allow_anonymous: bool = False,
        acl: Acl | None = None,
    ) -> None:
        self.on_acknowledged: Callable[[Session, Publication | Place], None] | None = None
        self.may_receive: Callable[[Session, str], bool] | None = None
        self._passwords = passwords
        self._verify_token = verify_token
        self._allow_anonymous = allow_anonymous
        self._acl = acl
        if acl is not None:
            self.may_receive = self._may_receive

    def reload(self, passwords: Mapping[str, str] | None, acl: Acl | None) -> set[str]:
        """Go by these from now on; None is a file that was not named at the start. Returns the users whose password
        is gone or another one. Tell the server that permissions have changed."""
        if acl is not None:
            self._acl = acl
        return set() if passwords is None or self._passwords is None else self._passwords.replace(passwords)

    # Who connects

    async def authenticate(self, connect: Connect, challenge: Challenge) -> Identity:
        method = connect.properties.get(PropertyId.AUTHENTICATION_METHOD)
        if method is not None:
            data = connect.properties.get(PropertyId.AUTHENTICATION_DATA)
            return await self._by_token_method(method, data, challenge, connect.username)
        if connect.password is None:
            return self._without_password(connect.username)
        token = self._token_of(connect.password)
        if token is not None and (self._passwords is None or token.user == connect.username):
            return _expect_user(token, connect.username)
        if connect.username is None:
            return _expect_user(token, None)
        await self._check_password(connect.username, connect.password)
        return Identity(connect.username)

    def _without_password(self, username: str | None) -> Identity:
        if username is not None:
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, _WRONG)
        if not self._allow_anonymous:
            raise Refused(ReasonCode.NOT_AUTHORIZED, "this server lets nobody in without a user name and a password")
        return Identity(ANONYMOUS)

    def _token_of(self, password: bytes) -> Identity | None:
        """Whom the password is for, if it is a token. Raises Refused for another if only tokens are accepted."""
        if self._verify_token is None:
            return None
        try:
            return self._verify_token(password.decode())
        except UnicodeDecodeError:
            return None
        except Refused:
            if self._passwords is None:
                raise
            return None

    async def _check_password(self, username: str, password: bytes) -> None:
        """Raises Refused, with the same words after the same time whether it is the user or the password."""
        try:
            right = self._passwords is not None and await self._passwords.is_right(username, password)
        except TooManyChecks:
            raise Refused(ReasonCode.SERVER_BUSY, "too many are connecting: try again") from None
        if not right:
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, _WRONG)

    async def _by_token_method(
        self, method: str, data: bytes | None, challenge: Challenge, username: str | None
    ) -> Identity:
        if method != TOKEN_METHOD or self._verify_token is None:
            known = "no authentication method" if self._verify_token is None else f"the one method {TOKEN_METHOD!r}"
            text = f"this server has {known}"
            raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, text)  # [MQTT5-4.12.0-1]
        token = data if data is not None else await challenge(b"")
        try:
            identity = self._verify_token(token.decode())
        except UnicodeDecodeError:
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the authentication data is no token") from None
        return _expect_user(identity, username)

    async def reauthenticate(self, session: Session, method: str, data: bytes, challenge: Challenge) -> Identity:
        """A new token for the same user, before the old one ends the connection."""
        try:
            return await self._by_token_method(method, data, challenge, session.user)
        except Refused as refusal:  # DISCONNECT has no other word for it [MQTT5-3.14.2-1]
            raise Refused(ReasonCode.NOT_AUTHORIZED, refusal.text) from None

    def response_information(self, session: Session) -> str | None:
        """A prefix of the session's own, if its user may read there."""
        if not session.client_id or _MORE_THAN_A_LEVEL.intersection(session.client_id):
            return None
        topic_name = f"response/{session.client_id}"
        readable = self._acl is None or self._acl.permissions(session.user, session.client_id).may_read(topic_name)
        return topic_name if readable else None

    def on_connected(self, session: Session) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("connected", extra=fields_of(session.connection))

    def on_disconnected(self, session: Session, reason_code: ReasonCode | None) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            reason = "nothing_said" if reason_code is None else reason_code.name.lower()
            _log.debug("disconnected", extra=fields(user=session.user, client_id=session.client_id, reason=reason))

    # What they may do

    async def authorize_subscription(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        granted = ReasonCode(subscription.qos)
        if self._acl is None:
            return granted
        topic_filter = split_share(subscription.topic_filter).topic_filter
        permissions = self._acl.permissions(session.user, session.client_id)
        return granted if permissions.may_read_some(topic_filter) else ReasonCode.NOT_AUTHORIZED

    def on_publish(self, session: Session, publish: Publish) -> Outcome | None:
        topic_name = publish.topic_name
        if topic_name[0] == "$" and topic_name.split("/", 1)[0] in _NOT_PUBLISHED:
            return Outcome(ReasonCode.NOT_AUTHORIZED, "the server alone publishes there")
        if self._acl is None or self._acl.permissions(session.user, session.client_id).may_write(topic_name):
            return ROUTE
        return Outcome(ReasonCode.NOT_AUTHORIZED, "this user may not publish to this topic")

    def _may_receive(self, session: Session, topic_name: str) -> bool:
        assert self._acl is not None
        return self._acl.permissions(session.user, session.client_id).may_read(topic_name)

    # Topics are no logs here

    async def resume_positions(self, session: Session, user_properties: list[tuple[str, str]]) -> dict[str, int]:
        return {}

    async def read_log(self, user: str, topic_name: str, after: int, limit: int) -> LogPage:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "this topic has no log")


def _expect_user(identity: Identity | None, username: str | None) -> Identity:
    """A user name, if one is given, is the token's own. Raises Refused."""
    if identity is None or username not in (None, identity.user):
        raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, _WRONG)
    return identity
