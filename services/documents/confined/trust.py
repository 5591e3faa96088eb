"""What a certificate or a signature is judged against: trust anchors, evidence of revocation, and a time.

pyHanko's validation is written as coroutines for the sake of its fetchers. Here nothing is ever fetched, so a
validation that waits for something is a fault, and no event loop is needed (nor could the sandbox make one).
"""

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from asn1crypto import pem, x509
from asn1crypto.crl import CertificateList
from pyhanko.sign.validation.policy_decl import (
    LocalKnowledge,
    RevinfoOnlineFetchingRule,
    RevocationInfoGatheringSpec,
    SignatureValidationSpec,
    bootstrap_validation_data_handlers,
)
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko_certvalidator.context import CertValidationPolicySpec, ValidationDataHandlers
from pyhanko_certvalidator.ltv.poe import POEManager
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo
from pyhanko_certvalidator.policy_decl import NO_REVOCATION, REQUIRE_REVINFO, CertRevTrustPolicy
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.revinfo.archival import CRLContainer

SIGNER_KEY_USAGE = KeyUsageConstraints(key_usage={"non_repudiation", "digital_signature"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """One validation's rules: what pyHanko calls a spec, its data, and the time it is made for."""

    spec: SignatureValidationSpec
    timing: ValidationTimingInfo

    def data(self) -> ValidationDataHandlers:
        """A fresh set of stores for one validation."""
        return bootstrap_validation_data_handlers(
            self.spec, self.timing, poe_manager_override=POEManager(self.timing.validation_time)
        )


def judgement(
    anchors: Sequence[x509.Certificate],
    *,
    at: datetime,
    certificates: Iterable[x509.Certificate] = (),
    crls: Iterable[CertificateList] = (),
    revocation: bool,
) -> Judgement:
    """Rules for judging at a time. With `revocation`, each certificate below an anchor needs a fresh, matching CRL."""
    spec = SignatureValidationSpec(
        cert_validation_policy=CertValidationPolicySpec(
            trust_manager=SimpleTrustManager.build(trust_roots=list(anchors)),
            revinfo_policy=CertRevTrustPolicy(REQUIRE_REVINFO if revocation else NO_REVOCATION),
        ),
        revinfo_gathering_policy=RevocationInfoGatheringSpec(RevinfoOnlineFetchingRule.LOCAL_ONLY),
        local_knowledge=LocalKnowledge(known_crls=[CRLContainer(crl) for crl in crls], known_certs=list(certificates)),
        key_usage_settings=SIGNER_KEY_USAGE,
    )
    return Judgement(spec, ValidationTimingInfo(at, at, point_in_time_validation=False))


def anchors_of(anchors_pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read trust anchors from PEM.

    Raises ValueError when there is none or one cannot be read.
    """
    found = tuple(x509.Certificate.load(der, strict=True) for _, _, der in pem.unarmor(anchors_pem, multiple=True))
    if not found:
        raise ValueError("no certificate among the trust anchors")
    return found


def run(validation: Coroutine[Any, Any, _T]) -> _T:
    """Run a validation to its end.

    Raises RuntimeError when it waits for anything: every source is local.
    """
    try:
        validation.send(None)
    except StopIteration as finished:
        result: _T = finished.value
        return result
    validation.close()
    raise RuntimeError("a validation waited, though all it needs is at hand")
