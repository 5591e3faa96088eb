"""What signatures are judged by: trust anchors, and what is at hand of certificates, CRLs and OCSP responses."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from asn1crypto import cms, x509
from asn1crypto.crl import CertificateList
from asn1crypto.ocsp import OCSPResponse

from services.documents.confined import cms_parts, pdf, trust
from services.documents.errors import DocumentTooComplexError
from services.documents.report import EvidenceSource

MAX_EMBEDDED: Final = 64
"""Certificates, and as many CRLs and OCSP responses, that are looked at in one document."""
MAX_TIME_STAMPS: Final = 8
"""On one signature; more are not looked at, and what is not looked at proves nothing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What signatures are judged by; `now` is UTC. `sources` tell by SHA-256 of its DER where a piece came from.

    `unjudged` is told of each certificate that could not be judged, with the evidence at hand.
    `contents_then` holds what `content_then` answers, by SHA-256 of what stands behind the content; `undigested` is
    told of what is not among it.
    """

    anchors: Sequence[x509.Certificate]
    crls: Sequence[CertificateList]
    now: datetime
    ocsps: Sequence[OCSPResponse] = ()
    certificates: Sequence[x509.Certificate] = ()
    sources: Mapping[bytes, EvidenceSource] = field(default_factory=dict)
    unjudged: "Callable[[bytes, Evidence], None] | None" = None
    undigested: Callable[[bytes], None] | None = None
    contents_then: Mapping[bytes, Mapping[str, bytes]] = field(default_factory=dict)

    def judgement(self, *, revocation: bool = True, at: datetime | None = None) -> trust.Judgement:
        """The rules for now, or for a time in the past; without `revocation` to tell what the lack of a CRL changes."""
        return trust.judgement(
            self.anchors,
            at=at or self.now,
            in_the_past=at is not None,
            certificates=self.certificates,
            crls=self.crls,
            ocsps=self.ocsps,
            revocation=revocation,
        )

    def with_certificates(self, certificates: Iterable[x509.Certificate]) -> "Evidence":
        """The same and these certificates."""
        return replace(self, certificates=[*self.certificates, *certificates])

    def content_then(self, behind: bytes) -> Mapping[str, bytes] | None:
        """Digests, by algorithm, of the detached content with something behind it; None when nobody has told them.

        Only the service has the content: it is asked for them.
        """
        found = self.contents_then.get(hashlib.sha256(behind).digest())
        if found is None and self.undigested is not None:
            self.undigested(behind)
        return found

    def note_unjudged(self, certificate_der: bytes) -> None:
        """Say that a certificate could not be judged by this."""
        if self.unjudged is not None:
            self.unjudged(certificate_der, self)

    def with_embedded(
        self,
        source: EvidenceSource,
        *,
        certificates_der: Iterable[bytes] = (),
        crls_der: Iterable[bytes] = (),
        ocsps_der: Iterable[bytes] = (),
    ) -> "Evidence":
        """The same and what a document brings; a piece that cannot be read is no evidence.

        Raises DocumentTooComplexError when it brings more than is looked at.
        """
        certificates = _limited(certificates_der, "certificates")
        crls, ocsps = _limited(crls_der, "CRLs"), _limited(ocsps_der, "OCSP responses")
        found = {hashlib.sha256(der).digest(): source for der in (*crls, *ocsps)}
        return replace(
            self,
            certificates=[*self.certificates, *readable_certificates(certificates)],
            crls=[*self.crls, *readable_crls(crls)],
            ocsps=[*self.ocsps, *readable_ocsps(ocsps)],
            sources={**found, **self.sources},
        )

    def with_embedded_of(self, signed_data: cms.SignedData) -> "Evidence":
        """The same and what a CMS signature and the time stamps on it bring. Raises DocumentTooComplexError."""
        stamps = list(cms_parts.time_stamps(signed_data["signer_infos"][0]))[:MAX_TIME_STAMPS]
        found = self
        for part in (signed_data, *stamps):
            found = found.with_embedded(
                EvidenceSource.CMS,
                certificates_der=cms_parts.certificates_der(part),
                crls_der=cms_parts.crls_der(part),
                ocsps_der=cms_parts.ocsps_der(part),
            )
        return found


def readable_certificates(ders: Iterable[bytes]) -> list[x509.Certificate]:
    """The certificates that can be read."""
    found = []
    for der in ders:
        try:
            certificate = x509.Certificate.load(der, strict=True)
            certificate["tbs_certificate"].native  # noqa: B018 - asn1crypto parses when a value is asked for
        except pdf.MALFORMED:
            continue
        found.append(certificate)
    return found


def fetched_certificates(answers: Iterable[bytes]) -> list[bytes]:
    """Certificates (DER) in what AIA led to: one, or a "certs-only" CMS (RFC 5280, 4.2.2.1)."""
    found: list[bytes] = []
    for der in answers:
        try:
            envelope = cms.ContentInfo.load(der, strict=True)
            if envelope["content_type"].native == "signed_data":
                found += [choice.chosen.dump() for choice in cms_parts.choices(envelope["content"]["certificates"])]
        except pdf.MALFORMED:
            found.append(der)
    return found


def readable_crls(ders: Iterable[bytes]) -> list[CertificateList]:
    """The CRLs that can be read; one that cannot is no evidence."""
    found = []
    for der in ders:
        try:
            crl = CertificateList.load(der, strict=True)
            crl["tbs_cert_list"].native  # noqa: B018
        except pdf.MALFORMED:
            continue
        found.append(crl)
    return found


def readable_ocsps(ders: Iterable[bytes]) -> list[OCSPResponse]:
    """The OCSP responses that can be read and say something."""
    found = []
    for der in ders:
        try:
            response = OCSPResponse.load(der, strict=True)
            if response["response_status"].native != "successful":
                continue
            response.response_data.native  # noqa: B018
        except pdf.MALFORMED:
            continue
        found.append(response)
    return found


def _limited(ders: Iterable[bytes], what: str) -> list[bytes]:
    found: list[bytes] = []
    for der in dict.fromkeys(ders):
        if len(found) == MAX_EMBEDDED:
            raise DocumentTooComplexError(f"more than {MAX_EMBEDDED} {what} in one document")
        found.append(der)
    return found
