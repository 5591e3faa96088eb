"""A recorded clip judged as liveness judges a camera: its own sandboxed workers, and its own pure decision.

The one module of the evaluation that knows services.liveness. There is no server, database or clock here: times are the
clip's own.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2

from bench import clips
from bench.clips import Picture
from services.liveness import attempt, passive, policies
from services.liveness.analyser import FrameWorkers, ModelFiles
from services.liveness.attempt import Progress, Seen
from services.liveness.challenge import Scripts
from services.liveness.passive import Gathered, Signal
from services.liveness.policies import Policy
from services.liveness.prompts import State

CAMERA_FPS = 10.0
"""What the product's clients send."""
MAX_FRAMES = 600
"""A minute; what a longer clip holds beyond it is not looked at."""
SIGNALS = tuple(signal.value for signal in Signal)
_BATCH = 4
_JPEG_QUALITY = 92
_CALL_TIMEOUT_S = 60.0
_MODELS = ("face_landmarker.task", "fr_liveness_fused.onnx", "FaceAntiSpoofing.tflite")
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy says of a clip, with or without prompts.

    Scores are 0 to 1; `signals` has those that could be measured. `why` names what refused it, empty when it passed.
    """

    policy: str
    script_free: bool
    passed: bool
    why: str
    score: float
    signals: Mapping[str, float]
    frames: int
    faces: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class _Watched:
    """What the workers saw of a clip: numbers only."""

    seen: Sequence[Seen]
    gathered: Gathered
    unreadable: int


def shipped_policies() -> Sequence[Policy]:
    """Return the policies that the service comes with."""
    return tuple(policies.load(Path(policies.__file__).with_name("policies.toml")).values())


def frame_workers(models: Path, processes: int) -> FrameWorkers:
    """Return the service's workers on the models of a folder, not started yet."""
    return FrameWorkers.of(
        ModelFiles.at(*(models / name for name in _MODELS)),
        processes=processes,
        queue_limit=2 * processes,
        call_timeout_s=_CALL_TIMEOUT_S,
    )


async def judge(
    workers: FrameWorkers, clip: Path, asked: Sequence[Policy], *, seed: int, script_free: Sequence[bool]
) -> list[Outcome]:
    """Judge a clip by each policy. Raises ClipUnreadableError, and FinIdError when a worker cannot answer.

    `script_free`, each of which is answered: by every signal of the camera's picture, without prompts. Otherwise the
    clip is played, round and round, to one fresh script of each policy.
    """
    outcomes = []
    watched_at: dict[tuple[int, int], _Watched] = {}
    for policy in asked:
        sampling = (policy.passive_every_frames, policy.spoof_every_frames)
        if sampling not in watched_at:
            watched_at[sampling] = await _watch(workers, clip, policy, _random_of(clip, seed))
        watched = watched_at[sampling]
        outcomes += [
            _unscripted(watched, policy) if without else _played(watched, policy, clip, seed) for without in script_free
        ]
    return outcomes


async def _watch(workers: FrameWorkers, clip: Path, policy: Policy, rng: random.Random) -> _Watched:
    """Look at a clip's frames in batches, each frame once, models asked as often as the service asks them."""
    seen: list[Seen] = []
    gathered, unreadable, number = Gathered(), 0, 0
    for batch in _batches(clips.at_rate(clips.read(clip), CAMERA_FPS)):
        pictures = [picture for picture in batch if picture is not None]
        unreadable += len(batch) - len(pictures)
        if not pictures:
            continue
        every = policy.passive_every_frames
        due = passive.spoof_is_due(gathered, policy.spoof_every_frames)
        spoof_at = rng.randrange(len(pictures)) if due else None
        passive_at = {
            start + rng.randrange(min(every, len(pictures) - start)) for start in range(0, len(pictures), every)
        }
        observed = await workers.observe(
            [_jpeg(picture) for picture in pictures],
            passive=[index in passive_at for index in range(len(pictures))],
            spoof=[index == spoof_at for index in range(len(pictures))],
        )
        looked_at = [
            Seen(picture.at_ms, observation)
            for picture, observation in zip(pictures, observed, strict=True)
            if observation is not None
        ]
        unreadable += len(pictures) - len(looked_at)
        gathered = passive.gather(gathered, [(one.captured_at_ms, one.observation) for one in looked_at])
        seen += looked_at
        number += len(batch)
        if number >= MAX_FRAMES:
            break
    return _Watched(seen, gathered, unreadable)


def _unscripted(watched: _Watched, policy: Policy) -> Outcome:
    verdict = passive.judge(watched.gathered, policy.passive_rules)
    if verdict.passed:
        why = ""
    elif len(watched.gathered.live) < policy.passive_min_frames:
        why = "too few faces"
    else:
        why = " ".join(signal.value for signal in verdict.failed) or "all signals together"
    return _outcome(watched, watched.gathered, policy, why, script_free=True)


def _played(watched: _Watched, policy: Policy, clip: Path, seed: int) -> Outcome:
    """Play the clip to the product's own state machine until the attempt has ended; it always ends, by its windows."""
    rng = _random_of(clip, seed)
    script = Scripts(rng.randbytes(32)).write(rng.randbytes(32), rng.randbytes(16), policy)
    if not watched.seen:
        return _outcome(watched, watched.gathered, policy, "too few faces")
    round_ms = watched.seen[-1].captured_at_ms + round(1000 / CAMERA_FPS)
    progress = Progress()
    for turn in count():
        for start in range(0, len(watched.seen), _BATCH):
            batch = [
                Seen(turn * round_ms + one.captured_at_ms, one.observation)
                for one in watched.seen[start : start + _BATCH]
            ]
            now_ms = batch[-1].captured_at_ms
            if attempt.window_left_ms(progress, script, policy, now_ms) == 0:
                return _outcome(watched, progress.gathered, policy, "TIMEOUT")
            advanced = attempt.advance(progress, script, policy, batch, now_ms)
            progress = advanced.progress
            if advanced.state is not State.RUNNING:
                why = advanced.failure.value if advanced.failure else ""
                return _outcome(watched, progress.gathered, policy, why)
    raise AssertionError("an attempt ends")


def _outcome(watched: _Watched, gathered: Gathered, policy: Policy, why: str, *, script_free: bool = False) -> Outcome:
    verdict = passive.judge(gathered, policy.passive_rules)
    return Outcome(
        policy=policy.id,
        script_free=script_free,
        passed=not why,
        why=why,
        score=verdict.score_ppm / _PPM,
        signals={signal.value: score_ppm / _PPM for signal, score_ppm in verdict.signals_ppm.items()},
        frames=len(watched.seen),
        faces=sum(one.observation.face is not None for one in watched.seen),
        unreadable=watched.unreadable,
    )


def _batches(pictures: Iterable[Picture | None]) -> Iterable[list[Picture | None]]:
    batch: list[Picture | None] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _jpeg(picture: Picture) -> bytes:
    return bytes(cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


def _random_of(clip: Path, seed: int) -> random.Random:
    """The choices of one clip: the same whatever else is judged, and wherever the clip lies."""
    name = f"{seed}/{clip.parent.name}/{clip.name}"
    return random.Random(hashlib.sha256(name.encode()).digest())
