"""The gateway's tables in PostgreSQL: every statement from every state, who may do what, and what happens at once."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from deploy.local import database as local
from mesh.names import new_id
from mesh.sealing import SealBrokenError
from mesh.transaction import Purpose
from services.auth_gateway.authentication import (
    TRANSITIONS,
    Authentication,
    ConsentText,
    Language,
    Receipts,
    ReturnTo,
    Scores,
    State,
    Verdict,
)
from services.auth_gateway.ports import IssuedCertificate
from services.auth_gateway.records import (
    Certificate,
    JournalEntry,
    Operation,
    Request,
    RequestIdReusedError,
    TooManyAuthenticationsError,
)
from services.auth_gateway.store import Store
from tests.auth_gateway.fakes import APPLICATION, PERSON, PHOTO_JWE
from tests.bundles import IIN, NOW, PHONE, digest_of, sandbox_openings, transaction_of

pytestmark = pytest.mark.postgres

AT = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
EXPIRES_AT = AT + datetime.timedelta(minutes=10)
LATE = EXPIRES_AT + datetime.timedelta(seconds=1)
LEASE = AT + datetime.timedelta(seconds=20)
SESSION, CHALLENGE = "s" * 26, "c" * 26
RESULT_CODE = digest_of("result code")
SCORES = Scores(910_000, 1_000_000, (700_000, 650_000), 425_000)


def new(subject: str = "", purpose: Purpose = Purpose.IDENTIFY, *, cross_device: bool = False) -> Authentication:
    openings = sandbox_openings()
    asked = transaction_of(purpose, openings=openings)
    return Authentication(
        name=asked.authentication,
        application=APPLICATION,
        state=State.AWAITING_CONSENTS,
        language=Language.KK,
        subject=subject or new_id(),
        transaction_bytes=asked.encode(),
        openings=openings,
        consents=(ConsentText("personal-data", "1", "Мен келісемін."),),
        return_to=ReturnTo("https://bank.example/return", "state", "c" * 43),
        created_at=AT,
        expires_at=EXPIRES_AT,
        receipts=Receipts(preparation="preparation.receipt", state_record="state.record.receipt"),
        cross_device=cross_device,
        number_due=cross_device,
    )


def request_of(request_id: str = "", body: str = "body") -> Request:
    return Request(APPLICATION, "Create", request_id or new_id(), digest_of(body))


async def add(store: Store, item: Authentication, request: Request | None = None, max_open: int = 5) -> str:
    return await store.create(
        item,
        request or request_of(),
        photo_jwe=PHOTO_JWE,
        capture_token_sha256=digest_of(item.name),
        operation=None,
        max_open=max_open,
    )


async def at(store: Store, state: State, lease: datetime.datetime = LEASE, *, cross_device: bool = False) -> str:
    """The name of a new authentication that stands at `state`, by the way that leads there."""
    item = new(cross_device=cross_device)
    name = await add(store, item)
    if state is State.CANCELLED:
        assert await store.cancel(name)
    if state is State.EXPIRED:
        assert await store.expire(LATE)
    if state not in {State.AWAITING_CONSENTS, State.CANCELLED, State.EXPIRED}:
        if cross_device:
            assert await store.confirm_match(name, AT)
        assert await store.give_consents(name, AT)
        assert await store.start_liveness(name, SESSION, AT, known="")
    if state in {State.AWAITING_CODE, State.COMPLETING, State.FINISHED}:
        assert await store.pass_biometrics(name, SESSION, ("live", "match"), SCORES, AT)
        assert await store.send_code(name, CHALLENGE, AT)
    if state in {State.COMPLETING, State.FINISHED}:
        assert await store.pass_code(name, CHALLENGE, "otp", AT, lease)
    if state is State.FINISHED:
        assert await store.succeed(name, lease, "", PERSON, AT)
        assert await store.set_result_code(name, RESULT_CODE)
    return name


async def found(store: Store, name: str) -> Authentication:
    item = await store.get(name)
    assert item is not None
    return item


@dataclass(frozen=True)
class Statement:
    """A statement in its best case: where it may leave from, and where it leads."""

    run: Callable[[Store, str], Awaitable[object]]
    leaves: frozenset[State]
    to: State | None = None  # None: stays where it is
    cross_device: bool = False


OPEN = frozenset({State.AWAITING_CONSENTS, State.AWAITING_LIVENESS, State.AWAITING_CODE})
STATEMENTS = {
    "give_consents": Statement(
        lambda store, name: store.give_consents(name, AT),
        frozenset({State.AWAITING_CONSENTS}),
        State.AWAITING_LIVENESS,
    ),
    "confirm_match": Statement(
        lambda store, name: store.confirm_match(name, AT), frozenset({State.AWAITING_CONSENTS}), cross_device=True
    ),
    "fail at the number": Statement(
        lambda store, name: store.fail(name, State.AWAITING_CONSENTS, "NUMBER_NOT_MATCHED", AT),
        frozenset({State.AWAITING_CONSENTS}),
        State.FINISHED,
        cross_device=True,
    ),
    "start_liveness": Statement(
        lambda store, name: store.start_liveness(name, new_id(), AT, known=SESSION),
        frozenset({State.AWAITING_LIVENESS}),
    ),
    "drop_liveness": Statement(
        lambda store, name: store.drop_liveness(name, SESSION), frozenset({State.AWAITING_LIVENESS})
    ),
    "pass_biometrics": Statement(
        lambda store, name: store.pass_biometrics(name, SESSION, ("live", "match"), SCORES, AT),
        frozenset({State.AWAITING_LIVENESS}),
        State.AWAITING_CODE,
    ),
    "pass_biometrics_alone": Statement(
        lambda store, name: store.pass_biometrics_alone(name, SESSION, ("live", "match"), SCORES, AT, LEASE),
        frozenset({State.AWAITING_LIVENESS}),
        State.COMPLETING,
    ),
    "send_code": Statement(lambda store, name: store.send_code(name, new_id(), AT), frozenset({State.AWAITING_CODE})),
    "fail at liveness": Statement(
        lambda store, name: store.fail(name, State.AWAITING_LIVENESS, "LIVENESS_FAILED", AT),
        frozenset({State.AWAITING_LIVENESS}),
        State.FINISHED,
    ),
    "fail at the code": Statement(
        lambda store, name: store.fail(name, State.AWAITING_CODE, "CODE_FAILED", AT),
        frozenset({State.AWAITING_CODE}),
        State.FINISHED,
    ),
    "pass_code": Statement(
        lambda store, name: store.pass_code(name, CHALLENGE, "otp", AT, LEASE),
        frozenset({State.AWAITING_CODE}),
        State.COMPLETING,
    ),
    "lease": Statement(
        lambda store, name: store.lease(name, LEASE, LEASE + datetime.timedelta(seconds=20)),
        frozenset({State.COMPLETING}),
    ),
    "succeed": Statement(
        lambda store, name: store.succeed(name, LEASE, "", PERSON, AT), frozenset({State.COMPLETING}), State.FINISHED
    ),
    "refuse": Statement(
        lambda store, name: store.refuse(name, LEASE, "OPERATION_REFUSED", AT),
        frozenset({State.COMPLETING}),
        State.FINISHED,
    ),
    "cancel": Statement(lambda store, name: store.cancel(name), OPEN, State.CANCELLED),
    "expire": Statement(lambda store, name: store.expire(LATE), OPEN, State.EXPIRED),
    "open_capture": Statement(
        lambda store, name: store.open_capture(digest_of(name), digest_of("session"), AT),
        OPEN | {State.COMPLETING, State.FINISHED},
    ),
    "set_result_code": Statement(
        lambda store, name: store.set_result_code(name, digest_of("another")), frozenset({State.FINISHED})
    ),
    "read_result": Statement(lambda store, name: store.read_result(name, AT), frozenset({State.FINISHED})),
    "read_result_by_code": Statement(
        lambda store, name: store.read_result_by_code(name, RESULT_CODE, AT, AT), frozenset({State.FINISHED})
    ),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS.keys())
async def test_a_statement_leaves_only_the_states_it_names(store: Store, statement: Statement, state: State) -> None:
    name = await at(store, state, cross_device=statement.cross_device)
    before = await found(store, name)
    happened = bool(await statement.run(store, name))
    after = await found(store, name)
    assert happened is (state in statement.leaves)
    if not happened:
        assert after == before
    else:
        assert after.state is (statement.to or state)


def test_the_statements_together_are_the_transitions() -> None:
    edges = {
        (left, statement.to)
        for statement in STATEMENTS.values()
        for left in statement.leaves
        if statement.to is not None
    }
    assert edges == {(left, reached) for left, all_reached in TRANSITIONS.items() for reached in all_reached}


TOO_LATE: dict[str, tuple[State, Callable[[Store, str], Awaitable[bool]]]] = {
    "give_consents": (State.AWAITING_CONSENTS, lambda store, name: store.give_consents(name, EXPIRES_AT)),
    "confirm_match": (State.AWAITING_CONSENTS, lambda store, name: store.confirm_match(name, EXPIRES_AT)),
    "start_liveness": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.start_liveness(name, SESSION, EXPIRES_AT, known=SESSION),
    ),
    "pass_biometrics": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.pass_biometrics(name, SESSION, ("live", "match"), SCORES, EXPIRES_AT),
    ),
    "pass_biometrics_alone": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.pass_biometrics_alone(name, SESSION, ("live", "match"), SCORES, EXPIRES_AT, LATE),
    ),
    "send_code": (State.AWAITING_CODE, lambda store, name: store.send_code(name, CHALLENGE, EXPIRES_AT)),
    "pass_code": (State.AWAITING_CODE, lambda store, name: store.pass_code(name, CHALLENGE, "otp", EXPIRES_AT, LATE)),
}
ANOTHERS: dict[str, tuple[State, Callable[[Store, str], Awaitable[bool]]]] = {
    "biometrics of an abandoned attempt": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.pass_biometrics(name, "t" * 26, ("live", "match"), SCORES, AT),
    ),
    "an abandoned attempt's biometrics alone": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.pass_biometrics_alone(name, "t" * 26, ("live", "match"), SCORES, AT, LEASE),
    ),
    "a number where none is due": (State.AWAITING_CONSENTS, lambda store, name: store.confirm_match(name, AT)),
    "failure before the face where no number is due": (
        State.AWAITING_CONSENTS,
        lambda store, name: store.fail(name, State.AWAITING_CONSENTS, "NUMBER_NOT_MATCHED", AT),
    ),
    "an attempt after one that was not the last": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.start_liveness(name, new_id(), AT, known=""),
    ),
    "failure of an attempt that is not the last": (
        State.AWAITING_LIVENESS,
        lambda store, name: store.fail(name, State.AWAITING_LIVENESS, "LIVENESS_FAILED", AT, ""),
    ),
    "an abandoned attempt": (State.AWAITING_LIVENESS, lambda store, name: store.drop_liveness(name, "t" * 26)),
    "a code of an earlier challenge": (
        State.AWAITING_CODE,
        lambda store, name: store.pass_code(name, "d" * 26, "otp", AT, LEASE),
    ),
    "a lease that runs": (State.COMPLETING, lambda store, name: store.lease(name, AT, LATE)),
    "a lease that is over when it begins": (State.COMPLETING, lambda store, name: store.lease(name, LEASE, LEASE)),
    "success without the lease": (State.COMPLETING, lambda store, name: store.succeed(name, LATE, "", {}, AT)),
    "refusal without the lease": (State.COMPLETING, lambda store, name: store.refuse(name, LATE, "REFUSED", AT)),
    "a wrong result code": (
        State.FINISHED,
        lambda store, name: store.read_result_by_code(name, digest_of("wrong"), AT, AT),
    ),
}


@pytest.mark.parametrize(("state", "statement"), [*TOO_LATE.values(), *ANOTHERS.values()], ids=[*TOO_LATE, *ANOTHERS])
async def test_a_statement_refuses_what_is_late_or_anothers(
    store: Store, state: State, statement: Callable[[Store, str], Awaitable[bool]]
) -> None:
    name = await at(store, state)
    before = await found(store, name)
    assert not await statement(store, name)
    assert await found(store, name) == before


async def test_a_fresh_authentication_comes_back_as_it_was_stored(store: Store) -> None:
    item = new()
    assert await add(store, item) == item.name
    assert await found(store, item.name) == item


async def test_what_was_collected_comes_back(store: Store) -> None:
    item = await found(store, await at(store, State.FINISHED))
    assert item.receipts == Receipts("preparation.receipt", "state.record.receipt", "live", "match", "otp")
    assert (item.scores, item.person, item.verdict) == (SCORES, PERSON, Verdict.SUCCESS)
    assert (item.liveness_session, item.challenge, item.finished_at) == (SESSION, CHALLENGE, AT)


async def test_nothing_is_found_under_a_name_that_nobody_has(store: Store) -> None:
    name = f"authentications/{new_id()}"
    assert await store.get(name) is None
    assert await store.photo(name) is None
    assert await store.operation(f"signatures/{new_id()}") is None
    assert await store.operation_of(name) is None
    assert await store.certificate("certificates/00") is None


def photo_in(made: local.Database, name: str) -> str:
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute("SELECT photo_jwe FROM auth_gateway.authentication WHERE name = %s", [name]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("state", State)
async def test_the_photo_is_read_at_its_step_and_erased_once_it_has_served(
    store: Store, made: local.Database, state: State
) -> None:
    name = await at(store, state)
    assert await store.photo(name) == (PHOTO_JWE if state is State.AWAITING_LIVENESS else None)
    before = {State.AWAITING_CONSENTS, State.AWAITING_LIVENESS}
    assert photo_in(made, name) == (PHOTO_JWE if state in before else "")


async def test_the_photo_is_erased_when_the_face_fails(store: Store, made: local.Database) -> None:
    name = await at(store, State.AWAITING_LIVENESS)
    await store.fail(name, State.AWAITING_LIVENESS, "IDENTITY_NOT_CONFIRMED", AT)
    assert photo_in(made, name) == ""


async def test_consents_wait_for_the_number(store: Store) -> None:
    name = await at(store, State.AWAITING_CONSENTS, cross_device=True)
    assert not await store.give_consents(name, AT)
    assert await store.confirm_match(name, AT)
    assert not await store.fail(name, State.AWAITING_CONSENTS, "NUMBER_NOT_MATCHED", AT)
    assert await store.give_consents(name, AT)


async def test_of_right_and_wrong_numbers_at_once_the_first_decides(store: Store) -> None:
    for _ in range(5):
        name = await at(store, State.AWAITING_CONSENTS, cross_device=True)
        guesses = [store.fail(name, State.AWAITING_CONSENTS, "NUMBER_NOT_MATCHED", AT) for _ in range(7)]
        assert sum(await asyncio.gather(*guesses, store.confirm_match(name, AT))) == 1


async def test_expiry_takes_only_what_is_due(store: Store) -> None:
    early, late = new(), replace(new(), expires_at=LATE)
    for item in (early, late):
        await add(store, item)
    await store.expire(EXPIRES_AT)
    assert (await found(store, early.name)).state is State.EXPIRED
    assert (await found(store, late.name)).state is State.AWAITING_CONSENTS


async def test_only_what_nobody_holds_is_interrupted(store: Store) -> None:
    # Long ago, so that they come before what other tests left.
    ended = AT - datetime.timedelta(days=1)
    held, lapsed = await at(store, State.COMPLETING, ended), await at(store, State.COMPLETING, ended)
    assert await store.lease(held, ended, LATE)
    names = await store.interrupted(ended)
    assert lapsed in names
    assert held not in names
    await store.release_lease(held, ended)  # a lease it had before
    assert held not in await store.interrupted(ended)
    await store.release_lease(held, LATE)
    assert held in await store.interrupted(ended)


async def test_a_session_is_exchanged_once_and_is_of_one_authentication(store: Store) -> None:
    name, another = await at(store, State.AWAITING_CONSENTS), await at(store, State.AWAITING_CONSENTS)
    session = digest_of("session")
    opened = await asyncio.gather(*(store.open_capture(digest_of(name), digest_of(f"s {n}"), AT) for n in range(8)))
    assert [item for item in opened if item is not None] == [name]
    assert await store.open_capture(digest_of(another), session, AT) == another
    assert await store.open_capture(digest_of(another), session, AT) is None
    assert await store.of_session(another, session, AT) == await found(store, another)
    assert await store.of_session(name, session, AT) is None
    assert await store.of_session(another, digest_of("guess"), AT) is None
    assert await store.open_capture(digest_of("no token"), session, AT) is None


@pytest.mark.parametrize(
    ("state", "over_at"),
    [
        (State.AWAITING_CONSENTS, EXPIRES_AT),
        (State.AWAITING_CODE, EXPIRES_AT),
        (State.CANCELLED, EXPIRES_AT),
        (State.EXPIRED, EXPIRES_AT),
        (State.FINISHED, AT),
        (State.COMPLETING, None),
    ],
)
async def test_a_session_is_over_with_its_authentication(
    store: Store, state: State, over_at: datetime.datetime | None
) -> None:
    session = digest_of("session")
    if state in {State.CANCELLED, State.EXPIRED}:
        name = await at(store, State.AWAITING_CONSENTS)
        assert await store.open_capture(digest_of(name), session, AT) == name
        assert await (store.cancel(name) if state is State.CANCELLED else store.expire(LATE))
    else:
        name = await at(store, state)
        assert await store.open_capture(digest_of(name), session, AT) == name
    assert (await found(store, name)).state is state
    if over_at is None:
        assert await store.of_session(name, session, LATE) is not None
        return
    assert await store.of_session(name, session, over_at - datetime.timedelta(microseconds=1)) is not None
    assert await store.of_session(name, session, over_at) is None


async def test_a_link_is_worth_nothing_once_the_time_is_over(store: Store) -> None:
    name = await at(store, State.AWAITING_CONSENTS)
    assert await store.open_capture(digest_of(name), digest_of("session"), EXPIRES_AT) is None


async def test_a_later_result_code_ends_the_earlier_one(store: Store) -> None:
    name = await at(store, State.FINISHED)
    assert await store.set_result_code(name, digest_of("later"))
    assert not await store.read_result_by_code(name, RESULT_CODE, AT, AT)
    assert await store.read_result_by_code(name, digest_of("later"), AT, AT)


async def test_no_result_code_is_made_once_the_result_is_read(store: Store) -> None:
    name = await at(store, State.FINISHED)
    assert await store.read_result_by_code(name, RESULT_CODE, AT, AT)
    assert not await store.set_result_code(name, digest_of("later"))
    assert not await store.read_result_by_code(name, digest_of("later"), AT, AT)


async def test_the_first_reading_is_what_is_remembered(store: Store) -> None:
    name, later = await at(store, State.FINISHED), AT + datetime.timedelta(seconds=30)
    assert await store.read_result(name, AT)
    assert await store.read_result(name, later)
    assert (await found(store, name)).result_read_at == AT
    assert await store.read_result_by_code(name, RESULT_CODE, later, AT - datetime.timedelta(seconds=1))
    assert not await store.read_result_by_code(name, RESULT_CODE, later, AT)


async def test_operations_are_read_with_their_authentications(store: Store) -> None:
    item = new()
    operation = Operation(f"signatures/{new_id()}", APPLICATION, item.name, "preparation")
    made = await store.create(
        item,
        request_of(),
        photo_jwe="",
        capture_token_sha256=digest_of(item.name),
        operation=operation,
        max_open=1,
    )
    assert made == operation.name
    assert await store.operation(made) == await store.operation_of(item.name) == operation
    assert await store.read_operations([made]) == frozenset()
    assert await store.give_consents(item.name, AT)
    assert await store.fail(item.name, State.AWAITING_LIVENESS, "LIVENESS_FAILED", AT)
    assert await store.read_result(item.name, AT)
    assert await store.read_operations([made, f"signatures/{new_id()}"]) == {made}


def certificate_of(
    authentication: str = "authentications/a",
    *,
    subject: str = "subject",
    activatable_at: datetime.datetime | None = None,
) -> Certificate:
    serial = digest_of(new_id()).hex()[:40]
    issued = IssuedCertificate(b"certificate", (b"issuing", b"root"), serial)
    return Certificate(
        f"certificates/{serial}", subject, f"credentials/{new_id()}", issued, authentication, activatable_at
    )


async def test_a_certificate_comes_back_and_a_repeat_changes_nothing(store: Store) -> None:
    certificate = certificate_of()
    await store.add_certificate(certificate, AT)
    await store.add_certificate(certificate, LATE)
    assert await store.certificate(certificate.name) == certificate
    assert await store.certificate_of(certificate.credential) == certificate.name


@pytest.mark.parametrize("activated", [True, False])
async def test_a_certificate_is_replaced_when_the_others_key_is_activated(store: Store, *, activated: bool) -> None:
    old = certificate_of()
    new = replace(certificate_of(activatable_at=LATE), replaces=old.credential)
    for certificate in (old, new):
        await store.add_certificate(certificate, AT)
        assert await store.certificate(certificate.name) == certificate
    await store.end_wait(new.name, activated=activated)
    await store.end_wait(new.name, activated=not activated)
    assert await store.certificate(old.name) == replace(old, replaced=activated)
    assert await store.certificate(new.name) == replace(new, activatable_at=None)


async def test_a_key_that_waits_is_due_when_its_wait_is_over_and_until_it_has_ended(store: Store) -> None:
    activated, refused = certificate_of(activatable_at=LATE), certificate_of(activatable_at=LATE)
    for certificate in (activated, refused):
        await store.add_certificate(certificate, AT)
        assert await store.certificate(certificate.name) == certificate
    mine = {activated.name, refused.name}
    assert not mine & {item.name for item in await store.due_activations(AT)}
    assert mine <= {item.name for item in await store.due_activations(LATE)}
    await store.end_wait(activated.name, activated=True)
    await store.end_wait(refused.name, activated=False)
    await store.end_wait(refused.name, activated=True)
    assert not mine & {item.name for item in await store.due_activations(LATE)}
    assert await store.certificate(activated.name) == replace(activated, activatable_at=None)


async def test_the_last_phone_is_that_of_the_newest_certificate_whose_key_was_activated(store: Store) -> None:
    subject = new_id()
    item = new()
    await add(store, item)
    assert await store.last_phone(subject) is None
    waiting = certificate_of("authentications/none", subject=subject, activatable_at=LATE)
    await store.add_certificate(certificate_of(item.name, subject=subject), AT)
    await store.add_certificate(waiting, LATE)
    assert await store.last_phone(subject) == item.openings.phone


async def test_a_request_is_made_once_however_many_ask_at_once(store: Store) -> None:
    request, items = request_of(), [new() for _ in range(6)]
    names = await asyncio.gather(*(add(store, item, request) for item in items))
    assert len(set(names)) == 1
    stored = [item.name for item in items if await store.get(item.name) is not None]
    assert stored == [names[0]]
    assert await store.made_by(request) == names[0]


async def test_another_body_under_the_same_request_id_is_refused(store: Store) -> None:
    request = request_of()
    await add(store, new(), request)
    changed = replace(request, digest=digest_of("another body"))
    with pytest.raises(RequestIdReusedError):
        await store.made_by(changed)
    item = new()
    with pytest.raises(RequestIdReusedError):
        await add(store, item, changed)
    assert await store.get(item.name) is None


@pytest.mark.parametrize("change", [{"application": "applications/" + "b" * 26}, {"method": "Another"}])
async def test_a_request_id_is_of_one_application_and_method(store: Store, change: dict[str, Any]) -> None:
    request = request_of()
    await add(store, new(), request)
    assert await store.made_by(replace(request, **change)) is None


async def test_no_more_than_so_many_are_open_even_when_all_come_at_once(store: Store) -> None:
    subject = new_id()
    results = await asyncio.gather(*(add(store, new(subject)) for _ in range(12)), return_exceptions=True)
    refused = [item for item in results if isinstance(item, TooManyAuthenticationsError)]
    assert len(refused) == 7
    assert refused[0].retry_after_s
    assert len([item for item in results if isinstance(item, str)]) == 5


async def test_a_refused_create_leaves_no_request_behind(store: Store) -> None:
    subject, request = new_id(), request_of()
    await add(store, new(subject), max_open=1)
    with pytest.raises(TooManyAuthenticationsError):
        await add(store, new(subject), request, max_open=1)
    assert await store.made_by(request) is None


@pytest.mark.parametrize("over", [State.CANCELLED, State.EXPIRED])
async def test_what_is_over_does_not_count_as_open(store: Store, over: State) -> None:
    subject = new_id()
    first = new(subject)
    await add(store, first, max_open=1)
    await (store.cancel(first.name) if over is State.CANCELLED else store.expire(LATE))
    await add(store, replace(new(subject), expires_at=LATE), max_open=1)


async def test_what_has_run_out_does_not_count_before_it_is_swept(store: Store) -> None:
    subject = new_id()
    await add(store, new(subject), max_open=1)
    await add(store, replace(new(subject), created_at=EXPIRES_AT, expires_at=LATE), max_open=1)


async def test_a_call_is_journaled(store: Store, made: local.Database) -> None:
    entry = JournalEntry(APPLICATION, "FinIdService.Journaled", "authentications/x", "NOT_FOUND", "REASON", 12, AT)
    await store.journal([entry, replace(entry, code="OK", reason="")])
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT application, method, resource, code, reason, duration_ms, called_at FROM auth_gateway.journal "
            "WHERE method = 'FinIdService.Journaled'"
        ).fetchall()
    assert [JournalEntry(*row) for row in rows] == [entry, replace(entry, code="OK", reason="")]


async def test_tables_hold_nothing_personal_in_clear(store: Store, made: local.Database) -> None:
    name = await at(store, State.FINISHED)
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT row::text FROM auth_gateway.authentication AS row WHERE name = %s", [name]
        ).fetchall()
    assert len(rows) == 1
    for value in (IIN, PHONE, *PERSON.values()):
        assert value not in rows[0][0]
        assert value.encode().hex() not in rows[0][0]


async def test_nothing_personal_shows_in_a_repr(store: Store) -> None:
    item = await found(store, await at(store, State.FINISHED))
    for value in (IIN, PHONE, *PERSON.values(), repr(item.openings.iin_salt), PHOTO_JWE):
        assert value not in repr(item)


@pytest.mark.parametrize("column", ["openings", "person"])
async def test_a_value_moved_to_another_row_or_column_does_not_open(
    store: Store, made: local.Database, column: str
) -> None:
    name, another = await at(store, State.FINISHED), await at(store, State.FINISHED)
    other = {"openings": "person", "person": "openings"}[column]
    for source, row in ((column, another), (other, name)):
        with psycopg.connect(made.owner_url, autocommit=True) as owner:
            owner.execute(
                f"UPDATE auth_gateway.authentication SET {column} = "  # noqa: S608  columns are constants
                f"(SELECT {source} FROM auth_gateway.authentication WHERE name = %s) WHERE name = %s",
                [row, name],
            )
        with pytest.raises(SealBrokenError):
            await store.get(name)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM auth_gateway.authentication",
        "UPDATE auth_gateway.authentication SET transaction = ''",
        "UPDATE auth_gateway.authentication SET openings = ''",
        "UPDATE auth_gateway.authentication SET consents = '[]'",
        "UPDATE auth_gateway.authentication SET expires_at = now() + interval '1 year'",
        "UPDATE auth_gateway.authentication SET capture_token_sha256 = ''",
        "UPDATE auth_gateway.authentication SET subject = 'another'",
        "DELETE FROM auth_gateway.request",
        "UPDATE auth_gateway.request SET digest = ''",
        "UPDATE auth_gateway.certificate SET subject = 'another'",
        "UPDATE auth_gateway.operation SET application = 'another'",
        "DELETE FROM auth_gateway.journal",
        "UPDATE auth_gateway.journal SET code = 'OK'",
        "CREATE TABLE auth_gateway.more ()",
    ],
)
def test_the_rooms_own_role_may_not(made: local.Database, statement: str) -> None:
    with psycopg.connect(made.url("auth_gateway")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'FINISHED'",
        "verdict = 'SUCCESS'",
        "state = 'FINISHED', verdict = 'FAILURE'",
        "state = 'FINISHED', verdict = 'SUCCESS', reason = 'CODE_FAILED'",
        "state = 'ELSEWHERE'",
    ],
)
async def test_the_table_itself_refuses_a_state_without_its_verdict(
    store: Store, made: local.Database, change: str
) -> None:
    name = await at(store, State.AWAITING_CODE)
    with psycopg.connect(made.owner_url) as owner, pytest.raises(psycopg.errors.CheckViolation):
        owner.execute(f"UPDATE auth_gateway.authentication SET {change} WHERE name = %s", [name])  # noqa: S608
