"""The person's steps: in their order, in time, each believed only when its spoke has said so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from mesh import metrics
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.transaction import Channel
from services.auth_gateway.authentication import (
    OPEN,
    Authentication,
    AuthenticationExpiredError,
    ConsentsDifferError,
    EtagMismatchError,
    Language,
    Receipts,
    Scores,
    State,
    StepRefusedError,
    Verdict,
    WrongStateError,
)
from services.auth_gateway.ports import CaptureDevice, CodeAsker, LivenessState
from tests.auth_gateway.fakes import (
    CODE,
    FRAMES,
    KEYFRAMES,
    MAX_ATTEMPTS,
    MAX_CHECKS,
    PERSON,
    PHOTO_JWE,
    Fake,
    refusal,
    unavailable,
)
from tests.auth_gateway.room import Room, ask_of
from tests.bundles import PHONE
from tests.measured import Grown

pytestmark = pytest.mark.postgres

STEPS: dict[str, tuple[State, Callable[[Room, Authentication], Awaitable[object]]]] = {
    "give_consents": (
        State.AWAITING_CONSENTS,
        lambda room, item: room.flow.give_consents(item, [(text.id, text.version) for text in item.consents]),
    ),
    "start_liveness": (State.AWAITING_LIVENESS, lambda room, item: room.flow.start_liveness(item)),
    "submit_frames": (State.AWAITING_LIVENESS, lambda room, item: room.flow.submit_frames(item, FRAMES)),
    "send_code": (State.AWAITING_CODE, lambda room, item: room.flow.send_code(item)),
    "verify_code": (State.AWAITING_CODE, lambda room, item: room.flow.verify_code(item, CODE)),
}


async def at(room: Room, state: State) -> Authentication:
    """An authentication that stands at `state`, on its way there by the person's steps."""
    item = await room.identify()
    if state is State.CANCELLED:
        return await room.flow.cancel(item)
    if state is State.EXPIRED:
        room.clock.pass_by(1000)
        await room.completion.resume_once()
        return await room.get(item.name)
    if state is State.COMPLETING:
        room.registry.fails("release", unavailable("registry"))
        item = await room.walk(item, State.AWAITING_CODE)
        await room.enter_code(item)
        return await room.get(item.name)
    return await room.walk(item, state)


async def refused(step: Awaitable[object], error: type[FinIdError] = StepRefusedError) -> FinIdError:
    with pytest.raises(error) as caught:
        await step
    return caught.value


async def test_the_whole_way(room: Room) -> None:
    item = await room.identify(ask_of(language=Language.KK), scopes=("name", "birth_date"))
    item = await room.walk(item, State.AWAITING_CODE)
    assert room.facematch.asked == [(PHOTO_JWE, KEYFRAMES)]
    assert room.liveness.subjects == [item.subject]
    item = await room.walk(item, State.FINISHED)
    assert room.otp.sent_to == [(PHONE, Language.KK)]
    assert (item.verdict, item.reason, item.person) == (Verdict.SUCCESS, "", PERSON)
    assert item.receipts == Receipts(
        "", "state.record.receipt", "liveness.receipt", "face.match.receipt", "sms.otp.receipt"
    )
    assert item.scores == Scores(910_000, 1_000_000, (700_000, 650_000, 600_000), 425_000)
    assert item.finished_at == room.clock.now()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_out_of_its_place_is_refused_and_asks_nobody(room: Room, step: str, state: State) -> None:
    place, take = STEPS[step]
    item = await at(room, state)
    before = await room.get(item.name)
    if place is state or (step == "verify_code" and state in {State.COMPLETING, State.FINISHED}):
        return
    calls = [len(spoke.calls) for spoke in (room.liveness, room.facematch, room.otp)]
    error = await refused(take(room, item), FinIdError)
    if state is State.EXPIRED:
        assert isinstance(error, AuthenticationExpiredError)
    else:
        assert (error.reason, error.metadata) == ("WRONG_STATE", {"state": state.value})
    assert [len(spoke.calls) for spoke in (room.liveness, room.facematch, room.otp)] == calls
    assert await room.get(item.name) == before


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_is_refused_once_the_time_is_over(room: Room, step: str) -> None:
    state, take = STEPS[step]
    item = await at(room, state)
    if step == "submit_frames":
        await room.flow.start_liveness(item)
    if step == "verify_code":
        await room.flow.send_code(item)
    item = await room.get(item.name)
    room.clock.now_is = item.expires_at
    await refused(take(room, item), AuthenticationExpiredError)


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_finds_another_state_than_it_was_shown_changes_nothing(room: Room, step: str) -> None:
    state, take = STEPS[step]
    item = await at(room, state)
    if step == "submit_frames":
        await room.flow.start_liveness(item)
        await room.flow.submit_frames(await room.get(item.name), FRAMES)
    if step == "verify_code":
        await room.flow.send_code(item)
    item = await room.get(item.name)
    await room.flow.cancel(item)  # by another call, meanwhile
    error = await refused(take(room, item), WrongStateError)
    assert error.metadata == {"state": "CANCELLED"}
    assert (await room.get(item.name)).state is State.CANCELLED


