"""What liveness's real models see of the sample woman, of her replay and of her photo: segments, and whole attempts."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio

import services.liveness
from deploy.demo.camera import BATCH, Person
from deploy.demo.clip import Segment, load_clip, load_cut
from deploy.demo.person import SamplePerson
from deploy.demo.replay import ReplayPerson, StillPerson
from services.liveness import attempt, passive, policies
from services.liveness.analyser import FrameWorkers, ModelFiles
from services.liveness.attempt import Advance, Failure, Progress, Seen
from services.liveness.challenge import Script
from services.liveness.observation import Face
from services.liveness.policies import Policy
from services.liveness.prompts import GESTURES, Move, Prompt, State
from tests import samples
from tests.demo.clock import Clock
from tests.liveness.faces import POLICY, script_of

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

ROUND_TRIP_S = 0.12
SEGMENTS = [
    (segment, mirrored) for some in load_cut().segments.values() for segment in some for mirrored in (False, True)
]
# Together every gesture, after every other kind of gesture, and both ways round a change of sides.
SCRIPTS = [
    (Prompt.TURN_LEFT, Prompt.SMILE, Prompt.TURN_RIGHT),
    (Prompt.BLINK, Prompt.TURN_LEFT, Prompt.LOOK_DOWN),
    (Prompt.OPEN_MOUTH, Prompt.LOOK_DOWN, Prompt.TURN_LEFT),
    (Prompt.SMILE, Prompt.OPEN_MOUTH, Prompt.BLINK),
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return samples.assets_folder()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policies.load(Path(services.liveness.__path__[0]) / "policies.toml")["sandbox-standard"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def workers(folder: Path) -> AsyncIterator[FrameWorkers]:
    models = ModelFiles.at(
        folder / "models" / "face_landmarker.task",
        folder / "models" / "fr_liveness_fused.onnx",
        folder / "models" / "FaceAntiSpoofing.tflite",
    )
    made = FrameWorkers.of(models, processes=1, queue_limit=4, call_timeout_s=60.0)
    async with made.pool:
        yield made


async def faces_of(workers: FrameWorkers, pictures: Sequence[bytes]) -> list[Face]:
    observations = await workers.observe(pictures, passive=[False] * len(pictures), spoof=[False] * len(pictures))
    faces = [observation.face for observation in observations if observation is not None]
    return [face for face in faces if face is not None]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def calm(workers: FrameWorkers, folder: Path) -> Face:
    """Her calm face as filmed; yaw, pitch, smile, eyes and mouth are medians."""
    clip = load_clip(folder)
    faces = await faces_of(workers, [clip.jpegs[n, False] for n in clip.segments["NEUTRAL"][0].frames])
    middle = {
        name: median(getattr(face, name) for face in faces) for name in ("yaw", "pitch", "smile", "eyes", "mouth")
    }
    return replace(faces[0], **middle, roll=0.0, luma=0.0, live=None)


def carries(gesture: str, *, mirrored: bool, calm: Face, faces: Sequence[Face]) -> bool:
    """Whether the faces differ from the calm one as segments.toml says."""
    side = 1 if mirrored else -1
    match gesture:
        case "NEUTRAL":
            return all(abs(face.yaw - calm.yaw) < 4 and abs(face.pitch - calm.pitch) < 2 for face in faces) and all(
                abs(face.smile - calm.smile) < 0.1 and abs(face.eyes - calm.eyes) < 0.05 for face in faces
            )
        case "SMILE":
            return all(face.smile - calm.smile > 0.2 for face in faces)
        case "BLINK":
            eyes = [face.eyes - calm.eyes for face in faces]
            return eyes[0] > -0.05 and min(eyes) < -0.14 and eyes[-1] > -0.1
        case "OPEN_MOUTH":
            return all(face.mouth - calm.mouth > 0.06 and face.smile < calm.smile for face in faces)
        case "LOOK_DOWN":
            return all(face.pitch - calm.pitch > 6.5 for face in faces)
        case _:
            return all(side * (face.yaw - calm.yaw) > 10 for face in faces)


@pytest.mark.parametrize(
    ("segment", "mirrored"),
    SEGMENTS,
    ids=[f"{segment.gesture}-{segment.first}{'-mirrored' * mirrored}" for segment, mirrored in SEGMENTS],
)
async def test_a_segment_shows_its_gesture(
    workers: FrameWorkers, folder: Path, calm: Face, segment: Segment, mirrored: bool
) -> None:
    clip = load_clip(folder)
    faces = await faces_of(workers, [clip.jpegs[number, mirrored] for number in segment.frames])
    assert len(faces) == len(segment.frames)
    assert all(face.box.is_whole for face in faces)
    assert carries(segment.gesture, mirrored=mirrored, calm=calm, faces=faces)


async def attempted(
    person: Person, clock: Clock, workers: FrameWorkers, policy: Policy, script: Script
) -> tuple[Advance, int]:
    """Answer a script as the device does, at an examiner without a store; return the end and its time in ms."""
    started_s = clock.now()
    progress = Progress()
    while True:
        move = attempt.move_of(progress, script)
        frames = await person.frames(f"PROMPT_{move.prompt if move else Prompt.NEUTRAL}", BATCH)
        clock.now_s += ROUND_TRIP_S
        now_ms = round((clock.now() - started_s) * 1000)
        if attempt.window_left_ms(progress, script, policy, now_ms) == 0:
            return Advance(progress, State.FAILED, failure=Failure.TIMEOUT), now_ms
        progress = attempt.check_times(progress, [frame.captured_at_ms for frame in frames], now_ms)
        asked = [index % policy.passive_every_frames == 0 for index in range(len(frames))]
        due = passive.spoof_is_due(progress.gathered, policy.spoof_every_frames)
        observations = await workers.observe(
            [frame.jpeg for frame in frames], passive=asked, spoof=[due, *[False] * (len(frames) - 1)]
        )
        seen = [
            Seen(frame.captured_at_ms, observation)
            for frame, observation in zip(frames, observations, strict=True)
            if observation is not None
        ]
        advance = attempt.advance(progress, script, policy, seen, now_ms)
        if advance.state is not State.RUNNING:
            return advance, now_ms
        progress = advance.progress


def asked(*prompts: Prompt) -> Script:
    """The most that the sandbox asks of her: each of these as often, as long and as far as it goes."""
    variety = POLICY.variety
    return Script(
        "script",
        tuple(
            Move(
                prompt,
                times=(variety.blinks if prompt is Prompt.BLINK else variety.times)[-1],
                hold_ms=0 if prompt is Prompt.BLINK else variety.holds_ms[-1],
                reach_percent=variety.reaches_percent[-1],
                window_ms=variety.windows_ms[0],
            )
            for prompt in prompts
        ),
    )


@pytest.mark.parametrize("prompts", SCRIPTS, ids=" ".join)
async def test_she_passes(workers: FrameWorkers, folder: Path, policy: Policy, prompts: tuple[Prompt, ...]) -> None:
    clock = Clock()
    woman = SamplePerson(folder, now=clock.now, sleep=clock.sleep)
    end, took_ms = await attempted(woman, clock, workers, policy, asked(*prompts))
    assert (end.state, end.failure) == (State.PASSED, None)
    assert took_ms < 20_000


@pytest.mark.parametrize("prompts", SCRIPTS, ids=" ".join)
async def test_her_replay_does_what_is_asked_and_is_taken_for_a_screen(
    workers: FrameWorkers, folder: Path, policy: Policy, prompts: tuple[Prompt, ...]
) -> None:
    clock = Clock()
    replay = ReplayPerson(folder, now=clock.now, sleep=clock.sleep)
    # Asked for more than the least, it fails by that already: a filmed screen blurs what she does.
    end, _ = await attempted(replay, clock, workers, policy, script_of(*prompts))
    assert (end.state, end.failure) == (State.FAILED, Failure.PASSIVE)
    assert len(end.progress.peaks) == len(prompts)


@pytest.mark.parametrize("prompt", GESTURES)
async def test_her_photo_answers_nothing(workers: FrameWorkers, folder: Path, policy: Policy, prompt: Prompt) -> None:
    clock = Clock()
    photo = StillPerson(folder, now=clock.now, sleep=clock.sleep)
    end, _ = await attempted(photo, clock, workers, policy, asked(prompt))
    assert (end.state, end.failure) == (State.FAILED, Failure.TIMEOUT)
    assert end.progress.peaks == ()
