"""Checking a time stamp token before it goes into a signature (RFC 3161, RFC 5816)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from asn1crypto import cms, tsp, x509
from pyhanko.sign.ades.report import AdESFailure, AdESPassed
from pyhanko.sign.validation.ades import ades_timestamp_validation
from pyhanko.sign.validation.errors import SignatureValidationError

from services.documents.confined import pdf, trust
from services.documents.errors import (
    TimeStampInvalidError,
    TimeStampMalformedError,
    TimeStampMismatchError,
    TimeStampOrderError,
    TimeStampUntrustedError,
)

SKEW: Final = timedelta(seconds=60)
"""How far the clocks of this service, the hub and the time stamp authority may be apart."""


def check(
    token_der: bytes,
    imprint_sha256: bytes,
    *,
    anchors: Sequence[x509.Certificate],
    certificates: Sequence[x509.Certificate],
    signing_time: datetime,
    now: datetime,
) -> datetime:
    """Return the time that the token proves for what has that digest.

    `certificates` may complete the authority's chain to an anchor. Revocation is left to validation: the authority
    was asked a moment ago.
    Raises TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
    TimeStampOrderError.
    """
    signed_data, stamped = read(token_der)
    imprint = stamped["message_imprint"]
    if imprint["hash_algorithm"]["algorithm"].native != "sha256" or imprint["hashed_message"].native != imprint_sha256:
        raise TimeStampMismatchError("the time stamp is not for this SHA-256")
    made_at: datetime = stamped["gen_time"].native
    judgement = trust.judgement(anchors, at=now, certificates=certificates, revocation=False)
    try:
        result = trust.run(
            ades_timestamp_validation(
                signed_data,
                judgement.spec,
                lambda _: imprint_sha256,
                timing_info=judgement.timing,
                validation_data_handlers=judgement.data(),
            )
        )
    except (*pdf.MALFORMED, SignatureValidationError) as error:
        raise TimeStampMalformedError("the time stamp token cannot be read") from error
    if isinstance(result.ades_subindic, AdESFailure):
        raise TimeStampInvalidError("the time stamp's own signature does not verify")
    if result.ades_subindic is not AdESPassed.OK:
        raise TimeStampUntrustedError("the time stamp's signer is no time stamp authority under the trust anchors")
    if not signing_time - SKEW <= made_at <= now + SKEW:
        raise TimeStampOrderError("the time stamp is older than the signing time, or from the future")
    return made_at


def read(token_der: bytes) -> tuple[cms.SignedData, tsp.TSTInfo]:
    """Return a token's SignedData and what it states. Raises TimeStampMalformedError."""
    try:
        token = cms.ContentInfo.load(token_der, strict=True)
        signed_data = token["content"]
        stamped = signed_data["encap_content_info"]["content"].parsed
        if not isinstance(stamped, tsp.TSTInfo) or len(signed_data["signer_infos"]) != 1:
            raise ValueError("no TSTInfo by one signer")
        # Asking for its values makes asn1crypto parse all of it now.
        stamped.native  # noqa: B018
        signed_data["signer_infos"].native  # noqa: B018
    except pdf.MALFORMED as error:
        raise TimeStampMalformedError("not a time stamp token") from error
    return signed_data, stamped
