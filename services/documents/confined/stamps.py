"""Judging the time stamps that a signature carries (EN 319 102-1, 5.4)."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from asn1crypto import cms, tsp
from pyhanko.sign.ades.report import AdESIndeterminate, AdESPassed, AdESStatus, AdESSubIndic
from pyhanko.sign.general import CMSExtractionError, extract_certificate_info
from pyhanko.sign.validation.ades import ades_timestamp_validation
from pyhanko.sign.validation.errors import SignatureValidationError

from services.documents.confined import describing, pdf, trust
from services.documents.confined.evidence import Evidence
from services.documents.report import TimeStamp, TimeStampKind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def judge(token: cms.SignedData, imprint_of: Callable[[str], bytes], evidence: Evidence) -> AdESSubIndic:
    """Judge a time stamp over what `imprint_of` gives the digest of, by its algorithm's name."""
    judged = _judged(token, imprint_of, evidence)
    if judged.status is AdESStatus.INDETERMINATE and evidence.unjudged is not None:
        with suppress(CMSExtractionError, *pdf.MALFORMED):
            evidence.note_unjudged(extract_certificate_info(token).signer_cert.dump())
    return judged


def _judged(token: cms.SignedData, imprint_of: Callable[[str], bytes], evidence: Evidence) -> AdESSubIndic:
    judgement = evidence.judgement()
    try:
        result = trust.run(
            ades_timestamp_validation(
                token,
                judgement.spec,
                imprint_of,
                timing_info=judgement.timing,
                validation_data_handlers=judgement.data(),
            )
        )
    except SignatureValidationError as error:
        return error.ades_subindication or AdESIndeterminate.GENERIC
    except pdf.MALFORMED:
        return AdESIndeterminate.GENERIC
    return result.ades_subindic


def described(token: cms.SignedData, kind: TimeStampKind, judged: AdESSubIndic) -> TimeStamp:
    """What a time stamp says, and whether that is worth anything."""
    valid = judged is AdESPassed.OK
    try:
        authority, _ = describing.subject_and_serial(extract_certificate_info(token).signer_cert.dump())
    except (CMSExtractionError, *pdf.MALFORMED):
        authority = ""
    return TimeStamp(kind, made_at(token), authority, valid)


def made_at(token: cms.SignedData) -> datetime:
    """When a time stamp says that it was made; 1970 when it does not say."""
    try:
        stamped = token["encap_content_info"]["content"].parsed
        at: datetime = stamped["gen_time"].native if isinstance(stamped, tsp.TSTInfo) else _EPOCH
    except pdf.MALFORMED:
        return _EPOCH
    return at
