"""The revocation list: numbers only go up, nothing is left out, and it serves while the database is away."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import metrics
from mesh.errors import DependencyUnavailableError
from mesh.hsm import TokenUnavailableError
from mesh.order import ON_HOLD, Actor, Kind
from services.ca.crl import GRACE, LIFETIME, REFRESHED_AFTER, RevocationList
from services.ca.ledger import Change
from tests.bundles import digest_of
from tests.ca import openssl
from tests.ca.authorities import MemoryAuthority, now
from tests.ca.linting import crl_findings
from tests.ca.test_issue import Room

MEMORY = MemoryAuthority()


@pytest.fixture
def room() -> Room:
    return Room(MemoryAuthority())


def lists(room: Room) -> RevocationList:
    return RevocationList(authority=room.memory.authority, ledger=room.ledger, now=room.now)


async def revoke_one(room: Room, *, reason: str = "keyCompromise") -> int:
    later, room.later = room.later, timedelta()
    issued = await room.issue.issue(room.hub.issue_to_another())
    room.later = later
    assert await room.ledger.change(change(room, issued.serial, Kind.REVOKE, reason))
    return issued.serial


def change(room: Room, serial: int, kind: Kind, reason: str) -> Change:
    entry = room.ledger.entries[serial]
    act = digest_of(f"act {len(room.ledger.acts)}")
    return Change(kind, act, "revoke-01", entry.sha256, entry.intent.iin, Actor.PERSON, reason, room.now())


def number_of(der: bytes) -> int:
    crl = x509.load_der_x509_crl(der)
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def serials_of(der: bytes) -> set[int]:
    return {entry.serial_number for entry in x509.load_der_x509_crl(der)}


async def test_list_is_signed_by_the_issuing_ca_and_passes_the_lint(room: Room) -> None:
    serial = await revoke_one(room)
    await revoke_one(room, reason="unspecified")
    der = await lists(room).current()
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(room.memory.authority.issuing.public_key)
    assert crl.issuer == room.memory.authority.issuing.certificate.subject
    assert serial in serials_of(der)
    assert crl_findings(der) == crl_findings(room.memory.authority.root_crl_der) == []


def test_lint_of_lists_finds_what_is_wrong() -> None:
    """A list without number and authority key identifier (RFC 5280 sections 5.2.1 and 5.2.3)."""
    issuer, at = MEMORY.authority.issuer, now()
    bare = x509.CertificateRevocationListBuilder(issuer.name, at, at + LIFETIME)
    signed = bare.sign(MEMORY.issuing_key.key, SHA384()).public_bytes(Encoding.DER)
    assert any("crl_number" in code for code in crl_findings(signed)), crl_findings(signed)


async def test_openssl_accepts_the_list_and_refuses_a_flipped_bit(room: Room, tmp_path: Path) -> None:
    await revoke_one(room)
    room.memory.write(tmp_path)
    judged = tmp_path / "judged.crl"
    for der, issuer in ((await lists(room).current(), "issuing.pem"), (room.memory.authority.root_crl_der, "root.pem")):
        # openssl crl says yes or no in words and always ends well.
        for content, verdict in ((der, "verify OK"), (openssl.flipped(der, at=5), "verify failure")):
            judged.write_bytes(content)
            _, said = openssl.run("crl", "-in", judged, "-inform", "DER", "-noout", "-CAfile", tmp_path / issuer)
            assert verdict in said


async def test_list_is_made_anew_when_something_changed_or_time_has_passed(room: Room) -> None:
    first = await lists(room).current()
    assert await lists(room).current() == first
    await revoke_one(room)
    second = await lists(room).current()
    room.later = REFRESHED_AFTER + timedelta(minutes=1)
    third = await lists(room).current()
    assert [number_of(der) for der in (first, second, third)] == [1, 2, 3]
    assert serials_of(second) == serials_of(third) != serials_of(first)


async def test_age_and_end_of_the_list_served_are_shown_also_when_none_can_be_made(room: Room) -> None:
    served = lists(room)
    await served.current()
    room.later = timedelta(hours=5)
    age_s, left_s = metrics.CRL_AGE.shown(), metrics.CRL_NEXT_UPDATE.shown()
    assert age_s == pytest.approx(5 * 3600, abs=60)
    assert left_s == pytest.approx((LIFETIME - timedelta(hours=5)).total_seconds(), abs=60)


async def test_suspended_certificate_is_on_hold_and_leaves_the_list_when_it_resumes(room: Room) -> None:
    issued = await room.issue.issue(room.hub.issue_to_another())
    assert await room.ledger.change(change(room, issued.serial, Kind.SUSPEND, ON_HOLD))
    listed = x509.load_der_x509_crl(await lists(room).current()).get_revoked_certificate_by_serial_number(issued.serial)
    assert listed is not None
    held = listed.extensions.get_extension_for_class(x509.CRLReason).value
    assert held.reason is x509.ReasonFlags.certificate_hold
    assert await room.ledger.change(change(room, issued.serial, Kind.RESUME, ""))
    assert issued.serial not in serials_of(await lists(room).current())


async def test_one_that_resumes_while_another_is_revoked_changes_the_list(room: Room) -> None:
    """As many entries as before, and other ones."""
    held = await room.issue.issue(room.hub.issue_to_another())
    assert await room.ledger.change(change(room, held.serial, Kind.SUSPEND, ON_HOLD))
    before = await lists(room).current()
    assert await room.ledger.change(change(room, held.serial, Kind.RESUME, ""))
    revoked = await revoke_one(room)
    after = await lists(room).current()
    assert number_of(after) == number_of(before) + 1
    assert (serials_of(before), serials_of(after)) == ({held.serial}, {revoked})


async def test_last_list_serves_while_the_database_is_away_until_it_expires(room: Room) -> None:
    published = lists(room)
    der = await published.current()
    room.ledger.away = True
    assert await published.current() == der
    room.later = LIFETIME + timedelta(minutes=1)
    with pytest.raises(DependencyUnavailableError):
        await published.current()


async def test_last_list_serves_through_a_restart_while_the_database_is_away(room: Room, tmp_path: Path) -> None:
    file = tmp_path / "issuing.crl"

    def restarted(memory: MemoryAuthority) -> RevocationList:
        return RevocationList(authority=memory.authority, ledger=room.ledger, now=room.now, file=file)

    await revoke_one(room)
    der = await restarted(room.memory).current()
    assert file.read_bytes() == der
    room.ledger.away = True
    room.later = GRACE
    assert await restarted(room.memory).current() == der
    room.later = LIFETIME + timedelta(minutes=1)
    with pytest.raises(DependencyUnavailableError):
        await restarted(room.memory).current()
    room.later = timedelta()
    with pytest.raises(DependencyUnavailableError):
        await restarted(MemoryAuthority()).current()  # another authority's list
    for damaged in (b"", der[:-1], openssl.flipped(der, at=1)):
        file.write_bytes(damaged)
        with pytest.raises(DependencyUnavailableError):
            await restarted(room.memory).current()
    room.ledger.away = False
    assert number_of(await restarted(room.memory).current()) == number_of(der)


async def test_list_is_published_though_nobody_asks(room: Room) -> None:
    """So whenever the database goes away, a list is served that lasts `GRACE` at least."""
    publishing = asyncio.create_task(lists(room).keep_fresh())
    await asyncio.sleep(0.1)
    publishing.cancel()
    assert [crl.number for crl in room.ledger.crls] == [1]
    assert timedelta(hours=12) < GRACE < LIFETIME


async def test_last_list_serves_while_the_token_is_away(room: Room) -> None:
    published = lists(room)
    der = await published.current()
    await revoke_one(room)
    room.memory.issuing_key.fails_with = TokenUnavailableError("away")
    assert await published.current() == der
    with pytest.raises(TokenUnavailableError):
        await lists(room).current()


async def test_replicas_never_publish_one_number_twice(room: Room) -> None:
    replicas = [lists(room) for _ in range(4)]
    for _ in range(3):
        await revoke_one(room)
        await asyncio.gather(*(replica.current() for replica in replicas))
    numbers = [crl.number for crl in room.ledger.crls]
    assert numbers == sorted(set(numbers))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["revoke", "publish", "wait"]), max_size=8))
def test_numbers_go_up_and_entries_stay(steps: list[str]) -> None:
    async def walk() -> None:
        room = Room(MEMORY)
        revoked: set[int] = set()
        number = 0
        for step in steps:
            if step == "revoke":
                revoked.add(await revoke_one(room))
            elif step == "wait":
                room.later += timedelta(hours=7)
            else:
                der = await lists(room).current()
                assert serials_of(der) == revoked
                assert number_of(der) in (number, number + 1)
                number = number_of(der)

    asyncio.run(walk())
