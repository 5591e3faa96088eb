"""The signed result (JWS) that a participant can archive: verified offline with the published keys.

It is the gateway's word on the verdict. That the factors were passed is proven by the receipts alone: `evidence`.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from finid.auth.v1 import auth_pb2 as auth

from finid_client import signed_claims
from finid_client.errors import ProofRefusedError
from finid_client.keys import KeySet
from finid_client.signed_claims import Claims
from mesh import strict_json
from mesh.strict_json import StrictJsonError
from mesh.transaction import Env

_TYP: Final = "finid-result+jwt"
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
        result = _read(signed_claims.verified(jws, keys, _TYP))
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


def _read(claims: Claims) -> SignedResult:
    text = claims.text
    if text("cross_device") not in _BOOLEANS:
        raise StrictJsonError("cross_device", "must be true or false")
    return SignedResult(
        authentication=text("sub"),
        application=text("aud"),
        env=strict_json.member(Env, text("env"), "env"),
        txn=claims.octets("txn"),
        purpose=text("purpose"),
        channel=text("channel"),
        verdict=text("verdict"),
        reason=text("reason"),
        outcome=text("outcome"),
        is_cross_device=_BOOLEANS[text("cross_device")],
        created_at=claims.time("created_at"),
        finished_at=claims.time("finished_at"),
        person_sha256=text("person_sha256"),
    )
