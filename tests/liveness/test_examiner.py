"""An attempt from its start to its receipt, over a scripted worker and a store in memory."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import timedelta

import pytest
import structlog

from mesh import metrics, receipts
from mesh.errors import FieldViolation
from mesh.facts import Factor, Liveness
from mesh.names import new_id
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Channel, Purpose
from mesh.worker import WorkerLostError
from services.liveness.challenge import Scripts, new_nonce
from services.liveness.errors import (
    AttemptsExhaustedError,
    FlashStartError,
    FramesTooLargeError,
    FrameTimesError,
    FrameUnreadableError,
    NotPassedError,
    PersonLimitError,
    PolicyUnknownError,
    SessionBusyError,
    SessionUnknownError,
    StartedMeanwhileError,
)
from services.liveness.examiner import MAX_BATCH_BYTES, Examiner, Frame
from services.liveness.flash import RGB_OF, Colour
from services.liveness.injection import Declared, Label
from services.liveness.observation import Face, Light, Observation
from services.liveness.passive import Signal
from services.liveness.policies import Policy
from services.liveness.prompts import Hint, Prompt, State, Step
from services.liveness.quality import Quality
from tests.bundles import NOW, SentBundle, World, digest_of
from tests.liveness.faces import FLASHING, NEUTRAL, POLICY, answer, breathing, doing
from tests.liveness.fakes import Clock, SessionsInMemory
from tests.measured import Grown

WORLD = World()
SUBJECT = "an opaque name of her"
MODELS = (digest_of("landmarker"), digest_of("passive"))


@dataclass
class ScriptedWorker:
    """Sees in a frame what the test says: the frame's bytes are the number of a face."""

    faces: list[Face | Observation | None] = field(default_factory=list)
    asked_passive: list[bool] = field(default_factory=list)
    asked_spoof: list[bool] = field(default_factory=list)
    asked_light: list[bool] = field(default_factory=list)
    lost: bool = False

    def frame_of(self, face: Face | Observation | None) -> bytes:
        self.faces.append(face)
        return str(len(self.faces) - 1).encode()

    async def observe(
        self, frames: Sequence[bytes], *, passive: Sequence[bool], spoof: Sequence[bool], light: bool = False
    ) -> list[Observation | None]:
        if self.lost:
            raise WorkerLostError("the worker of this call was lost")
        await asyncio.sleep(0)
        self.asked_passive += passive
        self.asked_spoof += spoof
        self.asked_light.append(light)
        seen = [(int(frame), self.faces[int(frame)]) for frame in frames]
        return [Observation(1, breathing(face, number)) if isinstance(face, Face) else face for number, face in seen]

    async def keyframe(self, frame: bytes) -> bytes:
        return b"\xff\xd8\xff made anew from " + frame


@dataclass
class Place:
    """An examiner, and a person before it who knows the clock."""

    clock: Clock = field(default_factory=Clock)
    sessions: SessionsInMemory = field(default_factory=SessionsInMemory)
    worker: ScriptedWorker = field(default_factory=ScriptedWorker)
    sent: SentBundle = field(default_factory=lambda: WORLD.bundle(Purpose.IDENTIFY))
    max_per_day: int = 10
    policy: Policy = POLICY
    make_nonce: Callable[[], bytes] = new_nonce
    captured_at_ms: int = 0
    known: str = ""
    picks: Iterator[int] = field(default_factory=lambda: itertools.cycle([0, 1]))

    @property
    def examiner(self) -> Examiner:
        return Examiner(
            sessions=self.sessions,
            analyser=self.worker,
            scripts=Scripts(digest_of("script key")),
            policies={self.policy.id: self.policy},
            signer=lambda: WORLD.signer_of(Factor.LIVENESS),
            models_sha256=MODELS,
            max_per_day=self.max_per_day,
            now=self.clock.now,
            make_nonce=self.make_nonce,
            pick=lambda _: next(self.picks),
        )

    async def start(self, subject: str = SUBJECT) -> tuple[str, Step]:
        self.captured_at_ms = 0
        self.known, step = await self.examiner.start(self.sent.transaction_bytes, subject, known=self.known)
        return self.known, step

    def frames(self, faces: Sequence[Face | Observation | None]) -> list[Frame]:
        made = []
        for face in faces:
            made.append(Frame(self.worker.frame_of(face), self.captured_at_ms))
            self.captured_at_ms += 100
        self.clock.at += timedelta(milliseconds=100 * len(faces))
        return made

    async def show(self, session: str, faces: Sequence[Face | Observation | None]) -> Step:
        return await self.examiner.submit(session, self.frames(faces))

    async def pass_all(self) -> tuple[str, Step]:
        session, step = await self.start()
        step = await self.show(session, [NEUTRAL] * POLICY.neutral_frames)
        while step.state is State.RUNNING:
            step = await self.answer(session, step)
        return session, step

    async def answer(self, session: str, asked: Step) -> Step:
        """Do what is asked, as often and as long."""
        step = asked
        frames = asked.hold_ms // 100 + 1
        while step.prompt_index == asked.prompt_index and step.state is State.RUNNING:
            step = await self.show(session, [NEUTRAL, *[doing(asked.prompt)] * frames, NEUTRAL])
        return step


