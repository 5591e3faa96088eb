"""What a gateway sends to Issue and Revoke, valid now unless a test wants otherwise."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh import pins
from mesh.facts import Factor
from mesh.pins import Pins
from mesh.transaction import Openings, Purpose
from services.ca.issue import IssueCommand
from tests.bundles import SentBundle, World, sandbox_openings

REQUEST_ID = "request-1"


def unix_now() -> int:
    return int(time.time())


@dataclass
class Hub:
    """The spokes' receipt keys, and bundles with them."""

    world: World = field(default_factory=World)
    people: int = 0

    def pins(self) -> Pins:
        around = unix_now()
        return pins.parse(self.world.pins_json(not_before=around - 86_400, not_after=around + 86_400), self.world.env)

    def issue(
        self,
        *,
        purpose: Purpose = Purpose.ISSUE,
        key: ec.EllipticCurvePrivateKey | None = None,
        csr_der: bytes | None = None,
        attested: bytes | None = None,
        transaction: Mapping[str, Any] | None = None,
        facts: Mapping[Factor, Mapping[str, Any]] | None = None,
        openings: Openings | None = None,
        release: Mapping[str, Any] | None = None,
        release_txn: bytes | None = None,
        request_id: str = REQUEST_ID,
    ) -> IssueCommand:
        """A command for a new key; `attested` is the SubjectPublicKeyInfo digest that the signer attests."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        attested_facts = {"public_key_sha256": attested or spki_sha256(key)}
        given = dict(facts or {})
        given[Factor.KEY_ATTESTATION] = attested_facts | dict(given.get(Factor.KEY_ATTESTATION, {}))
        bundle = self.world.bundle(
            purpose, transaction=transaction, facts=given, openings=openings, attested=True, now=unix_now()
        )
        return IssueCommand(
            request_id=request_id,
            transaction_bytes=bundle.transaction_bytes,
            openings=bundle.openings,
            receipts=bundle.tokens,
            csr_der=csr_of(key) if csr_der is None else csr_der,
            release=self.release(release_txn or bundle.txn, **dict(release or {})),
        )

    def issue_to_another(self, **changed: Any) -> IssueCommand:
        """A command for a person who has no certificate: each time somebody else."""
        self.people += 1
        opened = sandbox_openings()
        iin = f"{900_000_000_000 + self.people}"
        openings = Openings(iin, opened.iin_salt, opened.phone, opened.phone_salt)
        return self.issue(openings=openings, release={"iin": iin}, **changed)

    def release(self, txn: bytes, **changed: Any) -> str:
        """A RELEASE receipt of a moment ago."""
        return self.world.release(txn, now=unix_now(), **changed)

    def revocation(
        self, certificate_der: bytes, *, purpose: Purpose = Purpose.REVOKE, openings: Openings | None = None
    ) -> SentBundle:
        """A bundle that revokes a certificate, or suspends or resumes it."""
        digest = hashlib.sha256(certificate_der).digest()
        return self.world.bundle(purpose, transaction={"certificate_sha256": digest}, openings=openings, now=unix_now())


def spki_sha256(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The digest by which the signer attests a key."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS#10 request (DER) by which a key proves its possession."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "credential")])
    return x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
