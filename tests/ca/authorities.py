"""Authorities for tests: keys in memory that count their calls, or a ceremony in real tokens."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.hsm import KeyAlgorithm, RsaScheme, Token
from services.ca import profiles, subject
from services.ca.authority import Authority, Certified, signing_of
from services.ca.ceremony import ALGORITHMS, Ceremony, Role
from services.ca.profiles import Issuer, Practice, Profile
from services.ca.settings import DOCUMENTATION_ARC
from services.ca.signing import PrivateKey
from tests.softhsm import SoftHsm, TokenPlace

Signed = TypeVar("Signed")

PRACTICE = Practice(DOCUMENTATION_ARC, "http://127.0.0.1:18444/pki", "http://127.0.0.1:18444/pki/cps")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class MemoryKey:
    """A `SigningKey` without a token. `fails_with` is raised before it signs, `dies_with` after."""

    key: PrivateKey
    calls: int = 0
    fails_with: BaseException | None = None
    dies_with: BaseException | None = None

    async def sign_with(self, sign: Callable[[PrivateKey], Signed]) -> Signed:
        if self.fails_with is not None:
            raise self.fails_with
        self.calls += 1
        signed = sign(self.key)
        if self.dies_with is not None:
            raise self.dies_with
        return signed


@dataclass
class MemoryAuthority:
    """An authority whose keys are in memory, valid around `at`."""

    at: datetime = field(default_factory=now)
    root_key: MemoryKey = field(default_factory=lambda: MemoryKey(ec.generate_private_key(ec.SECP384R1())))
    issuing_key: MemoryKey = field(default_factory=lambda: MemoryKey(ec.generate_private_key(ec.SECP384R1())))
    ocsp_key: MemoryKey = field(default_factory=lambda: MemoryKey(ec.generate_private_key(ec.SECP256R1())))
    tsa_key: MemoryKey = field(default_factory=lambda: MemoryKey(ec.generate_private_key(ec.SECP256R1())))
    scheme: RsaScheme = RsaScheme.PKCS1_V15
    authority: Authority = field(init=False)

    @classmethod
    def of_rsa(cls, scheme: RsaScheme) -> "MemoryAuthority":
        """One whose keys are all RSA."""
        keys = [MemoryKey(rsa.generate_private_key(65537, 3072)) for _ in range(4)]
        return cls(root_key=keys[0], issuing_key=keys[1], ocsp_key=keys[2], tsa_key=keys[3], scheme=scheme)

    def __post_init__(self) -> None:
        root = self._certificate("Root CA", profiles.ROOT, self.root_key, None)
        issuing = self._certificate("Issuing CA", profiles.ISSUING, self.issuing_key, root)
        ocsp = self._certificate("OCSP responder", profiles.OCSP, self.ocsp_key, issuing)
        tsa = self._certificate("Time stamp authority", profiles.TSA, self.tsa_key, issuing)
        self.authority = Authority(
            root=root,
            root_crl_der=self._root_crl(root),
            issuing=Certified.of(issuing, self.issuing_key, self.scheme),
            ocsp=Certified.of(ocsp, self.ocsp_key, self.scheme),
            tsa=Certified.of(tsa, self.tsa_key),
            issued_serials=frozenset({ocsp.serial_number, tsa.serial_number}),
        )

    def write(self, folder: Path) -> None:
        """Files for openssl: root.pem, issuing.pem, chain.pem, tsa.pem, root.crl."""
        root, issuing = self.authority.root, self.authority.issuing.certificate
        (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
        (folder / "issuing.pem").write_bytes(issuing.public_bytes(Encoding.PEM))
        (folder / "tsa.pem").write_bytes(self.authority.tsa.certificate.public_bytes(Encoding.PEM))
        (folder / "root.crl").write_bytes(self.authority.root_crl_der)

    def _certificate(
        self, name: str, profile: Profile, key: MemoryKey, issuer: x509.Certificate | None
    ) -> x509.Certificate:
        issuer_key = self.issuing_key if issuer is not None and issuer.issuer != issuer.subject else self.root_key
        own_name = subject.of_authority("FinID test", f"FinID test {name}")
        unsigned = profiles.builder(
            profile,
            PRACTICE,
            Issuer(issuer.subject if issuer else own_name, issuer_key.key.public_key()),
            own_name,
            key.key.public_key(),
            serial=profiles.serial_number(secrets.token_bytes(20)),
            now=self.at,
        )
        return signing_of(issuer_key.key.public_key(), self.scheme).sign_built(unsigned, issuer_key.key)

    def _root_crl(self, root: x509.Certificate) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder(root.subject, self.at, self.at + timedelta(days=30))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root_key.key.public_key()), False)
            .add_extension(x509.CRLNumber(1), False)
        )
        signing = signing_of(self.root_key.key.public_key(), self.scheme)
        return signing.sign_built(builder, self.root_key.key).public_bytes(Encoding.DER)


@dataclass
class CeremonyPlace:
    """Two real tokens and a folder; `run` holds a ceremony over them, again and again if wanted."""

    folder: Path
    root_token: TokenPlace
    ca_token: TokenPlace
    practice: Practice = PRACTICE
    root_openings: int = 0
    algorithms: Mapping[Role, KeyAlgorithm] = field(default_factory=lambda: ALGORITHMS)

    @classmethod
    def create(cls, folder: Path, softhsm: SoftHsm) -> "CeremonyPlace":
        return cls(folder, softhsm.new_token(), softhsm.new_token())

    def run(
        self,
        *,
        at: datetime | None = None,
        dry_run: bool = False,
        say: Callable[[str], None] | None = None,
        practice: Practice | None = None,
    ) -> list[str]:
        """Return the transcript."""
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            if say is not None:
                say(line)

        def open_root_token() -> Token:
            self.root_openings += 1
            return self.root_token.open(writable=not dry_run)

        Ceremony(
            folder=self.folder,
            practice=practice or self.practice,
            organization="FinID test",
            open_root_token=open_root_token,
            token=self.ca_token.open(writable=not dry_run),
            now=at or now(),
            random_bytes=secrets.token_bytes,
            say=hear,
            dry_run=dry_run,
            algorithms=self.algorithms,
        ).run()
        return lines