async def test_attempt_reveals_one_prompt_at_a_time_and_ends_with_a_receipt_for_its_transaction() -> None:
    place = Place()
    session, step = await place.start()
    assert (step.state, step.prompt, step.prompt_index, step.prompt_count) == (State.RUNNING, Prompt.NEUTRAL, 0, 4)
    assert step.prompt_window_ms == POLICY.neutral_window_ms
    assert (step.attempt, step.attempts_left) == (1, 2)
    step = await place.show(session, [NEUTRAL] * POLICY.neutral_frames)
    asked: list[tuple[object, ...]] = []
    while step.state is State.RUNNING:
        assert step.prompt_index == len(asked) + 1
        asked.append((step.prompt, step.times, step.hold_ms, step.reach_percent, step.prompt_window_ms))
        assert step.times_done == 0
        step = await place.answer(session, step)
    assert (step.state, step.prompt_index, step.prompt) == (State.PASSED, 3, Prompt.NEUTRAL)

    concluded = await place.examiner.conclude(session)
    proven = receipts.verify(
        concluded.receipt,
        Liveness,
        WORLD.pins(),
        txn=place.sent.txn,
        now=int(place.clock.seconds()),
    )
    record = place.sessions.only().session
    script = place.examiner.scripts.write(record.txn, record.nonce, POLICY)
    assert asked == [astuple(move) for move in script.moves]
    assert proven.policy == POLICY.id
    assert proven.facts == Liveness(
        session=session,
        attempt=1,
        script=script.id,
        keyframes_sha256=tuple(hashlib.sha256(keyframe).digest() for keyframe in concluded.keyframes),
        quality_pose=proven.facts.quality_pose,
        quality_eyes=proven.facts.quality_eyes,
        quality_sharpness=proven.facts.quality_sharpness,
        quality_light=proven.facts.quality_light,
        quality_contrast=proven.facts.quality_contrast,
        quality_size=proven.facts.quality_size,
        score_passive_ppm=990_000,
        score_prompts_ppm=concluded.prompts_ppm,
        signals=proven.facts.signals,
        signals_ppm=proven.facts.signals_ppm,
        thresholds_ppm=proven.facts.thresholds_ppm,
        flash="NOT_SHOWN",
        flash_ppm=0,
        flash_shifted_ppm=0,
        flash_least_ppm=0,
        models_sha256=MODELS,
        channel=Channel(place.sent.transaction.channel),
    )
    pairs = zip(proven.facts.signals_ppm, proven.facts.thresholds_ppm, strict=True)
    named = dict(zip(proven.facts.signals, pairs, strict=True))
    assert named["MODEL_A"] == (990_000, POLICY.signals[Signal.MODEL_A])
    assert named["BLINK"][1] == 0
    assert set(named) >= {signal.value for signal in POLICY.signals}
    assert len(set(concluded.keyframes)) == len(concluded.keyframes) > POLICY.length
    assert len(proven.facts.quality_pose) == len(concluded.keyframes)
    assert all(keyframe.startswith(b"\xff\xd8\xff made anew") for keyframe in concluded.keyframes)


