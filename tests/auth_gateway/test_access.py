"""Access tokens: ES256 by the portal's keys and nothing else, and when those keys are fetched."""

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwe, jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from mesh import base64url
from mesh.errors import Code, DependencyUnavailableError
from services.auth_gateway.access import (
    AccessTokens,
    Caller,
    Service,
    ServiceNotGrantedError,
    TokenInvalidError,
)
from services.portal import access_token
from services.portal.access_token import TokenKeys
from services.portal.application import Service as PortalService
from tests.auth_gateway.fakes import APPLICATION, Clock, FakePortal, unavailable
from tests.portal import clients

ISSUER = "https://id.example"
KEY = ECKey.generate_key("P-256", parameters={"kid": "key-1", "use": "sig", "alg": "ES256"}, private=True)
NEXT_KEY = ECKey.generate_key("P-256", parameters={"kid": "key-2", "use": "sig", "alg": "ES256"}, private=True)
FOREIGN_KEY = ECKey.generate_key("P-256", parameters={"kid": "key-1"}, private=True)
P384_KEY = ECKey.generate_key("P-384", parameters={"kid": "key-1"}, private=True)
RSA_KEY = RSAKey.generate_key(2048, parameters={"kid": "rsa-1"}, private=True)
EVERY_ALGORITHM = ["none", "HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"]


def jwks(*keys: ECKey | RSAKey) -> str:
    return json.dumps(KeySet(list(keys)).as_dict(private=False))


class Verifier:
    """A verifier, its portal and its time."""

    def __init__(self, *keys: ECKey | RSAKey) -> None:
        self.clock = Clock()
        self.portal = FakePortal()
        self.portal.jwks = jwks(*(keys or (KEY,)))
        self.tokens = AccessTokens(
            self.portal.token_keys, ISSUER, lambda: int(self.clock.seconds()), self.clock.seconds
        )

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(self.clock.seconds())
        claims = {
            "iss": ISSUER,
            "aud": "finid-api",
            "sub": "client",
            "iat": now,
            "exp": now + 900,
            "application": APPLICATION,
            "services": ["finid"],
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, key: Any = KEY, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        shown = {"alg": "ES256", "typ": "at+jwt", "kid": "key-1"} | dict(header or {})
        given = {name: value for name, value in shown.items() if value is not None}
        return jwt.encode(given, self.claims(**claims), key, algorithms=EVERY_ALGORITHM)

    async def caller(self, token: str) -> Caller:
        return await self.tokens.caller(f"Bearer {token}")

    @property
    def fetches(self) -> int:
        return self.portal.calls.count("token_keys")


async def refused(verifier: Verifier, authorization: str) -> None:
    with pytest.raises(TokenInvalidError) as caught:
        await verifier.tokens.caller(authorization)
    assert (caught.value.code, caught.value.reason) == (Code.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_the_portals_own_token_names_its_application_and_services() -> None:
    verifier = Verifier()
    keys = TokenKeys(clients.TOKEN_KEY)
    verifier.portal.jwks = keys.jwks()
    portal = access_token.AccessTokens(keys=keys, issuer=ISSUER, now=verifier.clock.now)
    token = portal.issue(replace(clients.APPLICATION, name=APPLICATION), tuple(PortalService))
    assert await verifier.caller(token) == Caller(APPLICATION, frozenset({"finid", "esign"}))


async def test_a_service_that_the_token_is_not_for_is_refused() -> None:
    caller = await Verifier().caller(Verifier().token())
    caller.require(Service.FINID)
    with pytest.raises(ServiceNotGrantedError) as caught:
        caller.require(Service.ESIGN)
    assert caught.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize("changed", [{"aud": ["finid-api", "another"]}, {"nbf": 0}, {"jti": "x", "title": "Bank"}])
async def test_a_token_may_say_more(changed: dict[str, Any]) -> None:
    verifier = Verifier()
    assert (await verifier.caller(verifier.token(**changed))).application == APPLICATION


@pytest.mark.parametrize("authorization", ["bearer {}", "BEARER {}"])
async def test_the_scheme_is_not_case_sensitive(authorization: str) -> None:
    verifier = Verifier()
    assert (await verifier.tokens.caller(authorization.format(verifier.token()))).application == APPLICATION


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer x{}", "Bearer {},Bearer {}", "Bearer {} ", "Bearer  {}"],
)
async def test_anything_but_one_bearer_token_is_refused(authorization: str) -> None:
    verifier = Verifier()
    await refused(verifier, authorization.replace("{}", verifier.token()))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": [ISSUER]},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"exp": "soon"},
        {"exp": True},
        {"application": "participants/" + "a" * 26},
        {"application": "applications/x"},
        {"application": [APPLICATION]},
        {"application": ""},
        {"services": "finid esign"},
        {"services": None},
        *({name: None} for name in ("iss", "aud", "sub", "iat", "exp", "application")),
    ],
    ids=str,
)
async def test_a_claim_that_is_missing_or_wrong_is_refused(changed: dict[str, Any]) -> None:
    verifier = Verifier()
    await refused(verifier, f"Bearer {verifier.token(**changed)}")


