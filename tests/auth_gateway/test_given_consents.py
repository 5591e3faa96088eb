"""What is recorded when a person agrees, what a withdrawal ends and what it leaves, and the receipt of it."""

import asyncio
import datetime
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from deploy.local import database as local
from mesh import base64url
from mesh.errors import DependencyUnavailableError
from mesh.names import new_id
from mesh.transaction import Channel, Purpose
from services.auth_gateway import capture
from services.auth_gateway.authentication import ERASED, Authentication, Controller, State, Verdict, WrongStateError
from services.auth_gateway.consent_records import (
    ConsentNotFoundError,
    ConsentRecord,
    FactorsNotPassedError,
    WithdrawnBy,
)
from services.auth_gateway.given_consents import receipt_claims
from services.auth_gateway.paging import PageTokenInvalidError
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION, CODE, OTHERS_IIN, PERSON, Fake, unavailable
from tests.auth_gateway.room import Room, after, ask_of
from tests.bundles import IIN, PHONE

pytestmark = pytest.mark.postgres

DOCUMENTS = ["biometric-data", "personal-data"]
OPEN_STATES = [State.AWAITING_LIVENESS, State.AWAITING_CODE]


def consent_of(item: Authentication, document: str = "personal-data") -> str:
    return f"consents/{item.name.removeprefix('authentications/')}-{document}"


async def records(room: Room, item: Authentication) -> tuple[ConsentRecord, ...]:
    return await room.consent_store.of_authentication(item.name)


async def withdraw(room: Room, item: Authentication, document: str = "personal-data") -> ConsentRecord:
    return await room.given_consents.withdraw_by_application(item.application, consent_of(item, document))


async def finished(room: Room, iin: str = IIN, application: str = APPLICATION) -> Authentication:
    room.registry.people |= {OTHERS_IIN: PERSON | {"iin": OTHERS_IIN}}
    return await room.walk(await room.identify(ask_of(iin=iin, application=application)), State.FINISHED)


def sealed_in(made: local.Database, item: Authentication) -> tuple[bytes | None, bytes, str]:
    """Person, openings and photo, as they lie in the table."""
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute(
            "SELECT person, openings, photo_jwe FROM auth_gateway.authentication WHERE name = %s", [item.name]
        ).fetchone()
    assert row is not None
    return row[0], bytes(row[1]), row[2]


# What is recorded.


async def test_what_was_shown_when_to_whom_and_how_is_recorded_under_the_transaction(room: Room) -> None:
    item = await room.identify(scopes=("name", "birth_date"))
    room.clock.pass_by(5)
    await room.results.open_capture(room.links.token(item.name), capture.new_secret())
    opened_at = room.clock.now()
    room.clock.pass_by(9)
    await room.consent(item)
    given = await records(room, item)
    assert [record.document for record in given] == DOCUMENTS
    for record in given:
        (shown,) = (text for text in item.consents if text.id == record.document)
        (committed,) = (consent for consent in item.transaction.consents if consent.id == record.document)
        assert (record.text, record.version, record.text_sha256) == (
            shown.text,
            committed.version,
            committed.text_sha256,
        )
        assert (record.shown_at, record.given_at) == (opened_at, room.clock.now())
        assert (record.authentication, record.txn, record.subject) == (item.name, item.txn, item.subject)
        assert base64url.decode(record.iin_commitment) == item.transaction.iin_commitment
        assert (record.application, record.application_title) == (APPLICATION, "Демо Банк")
        assert (record.purpose, record.scopes, record.language) == (
            Purpose.IDENTIFY,
            ("name", "birth_date"),
            item.language,
        )
        assert (record.channel, record.withdrawn_at, record.withdrawn_by) == (Channel.HOSTED, None, None)
    assert [(record.controller, record.controller_title) for record in given] == [
        (Controller.OPERATOR, "Оператор FinID"),
        (Controller.APPLICATION, "Демо Банк"),
    ]


