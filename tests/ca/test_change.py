"""Revoke, suspend, resume: one's own certificate, on one's own word; or any, on an order."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from mesh import base64url
from mesh.names import new_id
from mesh.order import Actor, Kind, OrderRefusedError, sign
from mesh.refusal import PreconditionError
from mesh.transaction import Env, Openings, Purpose
from services.ca.change import (
    CertificateInForceError,
    CertificateNotSuspendedError,
    CertificateRevokedError,
    CertificateSuspendedError,
    CertificateUnknownError,
    CertificateWaitingError,
    Changes,
)
from services.ca.crl import RevocationList
from services.ca.issue import CertificateHeldError
from services.ca.ledger import State, TransactionUsedError
from services.ca.ocsp import Responder
from tests.bundles import PHONE, SentBundle, digest_of
from tests.ca.orders import KEYS, claims, orders
from tests.ca.requests import unix_now
from tests.ca.test_issue import OTHER_IIN, Room

REQUEST_ID = "revoke-01"
KIND = {Purpose.REVOKE: Kind.REVOKE, Purpose.SUSPEND: Kind.SUSPEND, Purpose.RESUME: Kind.RESUME}


@pytest.fixture
def room() -> Room:
    return Room()


async def certificate(room: Room) -> bytes:
    return (await room.issue.issue(room.hub.issue())).certificate_der


def changes(room: Room) -> Changes:
    return Changes(
        ledger=room.ledger,
        pins=room.hub.pins,
        floors=room.hub.world.floors(attested=True),
        orders=orders(),
        now=room.now,
    )


async def ask(room: Room, bundle: SentBundle, request_id: str = REQUEST_ID) -> float:
    at = await changes(room).by_person(
        KIND[bundle.purpose], request_id, bundle.transaction_bytes, bundle.openings, bundle.tokens
    )
    return at.timestamp()


async def order(room: Room, der: bytes, kind: Kind, actor: Actor = Actor.OPERATOR, **changed: Any) -> float:
    token = sign(claims(der, kind, **changed), KEYS[actor])
    return (await changes(room).by_order(token)).timestamp()


def state(room: Room) -> tuple[State, str, str]:
    (entry,) = room.ledger.entries.values()
    return entry.state, entry.reason, entry.actor


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


@pytest.mark.parametrize("purpose", KIND)
async def test_repeat_returns_the_first_answer(room: Room, purpose: Purpose) -> None:
    der = await certificate(room)
    if purpose is Purpose.RESUME:
        await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    bundle = room.hub.revocation(der, purpose=purpose)
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


@pytest.mark.parametrize("purpose", KIND)
async def test_anothers_certificate_is_as_unknown_as_one_that_never_was(room: Room, purpose: Purpose) -> None:
    der = await certificate(room)
    other = Openings(OTHER_IIN, digest_of("salt"), PHONE, digest_of("phone salt"))
    with pytest.raises(CertificateUnknownError):
        await ask(room, room.hub.revocation(der, purpose=purpose, openings=other))
    with pytest.raises(CertificateUnknownError):
        await ask(room, room.hub.revocation(b"never issued", purpose=purpose))
    (entry,) = room.ledger.entries.values()
    assert entry.state is State.ISSUED
    assert entry.sha256 == hashlib.sha256(der).digest()


@pytest.mark.parametrize("purpose", KIND)
async def test_every_factor_of_the_purpose_is_needed(room: Room, purpose: Purpose) -> None:
    der = await certificate(room)
    if purpose is Purpose.RESUME:
        await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    before = state(room)
    bundle = room.hub.revocation(der, purpose=purpose)
    kind = KIND[purpose]
    for receipts in ((), *(bundle.tokens[:at] + bundle.tokens[at + 1 :] for at in range(len(bundle.tokens)))):
        with pytest.raises(PreconditionError):
            await changes(room).by_person(kind, REQUEST_ID, bundle.transaction_bytes, bundle.openings, receipts)
    issue = room.hub.issue()
    with pytest.raises(PreconditionError):
        await changes(room).by_person(kind, REQUEST_ID, issue.transaction_bytes, issue.openings, issue.receipts)
    with pytest.raises(PreconditionError):
        await changes(room).by_person(kind, REQUEST_ID, b"{}", bundle.openings, bundle.tokens)
    assert state(room) == before


async def test_face_alone_suspends_and_does_not_resume(room: Room) -> None:
    der = await certificate(room)
    suspend = room.hub.revocation(der, purpose=Purpose.SUSPEND)
    assert len(suspend.tokens) == 3
    await ask(room, suspend)
    assert state(room) == (State.SUSPENDED, "certificateHold", "PERSON")
    for kind in (Kind.RESUME, Kind.REVOKE):
        with pytest.raises(PreconditionError):
            await changes(room).by_person(kind, REQUEST_ID, suspend.transaction_bytes, suspend.openings, suspend.tokens)
    await ask(room, room.hub.revocation(der, purpose=Purpose.RESUME))
    assert state(room) == (State.ISSUED, "", "PERSON")


async def test_old_suspension_and_resumption_act_no_second_time(room: Room) -> None:
    der = await certificate(room)
    suspend = room.hub.revocation(der, purpose=Purpose.SUSPEND)
    resume = room.hub.revocation(der, purpose=Purpose.RESUME)
    await ask(room, suspend)
    await ask(room, resume)
    await ask(room, suspend)
    assert state(room)[0] is State.ISSUED
    await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    await ask(room, resume)
    assert state(room)[0] is State.SUSPENDED


async def test_what_is_not_suspended_cannot_resume_and_what_is_cannot_be_again(room: Room) -> None:
    der = await certificate(room)
    with pytest.raises(CertificateNotSuspendedError):
        await ask(room, room.hub.revocation(der, purpose=Purpose.RESUME))
    await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    with pytest.raises(CertificateSuspendedError):
        await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    await ask(room, room.hub.revocation(der))
    for purpose in (Purpose.SUSPEND, Purpose.RESUME):
        with pytest.raises(CertificateRevokedError):
            await ask(room, room.hub.revocation(der, purpose=purpose))


@pytest.mark.parametrize("actor", [Actor.OPERATOR, Actor.CA])
async def test_order_revokes_with_its_reason_on_its_givers_word(room: Room, actor: Actor) -> None:
    der = await certificate(room)
    await order(room, der, Kind.REVOKE, actor, reason="privilegeWithdrawn")
    assert state(room) == (State.REVOKED, "privilegeWithdrawn", actor)


async def test_order_acts_once_and_its_repeat_says_when(room: Room) -> None:
    der = await certificate(room)
    token = sign(claims(der, Kind.SUSPEND), KEYS[Actor.OPERATOR])
    first = await changes(room).by_order(token)
    await order(room, der, Kind.RESUME)
    room.later = timedelta(days=2)
    assert await changes(room).by_order(token) == first
    assert state(room)[0] is State.ISSUED


async def test_person_does_not_undo_the_operators_word_nor_the_operator_the_persons(room: Room) -> None:
    der = await certificate(room)
    await order(room, der, Kind.SUSPEND)
    with pytest.raises(CertificateSuspendedError):
        await ask(room, room.hub.revocation(der, purpose=Purpose.RESUME))
    with pytest.raises(CertificateSuspendedError):
        await order(room, der, Kind.RESUME, Actor.CA)
    await order(room, der, Kind.RESUME)
    await ask(room, room.hub.revocation(der, purpose=Purpose.SUSPEND))
    with pytest.raises(CertificateSuspendedError):
        await order(room, der, Kind.RESUME)
    assert state(room) == (State.SUSPENDED, "certificateHold", "PERSON")


async def test_order_for_a_certificate_that_never_was_is_unknown(room: Room) -> None:
    with pytest.raises(CertificateUnknownError):
        await order(room, b"never issued", Kind.REVOKE)


# A certificate that replaces another waits for the activation of its key.


async def waiting(room: Room) -> tuple[str, str, bytes]:
    """The credentials of a certificate in force and of the one that waits beside it, and the latter (DER)."""
    await certificate(room)
    (entry,) = room.ledger.entries.values()
    old = entry.intent.credential
    command = room.hub.issue(purpose=Purpose.REISSUE, transaction={"superseded": old})
    der = (await room.issue.issue(command)).certificate_der
    return old, list(room.ledger.entries.values())[1].intent.credential, der


def states(room: Room) -> list[State]:
    return [entry.state for entry in room.ledger.entries.values()]


async def test_activation_puts_in_force_what_waited_and_its_repeat_changes_nothing(room: Room) -> None:
    _, new, _ = await waiting(room)
    for _ in range(2):
        await changes(room).activate(new)
        assert states(room) == [State.REVOKED, State.ISSUED]


async def test_withdrawal_revokes_what_waited_and_its_repeat_changes_nothing(room: Room) -> None:
    _, new, _ = await waiting(room)
    for _ in range(2):
        await changes(room).withdraw(new)
        assert states(room) == [State.ISSUED, State.REVOKED]
    with pytest.raises(CertificateRevokedError):
        await changes(room).activate(new)


async def test_what_is_in_force_is_not_withdrawn_and_what_never_was_is_unknown(room: Room) -> None:
    old, new, _ = await waiting(room)
    with pytest.raises(CertificateInForceError):
        await changes(room).withdraw(old)
    for change in (changes(room).withdraw, changes(room).activate):
        with pytest.raises(CertificateUnknownError):
            await change(f"credentials/{new_id()}")
    await changes(room).activate(new)
    with pytest.raises(CertificateInForceError):
        await changes(room).withdraw(new)


async def test_what_waits_is_revoked_by_order_and_not_suspended(room: Room) -> None:
    _, new, der = await waiting(room)
    with pytest.raises(CertificateWaitingError):
        await order(room, der, Kind.SUSPEND)
    await order(room, der, Kind.REVOKE)
    assert states(room) == [State.ISSUED, State.REVOKED]
    with pytest.raises(CertificateRevokedError):
        await changes(room).activate(new)


async def test_activation_does_not_go_around_the_operators_suspension(room: Room) -> None:
    _, new, _ = await waiting(room)
    (first, _) = room.ledger.entries.values()
    await order(room, first.certificate_der, Kind.SUSPEND)
    with pytest.raises(CertificateHeldError):
        await changes(room).activate(new)
    assert states(room) == [State.SUSPENDED, State.WAITING]


async def test_what_waits_is_good_and_on_no_list(room: Room) -> None:
    _, new, der = await waiting(room)
    revocation_list = RevocationList(authority=room.memory.authority, ledger=room.ledger, now=room.now)
    assert list(x509.load_der_x509_crl(await revocation_list.current())) == []
    asked = ocsp.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(der), room.memory.authority.issuing.certificate, SHA256()
    )
    responder = Responder(authority=room.memory.authority, ledger=room.ledger, now=room.now)
    answer = await responder.answer(asked.build().public_bytes(Encoding.DER))
    assert ocsp.load_der_ocsp_response(answer).certificate_status is ocsp.OCSPCertStatus.GOOD
    await changes(room).withdraw(new)
    (listed,) = x509.load_der_x509_crl(await revocation_list.current())
    assert listed.serial_number == x509.load_der_x509_certificate(der).serial_number


NOW = unix_now()
VALID = claims(b"certificate", Kind.REVOKE)


def _spliced(text: str, at: int, part: str) -> str:
    parts = text.split(".")
    parts[at] = part
    return ".".join(parts)


def _header(**changed: str) -> str:
    token = sign(VALID, KEYS[Actor.OPERATOR])
    header = base64url.decode(token.split(".")[0])
    for old, new in changed.items():
        header = header.replace(old.encode(), new.encode())
    return _spliced(token, 0, base64url.encode(header))


REFUSED: dict[str, Callable[[], str]] = {
    "a key that nobody pinned": lambda: sign(VALID, Ed25519PrivateKey.generate()),
    "a key of the other environment": lambda: sign(replace(VALID, env=Env.PRODUCTION), KEYS[Actor.OPERATOR]),
    "an order that ran out": lambda: sign(replace(VALID, iat=NOW - 90, exp=NOW - 1), KEYS[Actor.OPERATOR]),
    "an order of the future": lambda: sign(
        replace(VALID, iat=unix_now() + 60, exp=unix_now() + 90), KEYS[Actor.OPERATOR]
    ),
    "a key that was not valid then": lambda: sign(
        replace(VALID, iat=NOW - 10**8, exp=NOW - 10**8 + 60), KEYS[Actor.OPERATOR]
    ),
    "claims that were changed": lambda: _spliced(
        sign(VALID, KEYS[Actor.OPERATOR]), 1, sign(replace(VALID, reason="superseded"), KEYS[Actor.CA]).split(".")[1]
    ),
    "alg none": lambda: _header(EdDSA="none"),
    "a receipt's typ": lambda: _header(**{"finid-order+jwt": "finid-liveness+jwt"}),
    "no signature": lambda: sign(VALID, KEYS[Actor.OPERATOR]).rpartition(".")[0] + ".",
    "nothing": lambda: "",
    "two parts": lambda: "a.b",
    "a second spelling": lambda: _spliced(
        sign(VALID, KEYS[Actor.OPERATOR]),
        1,
        base64url.encode(b" " + base64url.decode(sign(VALID, KEYS[Actor.OPERATOR]).split(".")[1])),
    ),
    "too much": lambda: "a" * 5000,
    "text that is not ASCII": lambda: "жж.жж.жж",
}


@pytest.mark.parametrize("what", REFUSED)
async def test_order_is_refused(room: Room, what: str) -> None:
    await certificate(room)
    with pytest.raises(OrderRefusedError):
        await changes(room).by_order(REFUSED[what]())
    assert state(room)[0] is State.ISSUED
    assert room.ledger.acts == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "certificateHold"},
        {"reason": "removeFromCRL"},
        {"reason": ""},
        {"kind": Kind.SUSPEND},
        {"kind": Kind.RESUME},
        {"grounds": ""},
        {"grounds": "x" * 201},
        {"grounds": "two\nlines"},
        {"certificate_sha256": b"short"},
        {"id": "1"},
        {"exp": VALID.iat},
        {"exp": VALID.iat + 86_401},
    ],
    ids=str,
)
def test_order_cannot_say(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"id|reason|grounds|exp"):
        replace(VALID, **changed)


def test_each_order_has_a_name_of_its_own() -> None:
    tokens = {sign(claims(secrets.token_bytes(8), Kind.REVOKE), KEYS[Actor.CA]) for _ in range(3)}
    assert len({orders().read(token).sha256 for token in tokens}) == 3
