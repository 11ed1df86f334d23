"""Who a token stands for: users' JWTs (HS256 with the secret, or asymmetric keys from a JWKS) and the host's API key.

The algorithms are pinned per kind of key, so a token cannot choose how it is checked; `sub` and `exp` are required.
"""

import hmac
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jwt

from recado.app.config import Settings, SettingsError, SharedSettings
from recado.chat.errors import Invalid, Unauthenticated
from recado.chat.ids import check_id, is_valid_id
from recado.chat.principal import Principal

_ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_TOKEN_BYTES_MAX = 8 * 1024
_JWKS_LIFESPAN_S = 3600
_JWKS_REFRESH_S = 60
_JWKS_TIMEOUT_S = 10
_VERIFIED_MAX = 10_000
_EXPIRED = "the token has expired: get a new one"
_NOT_A_TOKEN = "this is neither a valid token nor the API key"  # noqa: S105
_REFUSALS: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "the token's signature is wrong: it was made with another key",
    jwt.MissingRequiredClaimError: "the token must have sub (the user id) and exp",
    jwt.InvalidIssuerError: "the token's iss is not the one that this server asks for",
    jwt.InvalidAudienceError: "the token's aud is not the one that this server asks for",
    jwt.ImmatureSignatureError: "the token is not valid yet",
}
_log = logging.getLogger(__name__)


class Keys:
    """The public keys of an identity provider, from a URL or a file.

    They are read again when they are old or a token names an unknown one, by a thread and at most once in
    `_JWKS_REFRESH_S`: nobody waits, and a stranger's made-up key ids cost nothing.
    """

    def __init__(self, where: str, on_change: Callable[[], None]) -> None:
        self._where = where
        self._name = _without_secrets(where)
        self._keys = self.read()
        self._on_change = on_change
        self._read_at = time.monotonic()
        self._reading = threading.Lock()

    def key_for(self, token: str) -> jwt.PyJWK:
        """Raises Unauthenticated for a key that is not known, now."""
        key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
        age_s = time.monotonic() - self._read_at
        if age_s > _JWKS_LIFESPAN_S or (key is None and age_s > _JWKS_REFRESH_S):
            threading.Thread(target=self._read_again, daemon=True).start()
        if key is None:
            raise Unauthenticated("the token is signed with a key that this server does not know, or not yet")
        return key

    def _read_again(self) -> None:
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._read_at = time.monotonic()
            self.use(self.read())
        except SettingsError as error:
            _log.error("the keys are still those of before: %s", error)
        finally:
            self._reading.release()

    def use(self, keys: dict[str | None, jwt.PyJWK]) -> None:
        self._keys = keys
        self._on_change()

    def read(self) -> dict[str | None, jwt.PyJWK]:
        """What the set holds now. It may take seconds. Raises SettingsError if there are none."""
        try:
            if "://" in self._where:
                keys = jwt.PyJWKClient(self._where, cache_jwk_set=False, timeout=_JWKS_TIMEOUT_S).get_signing_keys()
            else:
                keys = jwt.PyJWKSet.from_json(Path(self._where).read_text("utf-8")).keys
        except (jwt.PyJWTError, OSError, HTTPException, ValueError, TypeError, AttributeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise SettingsError(f"jwks {self._name} cannot be read as a key set: {why}") from None
        usable = {key.key_id: key for key in keys if key.algorithm_name in _ASYMMETRIC}
        if not usable:
            raise SettingsError(f"jwks {self._name} has no public key of {', '.join(_ASYMMETRIC)}")
        return usable


def _without_secrets(where: str) -> str:
    """A path, or a URL without a user and a query, which may be what lets its reader in."""
    if "://" not in where:
        return where
    parts = urlsplit(where)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Verified(NamedTuple):
    """Whom a token is for (its `sub`, any text), and until when."""

    user: str
    expires_at_s: int


class Tokens:
    """Users' tokens, checked and made."""

    def __init__(self, settings: SharedSettings) -> None:
        self._secret = settings.secret
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._verified: OrderedDict[str, Verified] = OrderedDict()
        self.keys = Keys(settings.jwks, self._verified.clear) if settings.jwks else None

    def verify(self, token: str) -> Verified:
        """Raises Unauthenticated, with a text that holds nothing of the token."""
        if len(token) > _TOKEN_BYTES_MAX or not token:
            raise Unauthenticated("a token is missing or too long")
        return self._remembered(token) or self._verify(token)

    def _remembered(self, token: str) -> Verified | None:
        """A signature is checked once: it costs as much as all the rest of a call."""
        verified = self._verified.get(token)
        if verified is None or verified.expires_at_s > time.time():
            return verified
        self._verified.pop(token, None)
        raise Unauthenticated(_EXPIRED)

    def _verify(self, token: str) -> Verified:
        claims = self._claims(token)
        user, expires_at = claims["sub"], claims["exp"]
        if not isinstance(user, str):
            raise Unauthenticated("the token's sub must be a text")
        verified = self._verified[token] = Verified(user, int(expires_at))
        if len(self._verified) > _VERIFIED_MAX:
            self._verified.popitem(last=False)
        return verified

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm == "HS256" and self._secret is not None:
                key: str | jwt.PyJWK = self._secret
                algorithms = ["HS256"]
            elif algorithm in _ASYMMETRIC and self.keys is not None:
                key = self.keys.key_for(token)
                algorithms = [key.algorithm_name]  # a key is for one algorithm, whatever the token says
            else:
                raise Unauthenticated("the token is not signed with a key of this server")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["sub", "exp"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated(_EXPIRED) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated(_REFUSALS.get(type(error), _NOT_A_TOKEN)) from None
        return claims

    def mint(self, user: str, ttl_s: int) -> tuple[str, int]:
        """A token for a user, and when it expires in ms since the epoch. Raises Invalid without a secret."""
        if self._secret is None:
            raise Invalid("this server signs no tokens, as it has no RECADO_SECRET: get them from your provider")
        expires_at_s = int(time.time()) + ttl_s
        claims = {"sub": user, "exp": expires_at_s}
        if self._issuer is not None:
            claims["iss"] = self._issuer
        if self._audience is not None:
            claims["aud"] = self._audience
        return jwt.encode(claims, self._secret, algorithm="HS256"), expires_at_s * 1000


class JwtAccess:
    """What the doors ask who a caller is (`recado.http.Access`)."""

    def __init__(self, settings: Settings) -> None:
        self.tokens = Tokens(settings)
        self._api_key = settings.api_key.encode() if settings.api_key else None

    def authenticate(self, token: str) -> Principal:
        """The caller. Raises Unauthenticated, with a text that holds nothing of the token."""
        if self._api_key is not None and hmac.compare_digest(token.encode(), self._api_key):
            return Principal(None, is_host=True)
        user, expires_at_s = self.tokens.verify(token)
        if not is_valid_id(user):
            raise Unauthenticated("the token's sub must be a user id: 1 to 64 of the characters A-Z a-z 0-9 _ -")
        return Principal(user, expires_at_s=expires_at_s)

    def mint(self, user: str, ttl_s: int) -> tuple[str, int]:
        """A token for a user, and when it expires in ms since the epoch. Raises Invalid."""
        check_id(user, "user id")
        return self.tokens.mint(user, ttl_s)