async def test_without_a_page_the_texts_were_shown_when_the_participant_got_them(room: Room) -> None:
    item = await room.identify(ask_of(channel=Channel.STEPS))
    room.clock.pass_by(30)
    await room.consent(item)
    for record in await records(room, item):
        assert (record.channel, record.shown_at, record.given_at) == (
            Channel.STEPS,
            item.created_at,
            room.clock.now(),
        )


async def test_consents_given_at_once_are_recorded_once(room: Room) -> None:
    item = await room.identify()
    answers = await asyncio.gather(*(room.consent(item) for _ in range(5)), return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert all(isinstance(answer, WrongStateError) for answer in answers if answer is not None)
    assert [record.document for record in await records(room, item)] == DOCUMENTS


async def test_people_who_agree_to_the_same_new_texts_at_once_do_not_wait_for_each_other(room: Room) -> None:
    room.portal.becomes(title=f"Bank {new_id()}")
    items = [await room.identify(ask_of(iin=f"8504023001{n:02d}")) for n in range(12)]
    await asyncio.gather(*(room.consent(item) for item in items))
    assert [len(await records(room, item)) for item in items] == [2] * 12


async def test_what_is_not_agreed_to_is_not_recorded(room: Room) -> None:
    item = await room.identify()
    await room.flow.cancel(item)
    assert await records(room, item) == ()
    with pytest.raises(ConsentNotFoundError):
        await withdraw(room, item)
    assert await room.given_consents.receipt(item) == ""
    with pytest.raises(ConsentNotFoundError):
        await room.given_consents.required_receipt(item)


async def terminate_waiting(made: local.Database) -> None:
    """Kill the connection whose statement waits for a row, as the end of its process would."""
    with psycopg.connect(made.admin_url, autocommit=True) as admin:
        for _ in range(200):
            killed = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND query ~ 'WITH (given|withdrawn) AS'"
            ).fetchall()
            if killed:
                return
            await asyncio.sleep(0.02)
    raise AssertionError("nothing waits")


async def dies_in(made: local.Database, item: Authentication, statement: Callable[[], Awaitable[object]]) -> None:
    """Let a statement come as far as the authentication's row, and no further."""
    with psycopg.connect(made.owner_url) as holder:
        holder.execute("SELECT 1 FROM auth_gateway.authentication WHERE name = %s FOR UPDATE", [item.name])
        running = asyncio.ensure_future(statement())
        await terminate_waiting(made)
        with pytest.raises(DependencyUnavailableError):
            await running


async def test_a_kill_leaves_the_step_with_its_record_or_neither(room: Room, made: local.Database) -> None:
    item = await room.identify()
    await dies_in(made, item, lambda: room.consent(item))
    assert (await room.get(item.name)).state is State.AWAITING_CONSENTS
    assert await records(room, item) == ()
    await room.consent(item)
    assert len(await records(room, item)) == 2


async def test_a_kill_leaves_the_withdrawal_with_all_that_follows_or_nothing(room: Room, made: local.Database) -> None:
    item = await finished(room)
    await dies_in(made, item, lambda: withdraw(room, item))
    assert await room.get(item.name) == item
    assert [record.withdrawn_at for record in await records(room, item)] == [None, None]
    await withdraw(room, item)
    assert (await room.get(item.name)).person == {}


