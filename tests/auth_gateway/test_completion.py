"""What an authentication is for is done once, whatever dies on the way, and by one process at a time."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from mesh.errors import Code, DependencyUnavailableError
from mesh.status import PeerError
from services.auth_gateway import completion as completions
from services.auth_gateway.authentication import Authentication, State, Verdict
from services.auth_gateway.completion import Completion, Consumers
from services.auth_gateway.ports import DocumentLevel, Released, Supplies
from services.auth_gateway.records import Records
from tests.auth_gateway.fakes import APPLICATION, PERSON, Fake, refusal, unavailable
from tests.auth_gateway.pki_objects import ISSUING_CRL, ROOT_CRL
from tests.auth_gateway.room import DOCUMENTS, Room

pytestmark = pytest.mark.postgres

LEASE_S = 20
FACTORS = ("state.record.receipt", "liveness.receipt", "face.match.receipt", "sms.otp.receipt")

Start = Callable[[Room], Awaitable[Authentication]]
STARTS: dict[str, Start] = {
    "IDENTIFY": lambda room: room.identify(),
    "ISSUE": lambda room: room.issuing(),
    "REISSUE": lambda room: room.reissuing(),
    "REVOKE": lambda room: room.revoking(),
    "SIGN": lambda room: room.signing(),
}
# Every consumer that a purpose asks, in order.
ASKED = {
    "IDENTIFY": [("registry", "release")],
    "ISSUE": [("signer", "generate_key"), ("registry", "release"), ("ca", "issue"), ("signer", "activate")],
    "REISSUE": [("signer", "generate_key"), ("registry", "release"), ("ca", "issue"), ("signer", "activate")],
    "REVOKE": [("signer", "disable"), ("ca", "revoke")],
    "SIGN": [("signer", "sign_digests"), ("ca", "stamp"), ("documents", "assemble")],
}
EVERY_ASKED = [(purpose, spoke, method) for purpose, asked in ASKED.items() for spoke, method in asked]


def spoke_of(room: Room, spoke: str) -> Fake:
    return cast("Fake", getattr(room, spoke))


async def code_entered(room: Room, item: Authentication) -> Authentication:
    await room.enter_code(item)
    return await room.get(item.name)


async def at_code(room: Room, purpose: str) -> Authentication:
    return await room.walk(await STARTS[purpose](room), State.AWAITING_CODE)


async def left_behind(room: Room, purpose: str) -> Authentication:
    """A COMPLETING authentication that nobody holds, whose consumers have seen nothing of it."""
    item = await at_code(room, purpose)
    spoke, method = ASKED[purpose][0]
    spoke_of(room, spoke).fails(method, unavailable(spoke))
    item = await code_entered(room, item)
    assert item.state is State.COMPLETING
    return item


def id_of(item: Authentication) -> str:
    return item.name.removeprefix("authentications/")


async def test_identify_releases_the_persons_data(room: Room) -> None:
    item = await code_entered(room, await at_code(room, "IDENTIFY"))
    assert (item.state, item.verdict, item.person, item.outcome) == (State.FINISHED, Verdict.SUCCESS, PERSON, "")
    assert room.registry.released == {item.txn: id_of(item)}


async def test_issue_certifies_the_signers_key_and_hands_the_certificate_over(room: Room) -> None:
    item = await code_entered(room, await at_code(room, "ISSUE"))
    assert (item.state, item.verdict, item.person) == (State.FINISHED, Verdict.SUCCESS, {})
    assert item.receipts.key_attestation == "key.attestation.receipt"
    certificate = await room.store.certificate(item.outcome)
    assert certificate is not None
    assert (certificate.subject, certificate.credential) == (item.subject, item.transaction.credential)
    assert certificate.issued.certificate_der == b"certificate for csr of " + id_of(item).encode()
    assert room.signer.active == {item.transaction.credential: certificate.issued.certificate_der}
    assert room.ca.bundles[0].receipts == (*FACTORS, "key.attestation.receipt")
    assert room.ca.issued == room.signer.keys == room.registry.released == {item.txn: id_of(item)}


async def test_reissue_certifies_a_new_key_and_leaves_the_replaced_ones_end_to_signer_and_ca(room: Room) -> None:
    replaced = await room.certificate()
    item = await code_entered(room, await room.walk(await room.reissuing(replaced), State.AWAITING_CODE))
    assert (item.state, item.verdict) == (State.FINISHED, Verdict.SUCCESS)
    assert item.transaction.superseded == replaced.credential != item.transaction.credential
    certificate = await room.store.certificate(item.outcome)
    assert certificate is not None
    assert certificate.credential == item.transaction.credential
    assert room.signer.disabled == room.ca.revoked == {}


async def test_revoke_disables_the_key_before_the_certificate_is_revoked(room: Room) -> None:
    certificate = await room.certificate()
    item = await room.walk(await room.revoking(certificate), State.AWAITING_CODE)
    room.ca.fails("revoke", unavailable("ca"))
    item = await code_entered(room, item)
    assert (room.signer.disabled, room.ca.revoked) == ({item.txn: id_of(item)}, {})
    await room.new_completion().resume_once()
    item = await room.get(item.name)
    assert (item.verdict, item.outcome) == (Verdict.SUCCESS, certificate.name)
    assert room.ca.revoked == {item.txn: id_of(item)}
    assert item.transaction.certificate_sha256 == hashlib.sha256(certificate.issued.certificate_der).digest()


async def test_a_certificate_whose_key_an_interrupted_revocation_disabled_can_still_be_revoked(room: Room) -> None:
    item = await at_code(room, "REVOKE")
    room.signer.fails("disable", refusal("signer", Code.FAILED_PRECONDITION, "CREDENTIAL_NOT_ACTIVE"))
    item = await code_entered(room, item)
    assert item.verdict is Verdict.SUCCESS
    assert room.ca.revoked == {item.txn: id_of(item)}


async def test_sign_signs_the_transactions_digests_and_stamps_each_signature(room: Room) -> None:
    item = await code_entered(room, await at_code(room, "SIGN"))
    operation = await room.store.operation_of(item.name)
    assert operation is not None
    assert (item.verdict, item.outcome) == (Verdict.SUCCESS, operation.name)
    preparation = room.documents.preparations[operation.preparation]
    assert preparation.signatures == tuple(
        b"signature of " + document.digest_sha256 for document in item.transaction.documents
    )
    assert [document.title for document in preparation.signed] == [document.title for document in DOCUMENTS]
    assert room.documents.supplies == Supplies(
        preparation.signatures,
        tuple(b"stamp on " + hashlib.sha256(signature).digest() for signature in preparation.signatures),
    )
    assert not {"ocsp", "crl"} & set(room.ca.calls), "level B-T carries no status"
    assert room.signer.signed == {item.txn: id_of(item)}
    assert room.signer.bundles[-1].receipts == ("preparation.receipt", *FACTORS)
    signed = await room.documents.of_signature(APPLICATION, operation.name)
    assert len(signed) == len(DOCUMENTS)


async def test_documents_gets_what_its_levels_need_and_nothing_else(room: Room) -> None:
    levels = (DocumentLevel.B_B, DocumentLevel.B_LTA, DocumentLevel.B_T)
    documents = tuple(replace(DOCUMENTS[0], level=level) for level in levels)
    item = await room.walk(await room.signing(documents), State.AWAITING_CODE)
    item = await code_entered(room, item)
    assert item.verdict is Verdict.SUCCESS
    operation = await room.store.operation_of(item.name)
    assert operation is not None
    signatures = room.documents.preparations[operation.preparation].signatures
    assert room.documents.supplies == Supplies(
        signatures,
        tuple(b"stamp on " + hashlib.sha256(signature).digest() for signature in signatures[1:]),
        (b"status for status of the signer?",),
        (ISSUING_CRL, ROOT_CRL),
        (b"stamp on " + hashlib.sha256(b"archive").digest(),),
    )


async def test_without_time_stamp_the_time_stamp_authority_is_not_asked(room: Room) -> None:
    documents = (replace(DOCUMENTS[0], level=DocumentLevel.B_B),)
    item = await room.walk(await room.signing(documents), State.AWAITING_CODE)
    assert (await code_entered(room, item)).verdict is Verdict.SUCCESS
    assert room.ca.calls.count("stamp") == 0


@pytest.mark.parametrize("status", ["ocsp", "crl"])
async def test_status_that_cannot_be_had_now_is_asked_for_later(room: Room, status: str) -> None:
    documents = (replace(DOCUMENTS[0], level=DocumentLevel.B_LT),)
    item = await room.walk(await room.signing(documents), State.AWAITING_CODE)
    room.ca.fails(status, unavailable("ca"))
    item = await code_entered(room, item)
    assert item.state is State.COMPLETING
    await room.new_completion().resume_once()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS


@pytest.mark.parametrize(("purpose", "spoke", "method"), EVERY_ASKED)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.PERMISSION_DENIED, "FACTOR_MISSING"),
        (Code.FAILED_PRECONDITION, "PHONE_NOT_TRUSTED"),
        (Code.FAILED_PRECONDITION, "CHANNEL_TOO_LOW"),
        (Code.ALREADY_EXISTS, "TRANSACTION_ALREADY_USED"),
        (Code.NOT_FOUND, "CREDENTIAL_NOT_FOUND"),
        (Code.INVALID_ARGUMENT, "SIGNATURE_INVALID"),
    ],
)
async def test_a_refusal_of_a_consumer_is_the_verdict(
    room: Room, purpose: str, spoke: str, method: str, code: Code, reason: str
) -> None:
    item = await at_code(room, purpose)
    spoke_of(room, spoke).fails(method, refusal(spoke, code, reason))
    item = await code_entered(room, item)
    assert (item.state, item.verdict, item.reason) == (State.FINISHED, Verdict.FAILURE, "OPERATION_REFUSED")
    assert (item.person, item.outcome) == ({}, "")


@pytest.mark.parametrize(("purpose", "spoke", "method"), EVERY_ASKED)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.FAILED_PRECONDITION, "SIGNATURE_ABORTED"),
        (Code.ABORTED, "ISSUANCE_ABANDONED"),
        (Code.ABORTED, "SOMETHING_ELSE"),
        (Code.FAILED_PRECONDITION, "CODE_TOO_OLD"),
        (Code.FAILED_PRECONDITION, "RECEIPT_EXPIRED"),
        (Code.FAILED_PRECONDITION, "TRANSACTION_EXPIRED"),
        (Code.FAILED_PRECONDITION, "ANSWER_FORGOTTEN"),
    ],
)
async def test_what_came_too_late_or_was_broken_off_is_an_interruption_and_is_not_tried_again(
    room: Room, purpose: str, spoke: str, method: str, code: Code, reason: str
) -> None:
    item = await at_code(room, purpose)
    spoke_of(room, spoke).fails(method, refusal(spoke, code, reason))
    item = await code_entered(room, item)
    assert (item.state, item.verdict, item.reason) == (State.FINISHED, Verdict.FAILURE, "OPERATION_INTERRUPTED")
    asked = spoke_of(room, spoke).calls.count(method)
    room.clock.pass_by(LEASE_S + 1)
    await room.completion.complete(item.name)
    assert spoke_of(room, spoke).calls.count(method) == asked


@pytest.mark.parametrize(("purpose", "spoke", "method"), EVERY_ASKED)
@pytest.mark.parametrize(
    "outage",
    [
        unavailable("spoke"),
        refusal("spoke", Code.UNAVAILABLE, "SIGNING_IN_PROGRESS"),
        refusal("spoke", Code.DEADLINE_EXCEEDED, ""),
        refusal("spoke", Code.RESOURCE_EXHAUSTED, "TOKEN_BUSY"),
        refusal("spoke", Code.INTERNAL, "INTERNAL"),
    ],
    ids=lambda outage: f"{outage.code} {outage.reason}",
)
async def test_an_outage_keeps_it_completing_and_another_process_goes_on_at_once(
    room: Room, purpose: str, spoke: str, method: str, outage: PeerError
) -> None:
    item = await at_code(room, purpose)
    spoke_of(room, spoke).fails(method, outage)
    item = await code_entered(room, item)
    assert (item.state, item.verdict) == (State.COMPLETING, None)
    await room.new_completion().resume_once()
    item = await room.get(item.name)
    assert (item.state, item.verdict) == (State.FINISHED, Verdict.SUCCESS)


@pytest.mark.parametrize("purpose", STARTS)
async def test_after_two_minutes_beyond_its_life_an_outage_is_an_interruption(room: Room, purpose: str) -> None:
    item = await left_behind(room, purpose)
    spoke, method = ASKED[purpose][0]
    for late_s, state in ((119, State.COMPLETING), (121, State.FINISHED)):
        room.clock.now_is = item.expires_at
        room.clock.pass_by(late_s)
        spoke_of(room, spoke).fails(method, unavailable(spoke))
        await room.completion.complete(item.name)
        assert (await room.get(item.name)).state is state
    assert (await room.get(item.name)).reason == "OPERATION_INTERRUPTED"


@pytest.mark.parametrize("purpose", STARTS)
async def test_what_consumers_have_recorded_is_fetched_however_late(room: Room, purpose: str) -> None:
    item = await left_behind(room, purpose)
    room.clock.pass_by(3600)
    await room.completion.complete(item.name)
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS


class Crash:
    """Kills the process at the n-th border between its own code and a call: before it is made, or after it was."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self.borders = 0

    def pass_border(self) -> None:
        self.borders += 1
        if self.borders == self._at:
            raise asyncio.CancelledError

    def around(self, target: Any) -> Any:
        return _Crashing(target, self)


