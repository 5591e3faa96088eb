"""What would tell more of a signature, and where its certificates say that it is: nothing is fetched here."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from services.documents.confined import describing
from services.documents.confined.evidence import Evidence
from services.documents.wanted import MAX_BEHIND, MAX_WANTED, Kind, Wanted

_UNREADABLE: Final = (ValueError, TypeError, x509.DuplicateExtension)


@dataclass(slots=True)
class Lacking:
    """Collects it while signatures are judged."""

    found: dict[Wanted, None] = field(default_factory=dict)

    def undigested(self, behind: bytes) -> None:
        """Note what stands behind the content in an archive time stamp."""
        if len(self.found) < MAX_WANTED and len(behind) <= MAX_BEHIND:
            self.found[Wanted(Kind.IMPRINT, "", behind)] = None

    def note(self, certificate_der: bytes, evidence: Evidence) -> None:
        """Note what is missing to judge a certificate."""
        for wanted in _of_chain(certificate_der, evidence):
            if len(self.found) == MAX_WANTED:
                return
            self.found[wanted] = None


def _of_chain(certificate_der: bytes, evidence: Evidence) -> Iterator[Wanted]:
    fresh = {
        item.serial
        for item in describing.revocation_of(certificate_der, evidence)
        if item.next_update_at is None or item.next_update_at >= evidence.now
    }
    chain = describing.certificates_of_chain(certificate_der, evidence)
    for certificate, issuer in itertools.pairwise(chain):
        if f"{certificate.serial_number:x}" not in fresh:
            yield from _status(certificate, issuer)
    anchors = {anchor.dump() for anchor in evidence.anchors}
    if chain and chain[-1].public_bytes(Encoding.DER) not in anchors and chain[-1].issuer != chain[-1].subject:
        for url in _access(chain[-1], AuthorityInformationAccessOID.CA_ISSUERS)[:1]:
            yield Wanted(Kind.ISSUER, url)


def _status(certificate: x509.Certificate, issuer: x509.Certificate) -> Iterator[Wanted]:
    for url in _access(certificate, AuthorityInformationAccessOID.OCSP)[:1]:
        # SHA-1 only names the issuer here; it is what every responder knows (RFC 5019 section 2.1.1).
        request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1()).build()  # noqa: S303
        yield Wanted(Kind.OCSP, url, request.public_bytes(Encoding.DER))
    for url in _distribution_points(certificate)[:1]:
        yield Wanted(Kind.CRL, url)


def _access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return []
    return list(_urls(item.access_location for item in extension.value if item.access_method == method))


def _distribution_points(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return []
    return list(_urls(name for point in extension.value for name in point.full_name or ()))


def _urls(names: Iterator[x509.GeneralName]) -> Iterator[str]:
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.lower().startswith(("http://", "https://")):
            yield name.value
