"""The signer's domain over fakes: a token that counts its calls, stores that keep the same guards as the SQL."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.floors import Floors
from mesh.hsm import KeyAlgorithm, TokenUnavailableError
from mesh.names import new_id
from mesh.order import Actor, Kind, Order
from mesh.pins import Pins
from mesh.receipts import ReceiptSigner
from mesh.transaction import Document, Openings, Purpose
from services.signer.credential import Change, Credential, Credentials, Enrolled, HolderMac, State
from services.signer.enrolment import AttestedKey, Enrolment
from services.signer.issuing_ca import IssuingCa
from services.signer.lifecycle import Lifecycle
from services.signer.signing import DigestSigner, Phase, Signing, Signings
from services.signer.subject_keys import NewKey, SubjectKeys, signature_algorithm
from services.signer.unwraps import Unwraps
from tests.bundles import NOW, SentBundle, World, digest_of, document, sandbox_openings

WORLD = World()
REQUEST = "request-1"
HMAC_KEY = digest_of("the signer's own key")


class Clock:
    """Time that a test moves."""

    def __init__(self, unix_s: int = NOW) -> None:
        self.unix_s = unix_s

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.unix_s, UTC)


class FakeKeys:
    """A token of software keys. `calls` are what it saw; `before_signing` runs while it is at work."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.away = False
        self.unwraps = 0
        self.before_signing: Callable[[], Awaitable[None]] | None = None
        self.answer: Callable[[list[bytes]], Sequence[bytes]] = lambda signatures: signatures
        self._keys: dict[bytes, ec.EllipticCurvePrivateKey] = {}

    def require_present(self) -> None:
        if self.away:
            raise TokenUnavailableError("the token is away")

    async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
        self.calls.append("generate")
        self.unwraps += 1
        key = ec.generate_private_key(algorithm.curve)
        wrapped = f"wrapped {new_id()}".encode()
        self._keys[wrapped] = key
        request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return NewKey(public, wrapped, request.public_bytes(Encoding.DER))

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        self.calls.append("sign")
        self.unwraps += 1
        if self.before_signing is not None:
            await self.before_signing()
        key = self._keys[wrapped_key]
        return self.answer([key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))) for digest in digests_sha256])