# What a withdrawal ends.


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("state", OPEN_STATES)
async def test_an_authentication_that_waits_for_the_person_ends(
    room: Room, made: local.Database, state: State, document: str
) -> None:
    item = await room.walk(await room.identify(), state)
    await withdraw(room, item, document)
    ended = await room.get(item.name)
    assert (ended.state, ended.verdict, ended.reason) == (State.FINISHED, Verdict.FAILURE, "CONSENT_WITHDRAWN")
    assert ended.finished_at == ended.consent_withdrawn_at == room.clock.now()
    assert sealed_in(made, item) == (None, b"", "")
    for step in (room.flow.start_liveness, room.flow.send_code, room.flow.cancel):
        with pytest.raises(WrongStateError):
            await step(ended)


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_released_data_is_erased_and_the_verdict_stands(room: Room, made: local.Database, document: str) -> None:
    item = await finished(room)
    assert item.person
    withdrawn = await withdraw(room, item, document)
    assert (withdrawn.withdrawn_at, withdrawn.withdrawn_by) == (room.clock.now(), WithdrawnBy.APPLICATION)
    left = await room.get(item.name)
    assert (left.state, left.verdict, left.reason) == (State.FINISHED, Verdict.SUCCESS, "")
    assert (left.person, left.openings, left.consent_withdrawn_at) == ({}, ERASED, room.clock.now())
    assert left.receipts == item.receipts
    assert sealed_in(made, item) == (None, b"", "")


def told_of(made: local.Database, item: Authentication) -> list[str]:
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT state FROM auth_gateway.webhook WHERE authentication = %s ORDER BY changed_at", [item.name]
        ).fetchall()
    return [str(row[0]) for row in rows]


async def test_the_application_is_told_of_an_end_by_withdrawal_once_and_of_no_other_state(
    room: Room, made: local.Database
) -> None:
    room.portal.becomes(webhook_uri="https://bank.example/hooks")
    ended = await room.walk(await room.identify(), State.AWAITING_CODE)
    done = await finished(room)
    for item in (ended, done):
        await withdraw(room, item)
        await withdraw(room, item, "biometric-data")
    assert told_of(made, ended) == ["AWAITING_LIVENESS", "AWAITING_CODE", "FINISHED"]
    assert told_of(made, done) == ["AWAITING_LIVENESS", "AWAITING_CODE", "COMPLETING", "FINISHED"]


async def test_a_withdrawal_is_of_one_document_and_happens_once(room: Room) -> None:
    item = await finished(room)
    first = await withdraw(room, item)
    room.clock.pass_by(60)
    assert await withdraw(room, item) == first
    assert [record.withdrawn_at for record in await records(room, item)] == [None, first.withdrawn_at]
    second = await withdraw(room, item, "biometric-data")
    assert second.withdrawn_at == room.clock.now()
    assert (await room.get(item.name)).consent_withdrawn_at == first.withdrawn_at


async def test_many_withdrawals_at_once_are_one(room: Room) -> None:
    item = await finished(room)
    answers = await asyncio.gather(*(withdraw(room, item, DOCUMENTS[n % 2]) for n in range(8)))
    assert {answer.withdrawn_by for answer in answers} == {WithdrawnBy.APPLICATION}
    assert (await room.get(item.name)).person == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE auth_gateway.consent SET withdrawn_at = NULL, withdrawn_by = NULL WHERE name = %s",
        "UPDATE auth_gateway.consent SET withdrawn_at = now() WHERE name = %s",
        "UPDATE auth_gateway.authentication SET consent_withdrawn_at = NULL WHERE name = %s",
        "UPDATE auth_gateway.authentication SET person = 'x' WHERE name = %s",
        "DELETE FROM auth_gateway.consent WHERE name = %s",
        "UPDATE auth_gateway.consent SET version = '3' WHERE name = %s",
        "UPDATE auth_gateway.consent_text SET text = 'another' WHERE text = %s",
    ],
)
async def test_the_rooms_own_role_takes_no_withdrawal_back(room: Room, made: local.Database, statement: str) -> None:
    item = await finished(room)
    await withdraw(room, item)
    name = item.name if "authentication SET" in statement else consent_of(item)
    with psycopg.connect(made.url("auth_gateway")) as own, pytest.raises(psycopg.Error):
        own.execute(statement.encode(), [name])


# The completion.


