"""The authority as the ceremony left it: its certificates from a folder, its keys in its token.

The folder holds chain.pem (issuing CA, then root), ocsp.pem, tsa.pem, root.crl (DER) and issued/, one PEM for each
certificate that the ceremony issued under the issuing CA.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.hsm import KeyAlgorithm, RsaScheme, TokenPool
from services.ca.profiles import Issuer
from services.ca.signing import PrivateKey, PublicKey, Signing

_Signed = TypeVar("_Signed")

ROOT_KEY = "ca-root"
ISSUING_KEY = "ca-issuing"
OCSP_KEY = "ca-ocsp"
TSA_KEY = "ca-tsa"

CHAIN_FILE = "chain.pem"
OCSP_FILE = "ocsp.pem"
TSA_FILE = "tsa.pem"
ROOT_CRL_FILE = "root.crl"
ISSUED_FOLDER = "issued"


class AuthorityError(Exception):
    """The ceremony's folder cannot be used; says why. Run the ceremony (again)."""


class SigningKey(Protocol):
    """One of the authority's keys."""

    async def sign_with(self, sign: Callable[[PrivateKey], _Signed]) -> _Signed:
        """Let a builder of `cryptography` sign. Raises `mesh.hsm.TokenError`."""
        ...


class TokenKey:
    """A key in the authority's token."""

    def __init__(self, pool: TokenPool, label: str, algorithm: KeyAlgorithm) -> None:
        self._pool = pool
        self._label = label
        self._open = pool.token.rsa_private_key if algorithm.rsa_bits else pool.token.private_key
        self._opened: PrivateKey | None = None

    async def sign_with(self, sign: Callable[[PrivateKey], _Signed]) -> _Signed:
        """See `SigningKey`."""
        return await self._pool.call(lambda: sign(self._key()))

    def _key(self) -> PrivateKey:
        """The key by its label; its public half, which the token takes a while to tell, is asked for once."""
        if self._opened is None:
            self._opened = self._open(self._label)
        return self._opened

    async def public_key(self) -> PublicKey:
        """The public half, as the token holds it."""
        return await self.sign_with(lambda key: key.public_key())


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate of the authority and the key that belongs to it."""

    certificate: x509.Certificate
    key: SigningKey
    signing: Signing
    public_key: PublicKey
    der: bytes

    @classmethod
    def of(cls, certificate: x509.Certificate, key: SigningKey, scheme: RsaScheme = RsaScheme.PKCS1_V15) -> "Certified":
        """Raises AuthorityError for a key of a kind that is not used."""
        public_key = public_key_of(certificate)
        signing = signing_of(public_key, scheme)
        return cls(certificate, key, signing, public_key, certificate.public_bytes(Encoding.DER))

    async def sign_digest(self, digest_sha256: bytes) -> bytes:
        """Sign a SHA-256 digest, as `signing.sha256_identifier` says. Raises `mesh.hsm.TokenError`."""
        return await self.key.sign_with(lambda key: self.signing.sign_digest(digest_sha256, key))


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the ceremony's folder holds. `issued_serials` are those of OCSP and TSA certificates, past ones too."""

    root: x509.Certificate
    issuing: x509.Certificate
    ocsp: x509.Certificate
    tsa: x509.Certificate
    root_crl_der: bytes
    issued_serials: frozenset[int]


@dataclass(frozen=True, slots=True)
class Authority:
    """The issuing CA, its delegates and its root's certificate."""

    root: x509.Certificate
    root_crl_der: bytes
    issuing: Certified
    ocsp: Certified
    tsa: Certified
    issued_serials: frozenset[int]

    @property
    def issuer(self) -> Issuer:
        """The issuing CA as the issuer of certificates."""
        return Issuer(self.issuing.certificate.subject, self.issuing.public_key)

    @property
    def chain_der(self) -> list[bytes]:
        """Issuing CA, then root."""
        return [self.issuing.der, self.root.public_bytes(Encoding.DER)]


def public_key_of(certificate: x509.Certificate) -> PublicKey:
    """The key of one of the authority's own certificates. Raises AuthorityError for another kind of key."""
    public_key = certificate.public_key()
    if not isinstance(public_key, PublicKey):
        raise AuthorityError("a certificate of the authority is neither of a curve's key nor of RSA")
    return public_key


def signing_of(public_key: PublicKey, scheme: RsaScheme = RsaScheme.PKCS1_V15) -> Signing:
    """How one of the authority's keys signs. Raises AuthorityError for a curve or size that is not used."""
    try:
        return Signing.by(public_key, scheme)
    except ValueError as error:
        raise AuthorityError("a key of the authority is of no known algorithm") from error


def read(folder: Path) -> Certificates:
    """Read the ceremony's folder and check its chain. Raises AuthorityError."""
    try:
        issuing, root = x509.load_pem_x509_certificates((folder / CHAIN_FILE).read_bytes())
        issued = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (folder / ISSUED_FOLDER).glob("*.pem")]
        found = Certificates(
            root=root,
            issuing=issuing,
            ocsp=x509.load_pem_x509_certificate((folder / OCSP_FILE).read_bytes()),
            tsa=x509.load_pem_x509_certificate((folder / TSA_FILE).read_bytes()),
            root_crl_der=(folder / ROOT_CRL_FILE).read_bytes(),
            issued_serials=frozenset(certificate.serial_number for certificate in issued),
        )
    except (OSError, ValueError) as error:
        raise AuthorityError(f"the folder of the ceremony is not complete: {error}") from error
    for certificate, issuer in ((root, root), (issuing, root), (found.ocsp, issuing), (found.tsa, issuing)):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise AuthorityError(f"{certificate.subject.rfc4514_string()} is not issued by its issuer") from error
    return found


async def take_up(
    certificates: Certificates, pool: TokenPool, now: datetime, scheme: RsaScheme = RsaScheme.PKCS1_V15
) -> Authority:
    """Join certificates and token. Raises AuthorityError when one has expired or is not of the token's key; TokenError.

    `now` is in UTC. `scheme` is how RSA keys sign certificates, lists and status; time stamps are always PKCS#1 v1.5,
    the only one of the two that openssl's verifier of them knows.
    """

    async def join(certificate: x509.Certificate, label: str) -> Certified:
        public_key = public_key_of(certificate)
        key = TokenKey(pool, label, signing_of(public_key).algorithm)
        if public_key != await key.public_key():
            raise AuthorityError(f"the certificate of {label} is not of the token's key")
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise AuthorityError(f"the certificate of {label} is not valid now")
        return Certified.of(certificate, key, RsaScheme.PKCS1_V15 if label == TSA_KEY else scheme)

    return Authority(
        root=certificates.root,
        root_crl_der=certificates.root_crl_der,
        issuing=await join(certificates.issuing, ISSUING_KEY),
        ocsp=await join(certificates.ocsp, OCSP_KEY),
        tsa=await join(certificates.tsa, TSA_KEY),
        issued_serials=certificates.issued_serials,
    )