class _Crashing:
    def __init__(self, target: Any, crash: Crash) -> None:
        self._target = target
        self._crash = crash

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._target, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self._crash.pass_border()
            answer = await method(*arguments, **named)
            self._crash.pass_border()
            return answer

        return call


def crashing(room: Room, crash: Crash) -> Completion:
    consumers = Consumers(
        crash.around(room.registry),
        crash.around(room.otp),
        crash.around(room.signer),
        crash.around(room.ca),
        crash.around(room.documents),
    )
    return Completion(crash.around(room.store), consumers, room.clock.now, room.clock.sleep)


@pytest.mark.parametrize("purpose", STARTS)
async def test_a_process_may_die_anywhere_and_another_one_finishes(room: Room, purpose: str) -> None:
    whole = Crash(None)
    await crashing(room, whole).complete((await left_behind(room, purpose)).name)
    assert whole.borders >= 2 * (3 + len(ASKED[purpose]))
    for at in range(1, whole.borders + 1):
        item = await left_behind(room, purpose)
        with pytest.raises(asyncio.CancelledError):
            await crashing(room, Crash(at)).complete(item.name)
        before = await room.get(item.name)
        leased = at > 1  # it died before it had taken the lease
        finished = at == whole.borders  # it died with its work done
        assert before.state is (State.FINISHED if finished else State.COMPLETING)

        other = room.new_completion()
        if leased and not finished:
            await other.complete(item.name)
            assert await room.get(item.name) == before, "while the lease runs, nobody else goes on"
        room.clock.pass_by(LEASE_S + 1)
        await other.resume_once()

        after = await room.get(item.name)
        assert (after.state, after.verdict) == (State.FINISHED, Verdict.SUCCESS), f"died at border {at}"
        effects = {
            "IDENTIFY": [room.registry.released],
            "ISSUE": [room.registry.released, room.signer.keys, room.ca.issued],
            "REISSUE": [room.registry.released, room.signer.keys, room.ca.issued],
            "REVOKE": [room.signer.disabled, room.ca.revoked],
            "SIGN": [room.signer.signed],
        }[purpose]
        assert [used[item.txn] for used in effects] == [id_of(item)] * len(effects)
        if purpose in {"ISSUE", "REISSUE"}:
            assert await room.store.certificate(after.outcome) is not None
            assert item.transaction.credential in room.signer.active
        if purpose == "SIGN":
            assert len(await room.documents.of_signature(APPLICATION, after.outcome)) == len(DOCUMENTS)