async def asked(fake: Fake, method: str) -> None:
    """Return once a spoke that waits has been asked."""
    for _ in range(500):
        if method in fake.calls:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{method} was not asked")


async def test_what_a_release_answers_after_the_withdrawal_is_dropped(room: Room, made: local.Database) -> None:
    item = await room.walk(await room.identify(), State.AWAITING_CODE)
    await room.flow.send_code(item)
    room.registry.waits = asyncio.Event()
    entering = asyncio.ensure_future(room.flow.verify_code(await room.get(item.name), CODE))
    await asked(room.registry, "release")
    await withdraw(room, item)
    room.registry.waits.set()
    ended = await entering
    assert (ended.state, ended.verdict, ended.reason) == (State.FINISHED, Verdict.FAILURE, "CONSENT_WITHDRAWN")
    assert sealed_in(made, item) == (None, b"", "")


async def test_a_release_that_commits_first_is_erased_by_the_withdrawal_that_waits(
    room: Room, made: local.Database
) -> None:
    """The statement that withdraws judges the row as the other left it."""
    item = await completing(room, room.identify)
    with psycopg.connect(made.owner_url) as other:
        other.execute(
            "UPDATE auth_gateway.authentication SET state = 'FINISHED', verdict = 'SUCCESS', person = 'sealed', "
            "finished_at = now() WHERE name = %s",
            [item.name],
        )
        running = asyncio.ensure_future(withdraw(room, item))
        await asyncio.sleep(0.3)
        assert not running.done()
    await running
    left = await room.get(item.name)
    assert (left.state, left.verdict, left.person) == (State.FINISHED, Verdict.SUCCESS, {})


async def completing(room: Room, begin: Callable[[], Awaitable[Authentication]]) -> Authentication:
    """An authentication whose completion was broken off by consumers that are away."""
    item = await begin()
    for fake, method in (
        (room.registry, "release"),
        (room.signer, "generate_key"),
        (room.signer, "sign_digests"),
        (room.ca, "revoke"),
    ):
        fake.fails(method, unavailable("away"))
    item = await room.walk(item, State.COMPLETING)
    for fake in (room.registry, room.signer, room.ca):
        fake._failures.clear()
        fake.calls.clear()
    return item


async def resumed(room: Room, item: Authentication) -> Authentication:
    room.clock.pass_by(30)
    await room.new_completion().complete(item.name)
    return await room.get(item.name)


BEGIN: dict[str, Callable[[Room], Callable[[], Awaitable[Authentication]]]] = {
    "identify": lambda room: room.identify,
    "issue": lambda room: room.issuing,
    "reissue": lambda room: room.reissuing,
    "sign": lambda room: room.signing,
}


@pytest.mark.parametrize("begin", BEGIN.values(), ids=BEGIN)
async def test_nothing_is_released_or_made_once_a_consent_is_withdrawn(
    room: Room, begin: Callable[[Room], Callable[[], Awaitable[Authentication]]]
) -> None:
    item = await completing(room, begin(room))
    await withdraw(room, item)
    ended = await resumed(room, item)
    assert (ended.state, ended.verdict, ended.reason) == (State.FINISHED, Verdict.FAILURE, "CONSENT_WITHDRAWN")
    assert "release" not in room.registry.calls
    assert {"generate_key", "sign_digests"}.isdisjoint(room.signer.calls)
    assert (ended.outcome, ended.person) == ("", {})


async def test_the_registry_is_not_asked_when_a_consent_goes_while_the_key_is_made(room: Room) -> None:
    item = await room.walk(await room.issuing(), State.AWAITING_CODE)
    await room.flow.send_code(item)
    room.signer.waits = asyncio.Event()
    entering = asyncio.ensure_future(room.flow.verify_code(await room.get(item.name), CODE))
    await asked(room.signer, "generate_key")
    await withdraw(room, item)
    room.signer.waits.set()
    ended = await entering
    assert (ended.verdict, ended.reason) == (Verdict.FAILURE, "CONSENT_WITHDRAWN")
    assert "release" not in room.registry.calls
    assert "issue" not in room.ca.calls


