"""CMS SignedData for one signer, built around a signature that was made elsewhere (RFC 5652, ETSI EN 319 122-1).

The builder takes the signed attributes as the very bytes whose digest was signed and never re-encodes them.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from asn1crypto import algos, cms, tsp, x509

from mesh import signed_attributes


def signed_data(
    attributes_der: bytes, signature: bytes, certificates: Sequence[bytes], time_stamp_token: bytes
) -> bytes:
    """Return the DER ContentInfo of a detached SignedData with a signature time stamp (level B-T).

    `attributes_der` is the DER of a SET OF Attribute, `signature` a DER ECDSA-Sig-Value over its SHA-256,
    `certificates` DER, the signer's first; self-signed ones are left out, since a verifier brings its own anchors.
    """
    signer = x509.Certificate.load(certificates[0])
    sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
    attributes = cms.CMSAttributes.load(attributes_der)
    token = cms.CMSAttribute({"type": "signature_time_stamp_token", "values": [cms.ContentInfo.load(time_stamp_token)]})
    signer_info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                {"issuer_and_serial_number": {"issuer": signer.issuer, "serial_number": signer.serial_number}}
            ),
            "digest_algorithm": sha256,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": signature,
            "unsigned_attrs": cms.CMSAttributes([token]),
        }
    )
    content = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [sha256],
            "encap_content_info": {"content_type": "data"},
            "certificates": _embedded(certificates),
            "signer_infos": [signer_info],
        }
    )
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": content}).dump())


def cades_attributes(content_sha256: bytes, certificate_der: bytes, signing_time: datetime) -> bytes:
    """Return the DER signed attributes of a detached CAdES signature, as every verifier rebuilds them."""
    certificate_sha256 = hashlib.sha256(certificate_der).digest()
    return signed_attributes.encode(content_sha256, certificate_sha256, int(signing_time.timestamp()))


def pades_attributes(range_sha256: bytes, certificate_der: bytes) -> bytes:
    """Return the DER signed attributes of a PAdES signature: content-type, message-digest, signing-certificate-v2.

    No signing-time: in PAdES the claimed time stands in the signature dictionary (ETSI EN 319 142-1, 6.3).
    """
    # SHA-256 is the default of ESSCertIDv2, so DER leaves its name out.
    certificate_sha256 = hashlib.sha256(certificate_der).digest()
    signing_certificate = tsp.SigningCertificateV2({"certs": [{"cert_hash": certificate_sha256}]})
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [range_sha256]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [signing_certificate]}),
        ]
    )
    return bytes(attributes.dump())


def _embedded(certificates: Sequence[bytes]) -> cms.CertificateSet:
    signer, *others = (x509.Certificate.load(der) for der in dict.fromkeys(certificates))
    above = [certificate for certificate in others if certificate.self_issued is False]
    return cms.CertificateSet([cms.CertificateChoices("certificate", chosen) for chosen in (signer, *above)])