class MemoryCredentials:
    """See `credential.Credentials`."""

    def __init__(self, signings: "MemorySignings") -> None:
        self.rows: dict[str, Credential] = {}
        self.changes: dict[bytes, str] = {}
        self.activated: list[str] = []
        self.added_at: dict[str, datetime] = {}
        self.orders: dict[bytes, datetime] = {}
        self.revoked_certificates: set[bytes] = set()
        self._signings = signings
        signings.credentials = self

    async def find(self, name: str) -> Credential | None:
        return self.rows.get(name)

    async def made_by(self, txn: bytes) -> Credential | None:
        return next((row for row in self.rows.values() if row.txn == txn), None)

    async def has_another_phone(self, subject_hmac: bytes, phone_hmac: bytes, at: datetime) -> bool:
        return any(
            row.subject_hmac == subject_hmac
            and row.phone_hmac != phone_hmac
            and row.state_at(at) in {State.ACTIVE, State.SUSPENDED}
            for row in self.rows.values()
        )

    async def last_enrolled(self, subject_hmac: bytes) -> Enrolled | None:
        rows = [self.rows[name] for name in self.activated if self.rows[name].subject_hmac == subject_hmac]
        return Enrolled(rows[-1].phone_hmac, rows[-1].photo_hmac) if rows else None

    async def add(self, credential: Credential, at: datetime) -> bool:
        if credential.name in self.rows or await self.made_by(credential.txn) is not None:
            return False
        self.added_at[credential.name] = at
        self.rows[credential.name] = replace(credential, state=State.PENDING, certificate_sha256=b"", not_after=None)
        return True

    async def activate(self, name: str, certificate_sha256: bytes, not_after: datetime, at: datetime) -> bool:
        row = self.rows.get(name)
        if row is None or row.state is not State.PENDING or row.activatable_from > at:
            return False
        old = self.rows.get(row.superseded)
        if row.superseded and (old is None or old.state is not State.ACTIVE):
            return False
        if certificate_sha256 in self.revoked_certificates:
            return False
        alike = [other for other in self.rows.values() if _is_in_place_of(row, other, at)]
        waited = row.activatable_from > self.added_at[name]
        if any(other.state is State.SUSPENDED and (waited or other.suspended_by != Actor.PERSON) for other in alike):
            return False
        self.rows[name] = replace(row, state=State.ACTIVE, certificate_sha256=certificate_sha256, not_after=not_after)
        self.activated.append(name)
        for ended in {other.name: other for other in (*alike, *filter(None, [old]))}.values():
            self.rows[ended.name] = replace(ended, state=State.REVOKED, ending="SUPERSEDED")
            self._signings.abort_of(ended.name)
        return True

    async def change(self, change: Change, at: datetime) -> bool:
        row = self.rows.get(change.credential)
        states = {
            Purpose.REVOKE: {State.PENDING, State.ACTIVE, State.SUSPENDED},
            Purpose.SUSPEND: {State.ACTIVE},
            Purpose.RESUME: {State.SUSPENDED},
        }[change.purpose]
        if row is None or row.state_at(at) not in states or change.txn in self.changes:
            return False
        if change.purpose is Purpose.RESUME and row.suspended_by != Actor.PERSON:
            return False
        if change.purpose is Purpose.REVOKE:
            ending = "CANCELLED" if row.state is State.PENDING else "REVOKED"
            self.rows[row.name] = replace(row, state=State.REVOKED, ending=ending)
        else:
            paused = change.purpose is Purpose.SUSPEND
            self.rows[row.name] = replace(
                row,
                state=State.SUSPENDED if paused else State.ACTIVE,
                suspended_by=Actor.PERSON if paused else row.suspended_by,
            )
        self.changes[change.txn] = change.request_id
        if change.purpose is not Purpose.RESUME:
            self._signings.abort_of(row.name)
        return True

    async def obey(self, order: Order, at: datetime) -> bool:
        kind, sha256 = order.claims.kind, order.claims.certificate_sha256
        row = await self.of_certificate(sha256)
        if order.sha256 in self.orders or (kind is not Kind.REVOKE and not _may(kind, order.actor, row, at)):
            return False
        self.orders[order.sha256] = at
        if kind is Kind.REVOKE:
            self.revoked_certificates.add(sha256)
        if row is None or row.state not in {State.ACTIVE, State.SUSPENDED}:
            return True
        if kind is Kind.REVOKE:
            self.rows[row.name] = replace(row, state=State.REVOKED, ending="REVOKED")
        elif kind is Kind.SUSPEND:
            self.rows[row.name] = replace(row, state=State.SUSPENDED, suspended_by=order.actor.value)
        else:
            self.rows[row.name] = replace(row, state=State.ACTIVE)
        if kind is not Kind.RESUME:
            self._signings.abort_of(row.name)
        return True

    async def obeyed(self, order_sha256: bytes) -> datetime | None:
        return self.orders.get(order_sha256)

    async def of_certificate(self, certificate_sha256: bytes) -> Credential | None:
        return next((row for row in self.rows.values() if row.certificate_sha256 == certificate_sha256), None)

    async def changed_by(self, txn: bytes) -> str | None:
        return self.changes.get(txn)

    async def destroy(self, name: str, wrapped_key: bytes, proof: str, at: datetime) -> bool:
        row = self.rows.get(name)
        if row is None or row.wrapped_key != wrapped_key:
            return False
        if row.state_at(at) not in {State.REVOKED, State.EXPIRED}:
            return False
        self.rows[name] = replace(row, state=State.DESTROYED, wrapped_key=b"", destruction_proof=proof)
        return True


def _is_in_place_of(new: Credential, old: Credential, at: datetime) -> bool:
    """Whether `old` is in use of the same person, profile and policy."""
    mine, others = ((one.subject_hmac, one.profile, one.policy) for one in (new, old))
    return (
        mine == others
        and new.profile != ""
        and new.name != old.name
        and old.state_at(at) in {State.ACTIVE, State.SUSPENDED}
    )