@pytest.mark.parametrize(
    ("claim", "offset_s", "good"),
    [("exp", 0, True), ("exp", -4, True), ("exp", -6, False), ("iat", 4, True), ("iat", 6, False), ("nbf", 60, False)],
)
async def test_times_hold_within_five_seconds_of_clock_skew(claim: str, offset_s: int, good: bool) -> None:
    verifier = Verifier()
    claims: dict[str, Any] = {claim: int(verifier.clock.seconds()) + offset_s}
    token = verifier.token(**claims)
    if good:
        await verifier.caller(token)
    else:
        await refused(verifier, f"Bearer {token}")


@pytest.mark.parametrize("typ", ["JWT", "at+JWT.", "finid-release+jwt", "", None])
async def test_only_access_tokens_are_access_tokens(typ: str | None) -> None:
    verifier = Verifier()
    await refused(verifier, f"Bearer {verifier.token(header={'typ': typ})}")


def _compact(verifier: Verifier, sign: Callable[[bytes], bytes], **header: Any) -> str:
    """A JWS as no library would make it."""
    head = {"alg": "ES256", "typ": "at+jwt", "kid": "key-1"} | header
    signed = ".".join(base64url.encode(json.dumps(part).encode()) for part in (head, verifier.claims()))
    return f"{signed}.{base64url.encode(sign(signed.encode()))}"


def _hmac_with(secret: bytes) -> Callable[[Verifier], str]:
    return lambda verifier: _compact(verifier, lambda signed: hmac.digest(secret, signed, "sha256"), alg="HS256")


