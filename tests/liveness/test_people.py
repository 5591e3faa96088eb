"""The whole domain with the real models: who passes under the shipped policy, and who does not.

The people are the demonstration's: the woman of the sample clip answering in (simulated) real time, her replay on a
screen, a photo of her. The prompts are the test's.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from deploy.demo.camera import BATCH, Frame, Person
from deploy.demo.person import SamplePerson
from deploy.demo.replay import ReplayPerson, StillPerson
from mesh.facts import Factor
from mesh.transaction import Purpose
from services.liveness import examiner
from services.liveness.challenge import NONCE_BYTES, Scripts
from services.liveness.examiner import Concluded, Examiner
from services.liveness.model import FrameModel
from services.liveness.prompts import Prompt, State
from tests import samples
from tests.bundles import World, digest_of
from tests.liveness.faces import POLICY
from tests.liveness.fakes import Clock, ModelInProcess, SessionsInMemory

pytestmark = pytest.mark.model

WORLD = World()
SCRIPTS = Scripts(digest_of("script key"))
SOME = (Prompt.SMILE, Prompt.TURN_RIGHT, Prompt.OPEN_MOUTH)
OTHER = (Prompt.LOOK_DOWN, Prompt.BLINK, Prompt.TURN_LEFT)
Camera = Callable[[Clock], Person]


@dataclass
class Ended:
    """How an attempt ended, and what the camera saw of it."""

    state: State
    failure: str
    took_s: float
    filmed: list[Frame]
    concluded: Concluded | None


async def attempt(model: FrameModel, prompts: Sequence[Prompt], camera: Camera) -> Ended:
    """Let whoever stands before the camera try these prompts."""
    clock, sessions, sent = Clock(), SessionsInMemory(), WORLD.bundle(Purpose.IDENTIFY)
    nonce = nonce_of(sent.txn, prompts)
    place = Examiner(
        sessions=sessions,
        analyser=ModelInProcess(model),
        scripts=SCRIPTS,
        policies={POLICY.id: POLICY},
        signer=WORLD.signer_of(Factor.LIVENESS),
        models_sha256=(digest_of("landmarker"), digest_of("passive")),
        max_per_day=1,
        now=clock.now,
        make_nonce=lambda: nonce,
    )
    session, step = await place.start(sent.transaction_bytes, "a sample person, opaque")
    person = camera(clock)
    person.new_attempt()
    filmed: list[Frame] = []
    begun_s = clock.seconds()
    while step.state is State.RUNNING:
        frames = await person.frames(f"PROMPT_{step.prompt}", BATCH)
        filmed += frames
        step = await place.submit(session, [examiner.Frame(frame.jpeg, frame.captured_at_ms) for frame in frames])
    return Ended(
        state=step.state,
        failure=sessions.only().failure,
        took_s=clock.seconds() - begun_s,
        filmed=filmed,
        concluded=await place.conclude(session) if step.state is State.PASSED else None,
    )


def nonce_of(txn: bytes, prompts: Sequence[Prompt]) -> bytes:
    """A nonce that makes these prompts the script of an attempt for a transaction."""
    nonces = (number.to_bytes(NONCE_BYTES) for number in itertools.count())
    return next(nonce for nonce in nonces if SCRIPTS.write(txn, nonce, POLICY).prompts == tuple(prompts))


def herself(clock: Clock) -> Person:
    return SamplePerson(samples.assets_folder(), now=clock.seconds, sleep=clock.sleep)


def her_on_a_screen(clock: Clock) -> Person:
    return ReplayPerson(samples.assets_folder(), now=clock.seconds, sleep=clock.sleep)


def her_photo(clock: Clock) -> Person:
    return StillPerson(samples.assets_folder(), now=clock.seconds, sleep=clock.sleep)


class Recording:
    """What the camera saw of another attempt, shown whatever is asked; at its end, from its beginning."""

    def __init__(self, filmed: Sequence[Frame], clock: Clock) -> None:
        self._filmed = filmed
        self._clock = clock
        self._shown = 0

    def new_attempt(self) -> None:
        self._shown = 0

    async def frames(self, prompt: str, count: int) -> list[examiner.Frame]:
        shown = range(self._shown, self._shown + count)
        self._shown += count
        await self._clock.sleep(0.1 * count)
        return [examiner.Frame(self._filmed[number % len(self._filmed)].jpeg, 100 * number) for number in shown]


@pytest.mark.parametrize(
    "prompts",
    [
        (Prompt.SMILE, Prompt.TURN_LEFT, Prompt.BLINK),
        (Prompt.LOOK_DOWN, Prompt.OPEN_MOUTH, Prompt.TURN_RIGHT),
        (Prompt.TURN_RIGHT, Prompt.TURN_LEFT, Prompt.LOOK_DOWN),
        (Prompt.BLINK, Prompt.LOOK_DOWN, Prompt.SMILE),
        (Prompt.OPEN_MOUTH, Prompt.SMILE, Prompt.TURN_LEFT),
        (Prompt.TURN_LEFT, Prompt.BLINK, Prompt.OPEN_MOUTH),
    ],
)
async def test_sample_woman_passes_whatever_is_asked(frame_model: FrameModel, prompts: tuple[Prompt, ...]) -> None:
    ended = await attempt(frame_model, prompts, herself)
    assert (ended.state, ended.failure) == (State.PASSED, "")
    assert ended.took_s < 15
    assert ended.concluded is not None
    assert ended.concluded.passive_ppm > 950_000
    assert ended.concluded.prompts_ppm >= 500_000
    keyframes = ended.concluded.keyframes
    assert POLICY.length < len(keyframes) <= POLICY.length + POLICY.random_keyframes
    assert len(set(keyframes)) == len(keyframes)


@pytest.mark.parametrize("prompts", [SOME, OTHER])
async def test_her_replay_on_a_screen_is_refused_by_the_passive_model(
    frame_model: FrameModel, prompts: tuple[Prompt, ...]
) -> None:
    """It answers every prompt, as a replay that is steered does: what it is made of gives it away."""
    ended = await attempt(frame_model, prompts, her_on_a_screen)
    assert (ended.state, ended.failure) == (State.FAILED, "PASSIVE")


async def test_her_photo_is_refused_by_the_first_prompt(frame_model: FrameModel) -> None:
    ended = await attempt(frame_model, SOME, her_photo)
    assert (ended.state, ended.failure) == (State.FAILED, "TIMEOUT")


@pytest.mark.parametrize("prompts", [OTHER, SOME[::-1], (SOME[0], SOME[2], SOME[1])])
async def test_recording_of_one_attempt_does_not_pass_another(
    frame_model: FrameModel, prompts: tuple[Prompt, ...]
) -> None:
    filmed = await attempt(frame_model, SOME, herself)
    assert filmed.state is State.PASSED
    replayed = await attempt(frame_model, prompts, lambda clock: Recording(filmed.filmed, clock))
    assert replayed.state is State.FAILED
    assert replayed.failure in {"TIMEOUT", "WRONG_GESTURE"}
