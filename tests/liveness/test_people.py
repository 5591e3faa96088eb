"""The whole domain with the real models: who passes under the shipped policy, and who does not.

The people are the demonstration's: the woman of the sample clip answering in (simulated) real time, her replay on a
screen, a photo of her. The prompts are the test's.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from deploy.demo import screen
from deploy.demo.camera import BATCH, MOST, WATCH, Frame, Person, Watched
from deploy.demo.person import SamplePerson
from deploy.demo.replay import ReplayPerson, StillPerson
from deploy.demo.screen import Lit
from mesh import receipts
from mesh.facts import Factor, Liveness
from mesh.transaction import Purpose
from services.liveness import examiner
from services.liveness.challenge import NONCE_BYTES, Scripts
from services.liveness.examiner import Concluded, Examiner
from services.liveness.model import FrameModel
from services.liveness.policies import Policy
from services.liveness.prompts import Prompt, State, Step
from tests import samples
from tests.bundles import World, digest_of
from tests.liveness.faces import FLASHING, POLICY, SIMPLE, STRICT
from tests.liveness.fakes import Clock, ModelInProcess, Remembering, SessionsInMemory

pytestmark = pytest.mark.model

WORLD = World()
SCRIPTS = Scripts(digest_of("script key"))
SOME = (Prompt.SMILE, Prompt.TURN_RIGHT, Prompt.OPEN_MOUTH)
OTHER = (Prompt.LOOK_DOWN, Prompt.BLINK, Prompt.TURN_LEFT)
Camera = Callable[[Clock], Person]


@pytest.fixture(scope="module")
def remembering(frame_model: FrameModel) -> Remembering:
    """The people of this module are filmed once: most of what each attempt shows, another has shown before."""
    return Remembering(frame_model)


@dataclass
class Ended:
    """How an attempt ended, and what the camera saw of it."""

    state: State
    failure: str
    took_s: float
    filmed: list[Frame]
    concluded: Concluded | None


async def attempt(model: Remembering, prompts: Sequence[Prompt], camera: Camera, policy: Policy = POLICY) -> Ended:
    """Let whoever stands before the camera try these prompts."""
    clock, sessions, sent = Clock(), SessionsInMemory(), WORLD.bundle(Purpose.IDENTIFY)
    nonce = nonce_of(sent.txn, prompts, policy)
    place = Examiner(
        sessions=sessions,
        analyser=ModelInProcess(model),
        scripts=SCRIPTS,
        policies={policy.id: policy},
        signer=lambda: WORLD.signer_of(Factor.LIVENESS),
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
        frames, started_at_ms = await film(person, step)
        filmed += frames
        for first in range(0, len(frames), MOST):
            batch = [examiner.Frame(frame.jpeg, frame.captured_at_ms) for frame in frames[first : first + MOST]]
            step = await place.submit(session, batch, started_at_ms)
    return Ended(
        state=step.state,
        failure=sessions.only().failure,
        took_s=clock.seconds() - begun_s,
        filmed=filmed,
        concluded=await place.conclude(session) if step.state is State.PASSED else None,
    )


async def film(person: Person, step: Step) -> tuple[list[Frame], int]:
    """What the camera sees while the person does what is asked, and when the screen began to show colours."""
    if step.prompt is Prompt.WATCH_COLOURS:
        watched = await person.watch([f"SCREEN_COLOUR_{colour}" for colour in step.colours], step.every_ms)
        return list(watched.frames), watched.started_at_ms
    return list(await person.frames(f"PROMPT_{step.prompt}", BATCH, step.hold_ms)), 0


def nonce_of(txn: bytes, prompts: Sequence[Prompt], policy: Policy) -> bytes:
    """A nonce that makes these prompts the script of an attempt for a transaction."""
    nonces = (number.to_bytes(NONCE_BYTES) for number in itertools.count())
    return next(nonce for nonce in nonces if SCRIPTS.write(txn, nonce, policy).prompts == tuple(prompts))


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

    async def frames(self, prompt: str, count: int, hold_ms: int = 0) -> list[examiner.Frame]:
        shown = range(self._shown, self._shown + count)
        self._shown += count
        await self._clock.sleep(0.1 * count)
        return [examiner.Frame(self._filmed[number % len(self._filmed)].jpeg, 100 * number) for number in shown]

    async def watch(self, colours: Sequence[str], every_ms: int) -> Watched:
        frames = await self.frames(WATCH, every_ms * len(colours) // 100 + 1)
        return Watched(frames, frames[0].captured_at_ms)


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
async def test_sample_woman_passes_whatever_is_asked(remembering: Remembering, prompts: tuple[Prompt, ...]) -> None:
    ended = await attempt(remembering, prompts, herself)
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
    remembering: Remembering, prompts: tuple[Prompt, ...]
) -> None:
    """It answers every prompt, as a replay that is steered does: what it is made of gives it away.

    Asked for more than the least, it fails by that already: a filmed screen blurs what she does.
    """
    ended = await attempt(remembering, prompts, her_on_a_screen, SIMPLE)
    assert (ended.state, ended.failure) == (State.FAILED, "PASSIVE")


async def test_her_photo_is_refused_by_the_first_prompt(remembering: Remembering) -> None:
    ended = await attempt(remembering, SOME, her_photo)
    assert (ended.state, ended.failure) == (State.FAILED, "TIMEOUT")


@pytest.mark.parametrize("prompts", [OTHER, SOME[::-1], (SOME[0], SOME[2], SOME[1])])
async def test_recording_of_one_attempt_does_not_pass_another(
    remembering: Remembering, prompts: tuple[Prompt, ...]
) -> None:
    filmed = await attempt(remembering, SOME, herself)
    assert filmed.state is State.PASSED
    replayed = await attempt(remembering, prompts, lambda clock: Recording(filmed.filmed, clock))
    assert replayed.state is State.FAILED
    assert replayed.failure in {"TIMEOUT", "WRONG_GESTURE"}


# Before a screen that shows colours. Its light on her is calculated: no screen lit these faces.


def lit(how: Lit) -> Camera:
    return lambda clock: SamplePerson(samples.assets_folder(), lit=how, now=clock.seconds, sleep=clock.sleep)


def flash_of(ended: Ended) -> tuple[str, int, int]:
    """What the receipt says of the colours."""
    assert ended.concluded is not None
    facts = receipts.parse(ended.concluded.receipt).facts
    assert isinstance(facts, Liveness)
    return facts.flash, facts.flash_ppm, facts.flash_least_ppm


@pytest.mark.parametrize("prompts", [SOME, OTHER])
async def test_sample_woman_before_the_screen_passes_and_the_receipt_says_that_she_followed(
    remembering: Remembering, prompts: tuple[Prompt, ...]
) -> None:
    ended = await attempt(remembering, prompts, lit(screen.on_her_face), FLASHING)
    assert (ended.state, ended.failure) == (State.PASSED, "")
    outcome, correlation_ppm, least_ppm = flash_of(ended)
    assert (outcome, least_ppm) == ("FOLLOWED", 750_000)
    assert correlation_ppm > 900_000
    assert ended.took_s < 17
    assert ended.concluded is not None
    # One for each prompt, one of the colours, and random ones.
    keyframes = ended.concluded.keyframes
    assert FLASHING.length + 1 < len(keyframes) <= FLASHING.length + 1 + FLASHING.random_keyframes
    assert len(set(keyframes)) == len(keyframes)


async def test_sample_woman_passes_the_strict_policy(remembering: Remembering) -> None:
    as_transactions_name_it = replace(STRICT, id=POLICY.id)
    ended = await attempt(remembering, (*SOME, Prompt.LOOK_DOWN), lit(screen.on_her_face), as_transactions_name_it)
    assert (ended.state, ended.failure) == (State.PASSED, "")
    assert flash_of(ended)[0] == "FOLLOWED"


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        (screen.as_before, "FLASH_NOT_FOLLOWED"),
        (screen.nowhere, "FLASH_NOT_FOLLOWED"),
        (screen.on_everything, "FLASH_BACKGROUND_TOO"),
    ],
    ids=["a recording lit by other colours", "a recording that nothing lights", "a recording tinted as a whole"],
)
async def test_what_the_screen_does_not_light_as_a_face_is_refused(
    remembering: Remembering, how: Lit, failure: str
) -> None:
    """Each does whatever is asked, in the right place and time: only the colours tell it from her."""
    ended = await attempt(remembering, SOME, lit(how), FLASHING)
    assert (ended.state, ended.failure) == (State.FAILED, failure)


async def test_nothing_is_said_of_colours_where_none_are_shown(remembering: Remembering) -> None:
    assert flash_of(await attempt(remembering, SOME, herself)) == ("NOT_SHOWN", 0, 0)
