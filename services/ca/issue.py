"""Issue: a certificate for an attested key, once for each transaction, after both factors.

The order is the point: everything is checked and linted, the intent with its serial is written down, then the token
signs, the certificate is recorded, and only then it leaves.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh import metrics, precondition, receipts
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError, InvalidArgumentError
from mesh.facts import Factor, KeyAttestation, Release
from mesh.floors import Floors
from mesh.hsm import KeyAlgorithm
from mesh.pins import CurrentPins
from mesh.precondition import Grant
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, TransactionError
from services.ca import lint, profiles, subject
from services.ca.authority import Authority
from services.ca.ledger import ABANDONED_AFTER, Intent, Issuance, Ledger, State, TransactionUsedError
from services.ca.profiles import SERIAL_BYTES, SUBJECTS, Holder, Practice, Profile
from services.ca.signing import PrivateKey, SignBuilt

_PURPOSES = frozenset({Purpose.ISSUE, Purpose.REISSUE})


class CsrRefusedError(InvalidArgumentError):
    """The certification request does not parse, or does not prove possession of its key."""

    reason = "CSR_REFUSED"


class ProfileRefusedError(InvalidArgumentError):
    """The transaction asks for a profile, or for a key algorithm in it, that this authority does not offer."""

    reason = "PROFILE_REFUSED"


class KeyNotAttestedError(FinIdError):
    """The key of the request is not the one that the signer attests for this transaction."""

    code = Code.PERMISSION_DENIED
    reason = "KEY_NOT_ATTESTED"


class SubjectMismatchError(FinIdError):
    """The registry released the data of another person than the transaction's."""

    code = Code.PERMISSION_DENIED
    reason = "SUBJECT_MISMATCH"


class SupersededUnknownError(FinIdError):
    """The credential to be replaced has no certificate in force, or is not this person's."""

    code = Code.FAILED_PRECONDITION
    reason = "SUPERSEDED_UNKNOWN"