async def test_a_certificate_that_was_issued_is_not_undone_and_the_registry_not_asked_again(room: Room) -> None:
    item = await room.issuing()
    room.signer.fails("activate", unavailable("signer"))
    item = await room.walk(item, State.COMPLETING)
    await withdraw(room, item)
    room.registry.calls.clear()
    ended = await resumed(room, item)
    assert ended.verdict is Verdict.SUCCESS
    assert await room.store.certificate(ended.outcome) is not None
    assert "release" not in room.registry.calls


async def test_a_signature_that_was_made_is_not_undone(room: Room) -> None:
    item = await room.walk(await room.signing(), State.AWAITING_CODE)
    await room.flow.send_code(item)
    operation = await room.store.operation_of(item.name)
    assert operation is not None

    async def dies(*_: object) -> bool:
        raise DependencyUnavailableError("the database is lost")

    with pytest.MonkeyPatch.context() as lost:  # the process dies before it can say so
        lost.setattr(room.store, "succeed", dies)
        with pytest.raises(DependencyUnavailableError):
            await room.flow.verify_code(await room.get(item.name), CODE)
    await withdraw(room, item)
    ended = await resumed(room, item)
    assert (ended.verdict, ended.outcome) == (Verdict.SUCCESS, operation.name)


async def test_a_revocation_that_both_factors_confirmed_is_carried_out(room: Room) -> None:
    item = await completing(room, room.revoking)
    await withdraw(room, item)
    ended = await resumed(room, item)
    assert ended.verdict is Verdict.SUCCESS
    assert "revoke" in room.ca.calls


async def test_openings_stay_sealed_where_something_was_made_that_needs_them(room: Room) -> None:
    item = await room.walk(await room.issuing(), State.FINISHED)
    await withdraw(room, item)
    left = await room.get(item.name)
    assert left.openings == item.openings
    assert await room.store.last_phone(item.subject) == PHONE


# Who may.


async def test_an_application_withdraws_and_sees_its_own_and_no_other(room: Room) -> None:
    item = await finished(room)
    for call in (room.given_consents.get, room.given_consents.withdraw_by_application):
        with pytest.raises(ConsentNotFoundError):
            await call(ANOTHER_APPLICATION, consent_of(item))
        with pytest.raises(ConsentNotFoundError):
            await call(APPLICATION, f"consents/{new_id()}-personal-data")
    assert await room.get(item.name) == item
    assert (await room.given_consents.get(APPLICATION, consent_of(item))).withdrawn_at is None


async def person_sees(room: Room, session: Authentication, size: int = 100) -> list[str]:
    found, token, pages = [], "", 0
    while True:
        page, token = await room.given_consents.of_person(session, size, token)
        found += [record.name for record in page]
        pages += 1
        assert len(page) <= size
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_a_person_sees_her_live_consents_to_every_application_newest_first(room: Room, size: int) -> None:
    one = await finished(room)
    room.clock.pass_by(1)
    another = await finished(room, application=ANOTHER_APPLICATION)
    await finished(room, iin=OTHERS_IIN)
    expected = [consent_of(item, document) for item in (another, one) for document in reversed(DOCUMENTS)]
    assert await person_sees(room, another, size) == expected
    await room.given_consents.withdraw_by_person(another, expected[3])
    await room.given_consents.withdraw_by_person(another, expected[0])
    assert await person_sees(room, another, size) == expected[1:3]


async def test_a_person_withdraws_what_she_gave_another_application(room: Room) -> None:
    item = await finished(room, application=ANOTHER_APPLICATION)
    session = await finished(room)
    withdrawn = await room.given_consents.withdraw_by_person(session, consent_of(item))
    assert (withdrawn.withdrawn_by, withdrawn.withdrawn_in) == (WithdrawnBy.PERSON, session.name)
    assert (await room.get(item.name)).person == {}
    assert (await room.get(session.name)).person == session.person
    assert await room.given_consents.withdraw_by_person(session, consent_of(item)) == withdrawn


