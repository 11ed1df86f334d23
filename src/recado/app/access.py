"""Who a token stands for: users' JWTs (HS256 with the secret, or asymmetric keys from a JWKS) and the host's API key.

The algorithms are pinned per kind of key, so a token cannot choose how it is checked; `sub` and `exp` are required.
"""

import hmac
import time
from typing import Any

import jwt

from recado.app.config import Settings, SettingsError
from recado.chat.errors import Invalid, Unauthenticated
from recado.chat.ids import check_id, is_valid_id
from recado.chat.principal import Principal

_ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_TOKEN_BYTES_MAX = 8 * 1024
_JWKS_LIFESPAN_S = 3600
_LEEWAY_S = 0


class Keys:
    """The public keys of an identity provider, from a URL (read again when a key id is unknown) or a file."""

    def __init__(self, where: str) -> None:
        url = where if "://" in where else f"file://{where}"
        self._client = jwt.PyJWKClient(url, lifespan=_JWKS_LIFESPAN_S)

    def load(self) -> None:
        """Raises SettingsError if there are none."""
        try:
            self._client.get_signing_keys()
        except jwt.PyJWTError as error:
            raise SettingsError(f"jwks cannot be read: {error}") from None

    def key_for(self, token: str) -> Any:
        return self._client.get_signing_key_from_jwt(token).key


class JwtAccess:
    """What the doors ask who a caller is (`recado.http.Access`)."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.secret
        self._api_key = settings.api_key.encode() if settings.api_key else None
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._keys = Keys(settings.jwks) if settings.jwks else None
        if self._keys is not None:
            self._keys.load()

    def authenticate(self, token: str) -> Principal:
        """The caller. Raises Unauthenticated, with a text that holds nothing of the token."""
        if len(token) > _TOKEN_BYTES_MAX or not token:
            raise Unauthenticated("a token is missing or too long")
        if self._api_key is not None and hmac.compare_digest(token.encode(), self._api_key):
            return Principal(None, is_host=True)
        claims = self._claims(token)
        user, expires_at = claims["sub"], claims["exp"]
        if not isinstance(user, str) or not is_valid_id(user):
            raise Unauthenticated("the token's sub must be a user id: 1 to 64 of the characters A-Z a-z 0-9 _ -")
        return Principal(user, expires_at_s=int(expires_at))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm == "HS256" and self._secret is not None:
                key, algorithms = self._secret, ["HS256"]
            elif algorithm in _ASYMMETRIC and self._keys is not None:
                key, algorithms = self._keys.key_for(token), _ASYMMETRIC
            else:
                raise Unauthenticated("the token is not signed with a key of this server")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["sub", "exp"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired: get a new one") from None
        except (jwt.PyJWTError, ValueError, UnicodeError) as error:
            raise Unauthenticated(f"the token is not valid: {type(error).__name__}") from None
        return claims

    def mint(self, user: str, ttl_s: int) -> tuple[str, int]:
        """A token for a user, and when it expires in ms since the epoch. Raises Invalid without a secret."""
        check_id(user, "user id")
        if self._secret is None:
            raise Invalid("this server signs no tokens, as it has no RECADO_SECRET: get them from your provider")
        expires_at_s = int(time.time()) + ttl_s
        claims = {"sub": user, "exp": expires_at_s}
        if self._issuer is not None:
            claims["iss"] = self._issuer
        if self._audience is not None:
            claims["aud"] = self._audience
        return jwt.encode(claims, self._secret, algorithm="HS256"), expires_at_s * 1000
