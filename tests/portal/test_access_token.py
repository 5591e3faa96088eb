"""Access tokens, and what a verifier with the announced keys must refuse."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey

from services.portal.access_token import AUDIENCE, LIFETIME_S, AccessTokens, TokenKeys, read_key
from services.portal.application import Service
from tests.bundles import NOW
from tests.portal.clients import APPLICATION, CLIENT_ID, ISSUER, TOKEN_KEY, Clock


def tokens(keys: TokenKeys | None = None) -> AccessTokens:
    return AccessTokens(keys=keys or TokenKeys(TOKEN_KEY), issuer=ISSUER, now=Clock().now, make_id=lambda: "j" * 26)


def announced(keys: TokenKeys | None = None) -> KeySet:
    return KeySet.import_key_set(json.loads((keys or TokenKeys(TOKEN_KEY)).jwks()))


def decoded(token: str, keys: KeySet) -> dict[str, Any]:
    return dict(jwt.decode(token, keys, algorithms=["ES256"]).claims)


def test_a_token_says_who_may_do_what_until_when() -> None:
    token = tokens().issue(APPLICATION, (Service.FINID,))
    read = jwt.decode(token, announced(), algorithms=["ES256"])
    assert read.header == {"alg": "ES256", "kid": TOKEN_KEY.thumbprint(), "typ": "at+jwt"}
    assert read.claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": CLIENT_ID,
        "client_id": CLIENT_ID,
        "iat": NOW,
        "exp": NOW + LIFETIME_S,
        "jti": "j" * 26,
        "application": APPLICATION.name,
        "title": "Демо Банк",
        "channels": ["HOSTED", "STEPS"],
        "services": ["finid"],
    }


def test_announced_keys_hold_nothing_private() -> None:
    (key,) = json.loads(TokenKeys(TOKEN_KEY).jwks())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert key["kid"] == TOKEN_KEY.thumbprint()


def test_next_and_previous_keys_are_announced_and_their_tokens_hold() -> None:
    other = ECKey.generate_key("P-256", private=True)
    other.ensure_kid()
    rotating = announced(TokenKeys(TOKEN_KEY, [other]))
    for signer in (TOKEN_KEY, other):
        token = tokens(TokenKeys(signer)).issue(APPLICATION, (Service.FINID,))
        assert decoded(token, rotating)["sub"] == CLIENT_ID
    token = tokens(TokenKeys(other)).issue(APPLICATION, (Service.FINID,))
    with pytest.raises((JoseError, ValueError)):
        decoded(token, announced())


def forged_with_public_key_as_secret(claims: dict[str, Any]) -> str:
    pem = TOKEN_KEY.as_pem(private=False)
    return jwt.encode({"alg": "HS256", "kid": TOKEN_KEY.kid}, claims, OctKey.import_key(pem), algorithms=["HS256"])


def forged_unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "none", "kid": TOKEN_KEY.kid}, claims, OctKey.import_key("none"), algorithms=["none"])


def forged_by_another_key(claims: dict[str, Any]) -> str:
    other = ECKey.generate_key("P-256", private=True)
    return jwt.encode({"alg": "ES256", "kid": TOKEN_KEY.kid}, claims, other, algorithms=["ES256"])


def forged_with_its_own_key_inside(claims: dict[str, Any]) -> str:
    other = ECKey.generate_key("P-256", private=True)
    header = {"alg": "ES256", "jwk": other.as_dict(private=False)}
    return jwt.encode(header, claims, other, algorithms=["ES256"])


def with_a_swapped_claim(claims: dict[str, Any]) -> str:
    mine, theirs = (tokens().issue(APPLICATION, services) for services in ((Service.FINID,), tuple(Service)))
    header, _, signature = mine.split(".")
    return ".".join((header, theirs.split(".")[1], signature))


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    "forge",
    [
        forged_with_public_key_as_secret,
        forged_unsigned,
        forged_by_another_key,
        forged_with_its_own_key_inside,
        with_a_swapped_claim,
    ],
)
def test_a_verifier_of_es256_refuses(forge: Callable[[dict[str, Any]], str]) -> None:
    claims = decoded(tokens().issue(APPLICATION, (Service.FINID,)), announced())
    with pytest.raises((JoseError, ValueError)):
        decoded(forge(claims), announced())


def pem_of(key: Any, *, private: bool) -> bytes:
    if private:
        return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_keys_are_read_with_their_thumbprint() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = (read_key(pem_of(key, private=kind), private=kind) for kind in (True, False))
    assert private.kid == public.kid == public.thumbprint()


@pytest.mark.parametrize(
    ("pem", "private"),
    [
        (b"", True),
        (b"not a key", True),
        (pem_of(ec.generate_private_key(ec.SECP384R1()), private=True), True),
        (pem_of(ed25519.Ed25519PrivateKey.generate(), private=True), True),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), private=False), True),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), private=True), False),
    ],
)
def test_any_other_key_is_refused(pem: bytes, private: bool) -> None:
    with pytest.raises(ValueError, match="token key"):
        read_key(pem, private=private)