async def test_another_persons_session_neither_sees_nor_withdraws(room: Room) -> None:
    item = await finished(room)
    session = await finished(room, iin=OTHERS_IIN)
    assert all(item.name[16:] not in name for name in await person_sees(room, session))
    with pytest.raises(ConsentNotFoundError):
        await room.given_consents.withdraw_by_person(session, consent_of(item))
    assert await room.get(item.name) == item


async def at_state(room: Room, state: State) -> Authentication:
    return await room.walk(await room.identify(), state)


async def failed(room: Room) -> Authentication:
    item = await room.walk(await room.identify(), State.AWAITING_LIVENESS)
    await room.store.fail(item.name, State.AWAITING_LIVENESS, "LIVENESS_FAILED", room.clock.now())
    return await room.get(item.name)


async def long_ago(room: Room) -> Authentication:
    item = await finished(room)
    room.clock.pass_by(15 * 60)
    return item


async def face_alone(room: Room) -> Authentication:
    return await room.walk(await room.suspending(), State.FINISHED)


async def any_phone(room: Room) -> Authentication:
    return await room.walk(await room.revoking(), State.FINISHED)


@pytest.mark.parametrize(
    "begin",
    [
        lambda room: at_state(room, State.AWAITING_CONSENTS),
        lambda room: at_state(room, State.AWAITING_LIVENESS),
        lambda room: at_state(room, State.AWAITING_CODE),
        lambda room: completing(room, room.identify),
        failed,
        long_ago,
        face_alone,
        any_phone,
    ],
    ids=["consents", "liveness", "code", "completing", "failed", "long ago", "face alone", "any phone"],
)
async def test_a_session_that_has_not_just_confirmed_the_person_neither_sees_nor_withdraws(
    room: Room, begin: Callable[[Room], Awaitable[Authentication]]
) -> None:
    session = await begin(room)
    item = await finished(room)
    with pytest.raises(FactorsNotPassedError):
        await room.given_consents.of_person(session, 0, "")
    with pytest.raises(FactorsNotPassedError):
        await room.given_consents.withdraw_by_person(session, consent_of(item))
    assert await room.get(item.name) == item


async def test_a_page_token_serves_its_own_list_alone(room: Room) -> None:
    hers, others = await finished(room), await finished(room, iin=OTHERS_IIN)
    given = room.given_consents
    _, of_person = await given.of_person(hers, 1, "")
    _, of_application = await given.of_application(APPLICATION, None, 1, "")
    misuses: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: given.of_person(others, 1, of_person),
        lambda: given.of_person(hers, 1, of_application),
        lambda: given.of_person(hers, 1, of_person[:-2] + "AA"),
        lambda: given.of_person(hers, 1, "not a token"),
        lambda: given.of_application(APPLICATION, None, 1, of_person),
        lambda: given.of_application(ANOTHER_APPLICATION, None, 1, of_application),
        lambda: given.of_application(APPLICATION, False, 1, of_application),
    )
    for misuse in misuses:
        with pytest.raises(PageTokenInvalidError):
            await misuse()


async def test_an_application_finds_what_was_withdrawn(room: Room) -> None:
    application = f"applications/{new_id()}"
    room.portal.applications[application] = replace(room.portal.applications[APPLICATION], name=application)
    items = [await finished(room, application=application) for _ in range(3)]
    await room.given_consents.withdraw_by_person(items[2], consent_of(items[1]))

    async def listed(withdrawn: bool | None) -> set[str]:
        names: set[str] = set()
        token = ""
        while True:
            page, token = await room.given_consents.of_application(application, withdrawn, 2, token)
            names |= {record.name for record in page}
            if not token:
                return names

    every = {consent_of(item, document) for item in items for document in DOCUMENTS}
    assert await listed(None) == every
    assert await listed(True) == {consent_of(items[1])}
    assert await listed(False) == every - {consent_of(items[1])}