@pytest.mark.parametrize("purpose", STARTS)
async def test_many_processes_at_once_complete_once(room: Room, purpose: str) -> None:
    item = await left_behind(room, purpose)
    asked = {(spoke, method): spoke_of(room, spoke).calls.count(method) for spoke, method in ASKED[purpose]}
    await asyncio.gather(*(room.new_completion().complete(item.name) for _ in range(8)))
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    for (spoke, method), before in asked.items():
        times = {"stamp": len(DOCUMENTS), "assemble": 2}.get(method, 1)  # once to hear what is missing
        assert spoke_of(room, spoke).calls.count(method) == before + times


class SlowRegistry(Fake):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[Released] = asyncio.get_running_loop().create_future()

    async def release(self, *_: object) -> Released:
        self.asked.set()
        return await self.answer


@pytest.mark.parametrize("late", ["refusal", "success", "outage"])
async def test_a_process_whose_lease_has_lapsed_says_nothing(room: Room, late: str) -> None:
    item = await left_behind(room, "IDENTIFY")
    slow = SlowRegistry()
    consumers = Consumers(cast("Any", slow), room.otp, room.signer, room.ca, room.documents)
    hung = asyncio.create_task(Completion(room.store, consumers, room.clock.now).complete(item.name))
    await slow.asked.wait()
    room.clock.pass_by(LEASE_S + 1)
    other = SlowRegistry()
    consumers = Consumers(cast("Any", other), room.otp, room.signer, room.ca, room.documents)
    holder = asyncio.create_task(Completion(room.store, consumers, room.clock.now).complete(item.name))
    await other.asked.wait()

    if late == "success":
        slow.answer.set_result(Released({"iin": "another"}, ""))
    else:
        slow.answer.set_exception(
            unavailable("registry") if late == "outage" else refusal("registry", Code.PERMISSION_DENIED, "NO")
        )
    await hung
    assert (await room.get(item.name)).state is State.COMPLETING
    await room.completion.complete(item.name)  # the holder's lease stands
    assert (await room.get(item.name)).state is State.COMPLETING

    other.answer.set_result(Released(dict(PERSON), ""))
    await holder
    done = await room.get(item.name)
    assert (done.verdict, done.person) == (Verdict.SUCCESS, PERSON)


