"""The attributes are byte for byte those of other implementations."""

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import algos, cms, core, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh import signed_attributes

CONTENT = hashlib.sha256(b"content").digest()
CERTIFICATE = hashlib.sha256(b"certificate").digest()
TIMES = [
    pytest.param(1_764_000_000, id="this year"),
    pytest.param(0, id="the first second"),
    pytest.param(2_524_607_999, id="the last UTCTime, 2049-12-31T23:59:59Z"),
    pytest.param(2_524_608_000, id="the first GeneralizedTime, 2050-01-01T00:00:00Z"),
    pytest.param(253_402_300_799, id="the last of all"),
]


def by_asn1crypto(content: bytes, certificate: bytes, signing_time: int) -> bytes:
    """The same attributes as pyHanko builds them: asn1crypto's classes, dumped as DER."""
    time = datetime.fromtimestamp(signing_time, UTC)
    kind = "utc_time" if time.year < 2050 else "generalized_time"
    ess = tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2({"cert_hash": certificate})]})
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [content]}),
            cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({kind: time})]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [ess]}),
        ]
    )
    dumped: bytes = attributes.dump(force=True)
    return dumped


@pytest.mark.parametrize("signing_time", TIMES)
def test_attributes_equal_those_of_asn1crypto(signing_time: int) -> None:
    ours = signed_attributes.encode(CONTENT, CERTIFICATE, signing_time)
    assert ours == by_asn1crypto(CONTENT, CERTIFICATE, signing_time)
    assert signed_attributes.digest(CONTENT, CERTIFICATE, signing_time) == hashlib.sha256(ours).digest()


def test_openssl_accepts_a_signature_over_the_rebuilt_digest(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER)
    attributes = signed_attributes.encode(CONTENT, hashlib.sha256(der).digest(), int(now.timestamp()))
    issuer_and_serial = cms.IssuerAndSerialNumber(
        {"issuer": cms.Certificate.load(der).issuer, "serial_number": certificate.serial_number}
    )
    signer_info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": issuer_and_serial}),
            "digest_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
            "signed_attrs": cms.CMSAttributes.load(attributes),
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
            "signature": key.sign(attributes, ec.ECDSA(hashes.SHA256())),
        }
    )
    signed = cms.ContentInfo(
        {
            "content_type": "signed_data",
            "content": cms.SignedData(
                {
                    "version": "v1",
                    "digest_algorithms": [algos.DigestAlgorithm({"algorithm": "sha256"})],
                    "encap_content_info": {"content_type": "data"},
                    "certificates": [cms.Certificate.load(der)],
                    "signer_infos": [signer_info],
                }
            ),
        }
    )
    (tmp_path / "signed.p7s").write_bytes(signed.dump())
    (tmp_path / "content").write_bytes(b"content")
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    command = (
        "openssl cms -verify -cades -binary -inform DER -in signed.p7s -content content -CAfile ca.pem -purpose any"
    )
    good = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    (tmp_path / "content").write_bytes(b"Content")
    bad = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
    assert bad.returncode != 0


def test_openssl_builds_the_same_attributes(tmp_path: Path) -> None:
    """`openssl cms -sign -cades` adds S/MIME capabilities unless told not to; all else is ours, byte for byte."""
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "content").write_bytes(b"content")
    certify = "openssl req -x509 -new -key key.pem -subj /CN=test -days 1 -out cert.pem"
    sign = "openssl cms -sign -cades -binary -nosmimecap -signer cert.pem -inkey key.pem -in content -outform DER"
    for command in (certify, f"{sign} -out signed.p7s"):
        subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    signed = cms.ContentInfo.load((tmp_path / "signed.p7s").read_bytes())["content"]
    theirs = signed["signer_infos"][0]["signed_attrs"]
    (signing_time,) = [a["values"][0].native for a in theirs if a["type"].native == "signing_time"]
    certificate = x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())
    ours = signed_attributes.encode(CONTENT, certificate.fingerprint(hashes.SHA256()), int(signing_time.timestamp()))
    assert ours == without_issuer_serial(theirs)


def without_issuer_serial(attributes: cms.CMSAttributes) -> bytes:
    """OpenSSL's attributes without the optional issuerSerial of ESSCertIDv2 (ETSI EN 319 122-1 leaves it open)."""
    kept = []
    for attribute in attributes:
        if attribute["type"].native == "signing_certificate_v2":
            cert_hash = attribute["values"][0]["certs"][0]["cert_hash"].native
            ess = tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2({"cert_hash": cert_hash})]})
            kept.append(cms.CMSAttribute({"type": "signing_certificate_v2", "values": [ess]}))
        else:
            kept.append(cms.CMSAttribute.load(attribute.dump()))
    dumped: bytes = cms.CMSAttributes(kept).dump(force=True)
    return dumped


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65_535, 65_536])
def test_lengths_are_der_at_every_edge(size: int) -> None:
    assert signed_attributes._der(0x04, b"x" * size) == core.OctetString(b"x" * size).dump()
