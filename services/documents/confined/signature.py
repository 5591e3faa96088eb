"""Judging one signature in the manner of ETSI EN 319 102-1: 5.3 basic validation, 5.5 validation with time.

pyHanko judges; this module feeds it local evidence only and puts its answer into a report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from asn1crypto import cms, x509
from asn1crypto.crl import CertificateList
from cryptography.x509 import InvalidVersion, load_der_x509_certificate
from cryptography.x509.oid import NameOID
from pyhanko.sign.ades.report import AdESIndeterminate, AdESPassed, AdESStatus, AdESSubIndic
from pyhanko.sign.general import CMSExtractionError, extract_certificate_info
from pyhanko.sign.validation.ades import (
    AdESWithTimeValidationResult,
    ades_basic_validation,
    ades_with_time_validation,
)
from pyhanko.sign.validation.generic_cms import extract_self_reported_ts, extract_tst_data_iter

from services.documents.confined import trust
from services.documents.report import Indication, SignatureReport

_INDICATIONS: Final = {
    AdESStatus.PASSED: Indication.TOTAL_PASSED,
    AdESStatus.FAILED: Indication.TOTAL_FAILED,
    AdESStatus.INDETERMINATE: Indication.INDETERMINATE,
}
_EXPLANATIONS: Final = {
    "CERTIFICATE_CHAIN_GENERAL_FAILURE": "the certificate chain does not validate",
    "CHAIN_CONSTRAINTS_FAILURE": "the certificate is not meant for this use",
    "CRYPTO_CONSTRAINTS_FAILURE": "an algorithm or key that is not accepted",
    "CRYPTO_CONSTRAINTS_FAILURE_NO_POE": "an algorithm that is not accepted any more, and no proof of an earlier time",
    "FORMAT_FAILURE": "the signature is not well-formed",
    "HASH_FAILURE": "the content is not what was signed",
    "NO_CERTIFICATE_CHAIN_FOUND": "the certificate does not lead to a trust anchor",
    "NO_SIGNING_CERTIFICATE_FOUND": "the signer's certificate is missing or not the one that was signed for",
    "OUT_OF_BOUNDS_NO_POE": "the certificate is not valid now, and nothing proves that it was when it signed",
    "REVOKED_CA_NO_POE": "the certificate of an authority is revoked, and nothing proves that it signed before",
    "REVOKED_NO_POE": "the certificate is revoked, and nothing proves that it signed before",
    "SIG_CRYPTO_FAILURE": "the signature value does not verify",
    "SIGNED_DATA_NOT_FOUND": "the signature is detached and its content was not given",
    "TRY_LATER": "no fresh evidence on revocation was at hand",
}
# Attribute types of Kazakh subjects that RFC 4514 has no short name for; the names are those of RFC 4519.
_MORE_NAMES: Final = {
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.GIVEN_NAME: "givenName",
    NameOID.SURNAME: "SN",
}
_WITHOUT_TIME: Final = "valid now; without a time stamp nothing proves when it was made"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What signatures are judged by; `now` is UTC."""

    anchors: Sequence[x509.Certificate]
    crls: Sequence[CertificateList]
    now: datetime

    def judgement(self, *, revocation: bool = True) -> trust.Judgement:
        """The rules; without `revocation` only to tell what the lack of a CRL changes."""
        return trust.judgement(self.anchors, at=self.now, crls=self.crls, revocation=revocation)


@dataclass(frozen=True, slots=True)
class _Verdict:
    sub_indication: AdESSubIndic
    of_time_stamp: bool = False
    stamped_at: datetime | None = None


def judge(signed_data: cms.SignedData, digest: bytes | None, evidence: Evidence) -> SignatureReport:
    """Judge a SignedData of one signer; `digest` is that of the detached content, None when it is inside."""
    verdict = _validate(signed_data, digest, evidence.judgement())
    if verdict.sub_indication is AdESIndeterminate.CERTIFICATE_CHAIN_GENERAL_FAILURE:
        without = _validate(signed_data, digest, evidence.judgement(revocation=False))
        if without.sub_indication is AdESPassed.OK:
            verdict = replace(verdict, sub_indication=AdESIndeterminate.TRY_LATER)
    return describe(signed_data, _report(verdict))


def without_verdict(indication: Indication, sub_indication: str, explanation: str = "") -> SignatureReport:
    """A report on something that could not be put before the judge."""
    return SignatureReport(indication, sub_indication, explanation or _EXPLANATIONS[sub_indication])


def describe(signed_data: cms.SignedData, report: SignatureReport) -> SignatureReport:
    """Add to a report who signed and when they say they did, as far as that can be read."""
    claimed_at = extract_self_reported_ts(signed_data["signer_infos"][0])
    try:
        certificate_der = extract_certificate_info(signed_data).signer_cert.dump()
        certificate = load_der_x509_certificate(certificate_der)
        subject, serial = certificate.subject.rfc4514_string(_MORE_NAMES), f"{certificate.serial_number:x}"
    except (CMSExtractionError, InvalidVersion, ValueError):
        subject, serial = "", ""
    return replace(report, signer_subject=subject, signer_serial=serial, claimed_at=utc(claimed_at))


def utc(time: datetime | None) -> datetime | None:
    """The same time in UTC; one without zone is taken as UTC."""
    if time is None:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _validate(signed_data: cms.SignedData, digest: bytes | None, judgement: trust.Judgement) -> _Verdict:
    basic = trust.run(
        ades_basic_validation(
            signed_data,
            judgement.spec,
            timing_info=judgement.timing,
            raw_digest=digest,
            validation_data_handlers=judgement.data(),
        )
    )
    if next(extract_tst_data_iter(signed_data["signer_infos"][0], signed=False), None) is None:
        return _Verdict(basic.ades_subindic)
    timed = trust.run(
        ades_with_time_validation(
            signed_data,
            judgement.spec,
            timing_info=judgement.timing,
            raw_digest=digest,
            validation_data_handlers=judgement.data(),
        )
    )
    passed_without = basic.ades_subindic is AdESPassed.OK
    return _Verdict(
        timed.ades_subindic,
        of_time_stamp=passed_without and timed.ades_subindic is not AdESPassed.OK,
        stamped_at=_stamped_at(timed, judgement.timing.validation_time),
    )


def _stamped_at(timed: AdESWithTimeValidationResult, now: datetime) -> datetime | None:
    stamp = getattr(timed.api_status, "timestamp_validity", None)
    if stamp is not None:
        return utc(stamp.timestamp)
    # pyHanko leaves the stamp out of a signature that does not pass; only a valid one makes its time earlier than now.
    return utc(timed.best_signature_time) if timed.best_signature_time < now else None


def _report(verdict: _Verdict) -> SignatureReport:
    indication = _INDICATIONS[verdict.sub_indication.status]
    if indication is Indication.TOTAL_PASSED:
        explanation = "" if verdict.stamped_at else _WITHOUT_TIME
        return SignatureReport(indication, "", explanation, stamped_at=verdict.stamped_at)
    name = str(verdict.sub_indication.standard_name)
    explanation = _EXPLANATIONS.get(name, "the validation came to no result")
    if verdict.of_time_stamp:
        explanation = f"the time stamp: {explanation}"
    return SignatureReport(indication, name, explanation, stamped_at=verdict.stamped_at)