def _es256(signed: bytes) -> bytes:
    assert KEY.private_key is not None
    r, s = decode_dss_signature(KEY.private_key.sign(signed, ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


_PEM = KEY.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_DER = KEY.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
FORGERIES: dict[str, Callable[[Verifier], str]] = {
    "unsigned": lambda verifier: _compact(verifier, lambda signed: b"", alg="none"),
    "signed for another algorithm": lambda verifier: _compact(verifier, _es256, alg="ES384"),
    "no algorithm": lambda verifier: _compact(verifier, _es256, alg=None),
    "signature of ES256 left out": lambda verifier: verifier.token().rpartition(".")[0] + ".",
    "HMAC with the public key as PEM": _hmac_with(_PEM),
    "HMAC with the public key as DER": _hmac_with(_DER),
    "HMAC with the public key as JWK": _hmac_with(json.dumps(KEY.as_dict(private=False)).encode()),
    "HMAC with the JWK Set": _hmac_with(jwks(KEY).encode()),
    "RS256 by a key of the set": lambda verifier: verifier.token(RSA_KEY, header={"alg": "RS256", "kid": "rsa-1"}),
    "ES384": lambda verifier: verifier.token(P384_KEY, header={"alg": "ES384"}),
    "another's key under the kid": lambda verifier: verifier.token(FOREIGN_KEY),
    "another's key in the header": lambda verifier: verifier.token(
        FOREIGN_KEY, header={"jwk": FOREIGN_KEY.as_dict(private=False)}
    ),
    "another's key by address": lambda verifier: verifier.token(
        FOREIGN_KEY, header={"jku": "https://elsewhere.example/jwks.json"}
    ),
    "a kid that nobody has": lambda verifier: verifier.token(header={"kid": "key-9"}),
    "no kid beside several keys": lambda verifier: verifier.token(header={"kid": None}),
    "an extension that must be understood": lambda verifier: _compact(verifier, _es256, crit=["finid"], finid=1),
    "claims changed after signing": lambda verifier: ".".join(
        [
            verifier.token().split(".")[0],
            verifier.token(application="applications/" + "b" * 26).split(".")[1],
            verifier.token().split(".")[2],
        ]
    ),
    "not an object": lambda verifier: jws.serialize_compact(
        {"alg": "ES256", "typ": "at+jwt", "kid": "key-1"}, b"[]", KEY, algorithms=["ES256"]
    ),
    "encrypted": lambda verifier: jwe.encrypt_compact(
        {"alg": "ECDH-ES", "enc": "A256GCM", "typ": "at+jwt", "kid": "key-1"},
        json.dumps(verifier.claims()).encode(),
        FOREIGN_KEY,
        algorithms=["ECDH-ES", "A256GCM"],
    ),
    "longer than any token": lambda verifier: verifier.token(title="x" * 5000),
    "nonsense": lambda verifier: "a.b.c",
    "no parts": lambda verifier: "abc",
    "not ASCII": lambda verifier: "токен.é.\u0000",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forgery_is_refused(forge: Callable[[Verifier], str]) -> None:
    verifier = Verifier(KEY, NEXT_KEY, RSA_KEY)
    await refused(verifier, f"Bearer {forge(verifier)}")


async def test_what_the_forgeries_are_made_of_is_good() -> None:
    verifier = Verifier(KEY, NEXT_KEY, RSA_KEY)
    assert (await verifier.caller(_compact(verifier, _es256))).application == APPLICATION


async def test_keys_are_fetched_when_first_needed_and_then_kept() -> None:
    verifier = Verifier()
    assert verifier.fetches == 0
    for _ in range(20):
        await verifier.caller(verifier.token())
        verifier.clock.pass_by(10)
    assert verifier.fetches == 1


async def test_keys_are_renewed_after_five_minutes_so_that_a_withdrawn_one_ends() -> None:
    verifier = Verifier()
    token = verifier.token()
    await verifier.caller(token)
    verifier.portal.jwks = jwks(NEXT_KEY)
    verifier.clock.pass_by(301)
    await refused(verifier, f"Bearer {token}")


async def test_a_key_that_was_rotated_in_is_fetched_at_once() -> None:
    verifier = Verifier()
    await verifier.caller(verifier.token())
    verifier.clock.pass_by(6)
    verifier.portal.jwks = jwks(NEXT_KEY, KEY)
    rotated = verifier.token(NEXT_KEY, header={"kid": "key-2"})
    assert (await verifier.caller(rotated)).application == APPLICATION
    assert (await verifier.caller(verifier.token())).application == APPLICATION
    assert verifier.fetches == 2


async def test_tokens_of_unknown_keys_fetch_no_more_than_once_in_five_seconds() -> None:
    verifier = Verifier()
    for _ in range(50):
        await refused(verifier, f"Bearer {verifier.token(header={'kid': 'key-9'})}")
        verifier.clock.pass_by(0.5)
    assert verifier.fetches <= 1 + 25 / 5


async def test_calls_that_come_together_fetch_once() -> None:
    verifier = Verifier()
    good, bad = verifier.token(), verifier.token(header={"kid": "key-9"})
    await asyncio.gather(*(verifier.caller(good) for _ in range(10)))
    assert verifier.fetches == 1
    verifier.clock.pass_by(6)
    await asyncio.gather(*(verifier.caller(bad) for _ in range(10)), return_exceptions=True)
    assert verifier.fetches == 2


async def test_a_portal_that_is_away_costs_nobody_a_valid_token() -> None:
    verifier = Verifier()
    await verifier.caller(verifier.token())
    verifier.portal.fails("token_keys", *(unavailable("portal") for _ in range(200)))
    for _ in range(14):
        verifier.clock.pass_by(60)
        await verifier.caller(verifier.token())
    await refused(verifier, f"Bearer {verifier.token(header={'kid': 'key-9'})}")
    verifier.clock.pass_by(61)
    with pytest.raises(DependencyUnavailableError):
        await verifier.caller(verifier.token())


async def test_a_portal_that_is_away_is_asked_no_more_than_once_in_five_seconds() -> None:
    verifier = Verifier()
    await verifier.caller(verifier.token())
    verifier.portal.fails("token_keys", *(unavailable("portal") for _ in range(200)))
    verifier.clock.pass_by(301)
    for _ in range(50):
        await verifier.caller(verifier.token())
        verifier.clock.pass_by(0.5)
    assert verifier.fetches <= 2 + 25 / 5


@pytest.mark.parametrize("answer", ["", "no json", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "EC"}]}'])
async def test_a_portal_that_answers_nonsense_keeps_the_keys_of_before(answer: str) -> None:
    verifier = Verifier()
    await verifier.caller(verifier.token())
    verifier.portal.jwks = answer
    verifier.clock.pass_by(301)
    await verifier.caller(verifier.token())
    assert verifier.fetches == 2


async def test_without_any_keys_nobody_is_judged_and_the_next_call_asks_again() -> None:
    verifier = Verifier()
    verifier.portal.fails("token_keys", unavailable("portal"))
    with pytest.raises(DependencyUnavailableError) as caught:
        await verifier.caller(verifier.token())
    assert caught.value.retry_after_s
    assert (await verifier.caller(verifier.token())).application == APPLICATION


async def test_a_token_that_is_known_ends_like_any_other_and_one_letter_more_is_another() -> None:
    verifier = Verifier()
    token = verifier.token(exp=int(verifier.clock.seconds()) + 60)
    for _ in range(3):
        assert (await verifier.caller(token)).application == APPLICATION
    await refused(verifier, f"Bearer {token}A")
    verifier.clock.pass_by(70)
    await refused(verifier, f"Bearer {token}")


async def test_known_tokens_are_bounded_and_none_is_kept_itself() -> None:
    verifier = Verifier()
    for number in range(1100):
        await verifier.caller(verifier.token(sub=str(number)))
    assert len(verifier.tokens._known) == 1024
    assert {len(name) for name in verifier.tokens._known} == {32}