async def test_a_consumer_that_hangs_is_given_up_before_the_lease_ends(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completions._RUN_S < completions._LEASE_S
    monkeypatch.setattr(completions, "_RUN_S", 0.05)
    item = await left_behind(room, "IDENTIFY")
    slow = SlowRegistry()
    consumers = Consumers(cast("Any", slow), room.otp, room.signer, room.ca, room.documents)
    await Completion(room.store, consumers, room.clock.now).complete(item.name)
    assert (await room.get(item.name)).state is State.COMPLETING
    await room.completion.complete(item.name)
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS


async def test_one_that_cannot_be_completed_does_not_keep_the_others_waiting(room: Room) -> None:
    broken, whole = await left_behind(room, "IDENTIFY"), await left_behind(room, "IDENTIFY")
    room.registry.fails("release", LookupError("a bug"))
    await room.completion.resume_once()
    states = {(await room.get(item.name)).state for item in (broken, whole)}
    assert states == {State.COMPLETING, State.FINISHED}
    room.clock.pass_by(LEASE_S + 1)
    await room.completion.resume_once()
    assert {(await room.get(item.name)).state for item in (broken, whole)} == {State.FINISHED}


async def test_one_that_can_never_be_completed_ends(room: Room) -> None:
    item = await left_behind(room, "IDENTIFY")
    room.clock.now_is = item.expires_at
    room.clock.pass_by(121)
    room.registry.fails("release", LookupError("a bug"))
    with pytest.raises(LookupError):
        await room.completion.complete(item.name)
    item = await room.get(item.name)
    assert (item.verdict, item.reason) == (Verdict.FAILURE, "OPERATION_INTERRUPTED")


@pytest.mark.parametrize("state", [state for state in State if state is not State.COMPLETING])
async def test_only_what_is_completing_is_completed(room: Room, state: State) -> None:
    item = await room.identify()
    if state is State.CANCELLED:
        await room.flow.cancel(item)
    elif state is State.EXPIRED:
        room.clock.pass_by(1000)
        await room.completion.resume_once()
    else:
        await room.walk(item, state)
    released = len(room.registry.calls)
    before = await room.get(item.name)
    await room.completion.complete(item.name)
    await room.completion.run(item.name, room.completion.new_lease())
    assert await room.get(item.name) == before
    assert len(room.registry.calls) == released


class AwayOnce:
    """Records that are away at the first look."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._away = True

    def __getattr__(self, name: str) -> Any:
        if self._away:
            self._away = False
            raise DependencyUnavailableError("The database does not answer.")
        return getattr(self._records, name)


async def test_the_loop_outlives_a_lost_database_and_goes_on_with_what_was_left(room: Room) -> None:
    item, due = await left_behind(room, "IDENTIFY"), await room.identify()
    room.clock.pass_by(901)
    rounds = 0

    async def three_rounds(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise asyncio.CancelledError

    records = cast("Records", AwayOnce(room.store))
    with pytest.raises(asyncio.CancelledError):
        await Completion(records, room.consumers, room.clock.now, three_rounds).resume()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    assert (await room.get(due.name)).state is State.EXPIRED
