"""Reading one document of each kind before the first upload.

pyHanko, asn1crypto and lxml import and build much of themselves when it is first needed. That is this process's
time, not the first document's, whose time is counted.
"""

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta

from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.errors import FinIdError
from services.documents import pades
from services.documents.confined import pdf, signer, time_stamp, validation
from services.documents.confined.evidence import Evidence
from services.documents.report import EvidenceSource

_ROOM_BYTES = 4096
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "warm-up")])
_PDF = b"""%PDF-1.7
1 0 obj
<</Type/Catalog/Pages 2 0 R>>
endobj
2 0 obj
<</Type/Pages/Kids[3 0 R]/Count 1>>
endobj
3 0 obj
<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>
endobj
xref
0 4
0000000000 65535 f 
0000000009 00000 n 
0000000054 00000 n 
0000000105 00000 n 
trailer
<</Size 4/Root 1 0 R>>
startxref
166
%%EOF
"""  # noqa: W291 - an entry of the table has twenty bytes
_XML = (
    b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo><CanonicalizationMethod '
    b'Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/><SignatureMethod '
    b'Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/><Reference URI="#a"><DigestMethod '
    b'Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue>AA==</DigestValue></Reference></SignedInfo>'
    b'<SignatureValue>AA==</SignatureValue><Object Id="a"/></Signature>'
)


def warm_up() -> None:
    """Prepare a PDF, sign it with a key that is thrown away, and judge it, its CMS and some XML. Takes a moment."""
    now = datetime.now(UTC).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    der = _certificate_der(key, now)
    anchor = asn1_x509.Certificate.load(der)
    update = pdf.reserve(_PDF, field_name="warm-up", signing_time=now, reserved_bytes=_ROOM_BYTES)
    document = _PDF + update.appended
    digest = pades.range_sha256(document, update.place)
    signature = _signed(anchor, key, "data", None, digest)
    stamp = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": "1.2.3",
            "message_imprint": {
                "hash_algorithm": {"algorithm": "sha256"},
                "hashed_message": hashlib.sha256(signature["signer_infos"][0]["signature"].native).digest(),
            },
            "serial_number": 1,
            "gen_time": now,
        }
    )
    token = _envelope(_signed(anchor, key, "tst_info", stamp, hashlib.sha256(stamp.dump()).digest()))
    signature["signer_infos"][0]["unsigned_attrs"] = [{"type": "signature_time_stamp_token", "values": [token]}]
    signed = _envelope(signature).dump()
    evidence = Evidence([anchor], [], now).with_embedded(EvidenceSource.GIVEN, crls_der=[_crl_der(key, now)])
    validation.validate(pades.fill(document, update.place, signed), {}, evidence)
    validation.validate(signed, {"sha256": digest}, evidence)
    validation.validate(_XML, {}, evidence)
    signer.check([der], anchors=[anchor], at=now)
    with contextlib.suppress(FinIdError):
        time_stamp.check(token.dump(), b"", anchors=[anchor], certificates=[], signing_time=now, now=now)


def _certificate_der(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _crl_der(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(_NAME).last_update(now)
    return builder.next_update(now + timedelta(days=1)).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _signed(
    certificate: asn1_x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    content_type: str,
    content: tsp.TSTInfo | None,
    digest_sha256: bytes,
) -> cms.SignedData:
    certificate_sha256 = hashlib.sha256(certificate.dump()).digest()
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": [content_type]},
            {"type": "message_digest", "values": [digest_sha256]},
            {"type": "signing_certificate_v2", "values": [{"certs": [{"cert_hash": certificate_sha256}]}]},
        ]
    )
    encapsulated: dict[str, object] = {"content_type": content_type}
    if content is not None:
        encapsulated["content"] = cms.ParsableOctetString(content.dump())
    return cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": encapsulated,
            "certificates": [certificate],
            "signer_infos": [
                {
                    "version": "v1",
                    "sid": cms.SignerIdentifier(
                        {
                            "issuer_and_serial_number": {
                                "issuer": certificate.issuer,
                                "serial_number": certificate.serial_number,
                            }
                        }
                    ),
                    "digest_algorithm": {"algorithm": "sha256"},
                    "signed_attrs": attributes,
                    "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                    "signature": key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
                }
            ],
        }
    )


def _envelope(signed_data: cms.SignedData) -> cms.ContentInfo:
    return cms.ContentInfo({"content_type": "signed_data", "content": signed_data})