def lit_by(colour: Colour | None) -> Face:
    light = RGB_OF[colour] if colour else (0.0, 0.0, 0.0)
    red, green, blue = (100 + 0.05 * more for more in light)
    return replace(NEUTRAL, light=Light((red, green, blue), (80.0, 80.0, 80.0)))


async def before_the_screen(place: Place) -> tuple[str, Step]:
    """Everything but the colours is done."""
    session, step = await place.start()
    assert step.prompt_count == POLICY.length + 2
    step = await place.show(session, [NEUTRAL] * POLICY.neutral_frames)
    while step.prompt is not Prompt.WATCH_COLOURS:
        assert (step.colours, step.every_ms, step.flash_round) == ((), 0, 0)
        step = await place.answer(session, step)
    return session, step


async def watch(place: Place, session: str, asked: Step, *, lit: Callable[[Colour | None], Face] = lit_by) -> Step:
    """Film all colours from the first frame on, and send them twelve frames at a time."""
    start_ms, step = place.captured_at_ms, asked
    faces: list[Face | Observation | None] = []
    for at_ms in range(0, asked.every_ms * len(asked.colours) + 200, 100):
        index = at_ms // asked.every_ms
        faces.append(lit(asked.colours[index] if index < len(asked.colours) else None))
    frames = place.frames(faces)
    for first in range(0, len(frames), 12):
        assert step.state is State.RUNNING
        step = await place.examiner.submit(session, frames[first : first + 12], start_ms)
    return step


async def test_colours_are_told_when_they_are_to_be_shown_and_what_was_concluded_is_in_the_receipt() -> None:
    place = Place(policy=FLASHING)
    session, step = await before_the_screen(place)
    assert FLASHING.flash is not None
    record = place.sessions.only().session
    script = place.examiner.scripts.write(record.txn, record.nonce, FLASHING, Channel.HOSTED)
    assert (step.state, step.prompt_index, step.hold_ms, step.times) == (State.RUNNING, POLICY.length + 1, 0, 0)
    assert (step.colours, step.every_ms, step.flash_round) == (script.flashes[0], FLASHING.flash.every_ms, 1)
    assert step.prompt_window_ms == FLASHING.flash.window_ms
    assert not any(place.worker.asked_light)
    step = await watch(place, session, step)
    assert (step.state, step.prompt, step.prompt_index) == (State.PASSED, Prompt.NEUTRAL, POLICY.length + 1)
    assert (step.colours, step.flash_round) == ((), 0)
    assert place.worker.asked_light[-2:] == [True, True]
    concluded = await place.examiner.conclude(session)
    facts = receipts.parse(concluded.receipt).facts
    assert isinstance(facts, Liveness)
    assert (facts.flash, facts.flash_least_ppm) == ("FOLLOWED", FLASHING.flash.least_ppm)
    assert facts.flash_ppm > 950_000
    assert facts.flash_shifted_ppm < 700_000
    # After those of the prompts stands that of the colours.
    assert sorted(place.sessions.only().keyframes)[: POLICY.length + 1] == list(range(POLICY.length + 1))
    assert len(concluded.keyframes) == len(place.sessions.only().keyframes)


async def test_face_that_no_screen_lights_fails_and_nobody_is_told_why() -> None:
    place = Place(policy=FLASHING)
    session, step = await before_the_screen(place)
    step = await watch(place, session, step, lit=lambda _: lit_by(None))
    assert (step.state, step.hint, step.attempts_left) == (State.FAILED, Hint.UNSPECIFIED, 2)
    assert place.sessions.only().failure == "FLASH_NOT_FOLLOWED"
    assert place.sessions.only().keyframes == {}


async def test_lost_face_is_shown_other_colours() -> None:
    place = Place(policy=FLASHING)
    session, first = await before_the_screen(place)
    again = await watch(place, session, first, lit=lambda colour: replace(lit_by(colour), luma=1.0, light=None))
    assert (again.state, again.flash_round, again.prompt) == (State.RUNNING, 2, Prompt.WATCH_COLOURS)
    assert again.colours != first.colours
    assert (await watch(place, session, again)).state is State.PASSED


