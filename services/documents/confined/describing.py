"""What a report says of a signature besides the verdict: its chain, the evidence on revocation, names and serials.

Read with `cryptography`, which is quick with large CRLs; only what is properly signed is named as evidence. Nothing
here decides: pyHanko does.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.documents.confined.evidence import Evidence
from services.documents.report import ChainCertificate, EvidenceKind, EvidenceSource, RevocationEvidence

_MAX_CHAIN: Final = 10
# Attribute types of Kazakh subjects that RFC 4514 has no short name for; the names are those of RFC 4519.
_MORE_NAMES: Final = {
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.GIVEN_NAME: "givenName",
    NameOID.SURNAME: "SN",
}
_MAX_NAME: Final = 512
_UNREADABLE: Final = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm)


def name_of(name: x509.Name) -> str:
    """RFC 4514, with the names of Kazakh subjects."""
    text = name.rfc4514_string(_MORE_NAMES)
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"


def subject_and_serial(certificate_der: bytes) -> tuple[str, str]:
    """Subject and serial number (lower-case hex) of a certificate; both "" when it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        return name_of(certificate.subject), f"{certificate.serial_number:x}"
    except _UNREADABLE:
        return "", ""


def chain_of(certificate_der: bytes, evidence: Evidence) -> tuple[ChainCertificate, ...]:
    """The chain from a certificate as far up as the certificates at hand lead, each issued by the next."""
    anchors = [der.dump() for der in evidence.anchors]
    return tuple(_described(certificate, anchors) for certificate in certificates_of_chain(certificate_der, evidence))


def certificates_of_chain(certificate_der: bytes, evidence: Evidence) -> Sequence[x509.Certificate]:
    """The certificates of that chain; none when the first cannot be read."""
    return _chain(certificate_der, [known.dump() for known in (*evidence.anchors, *evidence.certificates)])


def revocation_of(certificate_der: bytes, evidence: Evidence) -> tuple[RevocationEvidence, ...]:
    """What the evidence at hand says of each certificate of the chain."""
    chain = certificates_of_chain(certificate_der, evidence)
    crls = [(der, x509.load_der_x509_crl(der)) for der in _readable_crls(crl.dump() for crl in evidence.crls)]
    found: list[RevocationEvidence] = []
    for certificate, issuer in itertools.pairwise(chain):
        for der, crl in crls:
            if crl.issuer == issuer.subject and _signed_by(crl, issuer):
                found.append(_of_crl(certificate, crl, _source(evidence, der)))
        for response in evidence.ocsps:
            der = response.dump()
            found.extend(_of_ocsp(certificate, issuer, der, _source(evidence, der)))
    return tuple(found)


def _chain(certificate_der: bytes, pool_der: Iterable[bytes]) -> Sequence[x509.Certificate]:
    try:
        chain = [x509.load_der_x509_certificate(certificate_der)]
    except _UNREADABLE:
        return []
    pool = list(_readable(pool_der))
    while len(chain) < _MAX_CHAIN and chain[-1].subject != chain[-1].issuer:
        above = next((candidate for candidate in pool if _issued(candidate, chain[-1])), None)
        if above is None:
            break
        chain.append(above)
    return chain


def _readable(ders: Iterable[bytes]) -> Iterator[x509.Certificate]:
    for der in ders:
        try:
            yield x509.load_der_x509_certificate(der)
        except _UNREADABLE:
            continue


def _readable_crls(ders: Iterable[bytes]) -> Iterator[bytes]:
    for der in ders:
        try:
            x509.load_der_x509_crl(der)
        except _UNREADABLE:
            continue
        yield der


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def _described(certificate: x509.Certificate, anchors: Sequence[bytes]) -> ChainCertificate:
    der = certificate.public_bytes(encoding=Encoding.DER)
    return ChainCertificate(
        subject=name_of(certificate.subject),
        issuer=name_of(certificate.issuer),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=hashlib.sha256(der).digest(),
        anchor=der in anchors,
    )


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except _UNREADABLE:
        return False


def _of_crl(
    certificate: x509.Certificate, crl: x509.CertificateRevocationList, source: EvidenceSource
) -> RevocationEvidence:
    entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    return RevocationEvidence(
        kind=EvidenceKind.CRL,
        source=source,
        serial=f"{certificate.serial_number:x}",
        produced_at=crl.last_update_utc,
        next_update_at=crl.next_update_utc,
        revoked_at=entry.revocation_date_utc if entry else None,
    )


def _of_ocsp(
    certificate: x509.Certificate, issuer: x509.Certificate, der: bytes, source: EvidenceSource
) -> Iterator[RevocationEvidence]:
    try:
        response = ocsp.load_der_ocsp_response(der)
        if not _answers_for(response, issuer):
            return
        for single in response.responses:
            if single.serial_number != certificate.serial_number:
                continue
            if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
                continue
            yield RevocationEvidence(
                kind=EvidenceKind.OCSP,
                source=source,
                serial=f"{certificate.serial_number:x}",
                produced_at=response.produced_at_utc,
                next_update_at=single.next_update_utc,
                revoked_at=single.revocation_time_utc,
            )
    except _UNREADABLE:
        return


def _answers_for(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """Tell whether the issuer, or a responder that it named (RFC 6960, 4.2.2.2), signed the response."""
    if _signature_verifies(response, issuer):
        return True
    for responder in response.certificates:
        try:
            usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (x509.ExtensionNotFound, *_UNREADABLE):
            continue
        if ExtendedKeyUsageOID.OCSP_SIGNING in usage and _issued(issuer, responder):
            return _signature_verifies(response, responder)
    return False


def _signature_verifies(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    if algorithm is None:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _source(evidence: Evidence, der: bytes) -> EvidenceSource:
    return evidence.sources.get(hashlib.sha256(der).digest(), EvidenceSource.GIVEN)
