"""Who a token stands for: HS256 with the secret, public keys from a JWKS, the host's API key, and every forgery."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from recado.app.access import JwtAccess
from recado.app.config import Settings, SettingsError
from recado.chat.errors import Invalid, Unauthenticated
from recado.chat.principal import Principal

SECRET = "tests-only-secret-of-more-than-thirty-two-bytes"
API_KEY = "tests-only-api-key-of-the-host-application"
ISSUER, AUDIENCE = "https://id.example.com", "recado"
PrivateKey = RSAPrivateKey | Ed25519PrivateKey | EllipticCurvePrivateKey


def later() -> int:
    return int(time.time()) + 600


def hs256(key: str = SECRET, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode({"sub": "ana", "exp": later(), **claims}, key, algorithm="HS256", headers=headers)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """A token that no decent library signs: with any header, by HMAC with any key, or not at all."""
    signed = f"{part(header)}.{part(claims)}"
    signature = b"" if key is None else hmac.digest(key, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def refused(access: JwtAccess, token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        access.authenticate(token)
    assert not token or token not in refusal.value.message
    return refusal.value.message


@pytest.fixture
def access() -> JwtAccess:
    return JwtAccess(Settings(secret=SECRET, api_key=API_KEY))


# Users, by the secret


def test_a_token_that_is_signed_with_the_secret_stands_for_its_sub(access: JwtAccess) -> None:
    expires_at_s = later()
    for _ in range(2):
        assert access.authenticate(hs256(exp=expires_at_s)) == Principal("ana", expires_at_s=expires_at_s)


def test_a_minted_token_is_one(access: JwtAccess) -> None:
    token, expires_at = access.mint("ana", 60)
    assert access.authenticate(token) == Principal("ana", expires_at_s=expires_at // 1000)
    assert abs(expires_at / 1000 - time.time() - 60) < 5


@pytest.mark.parametrize("user", ["", "a b", "x" * 65, "a/b", "+"])
def test_no_token_is_minted_for_what_is_no_user_id(access: JwtAccess, user: str) -> None:
    with pytest.raises(Invalid):
        access.mint(user, 60)


def test_an_expired_token_is_told_from_a_bad_one(access: JwtAccess) -> None:
    assert "expired" in refused(access, hs256(exp=int(time.time()) - 1))
    assert "expired" not in refused(access, hs256("another-secret-that-is-just-as-long-as-the-first"))


def test_a_token_that_was_good_once_is_refused_when_it_has_expired(
    access: JwtAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, expires_at = access.mint("ana", 60)
    assert access.authenticate(token).user == "ana"
    monkeypatch.setattr(time, "time", lambda: expires_at / 1000 + 0.001)
    assert "expired" in refused(access, token)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"exp": None},
        {"sub": ""},
        {"sub": 42},
        {"sub": ["ana"]},
        {"sub": "a b"},
        {"sub": "x" * 65},
        {"sub": "ana\n"},
        {"sub": "#"},
        {"exp": "soon"},
        {"exp": [1]},
        {"exp": float("inf")},
        {"exp": float("nan")},
        pytest.param({"nbf": later()}, id="nbf"),
    ],
    ids=str,
)
def test_a_token_needs_a_user_id_and_an_end_and_must_be_valid_already(
    access: JwtAccess, claims: dict[str, Any]
) -> None:
    whole = {key: value for key, value in {"sub": "ana", "exp": later(), **claims}.items() if value is not None}
    refused(access, by_hand({"alg": "HS256", "typ": "JWT"}, whole, SECRET.encode()))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS384", "HS512", "hs256", "RS256", None, 256, ["HS256"]])
def test_a_token_cannot_choose_how_it_is_checked(access: JwtAccess, alg: object) -> None:
    header = {"typ": "JWT"} if alg is None else {"alg": alg, "typ": "JWT"}
    for key in (None, SECRET.encode(), b""):
        refused(access, by_hand(header, {"sub": "ana", "exp": later()}, key))


def test_a_changed_token_is_refused(access: JwtAccess) -> None:
    header, _, signature = hs256().split(".")
    refused(access, f"{header}.{part({'sub': 'bruno', 'exp': later()})}.{signature}")
    refused(access, f"{header}.{part({'sub': 'ana', 'exp': later() + 9_999})}.{signature}")


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "..", "." * 9_000, "é.é.é", "e30.e30.e30", "x" * 9_000, "\x00", "Bearer x", "a" * 8_191]
)
def test_what_is_no_token_is_refused(access: JwtAccess, text: str) -> None:
    refused(access, text)


def test_a_token_of_someone_elses_secret_is_refused(access: JwtAccess) -> None:
    refused(access, hs256("another-secret-that-is-just-as-long-as-the-first"))
    refused(access, by_hand({"alg": "HS256"}, {"sub": "ana", "exp": later()}, b""))


def test_iss_and_aud_are_asked_for_when_they_are_set_and_minted_too() -> None:
    access = JwtAccess(Settings(secret=SECRET, jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    assert access.authenticate(hs256(iss=ISSUER, aud=AUDIENCE)).user == "ana"
    assert access.authenticate(hs256(iss=ISSUER, aud=["other", AUDIENCE])).user == "ana"
    assert access.authenticate(access.mint("ana", 60)[0]).user == "ana"
    for claims in (
        {},
        {"iss": ISSUER},
        {"aud": AUDIENCE},
        {"iss": "https://evil.example.com", "aud": AUDIENCE},
        {"iss": ISSUER, "aud": "other"},
        {"iss": ISSUER, "aud": []},
    ):
        refused(access, hs256(**claims))


# The host


def test_the_api_key_is_the_host_and_nothing_near_it_is(access: JwtAccess) -> None:
    assert access.authenticate(API_KEY) == Principal(None, is_host=True)
    for near in (API_KEY[:-1], API_KEY + "x", API_KEY.upper(), " " + API_KEY, "é" * len(API_KEY)):
        refused(access, near)


def test_without_an_api_key_nobody_is_the_host() -> None:
    access = JwtAccess(Settings(secret=SECRET))
    for text in (API_KEY, "", "None"):
        refused(access, text)


def test_a_user_cannot_become_the_host_by_claims(access: JwtAccess) -> None:
    assert not access.authenticate(hs256(is_host=True, host=True, admin=True, scope="host")).is_host


# Users, by an identity provider's keys


@pytest.fixture(scope="module")
def private_keys() -> dict[str, PrivateKey]:
    return {
        "rsa": generate_rsa_key(65_537, 2_048),
        "ed": Ed25519PrivateKey.generate(),
        "ec": generate_ec_key(SECP256R1()),
        "foreign": generate_rsa_key(65_537, 2_048),
    }


def jwk(kid: str, key: PrivateKey) -> dict[str, Any]:
    public: Any = key.public_key()
    algorithm: Any = {"rsa": RSAAlgorithm, "ed": OKPAlgorithm, "ec": ECAlgorithm}[kid]
    return {**json.loads(algorithm.to_jwk(public)), "kid": kid, "use": "sig"}


@pytest.fixture(scope="module")
def jwks(private_keys: dict[str, PrivateKey], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(kid, private_keys[kid]) for kid in ("rsa", "ed", "ec")]}))
    return path


@pytest.fixture
def provider(jwks: Path) -> JwtAccess:
    return JwtAccess(Settings(secret=SECRET, jwks=str(jwks), jwt_issuer=ISSUER, jwt_audience=AUDIENCE))


def signed(key: PrivateKey, algorithm: str, kid: str | None, **claims: Any) -> str:
    whole = {"sub": "ana", "exp": later(), "iss": ISSUER, "aud": AUDIENCE, **claims}
    return jwt.encode(whole, key, algorithm=algorithm, headers=None if kid is None else {"kid": kid})


@pytest.mark.parametrize(("kid", "algorithm"), [("rsa", "RS256"), ("ed", "EdDSA"), ("ec", "ES256")])
def test_a_token_of_a_key_in_the_set_is_good(
    provider: JwtAccess, private_keys: dict[str, PrivateKey], kid: str, algorithm: str
) -> None:
    assert provider.authenticate(signed(private_keys[kid], algorithm, kid)).user == "ana"
    for claims in ({"exp": int(time.time()) - 1}, {"iss": "evil"}, {"aud": "other"}, {"sub": "a b"}):
        refused(provider, signed(private_keys[kid], algorithm, kid, **claims))


def test_the_secret_goes_on_being_good_beside_the_set(provider: JwtAccess) -> None:
    assert provider.authenticate(hs256(iss=ISSUER, aud=AUDIENCE)).user == "ana"


def test_a_set_may_be_named_relative_to_where_one_starts(
    jwks: Path, private_keys: dict[str, PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(jwks.parent)
    access = JwtAccess(Settings(jwks="jwks.json", jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    assert access.authenticate(signed(private_keys["rsa"], "RS256", "rsa")).user == "ana"
    with pytest.raises(Invalid, match="RECADO_SECRET"):
        access.mint("ana", 60)


@pytest.mark.parametrize("kid", ["rsa", "unknown", None, "ed"])
def test_a_key_that_is_not_in_the_set_is_refused_whatever_it_calls_itself(
    provider: JwtAccess, private_keys: dict[str, PrivateKey], kid: str | None
) -> None:
    refused(provider, signed(private_keys["foreign"], "RS256", kid))


def test_the_public_key_is_no_secret_to_sign_with(provider: JwtAccess, private_keys: dict[str, PrivateKey]) -> None:
    claims = {"sub": "ana", "exp": later(), "iss": ISSUER, "aud": AUDIENCE}
    public = private_keys["rsa"].public_key()
    keys = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk("rsa", private_keys["rsa"])).encode(),
    ]
    without_secret = JwtAccess(Settings(jwks=_where(provider), jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    for access in (provider, without_secret):
        for key in keys:
            for alg in ("HS256", "RS256", "none"):
                refused(access, by_hand({"alg": alg, "kid": "rsa"}, claims, key))


def _where(provider: JwtAccess) -> str:
    assert provider.tokens.keys is not None
    return provider.tokens.keys._where


@pytest.mark.parametrize("kid", ["rsa", "ed", "ec"])
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "ES512", "EdDSA"])
def test_a_key_of_one_kind_does_not_check_a_signature_of_another(provider: JwtAccess, kid: str, alg: str) -> None:
    refused(provider, by_hand({"alg": alg, "kid": kid}, {"sub": "ana", "exp": later()}, b"x"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"keys":[]}',
        "not json",
        "[]",
        '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}',
    ],
)
def test_a_set_without_a_public_key_is_a_settings_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match="jwks"):
        JwtAccess(Settings(jwks=str(path), jwt_issuer=ISSUER, jwt_audience=AUDIENCE))


@pytest.mark.parametrize("where", ["missing.json", "http://127.0.0.1:1/jwks.json", "ftp://127.0.0.1/x"])
def test_a_set_that_cannot_be_had_is_a_settings_error_that_names_it(where: str) -> None:
    with pytest.raises(SettingsError, match=where):
        JwtAccess(Settings(jwks=where, jwt_issuer=ISSUER, jwt_audience=AUDIENCE))


def test_a_set_that_cannot_be_had_is_named_without_what_lets_its_reader_in() -> None:
    where = "http://127.0.0.1:1/jwks.json?key=geheim"
    with pytest.raises(SettingsError, match="cannot be read") as raised:
        JwtAccess(Settings(jwks=where, jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    assert "jwks http://127.0.0.1:1/jwks.json " in str(raised.value)
    assert "geheim" not in str(raised.value)
