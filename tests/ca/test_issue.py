"""Issue: what it refuses before any key is touched, and what it leaves behind wherever it is stopped."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.facts import Factor
from mesh.hsm import TokenUnavailableError
from mesh.names import new_id
from mesh.order import Actor
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose
from services.ca.crl import RevocationList
from services.ca.issue import (
    CertificateHeldError,
    CsrRefusedError,
    IssuanceAbandonedError,
    IssuanceInProgressError,
    Issue,
    IssueCommand,
    KeyNotAttestedError,
    ProfileRefusedError,
    SubjectMismatchError,
    SupersededUnknownError,
)
from services.ca.ledger import ABANDONED_AFTER, KeyCertifiedError, State, TransactionUsedError
from services.ca.lint import LintError
from services.ca.subject import SubjectUnusableError
from tests.bundles import PHONE, digest_of
from tests.ca import openssl
from tests.ca.authorities import PRACTICE, MemoryAuthority, now
from tests.ca.memory_ledger import MemoryLedger
from tests.ca.requests import Hub, csr_of, unix_now

OTHER_IIN = "900101300025"


class KilledError(BaseException):
    """The process ends here: nothing after it runs."""


@dataclass
class Room:
    """Issue over an authority and a ledger in memory."""

    memory: MemoryAuthority = field(default_factory=MemoryAuthority)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    hub: Hub = field(default_factory=Hub)
    later: timedelta = timedelta()
    practice: Any = PRACTICE

    def now(self) -> datetime:
        return now() + self.later

    @property
    def issue(self) -> Issue:
        return Issue(
            authority=self.memory.authority,
            practice=self.practice,
            ledger=self.ledger,
            pins=self.hub.pins,
            floors=self.hub.world.floors(attested=True),
            now=self.now,
            random_bytes=secrets.token_bytes,
        )

    @property
    def signatures(self) -> int:
        return self.memory.issuing_key.calls

    async def refuses(
        self, command: IssueCommand, error: type[FinIdError] | tuple[type[FinIdError], ...]
    ) -> FinIdError:
        """The command is refused, no key was used and no intent written down."""
        intents = len(self.ledger.entries)
        before = self.signatures
        with pytest.raises(error) as refused:
            await self.issue.issue(command)
        assert self.signatures == before
        assert len(self.ledger.entries) == intents
        return refused.value


@pytest.fixture(scope="module")
def memory() -> MemoryAuthority:
    return MemoryAuthority()


@pytest.fixture
def room(memory: MemoryAuthority) -> Room:
    for key in (memory.issuing_key, memory.ocsp_key, memory.tsa_key):
        key.fails_with = key.dies_with = None
    return Room(memory)


async def test_issues_to_the_attested_key_and_person(room: Room, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = await room.issue.issue(room.hub.issue(key=key))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert certificate.public_key() == key.public_key()
    assert certificate.serial_number == issued.serial
    (entry,) = room.ledger.entries.values()
    assert (entry.state, entry.certificate_der) == (State.ISSUED, issued.certificate_der)

    room.memory.write(tmp_path)
    crl = tmp_path / "issuing.crl"
    crl.write_bytes(await RevocationList(authority=room.memory.authority, ledger=room.ledger, now=room.now).current())
    accepted, said = openssl.verify(tmp_path, issued.certificate_der, crl, tmp_path / "root.crl")
    assert accepted, said
    flipped = openssl.flipped(issued.certificate_der, at=20)
    accepted, _ = openssl.verify(tmp_path, flipped, crl, tmp_path / "root.crl")
    assert not accepted


async def test_reissued_certificate_waits_and_what_it_replaces_stays_in_force(room: Room) -> None:
    first = room.hub.issue()
    await room.issue.issue(first)
    (entry,) = room.ledger.entries.values()
    second = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": entry.intent.credential})
    issued = await room.issue.issue(second)
    old, new = room.ledger.entries.values()
    assert (old.state, old.reason) == (State.ISSUED, "")
    assert (new.state, new.intent.serial) == (State.WAITING, issued.serial)
    assert await room.issue.issue(second) == issued


async def test_issues_to_keys_of_both_curves(room: Room) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    issued = await room.issue.issue(room.hub.issue(key=key, transaction={"key_algorithm": "EC_P384"}))
    assert x509.load_der_x509_certificate(issued.certificate_der).public_key() == key.public_key()


async def test_second_certificate_of_a_person_waits_to_replace_the_first(room: Room) -> None:
    await room.issue.issue(room.hub.issue())
    await room.issue.issue(room.hub.issue(transaction={"profile": "individual-auth"}))
    await room.issue.issue(room.hub.issue())
    first, other_profile, second = room.ledger.entries.values()
    assert [entry.state for entry in (first, other_profile, second)] == [State.ISSUED, State.ISSUED, State.WAITING]
    assert await room.ledger.activate(second.intent.credential, room.now())
    first, other_profile, second = room.ledger.entries.values()
    assert (first.state, first.reason) == (State.REVOKED, "superseded")
    assert (other_profile.state, second.state) == (State.ISSUED, State.ISSUED)


async def test_of_two_replacements_at_once_both_wait_and_the_old_one_stays(room: Room) -> None:
    """Two phones, or two replicas: neither ends what it would replace before its key is activated."""
    await room.issue.issue(room.hub.issue())
    (old,) = room.ledger.entries.values()
    asked = [
        room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": old.intent.credential}) for _ in range(2)
    ]
    first, second = await asyncio.gather(*(room.issue.issue(command) for command in asked))
    assert first.serial != second.serial
    states = [entry.state for entry in room.ledger.entries.values()]
    assert states == [State.ISSUED, State.WAITING, State.WAITING]
    # Whichever key is activated first; the signer activates no second one in place of the same old one.
    waiting = [entry.intent.credential for entry in room.ledger.entries.values()][1:]
    assert await room.ledger.activate(waiting[1], room.now())
    assert await room.ledger.withdraw(waiting[0], room.now())
    states = [entry.state for entry in room.ledger.entries.values()]
    assert states == [State.REVOKED, State.REVOKED, State.ISSUED]


async def test_replacement_of_what_was_just_revoked_is_refused(room: Room) -> None:
    await room.issue.issue(room.hub.issue())
    (old,) = room.ledger.entries.values()
    command = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": old.intent.credential})
    room.ledger.entries[old.intent.serial] = replace(old, state=State.REVOKED, revoked_at=room.now())
    await room.refuses(command, SupersededUnknownError)


async def test_what_waits_is_not_replaced_itself(room: Room) -> None:
    await room.issue.issue(room.hub.issue())
    (old,) = room.ledger.entries.values()
    await room.issue.issue(room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": old.intent.credential}))
    (_, waiting) = room.ledger.entries.values()
    command = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": waiting.intent.credential})
    await room.refuses(command, SupersededUnknownError)


async def test_certificate_that_the_operator_holds_is_not_replaced(room: Room) -> None:
    await room.issue.issue(room.hub.issue())
    (entry,) = room.ledger.entries.values()
    room.ledger.entries[entry.intent.serial] = replace(entry, state=State.SUSPENDED, actor=Actor.OPERATOR)
    await room.refuses(room.hub.issue(), CertificateHeldError)
    reissue = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": entry.intent.credential})
    await room.refuses(reissue, SupersededUnknownError)


async def test_reissue_refuses_a_credential_that_is_not_the_persons_or_not_in_force(room: Room) -> None:
    await room.issue.issue(room.hub.issue())
    (entry,) = room.ledger.entries.values()
    room.ledger.entries[entry.intent.serial] = replace(entry, intent=replace(entry.intent, iin=OTHER_IIN))
    for superseded in (entry.intent.credential, f"credentials/{new_id()}"):
        command = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": superseded})
        await room.refuses(command, SupersededUnknownError)


CSR = csr_of(ec.generate_private_key(ec.SECP256R1()))
DAMAGED = Room()

REFUSALS: dict[str, tuple[Callable[[Hub], IssueCommand], type[FinIdError]]] = {
    "a key that nobody attested": (lambda hub: hub.issue(attested=digest_of("another key")), KeyNotAttestedError),
    "a request without possession of its key": (lambda hub: hub.issue(csr_der=broken_csr()), CsrRefusedError),
    "a request that does not parse": (lambda hub: hub.issue(csr_der=b"0\x82\xff\xff"), CsrRefusedError),
    "a request with something behind it": (lambda hub: hub.issue(csr_der=trailing_csr()), CsrRefusedError),
    "a key of a curve that nobody here knows": (
        lambda hub: hub.issue(key=ec.generate_private_key(ec.SECP521R1())),
        CsrRefusedError,
    ),
    "an RSA key": (lambda hub: hub.issue(csr_der=rsa_csr()), CsrRefusedError),
    "a key of another curve": (
        lambda hub: hub.issue(key=ec.generate_private_key(ec.SECP384R1())),
        ProfileRefusedError,
    ),
    "a key algorithm that the profile does not know": (
        lambda hub: hub.issue(key=ec.generate_private_key(ec.SECP521R1()), transaction={"key_algorithm": "EC_P521"}),
        ProfileRefusedError,
    ),
    "a profile of which nobody says for whom": (
        lambda hub: hub.issue(transaction={"profile": "legal-entity-sign"}),
        ProfileRefusedError,
    ),
    "an unknown profile": (lambda hub: hub.issue(transaction={"profile": "root"}), ProfileRefusedError),
    "the data of another person": (lambda hub: hub.issue(release={"iin": OTHER_IIN}), SubjectMismatchError),
    "a release of another transaction": (
        lambda hub: hub.issue(release_txn=digest_of("another transaction")),
        PreconditionError,
    ),
    "no release": (lambda hub: replace(hub.issue(), release="a.b.c"), PreconditionError),
    "a person without a name": (lambda hub: hub.issue(release={"given_name": ""}), SubjectUnusableError),
    "no key attestation": (lambda hub: without_last_receipt(hub.issue()), PreconditionError),
    "an attestation for another credential": (
        lambda hub: hub.issue(facts={Factor.KEY_ATTESTATION: {"credential": f"credentials/{new_id()}"}}),
        PreconditionError,
    ),
    "a transaction for another purpose": (lambda hub: of_signing(hub.issue(), hub), PreconditionError),
    "another person's opening": (lambda hub: with_iin(hub.issue(), OTHER_IIN), PreconditionError),
    "bytes that are no transaction": (lambda hub: replace(hub.issue(), transaction_bytes=b"{}"), PreconditionError),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_refuses(room: Room, what: str) -> None:
    make, error = REFUSALS[what]
    await room.refuses(make(room.hub), error)


async def test_nobody_gets_a_certificate_for_an_organisation_while_no_source_says_who_acts_for_it(room: Room) -> None:
    """The profile is there and passes the lint; what is missing is a receipt that says for whom a person acts."""
    refused = await room.refuses(room.hub.issue(transaction={"profile": "legal-entity-sign"}), ProfileRefusedError)
    assert (refused.reason, refused.code) == ("PROFILE_REFUSED", Code.INVALID_ARGUMENT)
    assert refused.message == "nobody says yet for which organisation the person acts"


async def test_refuses_a_certificate_that_fails_the_lint(room: Room) -> None:
    room.practice = replace(PRACTICE, pki_url="not a url")
    refused = await room.refuses(room.hub.issue(), LintError)
    assert refused.metadata["findings"] == "pkix.invalid_uri_syntax"


def test_refuses_floors_under_which_keys_need_no_attestation(room: Room) -> None:
    with pytest.raises(ValueError, match="KEY_ATTESTATION"):
        Issue(
            authority=room.memory.authority,
            practice=PRACTICE,
            ledger=room.ledger,
            pins=room.hub.pins,
            floors=room.hub.world.floors(attested=False),
            now=room.now,
            random_bytes=bytes,
        )


async def test_repeat_returns_the_record_and_signs_nothing(room: Room) -> None:
    command = room.hub.issue()
    first = await room.issue.issue(command)
    before = room.signatures
    room.later = timedelta(hours=1)
    assert await room.issue.issue(command) == first
    assert room.signatures == before


async def test_transaction_serves_one_request_only(room: Room) -> None:
    command = room.hub.issue()
    await room.issue.issue(command)
    await room.refuses(replace(command, request_id="request-2"), TransactionUsedError)


async def test_repeat_needs_the_openings(room: Room) -> None:
    command = room.hub.issue()
    await room.issue.issue(command)
    refused = await room.refuses(with_iin(command, OTHER_IIN), PreconditionError)
    assert isinstance(refused, PreconditionError)
    assert refused.refusal is Refusal.IIN_NOT_OPENED


async def test_key_is_certified_once(room: Room) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await room.issue.issue(room.hub.issue(key=key))
    await room.refuses(room.hub.issue(key=key), KeyCertifiedError)


async def test_of_two_at_once_one_is_signed(room: Room) -> None:
    command = room.hub.issue()
    before = room.signatures
    results = await asyncio.gather(room.issue.issue(command), room.issue.issue(command), return_exceptions=True)
    assert room.signatures == before + 1
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert sum(isinstance(result, IssuanceInProgressError) for result in results) == 1
    assert len(room.ledger.entries) == 1


async def test_failed_signature_abandons_the_serial(room: Room) -> None:
    command = room.hub.issue()
    room.memory.issuing_key.fails_with = TokenUnavailableError("away")
    with pytest.raises(TokenUnavailableError):
        await room.issue.issue(command)
    room.memory.issuing_key.fails_with = None
    await room.refuses(command, IssuanceAbandonedError)
    (entry,) = room.ledger.entries.values()
    assert entry.state is State.ABANDONED


@pytest.mark.parametrize("when", ["before the signature", "after the signature", "before the record"])
async def test_killed_issuance_is_revoked_and_never_signed_again(room: Room, when: str, tmp_path: Path) -> None:
    command = room.hub.issue()
    key = room.memory.issuing_key
    if when == "before the signature":
        key.fails_with = KilledError()
    elif when == "after the signature":
        key.dies_with = KilledError()
    else:
        room.ledger.dies_with = KilledError()
    with pytest.raises(KilledError):
        await room.issue.issue(command)
    key.fails_with = key.dies_with = room.ledger.dies_with = None
    (entry,) = room.ledger.entries.values()

    # A moment later somebody might still be at it; after a while nobody is.
    await room.refuses(command, IssuanceInProgressError)
    room.later = ABANDONED_AFTER + timedelta(seconds=1)
    await room.refuses(command, IssuanceAbandonedError)

    crl = await RevocationList(authority=room.memory.authority, ledger=room.ledger, now=room.now).current()
    listed = x509.load_der_x509_crl(crl).get_revoked_certificate_by_serial_number(entry.intent.serial)
    assert listed is not None


async def test_record_that_comes_too_late_releases_nothing(room: Room) -> None:
    command = room.hub.issue()

    class Late(MemoryLedger):
        async def record(self, intent: Any, certificate_der: bytes, issued_at: datetime) -> bool:
            await self.abandon_older(now() + timedelta(seconds=1), now())
            return await super().record(intent, certificate_der, issued_at)

    room.ledger = Late()
    with pytest.raises(IssuanceAbandonedError):
        await room.issue.issue(command)
    (entry,) = room.ledger.entries.values()
    assert entry.state is State.ABANDONED


async def test_database_away_is_unavailable_and_signs_nothing(room: Room) -> None:
    command = room.hub.issue()
    room.ledger.away = True
    before = room.signatures
    with pytest.raises(DependencyUnavailableError):
        await room.issue.issue(command)
    assert room.signatures == before


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_request_is_refused_and_signs_nothing(data: st.DataObject) -> None:
    csr = bytearray(CSR)
    csr[data.draw(st.integers(0, len(csr) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(csr)))
    for damaged in (bytes(csr), bytes(csr[:cut])):
        command = DAMAGED.hub.issue(attested=digest_of("another key"), csr_der=damaged)
        asyncio.run(DAMAGED.refuses(command, (CsrRefusedError, KeyNotAttestedError)))


def with_iin(command: IssueCommand, iin: str) -> IssueCommand:
    opened = command.openings
    return replace(command, openings=Openings(iin, opened.iin_salt, PHONE, opened.phone_salt))


def without_last_receipt(command: IssueCommand) -> IssueCommand:
    return replace(command, receipts=command.receipts[:-1])


def of_signing(command: IssueCommand, hub: Hub) -> IssueCommand:
    bundle = hub.world.bundle(Purpose.SIGN, now=unix_now())
    return replace(
        command, transaction_bytes=bundle.transaction_bytes, openings=bundle.openings, receipts=bundle.tokens
    )


def broken_csr() -> bytes:
    return openssl.flipped(csr_of(ec.generate_private_key(ec.SECP256R1())), at=1)


def trailing_csr() -> bytes:
    return csr_of(ec.generate_private_key(ec.SECP256R1())) + b"\0"


def rsa_csr() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "credential")])
    key = generate_private_key(65537, 2048)
    return x509.CertificateSigningRequestBuilder(name).sign(key, SHA256()).public_bytes(Encoding.DER)