async def test_time_of_the_first_colour_must_be_said_and_costs_the_attempt_nothing_else() -> None:
    place = Place(policy=FLASHING)
    session, step = await before_the_screen(place)
    for wrong_ms in (0, 1, place.captured_at_ms + 5_000):
        with pytest.raises(FlashStartError):
            await place.examiner.submit(session, place.frames([NEUTRAL]), wrong_ms)
    assert (await watch(place, session, step)).state is State.PASSED


async def test_colours_that_nobody_looked_at_in_time_end_the_attempt() -> None:
    place = Place(policy=FLASHING)
    session, _ = await before_the_screen(place)
    place.clock.at += timedelta(seconds=8)
    step = await place.show(session, [NEUTRAL])
    assert (step.state, place.sessions.only().failure) == (State.FAILED, "TIMEOUT")


async def test_frames_of_an_earlier_attempt_of_the_person_are_known_again_if_the_policy_says_so() -> None:
    """The attempt's own frames stand for a recording: the same frames, answered to the same script."""
    strict = replace(POLICY, signals={**POLICY.signals, Signal.SEEN_BEFORE: 900_000})
    place = Place(policy=strict, make_nonce=lambda: bytes(16))
    first, step = await place.pass_all()
    assert step.state is State.PASSED
    remembered = place.sessions.kept[first].fingerprint
    assert len(remembered) == 16
    place.worker.faces.clear()  # the same numbers, so the same frames
    place.sessions.kept[first].subject = "somebody else"
    _, step = await place.pass_all()
    assert step.state is State.PASSED

    place = Place(policy=strict, make_nonce=lambda: bytes(16))
    first, _ = await place.pass_all()
    place.worker.faces.clear()
    with structlog.testing.capture_logs() as logged:
        second, step = await place.pass_all()
    assert (step.state, place.sessions.kept[second].failure) == (State.FAILED, "PASSIVE")
    assert [(line["reason"], line["signals"]) for line in logged] == [("PASSIVE", "SEEN_BEFORE")]
    assert place.sessions.kept[second].signals["SEEN_BEFORE"] == 0


async def test_passive_model_is_asked_about_one_frame_of_every_four_and_of_the_rest_at_random() -> None:
    place = Place(picks=iter([0, 1, 5, 1, 0]))
    session, _ = await place.start()
    await place.show(session, [replace(NEUTRAL, yaw=90.0)] * 6)
    assert place.worker.asked_passive == [True, False, False, False, False, True]
    assert place.worker.asked_spoof == [False] * 5 + [True]
    place.worker.asked_passive.clear()
    await place.show(session, [replace(NEUTRAL, yaw=90.0)] * 5)
    assert place.worker.asked_passive == [False, True, False, False, True]


async def test_conclude_is_idempotent() -> None:
    place = Place()
    session, _ = await place.pass_all()
    first = await place.examiner.conclude(session)
    place.clock.at += timedelta(seconds=30)
    assert await place.examiner.conclude(session) == first


async def test_attempt_that_has_not_passed_has_no_receipt() -> None:
    place = Place()
    session, _ = await place.start()
    with pytest.raises(NotPassedError):
        await place.examiner.conclude(session)
    with pytest.raises(SessionUnknownError):
        await place.examiner.conclude(new_id())


async def test_frames_for_an_attempt_that_has_ended_change_nothing() -> None:
    """A caller whose answer was lost asks again, and learns how it ended."""
    place = Place()
    session, step = await place.pass_all()
    before = await place.examiner.conclude(session)
    assert await place.examiner.submit(session, place.frames([NEUTRAL])) == step
    assert await place.examiner.conclude(session) == before


async def test_prompt_that_is_not_answered_in_its_window_fails_the_attempt() -> None:
    counted, scored = Grown.of(metrics.LIVENESS_ATTEMPTS, outcome="TIMEOUT"), Grown.of(metrics.LIVENESS_PASSIVE_SCORE)
    place = Place()
    session, _ = await place.start()
    step = await place.show(session, [NEUTRAL] * POLICY.neutral_frames)
    place.clock.at += timedelta(milliseconds=step.prompt_window_ms)
    step = await place.show(session, answer(step.prompt))
    assert (step.state, step.attempts_left) == (State.FAILED, 2)
    assert place.sessions.only().failure == "TIMEOUT"
    assert place.sessions.only().keyframes == {}
    assert (counted.by(), scored.by()) == (1, 0)  # it never came to the passive signals