def _may(kind: Kind, actor: Actor, row: Credential | None, at: datetime) -> bool:
    if row is None:
        return False
    if kind is Kind.SUSPEND:
        return row.state_at(at) is State.ACTIVE
    return row.state_at(at) is State.SUSPENDED and row.suspended_by == actor


class MemorySignings:
    """See `signing.Signings`."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Signing] = {}
        self.credentials: MemoryCredentials | None = None

    async def find(self, txn: bytes) -> Signing | None:
        return self.rows.get(txn)

    async def intend(self, signing: Signing, certificate_sha256: bytes, at: datetime) -> bool:
        assert self.credentials is not None
        credential = self.credentials.rows.get(signing.credential)
        if signing.txn in self.rows or credential is None or credential.state_at(at) is not State.ACTIVE:
            return False
        if credential.certificate_sha256 != certificate_sha256:
            return False
        self.rows[signing.txn] = signing
        return True

    async def record(self, txn: bytes, signatures: Sequence[bytes], at: datetime) -> bool:
        row = self.rows.get(txn)
        if row is None or row.phase is not Phase.INTENT:
            return False
        self.rows[txn] = replace(row, phase=Phase.RECORDED, signatures=tuple(signatures))
        return True

    async def abort(self, txn: bytes, at: datetime) -> bool:
        row = self.rows.get(txn)
        if row is None or row.phase is not Phase.INTENT:
            return False
        self.rows[txn] = replace(row, phase=Phase.ABORTED)
        return True

    async def abort_expired(self, at: datetime) -> int:
        expired = [txn for txn, row in self.rows.items() if row.phase is Phase.INTENT and row.lease_ends_at <= at]
        for txn in expired:
            await self.abort(txn, at)
        return len(expired)

    def abort_of(self, credential: str) -> None:
        for txn, row in self.rows.items():
            if row.credential == credential and row.phase is Phase.INTENT:
                self.rows[txn] = replace(row, phase=Phase.ABORTED)


class TestCa:
    """An issuing CA that certifies whatever key it is given."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuing CA")])
        self.certificate = self._build(self._name, self._key.public_key(), NOW)
        self.issued: dict[bytes, bytes] = {}  # DER by its SHA-256

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def certify(self, csr_der: bytes, *, now: int = NOW) -> bytes:
        """Return the certificate (DER) of the key of a PKCS#10 request."""
        request = x509.load_der_x509_csr(csr_der)
        assert request.is_signature_valid
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "subject")])
        der = self._build(subject, key, now).public_bytes(Encoding.DER)
        self.issued[hashlib.sha256(der).digest()] = der
        return der

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, now: int) -> x509.Certificate:
        begins = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
        ends = begins + timedelta(days=365)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), begins, ends)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Room:
    """The signer with everything it needs; stores and token are fakes unless others are given."""

    keys: SubjectKeys = field(default_factory=FakeKeys)
    signings: Signings = field(default_factory=MemorySignings)
    credentials: Credentials | None = None
    pins: Pins = field(default_factory=WORLD.pins)
    floors: Floors = field(default_factory=WORLD.floors)
    clock: Clock = field(default_factory=Clock)
    ca: TestCa = field(default_factory=TestCa)
    world: World = field(default_factory=lambda: WORLD)
    hmac_keys: Sequence[bytes] = (HMAC_KEY,)

    def __post_init__(self) -> None:
        if self.credentials is None:
            assert isinstance(self.signings, MemorySignings)
            self.credentials = MemoryCredentials(self.signings)
        holders = HolderMac(*self.hmac_keys)
        attester = ReceiptSigner(self.world.keys["signer"], self.world.env)
        # Of a real token `unwraps` are its own count; a fake one's are its calls.
        self.unwraps = Unwraps(self.unwraps_of_the_token)
        self.lifecycle = Lifecycle(
            credentials=self.credentials,
            holders=holders,
            attester=lambda: attester,
            pins=lambda: self.pins,
            floors=self.floors,
            now=self.clock,
        )
        self.enrolment = Enrolment(
            credentials=self.credentials,
            keys=self.keys,
            unwraps=self.unwraps,
            holders=holders,
            attester=lambda: attester,
            issuing_ca=IssuingCa.from_pem(self.ca.pem),
            pins=lambda: self.pins,
            floors=self.floors,
            now=self.clock,
        )
        self.digest_signer = DigestSigner(
            credentials=self.credentials,
            signings=self.signings,
            keys=self.keys,
            unwraps=self.unwraps,
            holders=holders,
            pins=lambda: self.pins,
            floors=self.floors,
            now=self.clock,
        )

    def unwraps_of_the_token(self) -> int:
        """How often the token unwrapped a key, as far as this room's token tells."""
        return self.keys.unwraps if isinstance(self.keys, FakeKeys) else 0

    @property
    def fake_keys(self) -> FakeKeys:
        assert isinstance(self.keys, FakeKeys)
        return self.keys

    @property
    def rows(self) -> dict[str, Credential]:
        assert isinstance(self.credentials, MemoryCredentials)
        return self.credentials.rows

    async def generate(self, bundle: SentBundle, request_id: str = REQUEST) -> AttestedKey:
        return await self.enrolment.generate_key(request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens)

    async def enrol(
        self,
        *,
        openings: Openings | None = None,
        activate: bool = True,
        key_algorithm: str = "EC_P256",
        profile: str = "individual-sign",
    ) -> Credential:
        """Return a credential of the person of `openings`, made as everybody's is."""
        chosen = {"key_algorithm": key_algorithm, "profile": profile}
        bundle = self.world.bundle(Purpose.ISSUE, openings=openings, now=self.clock.unix_s, transaction=chosen)
        key = await self.generate(bundle)
        if activate:
            await self.enrolment.activate(key.credential, self.ca.certify(key.csr_der, now=self.clock.unix_s))
        return await self.enrolment.get(key.credential)

    def bundle(self, credential: Credential, purpose: Purpose = Purpose.SIGN, **knobs: Any) -> SentBundle:
        """A valid bundle of `purpose` for a credential and its certificate."""
        named: dict[str, Any] = {
            "credential": credential.name,
            "certificate_sha256": credential.certificate_sha256 or hashlib.sha256(credential.public_key_der).digest(),
        }
        if purpose is Purpose.SIGN:
            algorithm = signature_algorithm(credential.public_key_der)
            named |= {"documents": self.documents(credential), "signature_algorithm": algorithm}
        knobs["transaction"] = named | dict(knobs.get("transaction", {}))
        return self.world.bundle(purpose, now=self.clock.unix_s, **knobs)

    def documents(self, credential: Credential, *titles: str) -> tuple[Document, ...]:
        """Documents (CAdES) under the credential's certificate."""
        certificate = credential.certificate_sha256 or hashlib.sha256(credential.public_key_der).digest()
        signing_time = self.clock.unix_s - 121
        return tuple(
            document(title, signing_time=signing_time, certificate_sha256=certificate)
            for title in titles or ("contract.pdf", "annex.pdf", "schedule.pdf")
        )

    async def sign(
        self, bundle: SentBundle, request_id: str = REQUEST, digests: Sequence[bytes] | None = None
    ) -> tuple[bytes, ...]:
        wanted = [item.digest_sha256 for item in bundle.transaction.documents] if digests is None else digests
        return await self.digest_signer.sign_digests(
            request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens, wanted
        )

    async def change(self, bundle: SentBundle, request_id: str = REQUEST) -> None:
        """Have a credential revoked, suspended or resumed, as the bundle's purpose says."""
        await self.lifecycle.change(
            bundle.purpose, request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens
        )

    async def disable(self, bundle: SentBundle, request_id: str = REQUEST) -> None:
        await self.lifecycle.change(
            Purpose.REVOKE, request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens
        )


def another_person() -> Openings:
    return replace(sandbox_openings(), iin="850505400011", phone="+77015550000")
