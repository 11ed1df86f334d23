"""Who notifies, as push services want to know it (RFC 8292): a key of P-256, and tokens signed with it."""

import base64
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_KEY_BYTES = 32
_POINT_BYTES = 65  # uncompressed (SEC 1, section 2.3.3)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256's points (FIPS 186)


class VapidKey:
    """`text` is the private key's number, 32 bytes in base64url, as `make` makes it. Raises ValueError."""

    def __init__(self, text: str) -> None:
        secret = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if len(secret) != _KEY_BYTES:
            raise ValueError
        self.secret = secret
        self._key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public = _encoded(point)

    @staticmethod
    def make() -> str:
        number = 1 + secrets.randbelow(_ORDER - 1)
        return _encoded(number.to_bytes(_KEY_BYTES, "big"))

    def authorization(self, audience: str, contact: str, expires_at_s: int) -> str:
        """The header for requests to one origin, until then: a day ahead at most (RFC 8292, section 2)."""
        token = jwt.encode({"aud": audience, "exp": expires_at_s, "sub": contact}, self._key, "ES256")
        return f"vapid t={token}, k={self.public}"


def is_point(value: bytes) -> bool:
    """Whether these bytes are a point of P-256, uncompressed, as browsers give theirs."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), value)
    except ValueError:
        return False
    return len(value) == _POINT_BYTES


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