async def test_attempt_ends_with_its_transaction() -> None:
    place = Place(sent=WORLD.bundle(Purpose.IDENTIFY, transaction={"expires_at": NOW - 50}))
    session, _ = await place.start()
    place.clock.at += timedelta(seconds=15)
    assert (await place.show(session, [NEUTRAL])).state is State.FAILED


async def test_three_failed_attempts_are_all_there_are() -> None:
    place = Place()
    for number in (1, 2, 3):
        session, step = await place.start()
        assert (step.attempt, step.attempts_left) == (number, 3 - number)
        place.clock.at += timedelta(milliseconds=POLICY.neutral_window_ms // 10)
        record = place.sessions.kept[session]
        assert record.session.progress is not None
        late = replace(record.session.progress, shown_at_ms=-POLICY.neutral_window_ms)
        record.session = replace(record.session, progress=late)
        assert (await place.show(session, [NEUTRAL])).state is State.FAILED
    with pytest.raises(AttemptsExhaustedError):
        await place.start()


async def test_abandoned_attempts_count_and_cannot_go_on() -> None:
    place = Place()
    first, _ = await place.start()
    second, step = await place.start()
    assert step.attempts_left == 1
    assert (await place.show(first, [NEUTRAL])).state is State.FAILED
    assert (await place.show(second, [NEUTRAL])).state is State.RUNNING


async def test_start_that_comes_again_is_told_of_the_same_attempt_and_what_is_left_of_its_window() -> None:
    place = Place()
    session, step = await place.start()
    place.clock.at += timedelta(seconds=2)
    place.known = ""
    assert await place.start() == (session, replace(step, prompt_window_ms=step.prompt_window_ms - 2000))
    assert place.sessions.only().session.state is State.RUNNING
    assert (await place.show(session, [NEUTRAL])).state is State.RUNNING


async def test_start_that_comes_late_does_not_end_an_attempt_that_shows_a_face() -> None:
    place = Place()
    session, _ = await place.start()
    await place.show(session, [NEUTRAL])
    with pytest.raises(StartedMeanwhileError):
        await place.examiner.start(place.sent.transaction_bytes, SUBJECT)
    assert (await place.show(session, [NEUTRAL])).state is State.RUNNING


async def test_attempts_to_be_one_person_are_limited_over_all_transactions() -> None:
    place = Place(max_per_day=2)
    await place.start()
    place.sent = WORLD.bundle(Purpose.IDENTIFY)
    await place.start()
    place.sent = WORLD.bundle(Purpose.IDENTIFY)
    with pytest.raises(PersonLimitError):
        await place.start()
    await place.start(subject="somebody else entirely")


async def test_attempts_that_passed_do_not_count_against_a_person() -> None:
    place = Place(max_per_day=1)
    for _ in range(3):
        place.sent = WORLD.bundle(Purpose.IDENTIFY)
        await place.pass_all()


async def test_attempts_that_passed_with_another_persons_face_count_against_the_person() -> None:
    """Somebody shows a live face of their own, over and over, and hopes to be taken for her."""
    place = Place(max_per_day=2)
    for _ in range(2):
        place.sent = WORLD.bundle(Purpose.IDENTIFY)
        session, _ = await place.pass_all()
        await place.examiner.conclude(session)
        await place.examiner.reject(session)
    place.sent = WORLD.bundle(Purpose.IDENTIFY)
    with pytest.raises(PersonLimitError):
        await place.start()


async def test_each_attempt_has_a_script_of_its_own() -> None:
    place = Place()
    nonces = set()
    for _ in range(3):
        session, _ = await place.start()
        nonces.add(place.sessions.kept[session].session.nonce)
    assert len(nonces) == 3


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"expires_at": NOW - 61}, Refusal.TRANSACTION_EXPIRED),
        ({"created_at": NOW - 50}, Refusal.TRANSACTION_NOT_YET_VALID),
        ({"env": "production"}, Refusal.ENV_MISMATCH),
    ],
)
async def test_transaction_that_is_not_ours_or_not_current_is_refused(
    changed: dict[str, object], refusal: Refusal
) -> None:
    place = Place(sent=WORLD.bundle(Purpose.IDENTIFY, transaction=changed))
    with pytest.raises(PreconditionError) as error:
        await place.start()
    assert error.value.refusal is refusal
    assert place.sessions.kept == {}