def _without_the_last(given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(given[:-1])


@pytest.mark.parametrize(
    "change",
    [
        _without_the_last,
        lambda given: [],
        lambda given: [*given, ("marketing", "1")],
        lambda given: [*given, given[0]],
        lambda given: [given[0], given[0]],
        lambda given: [(given[0][0], "2"), *given[1:]],
        lambda given: [(given[0][0].upper(), given[0][1]), *given[1:]],
    ],
)
async def test_consents_are_exactly_those_of_the_transaction(
    room: Room, change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
) -> None:
    item = await room.identify()
    await refused(
        room.flow.give_consents(item, change([(text.id, text.version) for text in item.consents])), ConsentsDifferError
    )
    assert (await room.get(item.name)).state is State.AWAITING_CONSENTS


async def test_the_order_of_consents_does_not_matter(room: Room) -> None:
    item = await room.identify()
    given = [(text.id, text.version) for text in reversed(item.consents)]
    assert (await room.flow.give_consents(item, given)).state is State.AWAITING_LIVENESS


async def test_the_texts_shown_stay_those_of_the_transaction(room: Room) -> None:
    item = await room.identify()
    room.portal.becomes(title="Renamed Bank")
    shown = (await room.get(item.name)).consents
    assert tuple(text.commitment() for text in shown) == item.transaction.consents


async def test_frames_before_an_attempt_are_refused(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    await refused(room.flow.submit_frames(item, FRAMES), WrongStateError)
    assert room.liveness.calls == []


async def test_a_running_attempt_says_what_comes_next_and_compares_nothing(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    step = await room.flow.start_liveness(item)
    assert (step.state, step.prompt) == (LivenessState.RUNNING, "PROMPT_NEUTRAL")
    step = await room.flow.submit_frames(await room.get(item.name), FRAMES)
    assert (step.state, step.prompt) == (LivenessState.RUNNING, "PROMPT_SMILE")
    assert room.facematch.calls == []


async def test_what_the_client_says_of_its_camera_goes_to_liveness_alone(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    said = CaptureDevice("FaceTime HD Camera", 1280, 720, 30)
    await room.flow.start_liveness(item, said)
    await room.flow.start_liveness(await room.get(item.name))
    assert room.liveness.devices == [said, CaptureDevice()]
    assert "FaceTime" not in repr(said)


async def test_three_failed_attempts_are_the_end(room: Room) -> None:
    room.liveness.is_live = False
    item = await at(room, State.AWAITING_LIVENESS)
    for left in reversed(range(MAX_ATTEMPTS)):
        assert (await room.flow.start_liveness(await room.get(item.name))).attempts_left == left
        step = await room.flow.submit_frames(await room.get(item.name), FRAMES)
        assert (step.state, step.attempts_left) == (LivenessState.FAILED, left)
    item = await room.get(item.name)
    assert (item.state, item.verdict, item.reason) == (State.FINISHED, Verdict.FAILURE, "LIVENESS_FAILED")
    assert room.facematch.calls == []


async def test_attempts_begun_and_abandoned_are_the_end_too(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    for _ in range(MAX_ATTEMPTS):
        await room.flow.start_liveness(await room.get(item.name))
    error = await refused(room.flow.start_liveness(await room.get(item.name)))
    assert error.reason == "LIVENESS_ATTEMPTS_EXHAUSTED"
    item = await room.get(item.name)
    assert (item.state, item.reason) == (State.FINISHED, "LIVENESS_FAILED")


@pytest.mark.parametrize("earlier", range(MAX_ATTEMPTS))
async def test_starts_at_once_are_told_of_one_attempt_which_goes_on(room: Room, earlier: int) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    for _ in range(earlier):
        await room.flow.start_liveness(await room.get(item.name))
    item = await room.get(item.name)
    steps = await asyncio.gather(*(room.flow.start_liveness(item) for _ in range(5)))
    (step,) = set(steps)
    assert step.attempt == room.liveness.attempts[item.txn] == earlier + 1
    for _ in range(2):
        await room.flow.submit_frames(await room.get(item.name), FRAMES)
    assert (await room.get(item.name)).state is State.AWAITING_CODE


async def test_starts_at_once_on_one_etag_begin_the_attempt_that_is_remembered(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    pinned = item.pinned_to(item.etag)
    results = await asyncio.gather(*(room.flow.start_liveness(pinned) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results].count(EtagMismatchError) == 4
    assert room.liveness.attempts[item.txn] == 1
    assert (await room.get(item.name)).liveness_session == room.liveness.latest[item.txn]


async def test_a_start_whose_process_died_before_it_was_remembered_is_found_by_the_next(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    begun, step = await room.liveness.start(item.transaction_bytes, item.subject, CaptureDevice(), "")
    assert await room.flow.start_liveness(item) == step
    assert (await room.get(item.name)).liveness_session == begun
    assert room.liveness.attempts[item.txn] == 1


async def test_a_start_that_comes_late_ends_no_attempt_that_frames_were_submitted_to(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    error = await refused(room.flow.start_liveness(item))
    assert (error.code, error.reason) == (Code.ABORTED, "LIVENESS_STARTED_MEANWHILE")
    await refused(room.flow.start_liveness(item.pinned_to(item.etag)), EtagMismatchError)
    assert await room.get(item.name) == running
    assert room.liveness.attempts[item.txn] == 1


async def test_a_start_that_comes_late_fails_no_authentication_whose_last_attempt_has_passed(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    for _ in range(MAX_ATTEMPTS):
        late = await room.get(item.name)
        await room.flow.start_liveness(late)
    room.facematch.fails("compare", unavailable("facematch"))
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    await refused(room.flow.submit_frames(running, FRAMES), DependencyUnavailableError)
    assert (await refused(room.flow.start_liveness(late))).reason == "LIVENESS_STARTED_MEANWHILE"
    await room.flow.submit_frames(running, FRAMES)
    assert (await room.get(item.name)).state is State.AWAITING_CODE


async def test_a_persons_limit_is_no_verdict(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    room.liveness.fails("start", refusal("liveness", Code.RESOURCE_EXHAUSTED, "LIVENESS_PERSON_LIMIT", retry_after_s=9))
    error = await refused(room.flow.start_liveness(item))
    assert (error.code, error.reason, error.retry_after_s) == (Code.RESOURCE_EXHAUSTED, "LIVENESS_PERSON_LIMIT", 9)
    assert (await room.get(item.name)).state is State.AWAITING_LIVENESS


async def test_a_face_that_does_not_match_takes_another_attempt_and_the_last_one_is_the_end(room: Room) -> None:
    room.facematch.is_her = False
    item = await at(room, State.AWAITING_LIVENESS)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert item.state is State.AWAITING_LIVENESS
        await room.flow.start_liveness(item)
        running = await room.get(item.name)
        await room.flow.submit_frames(running, FRAMES)
        assert (await room.flow.submit_frames(running, FRAMES)).state is LivenessState.FAILED
        item = await room.get(item.name)
        assert item.liveness_session == ""
        assert len(room.facematch.calls) == attempt
    assert (item.state, item.verdict, item.reason) == (State.FINISHED, Verdict.FAILURE, "IDENTITY_NOT_CONFIRMED")
    assert item.scores == Scores()


async def shown(room: Room) -> Authentication:
    """An authentication whose attempt passes with the next frames."""
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    await room.flow.submit_frames(await room.get(item.name), FRAMES)
    return await room.get(item.name)


async def test_liveness_is_told_of_a_face_that_does_not_match_and_of_no_other(room: Room) -> None:
    room.facematch.is_her = False
    other = await shown(room)
    await room.flow.submit_frames(other, FRAMES)
    assert room.liveness.rejected == [other.liveness_session]
    room.facematch.is_her = True
    await room.show_face(await room.get(other.name))
    assert room.liveness.rejected == [other.liveness_session]


async def test_a_mismatch_that_liveness_could_not_be_told_of_is_judged_again(room: Room) -> None:
    """An attempt is not forgotten before it is counted, whatever dies in between."""
    room.facematch.is_her = False
    room.liveness.fails("reject", unavailable("liveness"))
    running = await shown(room)
    await refused(room.flow.submit_frames(running, FRAMES), DependencyUnavailableError)
    assert await room.get(running.name) == running
    assert (await room.flow.submit_frames(running, FRAMES)).state is LivenessState.FAILED
    assert room.liveness.rejected == [running.liveness_session]
    assert (await room.get(running.name)).liveness_session == ""


async def test_who_hangs_up_before_a_refusal_is_told_has_had_the_attempt(room: Room) -> None:
    """A refusal takes longer than a match: who waits no longer than a match takes would try for nothing."""
    room.facematch.is_her = False
    running = await shown(room)
    waits = len(room.clock.slept_s)
    trying = asyncio.create_task(room.flow.submit_frames(running, FRAMES))
    while len(room.clock.slept_s) == waits:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(0)
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert await room.get(running.name) == running
    assert room.liveness.rejected == [running.liveness_session]


async def test_an_authentication_that_is_cancelled_during_the_comparison_has_had_the_attempt(room: Room) -> None:
    room.facematch.is_her = False
    room.facematch.waits = asyncio.Event()
    running = await shown(room)
    trying = asyncio.create_task(room.flow.submit_frames(running, FRAMES))
    while not room.facematch.calls:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(0)
    await room.flow.cancel(running)
    room.facematch.waits.set()
    await refused(trying, WrongStateError)
    assert room.liveness.rejected == [running.liveness_session]


async def test_keyframes_that_did_not_match_are_not_compared_again(room: Room) -> None:
    room.facematch.is_her = False
    item = await at(room, State.AWAITING_LIVENESS)
    await room.show_face(item)
    await refused(room.flow.submit_frames(await room.get(item.name), FRAMES), WrongStateError)
    assert len(room.facematch.calls) == 1


async def test_a_face_that_matches_after_one_that_did_not_passes(room: Room) -> None:
    room.facematch.is_her = False
    item = await at(room, State.AWAITING_LIVENESS)
    await room.show_face(item)
    room.facematch.is_her = True
    await room.show_face(item)
    assert (await room.get(item.name)).state is State.AWAITING_CODE


@pytest.mark.parametrize(
    "outage",
    [
        unavailable("facematch"),
        refusal("facematch", Code.UNAVAILABLE, "WORKER_LOST"),
        refusal("facematch", Code.INTERNAL, "WORKER_CALL_FAILED"),
        refusal("facematch", Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    ],
    ids=lambda outage: outage.reason or outage.code,
)
async def test_an_outage_of_facematch_is_no_mismatch(room: Room, outage: BaseException) -> None:
    room.facematch.fails("compare", outage)
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    error = await refused(room.flow.submit_frames(running, FRAMES), DependencyUnavailableError)
    assert error.retry_after_s
    # The attempt has passed: the same session goes on where it stopped.
    assert (await room.flow.submit_frames(running, FRAMES)).state is LivenessState.PASSED
    assert (await room.get(item.name)).state is State.AWAITING_CODE
    assert room.liveness.calls.count("start") == 1


@pytest.mark.parametrize("picture", ["NO_FACE", "SEVERAL_FACES", "PROBE_REPEATED", "PHOTO_NOT_OPENED"])
async def test_pictures_that_cannot_be_compared_do_not_match(room: Room, picture: str) -> None:
    room.facematch.fails("compare", refusal("facematch", Code.INVALID_ARGUMENT, picture))
    item = await at(room, State.AWAITING_LIVENESS)
    await room.show_face(item)
    assert (await room.get(item.name)).state is State.AWAITING_LIVENESS


async def test_the_same_frames_twice_at_once_pass_once(room: Room) -> None:
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    steps = await asyncio.gather(*(room.flow.submit_frames(running, FRAMES) for _ in range(3)))
    assert {step.state for step in steps} == {LivenessState.PASSED}
    assert (await room.get(item.name)).state is State.AWAITING_CODE


async def test_the_same_frames_twice_at_once_fail_once(room: Room) -> None:
    room.facematch.is_her = False
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    steps = await asyncio.gather(*(room.flow.submit_frames(running, FRAMES) for _ in range(3)))
    assert {step.state for step in steps} == {LivenessState.FAILED}
    assert (await room.get(item.name)).state is State.AWAITING_LIVENESS


@pytest.mark.parametrize("is_her", [True, False])
async def test_a_comparison_that_ends_after_the_time_is_over_passes_nobody(room: Room, is_her: bool) -> None:
    room.facematch.is_her = is_her
    item = await at(room, State.AWAITING_LIVENESS)
    await room.flow.start_liveness(item)
    running = await room.get(item.name)
    await room.flow.submit_frames(running, FRAMES)
    room.facematch.takes_s = 1000
    if is_her:
        await refused(room.flow.submit_frames(running, FRAMES), AuthenticationExpiredError)
    else:
        assert (await room.flow.submit_frames(running, FRAMES)).state is LivenessState.FAILED
    await room.completion.resume_once()
    assert (await room.get(item.name)).state is State.EXPIRED


async def test_a_code_before_one_was_sent_is_refused(room: Room) -> None:
    item = await at(room, State.AWAITING_CODE)
    await refused(room.flow.verify_code(item, CODE), WrongStateError)
    assert room.otp.calls == []


async def test_a_wrong_code_says_how_many_tries_are_left(room: Room) -> None:
    item = await at(room, State.AWAITING_CODE)
    await room.flow.send_code(item)
    item = await room.get(item.name)
    error = await refused(room.flow.verify_code(item, "000000"))
    assert (error.code, error.reason, error.metadata) == (Code.FAILED_PRECONDITION, "CODE_WRONG", {"checks_left": "4"})
    assert (await room.flow.verify_code(item, CODE)).state is State.FINISHED


async def test_the_last_wrong_code_is_the_end(room: Room) -> None:
    failed = Grown.of(metrics.AUTHENTICATIONS_FINISHED, purpose="IDENTIFY", verdict="FAILURE", reason="CODE_FAILED")
    item = await at(room, State.AWAITING_CODE)
    await room.flow.send_code(item)
    item = await room.get(item.name)
    for _ in range(MAX_CHECKS):
        assert (await room.get(item.name)).state is State.AWAITING_CODE
        await refused(room.flow.verify_code(item, "000000"))
    item = await room.get(item.name)
    assert (item.state, item.verdict, item.reason) == (State.FINISHED, Verdict.FAILURE, "CODE_FAILED")
    assert failed.by() == 1
    assert room.registry.calls.count("release") == 0


@pytest.mark.parametrize("method", ["send", "verify"])
async def test_a_transaction_without_checks_left_is_over(room: Room, method: str) -> None:
    item = await at(room, State.AWAITING_CODE)
    await room.flow.send_code(item)
    item = await room.get(item.name)
    room.otp.fails(method, refusal("otp", Code.RESOURCE_EXHAUSTED, "CHECK_LIMIT"))
    await refused(room.flow.send_code(item) if method == "send" else room.flow.verify_code(item, CODE))
    assert (await room.get(item.name)).reason == "CODE_FAILED"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.RESOURCE_EXHAUSTED, "RESEND_TOO_EARLY"),
        (Code.RESOURCE_EXHAUSTED, "SEND_LIMIT"),
        (Code.RESOURCE_EXHAUSTED, "PHONE_LIMIT"),
        (Code.FAILED_PRECONDITION, "PHONE_COUNTRY_NOT_ALLOWED"),
    ],
)
async def test_a_refused_send_is_no_verdict(room: Room, code: Code, reason: str) -> None:
    item = await at(room, State.AWAITING_CODE)
    room.otp.fails("send", refusal("otp", code, reason, retry_after_s=30))
    error = await refused(room.flow.send_code(item))
    assert (error.code, error.reason, error.retry_after_s) == (code, reason, 30)
    assert (await room.get(item.name)).state is State.AWAITING_CODE


async def test_otp_is_told_who_asks_from_where_and_which_code_is_known(room: Room) -> None:
    item = await at(room, State.AWAITING_CODE)
    sent = await room.flow.send_code(item, "203.0.113.7")
    await room.flow.send_code(await room.get(item.name))
    assert room.otp.askers == [
        CodeAsker(item.subject, "203.0.113.7", ""),
        CodeAsker(item.subject, "", sent.challenge),
    ]


async def test_a_code_of_an_earlier_send_is_not_taken(room: Room) -> None:
    item = await at(room, State.AWAITING_CODE)
    await room.flow.send_code(item)
    earlier = await room.get(item.name)
    await room.flow.send_code(item)
    assert (await refused(room.flow.verify_code(earlier, CODE))).reason == "CHALLENGE_UNKNOWN"
    assert (await room.flow.verify_code(await room.get(item.name), CODE)).state is State.FINISHED


async def test_a_code_taken_by_another_call_meanwhile_completes_once(room: Room) -> None:
    item = await at(room, State.AWAITING_CODE)
    await room.flow.send_code(item)
    item = await room.get(item.name)
    answers = await asyncio.gather(*(room.flow.verify_code(item, CODE) for _ in range(3)), return_exceptions=True)
    assert any(isinstance(answer, Authentication) for answer in answers)
    assert all(isinstance(answer, Authentication | WrongStateError) for answer in answers)
    assert room.registry.calls.count("release") == 1
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS


async def test_a_code_again_once_it_is_taken_says_where_the_authentication_stands(room: Room) -> None:
    item = await at(room, State.COMPLETING)
    checks = room.otp.calls.count("verify")
    assert (await room.flow.verify_code(item, "000000")).state is State.FINISHED
    assert (await room.flow.verify_code(await room.get(item.name), "000000")).state is State.FINISHED
    assert room.otp.calls.count("verify") == checks


@pytest.mark.parametrize(
    ("spoke", "method", "state"),
    [
        ("liveness", "start", State.AWAITING_LIVENESS),
        ("otp", "send", State.AWAITING_CODE),
    ],
)
@pytest.mark.parametrize(
    "outage",
    [
        refusal("spoke", Code.INTERNAL, "INTERNAL", "iin 900101300017"),
        refusal("spoke", Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", "The caller may not use this method."),
        unavailable("spoke"),
    ],
    ids=lambda outage: outage.code,
)
async def test_what_a_spoke_says_about_the_mesh_does_not_leave(
    room: Room, spoke: str, method: str, state: State, outage: BaseException
) -> None:
    item = await at(room, state)
    fake: Fake = getattr(room, spoke)
    fake.fails(method, outage)
    error = await refused(STEPS[f"{method}_{'liveness' if method == 'start' else 'code'}"][1](room, item), FinIdError)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert "900101300017" not in error.message
    assert (await room.get(item.name)).state is state


@pytest.mark.parametrize("state", OPEN)
async def test_an_open_authentication_can_be_cancelled_and_cancelling_again_changes_nothing(
    room: Room, state: State
) -> None:
    item = await room.flow.cancel(await at(room, state))
    assert item.state is State.CANCELLED
    assert (await room.flow.cancel(item)).state is State.CANCELLED
    assert (await room.get(item.name)).state is State.CANCELLED


@pytest.mark.parametrize("state", [State.COMPLETING, State.FINISHED, State.EXPIRED])
async def test_what_is_passed_or_over_cannot_be_cancelled(room: Room, state: State) -> None:
    item = await at(room, state)
    error = await refused(room.flow.cancel(item), WrongStateError)
    assert error.metadata == {"state": state.value}


async def test_a_verdict_is_waited_for(room: Room) -> None:
    item = await at(room, State.COMPLETING)
    room.registry.fails("release", *(unavailable("registry") for _ in range(3)))
    assert (await room.flow.wait_for_verdict(item)).verdict is Verdict.SUCCESS
    open_item = await room.identify()
    assert await room.flow.wait_for_verdict(open_item) == open_item


@pytest.mark.parametrize("channel", Channel)
async def test_every_channel_takes_the_same_steps(room: Room, channel: Channel) -> None:
    item = await room.walk(await room.identify(ask_of(channel=channel)), State.FINISHED)
    assert item.verdict is Verdict.SUCCESS
