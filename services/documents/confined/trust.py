"""What a certificate or a signature is judged against: trust anchors, evidence of revocation, and a time.

pyHanko's validation is written as coroutines for the sake of its fetchers. Here nothing is ever fetched, so a
validation that waits for something is a fault, and no event loop is needed. Only validation in the past gathers its
evidence through tasks; it gets a loop without a socket, since the sandbox refuses those.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from asn1crypto import pem, x509
from asn1crypto.crl import CertificateList
from asn1crypto.ocsp import OCSPResponse
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
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

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
    ocsps: Iterable[OCSPResponse] = (),
    revocation: bool,
    in_the_past: bool = False,
) -> Judgement:
    """Rules for judging at a time.

    With `revocation`, each certificate below an anchor needs a matching CRL or OCSP response that is fresh at that
    time; with `in_the_past` also a later one serves, since it would tell of a revocation before.
    """
    spec = SignatureValidationSpec(
        cert_validation_policy=CertValidationPolicySpec(
            trust_manager=SimpleTrustManager.build(trust_roots=list(anchors)),
            revinfo_policy=CertRevTrustPolicy(
                REQUIRE_REVINFO if revocation else NO_REVOCATION, retroactive_revinfo=in_the_past
            ),
        ),
        revinfo_gathering_policy=RevocationInfoGatheringSpec(RevinfoOnlineFetchingRule.LOCAL_ONLY),
        local_knowledge=LocalKnowledge(
            known_crls=[CRLContainer(crl) for crl in crls],
            known_ocsps=[single for response in ocsps for single in OCSPContainer.load_multi(response)],
            # Anchors too: judging in the past, pyHanko looks for the issuers of CRLs among the known certificates only.
            known_certs=[*certificates, *anchors],
        ),
        key_usage_settings=SIGNER_KEY_USAGE,
    )
    return Judgement(spec, ValidationTimingInfo(at, at, point_in_time_validation=in_the_past))


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


def run_in_loop(validation: Coroutine[Any, Any, _T]) -> _T:
    """Run a validation that gathers its evidence through tasks, to its end."""
    loop = _SocketlessLoop()
    try:
        return loop.run_until_complete(validation)
    finally:
        loop.close()


class _SocketlessLoop(asyncio.SelectorEventLoop):
    """A loop that nothing outside ever wakes: it waits for no input, no signal and no other thread."""

    def _make_self_pipe(self) -> None:
        """No socket pair."""

    def _close_self_pipe(self) -> None:
        """Nothing to close."""
