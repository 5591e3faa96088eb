"""The signed receipt of the consents that a person gave (JWS): verified offline with the published keys.

It is the gateway's word on what it recorded; that the person was there is proven by the factors' receipts: `evidence`.
The claims are those of docs/consents.md.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from finid_client import signed_claims
from finid_client.errors import ProofRefusedError
from finid_client.keys import KeySet
from finid_client.signed_claims import Claims
from mesh import strict_json
from mesh.strict_json import StrictJsonError
from mesh.transaction import Env

_TYP: Final = "finid-consent+jwt"


@dataclass(frozen=True, slots=True)
class GivenConsent:
    """One document that was agreed to: which text (SHA-256, 32 bytes), to whom, and whether it was withdrawn since."""

    document: str
    version: str
    text_sha256: bytes
    controller: str
    controller_title: str
    withdrawn_at: datetime | None
    withdrawn_by: str

    @property
    def is_live(self) -> bool:
        """Whether it stood when the receipt was signed."""
        return self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class ConsentReceipt:
    """What the gateway recorded of one authentication's consents. `txn` is 32 bytes, `scopes` what may be released."""

    authentication: str
    application: str
    env: Env
    txn: bytes
    purpose: str
    channel: str
    language: str
    scopes: tuple[str, ...]
    shown_at: datetime
    given_at: datetime
    issued_at: datetime
    consents: tuple[GivenConsent, ...]


def verify_consents(
    jws: str, keys: KeySet, *, env: Env, application: str, authentication: str | None = None
) -> ConsentReceipt:
    """Return what a consent receipt says. Raises ProofRefusedError.

    `application` is the verifier's own applications/{id}, `authentication` the one it must be of, None for any. It says
    what stood at `issued_at`: a consent may have been withdrawn since; ask for a receipt anew.
    """
    try:
        receipt = _read(signed_claims.verified(jws, keys, _TYP))
    except StrictJsonError as error:
        raise ProofRefusedError("CONSENT_RECEIPT_MALFORMED", str(error)) from error
    for holds, reason, message in (
        (receipt.env is env, "ENV_MISMATCH", "the receipt is of another environment"),
        (
            receipt.application == application,
            "CONSENT_RECEIPT_OF_ANOTHER_APPLICATION",
            "the receipt is another application's",
        ),
        (
            authentication in {None, receipt.authentication},
            "CONSENT_RECEIPT_OF_ANOTHER_AUTHENTICATION",
            "the receipt is of another authentication",
        ),
    ):
        if not holds:
            raise ProofRefusedError(reason, message)
    return receipt


def _read(claims: Claims) -> ConsentReceipt:
    text = claims.text
    documents = text("consents").split()
    if not documents:
        raise StrictJsonError("consents", "must name at least one document")
    return ConsentReceipt(
        authentication=text("sub"),
        application=text("aud"),
        env=strict_json.member(Env, text("env"), "env"),
        txn=claims.octets("txn"),
        purpose=text("purpose"),
        channel=text("channel"),
        language=text("language"),
        scopes=tuple(text("scopes").split()),
        shown_at=claims.time("shown_at"),
        given_at=claims.time("given_at"),
        issued_at=claims.time("iat"),
        consents=tuple(_given(claims, document) for document in documents),
    )


def _given(claims: Claims, document: str) -> GivenConsent:
    text = claims.text
    is_withdrawn = f"{document}.withdrawn_at" in claims
    return GivenConsent(
        document=document,
        version=text(f"{document}.version"),
        text_sha256=claims.octets(f"{document}.text_sha256"),
        controller=text(f"{document}.controller"),
        controller_title=text(f"{document}.controller_title"),
        withdrawn_at=claims.time(f"{document}.withdrawn_at") if is_withdrawn else None,
        withdrawn_by=text(f"{document}.withdrawn_by") if is_withdrawn else "",
    )