class CertificateHeldError(FinIdError):
    """The Operator or the authority suspended the person's certificate; a new one would go around that."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_HELD"


class IssuanceInProgressError(FinIdError):
    """The same request is being worked on; a repeat a little later gets its answer."""

    code = Code.UNAVAILABLE
    reason = "ISSUANCE_IN_PROGRESS"


class IssuanceAbandonedError(FinIdError):
    """An earlier attempt stopped half-way. Its serial is revoked; a new authentication is needed."""

    code = Code.ABORTED
    reason = "ISSUANCE_ABANDONED"


@dataclass(frozen=True, slots=True)
class IssueCommand:
    """What Issue is asked: a bundle with KEY_ATTESTATION, a PKCS#10 request (DER), the registry's RELEASE receipt."""

    request_id: str
    transaction_bytes: bytes = field(repr=False)
    openings: Openings
    receipts: Sequence[str] = field(repr=False)
    csr_der: bytes
    release: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate (DER) and its serial."""

    certificate_der: bytes = field(repr=False)
    serial: int


class Issue:
    """Issues under one authority to whoever satisfies its own pins and floors."""

    def __init__(
        self,
        *,
        authority: Authority,
        practice: Practice,
        ledger: Ledger,
        pins: CurrentPins,
        floors: Floors,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Raises ValueError for floors under which a key that nobody attested would be certified."""
        for purpose in _PURPOSES & floors.keys():
            if Factor.KEY_ATTESTATION not in floors[purpose].factors:
                raise ValueError(f"floors file: {purpose.value}.factors must name KEY_ATTESTATION for the CA")
        self._authority = authority
        self._practice = practice
        self._ledger = ledger
        self._pins = pins
        self._floors = floors
        self._now = now
        self._random_bytes = random_bytes

    async def issue(self, command: IssueCommand) -> Issued:
        """Return the certificate; a repeat with the same request id and transaction returns the first answer.

        Raises PreconditionError; CsrRefusedError, ProfileRefusedError, KeyNotAttestedError, SubjectMismatchError,
        SubjectUnusableError, SupersededUnknownError, CertificateHeldError, KeyCertifiedError, LintError;
        TransactionUsedError, IssuanceInProgressError, IssuanceAbandonedError; TokenError, DependencyUnavailableError.
        """
        try:
            transaction = transactions.parse(command.transaction_bytes)
        except TransactionError as error:
            raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
        if command.openings.iin_commitment() != transaction.iin_commitment:
            raise PreconditionError(Refusal.IIN_NOT_OPENED)
        txn = transactions.txn_of(command.transaction_bytes)
        earlier = await self._ledger.find_issuance(txn)
        if earlier is not None:
            return await self._repeat(earlier, command.request_id)
        grant = precondition.authorize(
            transaction.purpose if transaction.purpose in _PURPOSES else Purpose.ISSUE,
            command.transaction_bytes,
            command.openings,
            command.receipts,
            self._pins(),
            self._floors,
            int(self._now().timestamp()),
        )
        profile = _profile(grant)
        public_key = _attested_key(command.csr_der, grant)
        release = receipts.verify(
            command.release, Release, self._pins(), txn=grant.txn, now=int(self._now().timestamp())
        ).facts
        if release.iin != grant.iin:
            raise SubjectMismatchError("the released data is another person's")
        superseded = grant.transaction.superseded
        if superseded and not await self._ledger.holds(superseded, grant.iin):
            raise SupersededUnknownError("the credential to be replaced has no certificate of this person in force")
        if await self._ledger.is_held(grant.iin, grant.transaction.profile, grant.transaction.policy):
            raise CertificateHeldError("the person's certificate is suspended on another's word")
        return await self._sign(command, grant, profile, subject.of_person(release), public_key)

    async def _repeat(self, found: Issuance, request_id: str) -> Issued:
        if found.request_id != request_id:
            raise TransactionUsedError("the transaction has been used for another request")
        if found.certificate_der:
            return Issued(found.certificate_der, found.serial)
        if found.state is State.INTENDED and self._now() < found.intended_at + ABANDONED_AFTER:
            raise IssuanceInProgressError("the certificate is being issued", retry_after_s=1.0)
        await self._ledger.abandon(found.serial, self._now())
        raise IssuanceAbandonedError("an earlier attempt stopped half-way; authenticate again")

    async def _sign(
        self,
        command: IssueCommand,
        grant: Grant,
        profile: Profile,
        name: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
    ) -> Issued:
        authority, now = self._authority, self._now()
        serial = profiles.serial_number(self._random_bytes(SERIAL_BYTES))
        issuer_ends = authority.issuing.certificate.not_valid_after_utc
        unsigned = profiles.builder(
            profile,
            self._practice,
            authority.issuer,
            name,
            public_key,
            serial=serial,
            now=now,
            not_after=issuer_ends,
        )

        signing = authority.issuing.signing

        def sign(key: PrivateKey) -> x509.Certificate:
            return signing.sign_built(unsigned, key)

        linted = await asyncio.to_thread(lint.linted_copy, sign, signing)
        intent = Intent(
            serial=serial,
            txn=grant.txn,
            request_id=command.request_id,
            credential=grant.transaction.credential,
            superseded=grant.transaction.superseded,
            iin=grant.iin,
            public_key_sha256=grant.facts(KeyAttestation).public_key_sha256,
            profile=grant.transaction.profile,
            policy=grant.transaction.policy,
            not_after=linted.not_valid_after_utc,
            intended_at=now,
        )
        if not await self._ledger.intend(intent):
            # Another call for this transaction came first, a moment ago.
            raise IssuanceInProgressError("the certificate is being issued", retry_after_s=1.0)
        return await self._sign_intended(intent, sign, linted)

    async def _sign_intended(self, intent: Intent, sign: SignBuilt, linted: x509.Certificate) -> Issued:
        """Sign what was linted, record it, and only then let it go; whatever fails in between abandons the serial."""
        try:
            certificate = await self._authority.issuing.key.sign_with(sign)
            _require_signed_as_linted(certificate, linted, self._authority.issuing.certificate)
        except Exception:
            await self._ledger.abandon(intent.serial, self._now())
            raise
        der = certificate.public_bytes(Encoding.DER)
        if not await self._ledger.record(intent, der, self._now()):
            await self._ledger.abandon(intent.serial, self._now())
            raise IssuanceAbandonedError("the certificate was not issued in time; authenticate again")
        metrics.CERTIFICATES_ISSUED.add()
        return Issued(der, intent.serial)


def _require_signed_as_linted(
    certificate: x509.Certificate, linted: x509.Certificate, issuer: x509.Certificate
) -> None:
    """Never let go what does not verify, or what nobody has linted."""
    certificate.verify_directly_issued_by(issuer)
    if certificate.tbs_certificate_bytes != linted.tbs_certificate_bytes:
        raise AssertionError("another certificate was signed than the one that was linted")


def _profile(grant: Grant) -> Profile:
    profile = SUBJECTS.get(grant.transaction.profile)
    if profile is None:
        raise ProfileRefusedError("this authority offers no such profile")
    if profile.holder is not Holder.INDIVIDUAL:
        # Who acts for whom is a state register's word, and no receipt carries it yet.
        raise ProfileRefusedError("nobody says yet for which organisation the person acts")
    if grant.transaction.key_algorithm not in {algorithm.value for algorithm in profile.key_algorithms}:
        raise ProfileRefusedError("the profile does not allow this key algorithm")
    return profile


def _attested_key(csr_der: bytes, grant: Grant) -> ec.EllipticCurvePublicKey:
    """The key of the request, which proves its possession, is the attested one and of the transaction's algorithm."""
    try:
        csr = x509.load_der_x509_csr(csr_der)
        public_key = csr.public_key()
        proven = csr.is_signature_valid
        der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        algorithm = KeyAlgorithm.of(der)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CsrRefusedError("the certification request does not parse, or its key is of no known kind") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not proven:
        raise CsrRefusedError("the certification request does not prove possession of its key")
    if hashlib.sha256(der).digest() != grant.facts(KeyAttestation).public_key_sha256:
        raise KeyNotAttestedError("the key of the request is not the attested one")
    if algorithm.value != grant.transaction.key_algorithm:
        raise ProfileRefusedError("the key is not of the algorithm that the transaction names")
    return public_key
