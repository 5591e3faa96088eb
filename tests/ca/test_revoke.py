"""Revoke: one's own certificate, after both factors, once."""

import hashlib
from datetime import timedelta

import pytest
from cryptography import x509

from mesh.refusal import PreconditionError
from mesh.transaction import Openings
from services.ca.crl import RevocationList
from services.ca.ledger import State, TransactionUsedError
from services.ca.revoke import CertificateRevokedError, CertificateUnknownError, Revoke
from tests.bundles import PHONE, SentBundle, digest_of
from tests.ca.test_issue import OTHER_IIN, Room

REQUEST_ID = "revoke-01"


@pytest.fixture
def room() -> Room:
    return Room()


async def certificate(room: Room) -> bytes:
    return (await room.issue.issue(room.hub.issue())).certificate_der


def revoke(room: Room) -> Revoke:
    return Revoke(ledger=room.ledger, pins=room.hub.pins(), floors=room.hub.world.floors(attested=True), now=room.now)


async def ask(room: Room, bundle: SentBundle, request_id: str = REQUEST_ID) -> float:
    at = await revoke(room).revoke(request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens)
    return at.timestamp()


async def test_revoked_certificate_is_on_the_list_with_its_reason(room: Room) -> None:
    der = await certificate(room)
    revocation_list = RevocationList(authority=room.memory.authority, ledger=room.ledger, now=room.now)
    before = x509.load_der_x509_crl(await revocation_list.current())
    await ask(room, room.hub.revocation(der))
    after = x509.load_der_x509_crl(await revocation_list.current())
    serial = x509.load_der_x509_certificate(der).serial_number
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    listed = after.get_revoked_certificate_by_serial_number(serial)
    assert listed is not None
    reason = listed.extensions.get_extension_for_class(x509.CRLReason).value
    assert reason.reason is x509.ReasonFlags.key_compromise


async def test_repeat_returns_the_first_answer(room: Room) -> None:
    bundle = room.hub.revocation(await certificate(room))
    first = await ask(room, bundle)
    room.later = timedelta(hours=1)
    assert await ask(room, bundle) == first
    with pytest.raises(TransactionUsedError):
        await ask(room, bundle, "revoke-02")


async def test_second_revocation_is_refused(room: Room) -> None:
    der = await certificate(room)
    await ask(room, room.hub.revocation(der))
    with pytest.raises(CertificateRevokedError):
        await ask(room, room.hub.revocation(der))


async def test_anothers_certificate_is_as_unknown_as_one_that_never_was(room: Room) -> None:
    der = await certificate(room)
    other = Openings(OTHER_IIN, digest_of("salt"), PHONE, digest_of("phone salt"))
    with pytest.raises(CertificateUnknownError):
        await ask(room, room.hub.revocation(der, openings=other))
    with pytest.raises(CertificateUnknownError):
        await ask(room, room.hub.revocation(b"never issued"))
    (entry,) = room.ledger.entries.values()
    assert entry.state is State.ISSUED
    assert entry.sha256 == hashlib.sha256(der).digest()


async def test_both_factors_are_needed(room: Room) -> None:
    bundle = room.hub.revocation(await certificate(room))
    for receipts in ((), bundle.tokens[:-1], bundle.tokens[1:]):
        with pytest.raises(PreconditionError):
            await revoke(room).revoke(REQUEST_ID, bundle.transaction_bytes, bundle.openings, receipts)
    issue = room.hub.issue()
    with pytest.raises(PreconditionError):
        await revoke(room).revoke(REQUEST_ID, issue.transaction_bytes, issue.openings, issue.receipts)
    with pytest.raises(PreconditionError):
        await revoke(room).revoke(REQUEST_ID, b"{}", bundle.openings, bundle.tokens)
    (entry,) = room.ledger.entries.values()
    assert entry.state is State.ISSUED
