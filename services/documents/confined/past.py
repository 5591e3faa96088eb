"""Judging what was signed long ago, by what is shown to have existed then (ETSI EN 319 102-1, 5.6.2 and 5.6.3).

A time stamp that is valid proves that all it covers existed: the signature, certificates, what was said of their
revocation, and earlier time stamps. So the newest is judged as of now, and each older one as of now or, where its
certificate has ended or its algorithm has aged since, as of the time that newer ones prove it for; at last the
signature. pyHanko judges each single step.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from asn1crypto import cms, x509
from pyhanko.sign.ades.report import AdESFailure, AdESIndeterminate, AdESPassed, AdESSubIndic
from pyhanko.sign.general import CMSExtractionError, extract_certificate_info
from pyhanko.sign.validation.generic_cms import handle_certvalidator_errors
from pyhanko.sign.validation.policy_decl import bootstrap_validation_data_handlers
from pyhanko_certvalidator.ltv.ades_past import past_validate
from pyhanko_certvalidator.ltv.poe import POEManager, POEType
from pyhanko_certvalidator.registry import PathBuilder

from services.documents.confined import cms_parts, describing, pdf, stamps, trust
from services.documents.confined.evidence import Evidence
from services.documents.report import TimeStamp, TimeStampKind

# What later proof of an earlier time can turn (EN 319 102-1, 5.6.3.4 step 4).
OF_THE_PAST: Final = frozenset(
    {
        AdESIndeterminate.CRYPTO_CONSTRAINTS_FAILURE_NO_POE,
        AdESIndeterminate.OUT_OF_BOUNDS_NO_POE,
        AdESIndeterminate.REVOKED_NO_POE,
        AdESIndeterminate.TRY_LATER,
    }
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time stamp around a signature.

    `imprint_of` gives the digest that it should be over, by the algorithm's name; `covers` are SHA-256 of what it shows
    to have existed: of the signature's value and those of earlier stamps, of certificates, CRLs and OCSP responses.
    """

    token: cms.SignedData
    kind: TimeStampKind
    imprint_of: Callable[[str], bytes]
    covers: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Past:
    """What time stamps prove together; `time_stamps` in the order that they were given in.

    `proven` tells by its SHA-256 since when something is shown to have existed.
    """

    time_stamps: tuple[TimeStamp, ...]
    proven: Mapping[bytes, datetime]

    @property
    def best_at(self) -> datetime | None:
        """The earliest time that any of them proves the signature for."""
        return min((stamp.at for stamp in self.time_stamps if stamp.valid), default=None)

    def judge(self, signed_data: cms.SignedData, judged: AdESSubIndic, evidence: Evidence) -> AdESSubIndic:
        """Judge a signature, or a time stamp, again that does not pass as of now."""
        if judged not in OF_THE_PAST:
            return judged
        info = extract_certificate_info(signed_data)
        known = evidence.with_certificates(info.other_certs)
        return self.judge_signer(info.signer_cert, cms_parts.value_sha256(signed_data), judged, known)

    def judge_signer(
        self, certificate: x509.Certificate, value_sha256: bytes, judged: AdESSubIndic, evidence: Evidence
    ) -> AdESSubIndic:
        """Judge again who made a signature with that value, whose value and digests hold."""
        at = self.proven.get(value_sha256)
        if judged not in OF_THE_PAST or at is None:
            return judged
        if judged is AdESIndeterminate.OUT_OF_BOUNDS_NO_POE:
            if not certificate.not_valid_before <= at <= certificate.not_valid_after:
                return judged
            if _is_revoked_by(at, certificate.dump(), evidence):
                return AdESIndeterminate.REVOKED_NO_POE
            # The path is judged at the latest time that evidence is good for. What is said of revocation now is good
            # until now, when the certificate has ended: so only what is shown to have been said in its term serves.
            evidence = self._as_proven_by(certificate.not_valid_after, evidence)
        good_until = trust.run_in_loop(self._good_until(certificate, evidence))
        return AdESPassed.OK if good_until is not None and at <= good_until else judged

    async def _good_until(self, certificate: x509.Certificate, evidence: Evidence) -> datetime | None:
        """Until when a certificate is known to have been good: EN 319 102-1, 5.6.2.1 and 5.6.2.2; None if never.

        pyHanko's own step for signatures finds no CRLs of an authority that is not an anchor, and takes the clock on
        the wall for now; its steps for certificates do neither.
        """
        known = POEManager(evidence.now)
        for digest, since in self.proven.items():
            known.register_by_digest(digest, POEType.VALIDATION, since)
        spec = evidence.judgement().spec
        handlers = bootstrap_validation_data_handlers(spec, is_historical=True, poe_manager_override=known)
        policy = spec.cert_validation_policy
        paths = PathBuilder(policy.trust_manager, handlers.cert_registry).async_build_paths_lazy(certificate)
        try:
            async for path in paths:
                validating = past_validate(path, policy, handlers, init_control_time=evidence.now)
                result = await handle_certvalidator_errors(certificate, validating)
                if result.error_subindic is None:
                    good_until: datetime | None = result.success_result
                    return good_until
        finally:
            await paths.cancel()
        return None

    def _as_proven_by(self, end: datetime, evidence: Evidence) -> Evidence:
        def is_proven(der: bytes) -> bool:
            since = self.proven.get(hashlib.sha256(der).digest())
            return since is not None and since <= end

        return replace(
            evidence,
            crls=[crl for crl in evidence.crls if is_proven(crl.dump())],
            ocsps=[response for response in evidence.ocsps if is_proven(response.dump())],
        )


def of(around: Iterable[Stamp], evidence: Evidence) -> Past:
    """Judge the time stamps around a signature, the newest first; of one second, that which was given last."""
    given = list(around)
    proven: dict[bytes, datetime] = {}
    found: dict[int, TimeStamp] = {}
    newest_first = sorted(enumerate(given), key=lambda item: (stamps.made_at(item[1].token), item[0]), reverse=True)
    for index, stamp in newest_first:
        found[index] = described = stamps.described(stamp.token, stamp.kind, _judged(stamp, proven, evidence))
        if described.valid:
            for digest in stamp.covers:
                proven[digest] = min(described.at, proven.get(digest, described.at))
    return Past(tuple(found[index] for index in range(len(given))), proven)


def _judged(stamp: Stamp, proven: Mapping[bytes, datetime], evidence: Evidence) -> AdESSubIndic:
    """Judge one time stamp; one that cannot be read proves nothing, and takes nothing from what it was put around."""
    try:
        at_hand = evidence.with_embedded_of(stamp.token)
        judged = stamps.judge(stamp.token, stamp.imprint_of, at_hand)
        return Past((), proven).judge(stamp.token, judged, at_hand)
    except (*pdf.MALFORMED, CMSExtractionError):
        return AdESFailure.FORMAT_FAILURE


def _is_revoked_by(at: datetime, certificate_der: bytes, evidence: Evidence) -> bool:
    """Tell whether anything at hand, also of later, says that the certificate or one above it was revoked by then."""
    said = describing.revocation_of(certificate_der, evidence)
    return any(item.revoked_at is not None and item.revoked_at <= at for item in said)
