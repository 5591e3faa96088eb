"""A small certification authority for these tests: root, issuing CA, signer, time stamp authority, CRLs.

The documents room is judged by what any authority of this shape issues, so nothing here comes from `services.ca`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from asn1crypto import keys, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper
from pyhanko_certvalidator.registry import SimpleCertificateStore

NOW = datetime.now(UTC).replace(microsecond=0)
"""Real, since openssl and pdfsig judge by the clock on the wall."""
Revoked: TypeAlias = tuple[tuple[x509.Certificate, datetime], ...]
INDIVIDUAL = x509.ObjectIdentifier("1.2.398.3.3.4.1.1")


@dataclass(frozen=True, slots=True)
class Holder:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign_digest(self, digest_sha256: bytes) -> bytes:
        """An ECDSA signature (DER) of a digest, as the HSM makes it."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        return self.key.sign(digest_sha256, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def issue(
    common_name: str,
    issuer: Holder | None,
    *,
    at: datetime = NOW,
    valid: timedelta = timedelta(days=365),
    ca: bool = False,
    eku: tuple[x509.ObjectIdentifier, ...] = (),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    signs: bool = True,
    iin: str = "900101300017",
    says: tuple[x509.ExtensionType, ...] = (),
) -> Holder:
    """Issue one certificate; self-signed when `issuer` is None."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    if not ca and not eku:
        subject = x509.Name([*subject, x509.NameAttribute(NameOID.SERIAL_NUMBER, f"IIN{iin}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + valid)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signs and not ca,
                content_commitment=not ca and not eku,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=not signs,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    for extension in says:
        builder = builder.add_extension(extension, critical=False)
    if issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    if not ca:
        stamping = ExtendedKeyUsageOID.TIME_STAMPING in eku
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku or (INDIVIDUAL,)), critical=stamping)
    return Holder(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def revocation_list(
    issuer: Holder,
    *,
    at: datetime = NOW,
    revoked: Revoked = (),
    valid: timedelta = timedelta(days=7),
) -> bytes:
    """A CRL (DER) of `issuer` made at `at`."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(at - timedelta(hours=1))
        .next_update(at + valid)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for certificate, when in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(when)
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """A key for time stamp authorities: pyHanko's dummy one signs with RSA only. One for all, as making it is slow."""
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True, slots=True)
class Authority:
    """A whole chain."""

    root: Holder
    issuing: Holder
    signer: Holder
    tsa: Holder

    @classmethod
    def new(cls) -> "Authority":
        """An authority of its own."""
        root = issue("Test Root", None, ca=True, valid=timedelta(days=3650))
        issuing = issue("Test Issuing CA", root, ca=True, valid=timedelta(days=1825))
        tsa = issue("Test TSA", issuing, eku=(ExtendedKeyUsageOID.TIME_STAMPING,), key=rsa_key())
        return cls(root, issuing, issue("АЙГЕРІМ САМПЛ", issuing), tsa)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Issuing CA and root, DER."""
        return (self.issuing.der, self.root.der)

    @property
    def anchors(self) -> tuple[bytes, ...]:
        return (self.root.der,)

    @property
    def anchors_pem(self) -> bytes:
        return self.root.pem

    def crls(self, *, at: datetime = NOW, revoked: Revoked = (), revoked_by_root: Revoked = ()) -> tuple[bytes, ...]:
        """The CRLs (DER) of the issuing CA and of the root."""
        return (
            revocation_list(self.issuing, at=at, revoked=revoked),
            revocation_list(self.root, at=at, revoked=revoked_by_root),
        )

    def time_stamp(
        self,
        digest_sha256: bytes,
        *,
        at: datetime = NOW,
        tsa: Holder | None = None,
        algorithm: str = "sha256",
        embedded: Sequence[Holder] = (),
    ) -> bytes:
        """A TimeStampToken (DER) for an imprint, by pyHanko's own dummy authority; `embedded` go in besides."""
        by = tsa or self.tsa
        private = by.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        issuing = SimpleCertificateStore()
        for holder in (self.issuing, *embedded):
            issuing.register(asn1_x509.Certificate.load(holder.der))
        stamper = DummyTimeStamper(
            asn1_x509.Certificate.load(by.der),
            keys.PrivateKeyInfo.load(private),
            certs_to_embed=issuing,
            fixed_dt=at,
        )
        request = tsp.TimeStampReq(
            {
                "version": 1,
                "message_imprint": tsp.MessageImprint(
                    {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest_sha256}
                ),
                "cert_req": True,
            }
        )
        return bytes(stamper.request_tsa_response(request)["time_stamp_token"].dump())