async def test_transaction_that_is_no_transaction_is_refused() -> None:
    with pytest.raises(PreconditionError):
        await Place().examiner.start(b"{}", SUBJECT)


async def test_unknown_policy_is_refused() -> None:
    place = Place(sent=WORLD.bundle(Purpose.IDENTIFY, transaction={"policy": "no-such-policy"}))
    with pytest.raises(PolicyUnknownError):
        await place.start()


async def test_frame_that_cannot_be_read_is_named_and_costs_nothing() -> None:
    place = Place()
    session, _ = await place.start()
    with pytest.raises(FrameUnreadableError) as refusal:
        await place.show(session, [NEUTRAL, None, NEUTRAL])
    assert refusal.value.violations == (
        FieldViolation("frames[1].jpeg", "must be a whole JPEG with sides of 240 to 2048 pixels"),
    )
    assert place.sessions.only().session.version == 0
    assert (await place.show(session, [NEUTRAL])).state is State.RUNNING


async def test_batch_of_too_many_bytes_is_refused_before_anything_looks_at_it() -> None:
    place = Place()
    session, _ = await place.start()
    half = bytes(MAX_BATCH_BYTES // 2)
    with pytest.raises(FramesTooLargeError):
        await place.examiner.submit(session, [Frame(half, 0), Frame(half, 100), Frame(b"1", 200)])
    assert place.worker.asked_passive == []


async def test_implausible_times_are_refused_before_anything_looks_at_the_frames() -> None:
    place = Place()
    session, _ = await place.start()
    with pytest.raises(FrameTimesError):
        await place.examiner.submit(session, [Frame(b"0", 100), Frame(b"0", 0)])
    assert place.worker.asked_passive == []


async def test_lost_worker_costs_the_batch_and_the_attempt_goes_on() -> None:
    place = Place()
    session, _ = await place.start()
    place.worker.lost = True
    with pytest.raises(WorkerLostError):
        await place.show(session, [NEUTRAL] * 3)
    place.worker.lost = False
    step = await place.show(session, [NEUTRAL] * POLICY.neutral_frames)
    assert step.prompt_index == 1


async def test_of_two_batches_at_once_one_is_refused() -> None:
    place = Place()
    session, _ = await place.start()
    frames = place.frames([NEUTRAL] * POLICY.neutral_frames)
    results = await asyncio.gather(*(place.examiner.submit(session, frames) for _ in range(2)), return_exceptions=True)
    assert {type(result) for result in results} == {Step, SessionBusyError}
    assert place.sessions.only().session.version == 1


async def test_unknown_session_is_refused() -> None:
    with pytest.raises(SessionUnknownError):
        await Place().show(new_id(), [NEUTRAL])


async def test_signs_of_injection_are_recorded_when_an_attempt_ends_and_decide_nothing() -> None:
    place = Place()
    declared = Declared(Label.VIRTUAL, 320, 240, 1)
    session, step = await place.examiner.start(place.sent.transaction_bytes, SUBJECT, declared)
    step = await place.show(session, [NEUTRAL] * POLICY.neutral_frames)
    assert place.sessions.only().injection is None
    while step.state is State.RUNNING:
        step = await place.answer(session, step)
    assert step.state is State.PASSED
    recorded = place.sessions.only().injection
    assert recorded is not None
    assert (recorded["label_ppm"], recorded["timing_ppm"]) == (1_000_000, 1_000_000)


async def test_random_keyframe_that_repeats_a_picture_is_left_out_and_a_prompts_never_is() -> None:
    """facematch refuses a picture that stands twice, and must where it stands for two prompts."""
    place = Place()
    session, _ = await place.pass_all()
    kept = place.sessions.only()
    pictures, rated = [b"A", b"B", b"A", b"B", b"C", b"C"], Quality(90, 90, 90, 90, 90, 90)
    kept.keyframes = dict(zip([0, 1, 2, 100, 101, 102], pictures, strict=True))
    kept.qualities = dict.fromkeys(kept.keyframes, rated)
    concluded = await place.examiner.conclude(session)
    assert concluded.keyframes == (b"A", b"B", b"A", b"C")
