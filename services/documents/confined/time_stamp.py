"""Checking a time stamp token before it goes into a signature (RFC 3161, RFC 5816)."""

import hashlib
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
    signature: bytes,
    *,
    anchors: Sequence[x509.Certificate],
    certificates: Sequence[x509.Certificate],
    signing_time: datetime,
    now: datetime,
) -> datetime:
    """Return the time that the token proves for `signature` (the signature value, not its digest).

    `certificates` may complete the authority's chain to an anchor. Revocation is left to validation: the authority
    was asked a moment ago.
    Raises TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
    TimeStampOrderError.
    """
    signed_data, stamped = _read(token_der)
    imprint = stamped["message_imprint"]
    expected = hashlib.sha256(signature).digest()
    if imprint["hash_algorithm"]["algorithm"].native != "sha256" or imprint["hashed_message"].native != expected:
        raise TimeStampMismatchError("the time stamp is not for SHA-256 of this signature")
    made_at: datetime = stamped["gen_time"].native
    judgement = trust.judgement(anchors, at=now, certificates=certificates, revocation=False)
    try:
        result = trust.run(
            ades_timestamp_validation(
                signed_data,
                judgement.spec,
                lambda _: expected,
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


def _read(token_der: bytes) -> tuple[cms.SignedData, tsp.TSTInfo]:
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
