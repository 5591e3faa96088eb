"""The signed result (JWS) that a participant can archive: verified offline with the published keys.

It is the gateway's word on the verdict. That the factors were passed is proven by the receipts alone: `evidence`.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from finid.auth.v1 import auth_pb2 as auth

from finid_client.errors import ProofRefusedError
from finid_client.keys import STATEMENT, KeySet
from mesh import base64url, strict_json
from mesh.strict_json import StrictJsonError
from mesh.transaction import Env

_MAX_CHARS: Final = 16 * 1024
_TYP: Final = "finid-result+jwt"
_ISSUER: Final = "auth_gateway"
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SignedResult:
    """What the gateway states of one authentication. `txn` is 32 bytes; `reason` and `outcome` may be ''."""

    authentication: str
    application: str
    env: Env
    txn: bytes
    purpose: str
    channel: str
    verdict: str
    reason: str
    outcome: str
    is_cross_device: bool
    created_at: datetime
    finished_at: datetime
    person_sha256: str

    @property
    def is_success(self) -> bool:
        """Whether the person is who was claimed, and did what was asked."""
        return self.verdict == "SUCCESS"

    def require_person(self, person: auth.Person) -> None:
        """Refuse data of a person that are not those released with this result (PERSON_DIFFERS)."""
        if not hmac.compare_digest(person_sha256(person), self.person_sha256):
            raise ProofRefusedError("PERSON_DIFFERS", "the person's data are not those that the result was signed over")


def person_sha256(person: auth.Person) -> str:
    """Return the hex SHA-256 of a person's data as the statement has it: RFC 8785 JSON of what is not empty."""
    named = {field.name: value for field, value in person.ListFields() if value}
    return hashlib.sha256(strict_json.canonical(named)).hexdigest() if named else ""


def verify_result(
    jws: str, keys: KeySet, *, env: Env, application: str, authentication: str | None = None
) -> SignedResult:
    """Return what a signed result says. Raises ProofRefusedError.

    `application` is the verifier's own applications/{id}: a result for another participant proves nothing to this one.
    `authentication` is the one it must be of, None for any. It does not expire: it says what was, not what is.
    """
    try:
        claims = _verified_claims(jws, keys)
        result = _read(claims)
    except StrictJsonError as error:
        raise ProofRefusedError("RESULT_MALFORMED", str(error)) from error
    for holds, reason, message in (
        (result.env is env, "ENV_MISMATCH", "the result is of another environment"),
        (result.application == application, "RESULT_OF_ANOTHER_APPLICATION", "the result is another application's"),
        (
            authentication in {None, result.authentication},
            "RESULT_OF_ANOTHER_AUTHENTICATION",
            "the result is of another authentication",
        ),
    ):
        if not holds:
            raise ProofRefusedError(reason, message)
    return result


def _verified_claims(jws: str, keys: KeySet) -> Mapping[str, object]:
    if len(jws) > _MAX_CHARS or jws.count(".") != 2:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise StrictJsonError("", "is not a compact JWS")
    signed, _, signature_text = jws.rpartition(".")
    header_text, _, claims_text = signed.partition(".")
    header = strict_json.members(_json(header_text), _HEADER, "header")
    # The algorithm is ours and not the token's (RFC 8725 section 3.1).
    if header["alg"] != "EdDSA" or header["typ"] != _TYP:
        raise StrictJsonError("header", f"must be of EdDSA and {_TYP}")
    key = next((key for key in keys.of_use(STATEMENT) if key.kid == header["kid"]), None)
    if key is None:
        raise ProofRefusedError("KEY_UNKNOWN", "the result's key is not among the published ones")
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(_octets(signature_text), signed.encode("ascii"))
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise ProofRefusedError("SIGNATURE_INVALID", "the result's signature is wrong") from error
    claims = _json(claims_text)
    if not isinstance(claims, dict):
        raise StrictJsonError("claims", "must be an object")
    return claims


def _json(part: str) -> object:
    return strict_json.parse(_octets(part), max_bytes=_MAX_CHARS)


def _octets(part: str) -> bytes:
    try:
        return base64url.decode(part)
    except ValueError as error:
        raise StrictJsonError("", "is not base64url") from error


def _read(claims: Mapping[str, object]) -> SignedResult:
    """Claims that are not known are left alone: later versions of FinID may add some."""

    def text(name: str) -> str:
        return strict_json.string(claims.get(name), name)

    def time(name: str) -> datetime:
        try:
            return datetime.fromtimestamp(strict_json.integer(claims.get(name), name), UTC)
        except (OverflowError, OSError, ValueError) as error:
            raise StrictJsonError(name, "must be Unix seconds") from error

    if text("iss") != _ISSUER:
        raise StrictJsonError("iss", f"must be {_ISSUER}")
    if text("cross_device") not in _BOOLEANS:
        raise StrictJsonError("cross_device", "must be true or false")
    try:
        txn = bytes.fromhex(text("txn"))
    except ValueError as error:
        raise StrictJsonError("txn", "must be hex") from error
    return SignedResult(
        authentication=text("sub"),
        application=text("aud"),
        env=strict_json.member(Env, claims.get("env"), "env"),
        txn=txn,
        purpose=text("purpose"),
        channel=text("channel"),
        verdict=text("verdict"),
        reason=text("reason"),
        outcome=text("outcome"),
        is_cross_device=_BOOLEANS[text("cross_device")],
        created_at=time("created_at"),
        finished_at=time("finished_at"),
        person_sha256=text("person_sha256"),
    )
