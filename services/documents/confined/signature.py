"""Judging one signature in the manner of ETSI EN 319 102-1: 5.3 basic validation, 5.5 validation with time.

pyHanko judges; this module feeds it local evidence only and puts its answer into a report.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from asn1crypto import cms
from pyhanko.sign.ades.report import AdESIndeterminate, AdESPassed, AdESStatus, AdESSubIndic
from pyhanko.sign.general import CMSExtractionError, extract_certificate_info
from pyhanko.sign.validation.ades import (
    AdESWithTimeValidationResult,
    ades_basic_validation,
    ades_past_signature_validation,
    ades_with_time_validation,
)
from pyhanko.sign.validation.generic_cms import (
    extract_self_reported_ts,
    extract_tst_data_iter,
    message_imprint_checker,
)
from pyhanko_certvalidator.ltv.poe import POEManager, POEType

from services.documents.confined import archive_time_stamp, cms_parts, describing, stamps, trust
from services.documents.confined.archive_time_stamp import Proof
from services.documents.confined.evidence import MAX_TIME_STAMPS, Evidence
from services.documents.report import Indication, SignatureReport, TimeStamp, TimeStampKind

__all__ = ["Evidence", "describe", "judge", "without_verdict"]

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
_WITHOUT_TIME: Final = "valid now; without a time stamp nothing proves when it was made"


# Turned only by proof that the evidence existed in time too, which a time stamp on the signature does not give.
_NOT_BY_A_STAMP_ALONE: Final = frozenset({AdESIndeterminate.OUT_OF_BOUNDS_NO_POE, AdESIndeterminate.REVOKED_CA_NO_POE})
# What later proof of an earlier time can turn (EN 319 102-1, 5.6.3.4 step 4).
_OF_THE_PAST: Final = frozenset(
    {
        AdESIndeterminate.CRYPTO_CONSTRAINTS_FAILURE_NO_POE,
        AdESIndeterminate.OUT_OF_BOUNDS_NO_POE,
        AdESIndeterminate.REVOKED_NO_POE,
        AdESIndeterminate.TRY_LATER,
    }
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    sub_indication: AdESSubIndic
    of_time_stamp: bool = False
    stamped_at: datetime | None = None


def judge(
    signed_data: cms.SignedData,
    digest: bytes | None,
    evidence: Evidence,
    *,
    in_the_past: Callable[[Evidence], AdESSubIndic] | None = None,
) -> SignatureReport:
    """Judge a SignedData of one signer; `digest` is that of the detached content, None when it is inside.

    `in_the_past` judges by proofs of an earlier time that stand around the signature (in a PDF); without it those in
    the signature serve.
    """
    evidence = evidence.with_embedded_of(signed_data)
    verdict = _validate(signed_data, digest, evidence.judgement())
    if verdict.sub_indication is AdESIndeterminate.CERTIFICATE_CHAIN_GENERAL_FAILURE:
        without = _validate(signed_data, digest, evidence.judgement(revocation=False))
        if without.sub_indication is AdESPassed.OK:
            verdict = replace(verdict, sub_indication=AdESIndeterminate.TRY_LATER)
    if verdict.sub_indication is AdESIndeterminate.TRY_LATER:
        verdict = _at_its_stamp(signed_data, digest, verdict, evidence)
    if verdict.sub_indication in _OF_THE_PAST and in_the_past is not None:
        verdict = replace(verdict, sub_indication=in_the_past(evidence))
    elif verdict.sub_indication in _OF_THE_PAST:
        proofs = archive_time_stamp.proofs(signed_data, evidence)
        if proofs:
            verdict = replace(verdict, sub_indication=_in_the_past(signed_data, verdict, proofs, evidence))
    return describe(signed_data, report_of(verdict.sub_indication, verdict.stamped_at, verdict.of_time_stamp), evidence)


def without_verdict(indication: Indication, sub_indication: str, explanation: str = "") -> SignatureReport:
    """A report on something that could not be put before the judge."""
    return SignatureReport(indication, sub_indication, explanation or _EXPLANATIONS[sub_indication])


def describe(signed_data: cms.SignedData, report: SignatureReport, evidence: Evidence | None = None) -> SignatureReport:
    """Add to a report who signed, when they say they did, and what they signed with, as far as that can be read."""
    signer_info = signed_data["signer_infos"][0]
    report = replace(
        report,
        claimed_at=utc(extract_self_reported_ts(signer_info)),
        format=cms_parts.format_of(signed_data),
        level=cms_parts.level_of(signed_data),
    )
    try:
        certificate_der = extract_certificate_info(signed_data).signer_cert.dump()
    except (CMSExtractionError, ValueError):
        return report
    subject, serial = describing.subject_and_serial(certificate_der)
    report = replace(report, signer_subject=subject, signer_serial=serial)
    if evidence is None:
        return report
    return replace(
        report,
        best_signature_at=report.stamped_at or evidence.now,
        chain=describing.chain_of(certificate_der, evidence),
        revocation=describing.revocation_of(certificate_der, evidence),
        time_stamps=(
            *time_stamps_of(signed_data, evidence),
            *(proof.time_stamp for proof in archive_time_stamp.proofs(signed_data, evidence, valid_only=False)),
        ),
    )


def time_stamps_of(signed_data: cms.SignedData, evidence: Evidence) -> Iterable[TimeStamp]:
    """What the time stamps on a signature say, each judged by itself."""
    signer_info = signed_data["signer_infos"][0]
    found = list(cms_parts.time_stamps(signer_info))[:MAX_TIME_STAMPS]
    imprint_of = message_imprint_checker(signer_info)
    return [
        stamps.described(stamp, TimeStampKind.SIGNATURE, stamps.judge(stamp, imprint_of, evidence)) for stamp in found
    ]


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
    stamped_at = _stamped_at(timed, judgement.timing.validation_time)
    if basic.ades_subindic in _NOT_BY_A_STAMP_ALONE and timed.ades_subindic is AdESPassed.OK:
        # pyHanko lets these pass with any stamp, even one of after the certificate's end.
        return _Verdict(basic.ades_subindic, stamped_at=stamped_at)
    passed_without = basic.ades_subindic is AdESPassed.OK
    return _Verdict(
        timed.ades_subindic,
        of_time_stamp=passed_without and timed.ades_subindic is not AdESPassed.OK,
        stamped_at=stamped_at,
    )


def _stamped_at(timed: AdESWithTimeValidationResult, now: datetime) -> datetime | None:
    stamp = getattr(timed.api_status, "timestamp_validity", None)
    if stamp is not None:
        return utc(stamp.timestamp)
    # pyHanko leaves the stamp out of a signature that does not pass; only a valid one makes its time earlier than now.
    return utc(timed.best_signature_time) if timed.best_signature_time < now else None


def report_of(
    sub_indication: AdESSubIndic, stamped_at: datetime | None, of_time_stamp: bool = False
) -> SignatureReport:
    """A verdict in words; `of_time_stamp` when it is the stamp that does not pass."""
    indication = _INDICATIONS[sub_indication.status]
    if indication is Indication.TOTAL_PASSED:
        return SignatureReport(indication, "", "" if stamped_at else _WITHOUT_TIME, stamped_at=stamped_at)
    name = str(sub_indication.standard_name)
    explanation = _EXPLANATIONS.get(name, "the validation came to no result")
    if of_time_stamp:
        explanation = f"the time stamp: {explanation}"
    return SignatureReport(indication, name, explanation, stamped_at=stamped_at)


def _at_its_stamp(signed_data: cms.SignedData, digest: bytes | None, verdict: _Verdict, evidence: Evidence) -> _Verdict:
    """Judge at the best signature time when a stamp that is valid now proves it and no evidence is fresh now.

    What was issued for then and says nothing of a revocation is enough: one of later would not undo the signature.
    """
    stamped_at = min((stamp.at for stamp in time_stamps_of(signed_data, evidence) if stamp.valid), default=None)
    if stamped_at is None:
        return verdict
    judgement = evidence.judgement(at=stamped_at)
    then = trust.run(
        ades_basic_validation(
            signed_data,
            judgement.spec,
            timing_info=judgement.timing,
            raw_digest=digest,
            validation_data_handlers=judgement.data(),
        )
    )
    if then.ades_subindic is AdESPassed.OK:
        return _Verdict(AdESPassed.OK, stamped_at=utc(stamped_at))
    return replace(verdict, stamped_at=utc(stamped_at))


def _in_the_past(
    signed_data: cms.SignedData, verdict: _Verdict, proofs: Iterable[Proof], evidence: Evidence
) -> AdESSubIndic:
    """Judge at the best signature time, as far as archive time stamps prove the evidence for then (5.6.2.4)."""
    known = POEManager(evidence.now)
    signature = signed_data["signer_infos"][0]["signature"].native
    known.register(signature, POEType.VALIDATION, verdict.stamped_at or evidence.now)
    for proof in proofs:
        known.register(signature, POEType.VALIDATION, proof.time_stamp.at)
        for covered in proof.covered_sha256:
            known.register_by_digest(covered, POEType.VALIDATION, proof.time_stamp.at)
    if not isinstance(verdict.sub_indication, AdESIndeterminate):
        return verdict.sub_indication
    spec = evidence.judgement().spec
    return trust.run_in_loop(
        ades_past_signature_validation(signed_data, spec, known, verdict.sub_indication, evidence.now)
    )