# The receipt.


def read(room: Room, receipt: str) -> dict[str, Any]:
    """What a receipt says, once joserfc has verified it with the public key."""
    key = OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(room.statement_key.public_key), "alg": "EdDSA"}
    )
    verified = jws.deserialize_compact(receipt, key, algorithms=["EdDSA"])
    assert verified.headers() == {"alg": "EdDSA", "typ": "finid-consent+jwt", "kid": room.statement_key.kid}
    claims: dict[str, Any] = json.loads(verified.payload)
    return claims


async def test_the_receipt_says_what_was_agreed_to_and_names_nobody(room: Room) -> None:
    item = await finished(room)
    receipt = await room.given_consents.receipt(item)
    given = await records(room, item)
    given_at = int(given[0].given_at.timestamp())
    texts = {consent.id: consent.text_sha256.hex() for consent in item.transaction.consents}
    assert read(room, receipt) == {
        "iss": "auth_gateway",
        "env": "sandbox",
        "aud": APPLICATION,
        "sub": item.name,
        "jti": item.name.removeprefix("authentications/") + ".0",
        "iat": given_at,
        "txn": item.txn.hex(),
        "iin_commitment": base64url.encode(item.transaction.iin_commitment),
        "purpose": "IDENTIFY",
        "channel": "HOSTED",
        "language": "ru",
        "scopes": "name birth_date",
        "application_title": "Демо Банк",
        "shown_at": int(item.created_at.timestamp()),
        "given_at": given_at,
        "state": "GIVEN",
        "consents": "biometric-data personal-data",
        "biometric-data.version": "1",
        "biometric-data.text_sha256": texts["biometric-data"],
        "biometric-data.controller": "operator",
        "biometric-data.controller_title": "Оператор FinID",
        "personal-data.version": "1",
        "personal-data.text_sha256": texts["personal-data"],
        "personal-data.controller": APPLICATION,
        "personal-data.controller_title": "Демо Банк",
    }
    assert not {IIN, PHONE, item.subject, *PERSON.values()} & set(map(str, read(room, receipt).values()))
    assert await room.given_consents.receipt(item) == receipt


async def test_a_receipt_after_the_withdrawal_says_when_and_by_whom(room: Room) -> None:
    item = await finished(room)
    before = read(room, await room.given_consents.receipt(item))
    room.clock.pass_by(77)
    await room.given_consents.withdraw_by_person(item, consent_of(item))
    said = read(room, await room.given_consents.receipt(item))
    now = int(room.clock.now().timestamp())
    changed = {
        "state": "WITHDRAWN",
        "iat": now,
        "jti": item.name.removeprefix("authentications/") + ".1",
        "personal-data.withdrawn_at": now,
        "personal-data.withdrawn_by": "PERSON",
    }
    assert said == before | changed


async def test_a_receipt_holds_strings_and_integers_alone(room: Room) -> None:
    for begin in (room.identify, room.issuing, room.signing):
        item = await room.walk(await begin(), State.AWAITING_LIVENESS)
        claims = receipt_claims(await records(room, item), room.given_consents._env)
        assert {type(value) for value in claims.values()} == {str, int}
        assert claims["consents"] == " ".join(sorted(text.id for text in item.consents))


async def test_times_are_those_of_the_record(room: Room) -> None:
    item = await room.identify()
    room.clock.pass_by(3)
    await room.consent(item)
    claims = read(room, await room.given_consents.receipt(item))
    assert claims["given_at"] == int(room.clock.now().timestamp())
    assert after(item.created_at, 0) <= datetime.datetime.fromtimestamp(claims["given_at"], datetime.UTC)
