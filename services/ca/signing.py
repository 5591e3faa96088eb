"""How the authority's keys sign: on a curve, or RSA with PKCS#1 v1.5 or PSS, under the names that X.509 gives that.

What the authority writes as DER itself (OCSP, time stamps) is signed over SHA-256 whatever the key; what builders of
`cryptography` write (certificates, lists) over the hash of the key's own strength.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.hsm import KeyAlgorithm, RsaScheme
from services.ca import der

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_Built_co = TypeVar("_Built_co", covariant=True)
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
_ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_RSA_SHA256 = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.tlv(der.NULL))
# RFC 4055 section 3.1: hash, mask by the same hash, a salt of the hash's length; the trailer is the default.
_PSS_SHA256 = der.sequence(
    der.oid("1.2.840.113549.1.1.10"),
    der.sequence(
        der.tlv(der.context(0), _SHA256),
        der.tlv(der.context(1), der.sequence(der.oid("1.2.840.113549.1.1.8"), _SHA256)),
        der.tlv(der.context(2), der.integer(32)),
    ),
)
_RSA_EXPONENT = 65537


class Builder(Protocol[_Built_co]):
    """A builder of certificates or lists."""

    def sign(
        self,
        private_key: PrivateKey,
        algorithm: hashes.SHA256 | hashes.SHA384,
        *,
        rsa_padding: padding.PSS | padding.PKCS1v15 | None = None,
    ) -> _Built_co:
        """As in `cryptography`."""
        ...


_Built = TypeVar("_Built")


@dataclass(frozen=True, slots=True)
class Signing:
    """How one key signs. `scheme` matters for RSA alone."""

    algorithm: KeyAlgorithm
    scheme: RsaScheme = RsaScheme.PKCS1_V15

    @classmethod
    def by(cls, public_key: PublicKey, scheme: RsaScheme = RsaScheme.PKCS1_V15) -> "Signing":
        """How the key with this public half signs. Raises ValueError for one of an unknown algorithm."""
        encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(KeyAlgorithm.of(encoded), scheme)

    @property
    def sha256_identifier(self) -> bytes:
        """AlgorithmIdentifier (DER) of a signature over SHA-256."""
        if not self.algorithm.rsa_bits:
            return _ECDSA_SHA256
        return _PSS_SHA256 if self.scheme is RsaScheme.PSS else _RSA_SHA256

    def sign_built(self, builder: Builder[_Built], key: PrivateKey) -> _Built:
        """Let a key of this algorithm sign what a builder holds; blocks while a token does."""
        digest = self.algorithm.digest
        if self.algorithm.rsa_bits and self.scheme is RsaScheme.PSS:
            return builder.sign(key, digest, rsa_padding=_pss(digest))
        return builder.sign(key, digest)

    def sign_digest(self, digest_sha256: bytes, key: PrivateKey) -> bytes:
        """Let a key of this algorithm sign a SHA-256 digest; blocks while a token does."""
        prehashed = Prehashed(hashes.SHA256())
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(digest_sha256, ec.ECDSA(prehashed))
        pss = self.scheme is RsaScheme.PSS
        return key.sign(digest_sha256, _pss(hashes.SHA256()) if pss else padding.PKCS1v15(), prehashed)

    def throw_away_key(self) -> PrivateKey:
        """A key of the same algorithm that certifies nothing."""
        if self.algorithm.rsa_bits:
            return _throw_away_rsa(self.algorithm)
        return ec.generate_private_key(self.algorithm.curve)


def _pss(digest: hashes.SHA256 | hashes.SHA384) -> padding.PSS:
    return padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)


@cache
def _throw_away_rsa(algorithm: KeyAlgorithm) -> rsa.RSAPrivateKey:
    """One for the life of the process: making one takes longer than all else that issuing does."""
    return rsa.generate_private_key(_RSA_EXPONENT, algorithm.rsa_bits)


def key_bits(certificate: x509.Certificate) -> bytes:
    """The content of the subjectPublicKey BIT STRING, which OCSP hashes."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


SignBuilt: TypeAlias = Callable[[PrivateKey], x509.Certificate]
"""Signs a certificate that is otherwise complete."""
