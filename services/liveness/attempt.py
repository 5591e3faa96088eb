"""One attempt as a pure state machine: frames in, what to do next out. No clock, no store, no model.

First the person's own neutral face is learnt, then each prompt is judged against it, in order, within its window of
server time. A gesture counts only from rest to done, without a break, within its own window: nothing done before it was
asked for answers it, and no cut between two recordings does. Another gesture that would have counted, had it been asked
for, fails the attempt: otherwise a recording of all gestures, shown again and again, would answer every prompt. So does
the right one once more than it was asked for, in the window of the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.liveness import frame_times, gestures, passive
from services.liveness.challenge import Script
from services.liveness.frame_times import DeviceClock
from services.liveness.gestures import AT_REST, DONE, Baseline
from services.liveness.injection import Traces
from services.liveness.observation import Box, Face, Observation
from services.liveness.passive import Fingerprint, Gathered, Verdict
from services.liveness.policies import Framing, Policy
from services.liveness.prompts import Hint, Move, Prompt, State
from services.liveness.quality import quality_of

_PPM = 1_000_000
_FULL_PERCENT = 100
# A face that leaps by more than this share of its size, or grows by more than this factor, within this time is a cut. A
# quick head moves by half its width in it.
_LEAP_WITHIN_MS = 200
_LEAP_SHARE = 0.75
_LEAP_FACTOR = 1.6
# Frames stop while a device waits for an answer; longer than this, and anything may have happened between.
_MAX_GAP_MS = 1500
_MAX_BLINK_MS = 1000
# Nobody can help blinking.
_NEVER_WRONG = frozenset({Prompt.BLINK})


class Failure(StrEnum):
    """Why an attempt failed: for operators; callers are not told, because it would teach an attacker."""

    TIMEOUT = "TIMEOUT"
    WRONG_GESTURE = "WRONG_GESTURE"
    PASSIVE = "PASSIVE"


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame: when the device says that it was captured (milliseconds of its own clock), and what it shows."""

    captured_at_ms: int
    observation: Observation


@dataclass(frozen=True, slots=True)
class Progress:
    """What later frames are judged by. `*_ms` of the server count from the start of the attempt.

    `index` is 0 for the neutral face, then 1 for the first prompt and so on. `clock` is what is known of the device's,
    `traces` what its encoder left.
    `rested` are the gestures seen at rest in this window. The asked one has been done `times_done` times; it is being
    done for `held` frames, since `held_since_ms` of the device's clock, `peak` far; others since `wrong_since_ms`.
    """

    index: int = 0
    shown_at_ms: int = 0
    clock: DeviceClock = field(default_factory=DeviceClock)
    traces: Traces = field(default_factory=Traces)
    last_face: tuple[int, Box] | None = None
    neutral: tuple[Face, ...] = ()
    baseline: Baseline | None = None
    rested: frozenset[Prompt] = frozenset()
    times_done: int = 0
    held: int = 0
    held_since_ms: int = 0
    peak: float = 0.0
    wrong_since_ms: int | None = None
    peaks: tuple[float, ...] = ()
    random_keyframes: int = 0
    gathered: Gathered = field(default_factory=Gathered)
    verdict: Verdict | None = None

    @property
    def passive_ppm(self) -> int:
        """The clip's passive score, in millionths; 0 until it is judged, which is after the last prompt."""
        return self.verdict.score_ppm if self.verdict else 0

    @property
    def prompts_ppm(self) -> int:
        """How clearly the least clear prompt was answered: half a million just enough, a million twice that."""
        return round(min(1.0, min(self.peaks) / 2) * _PPM) if self.peaks else 0


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch has changed. `keyframe` is the position in the batch of the frame that shows the answered prompt."""

    progress: Progress
    state: State
    hint: Hint = Hint.UNSPECIFIED
    failure: Failure | None = None
    keyframe: int | None = None


def move_of(progress: Progress, script: Script) -> Move | None:
    """Return what is asked now and how, None for the neutral face."""
    return script.moves[progress.index - 1] if progress.index else None


def window_ms(progress: Progress, script: Script, policy: Policy) -> int:
    """Return how long the window of the present prompt is."""
    move = move_of(progress, script)
    return move.window_ms if move else policy.neutral_window_ms


def window_left_ms(progress: Progress, script: Script, policy: Policy, now_ms: int) -> int:
    """Return how long the window of the present prompt still is, 0 when it is over."""
    return max(0, progress.shown_at_ms + window_ms(progress, script, policy) - now_ms)


def check_times(progress: Progress, captured_at_ms: Sequence[int], now_ms: int) -> Progress:
    """Return the progress with the batch's times taken in. Raises FrameTimesError for times that no camera has."""
    clock = frame_times.check(progress.clock, captured_at_ms, now_ms=now_ms, shown_at_ms=progress.shown_at_ms)
    return replace(progress, clock=clock)


def advance(
    progress: Progress,
    script: Script,
    policy: Policy,
    batch: Sequence[Seen],
    now_ms: int,
    earlier: Sequence[Fingerprint] = (),
) -> Advance:
    """Judge a batch that came in time. What a batch holds beyond an answered prompt was not an answer to the next.

    `earlier` are the fingerprints of the person's other attempts, needed for the last prompt's batches.
    """
    seen_at = [(seen.captured_at_ms, seen.observation) for seen in batch]
    progress = replace(progress, gathered=passive.gather(progress.gathered, seen_at))
    framing = policy.framing if progress.index else policy.calm_framing
    for position, seen in enumerate(batch):
        face = seen.observation.face
        if face is None or framing_hint(seen.observation, framing) is not Hint.UNSPECIFIED:
            progress = _interrupted(progress)
            continue
        if _is_break(progress, seen.captured_at_ms, face.box):
            progress = _interrupted(progress)
        progress = replace(progress, last_face=(seen.captured_at_ms, face.box))
        baseline = progress.baseline
        if baseline is None:
            progress = _learn(progress, policy, face)
            if progress.baseline is not None:
                return Advance(_next_prompt(progress, now_ms), State.RUNNING)
            continue
        move = script.moves[progress.index - 1]
        progress, answered = _judge(progress, baseline, move, policy, seen.captured_at_ms, face)
        if answered:
            keyframe = _keyframe(progress, baseline, batch, position)
            return _answered(progress, script, policy, keyframe, now_ms, earlier)
        if progress.wrong_since_ms is not None and seen.captured_at_ms - progress.wrong_since_ms >= policy.hold_ms:
            return _failed(progress, Failure.WRONG_GESTURE)
    return Advance(progress, State.RUNNING, hint=_hint(progress, script, policy, batch[-1].observation, now_ms))


def framing_hint(observation: Observation, framing: Framing) -> Hint:
    """Return why a frame cannot be judged, UNSPECIFIED when it can."""
    face = observation.face
    if face is None:
        return Hint.SEVERAL_FACES if observation.faces else Hint.NO_FACE
    rules = (
        (Hint.COME_CLOSER, face.box.height < framing.min_face),
        (Hint.MOVE_BACK, face.box.height > framing.max_face),
        (Hint.FACE_NOT_WHOLE, not face.box.is_whole),
        (Hint.TOO_DARK, face.luma < framing.min_luma),
        (Hint.TOO_BRIGHT, face.luma > framing.max_luma),
    )
    return next((hint for hint, holds in rules if holds), Hint.UNSPECIFIED)


def _learn(progress: Progress, policy: Policy, face: Face) -> Progress:
    neutral = (*progress.neutral, face)[-policy.neutral_frames :]
    baseline = gestures.baseline_of(neutral) if len(neutral) == policy.neutral_frames else None
    return replace(progress, neutral=() if baseline else neutral, baseline=baseline)


def _judge(
    progress: Progress, baseline: Baseline, move: Move, policy: Policy, time_ms: int, face: Face
) -> tuple[Progress, bool]:
    """Take in one frame of a prompt's window; say whether the prompt is answered with it."""
    asked = move.prompt
    reached = gestures.amplitudes(baseline, face, policy.amplitudes)
    reach = reached[asked] * _FULL_PERCENT / move.reach_percent
    done = reach >= DONE and asked in progress.rested
    # What this policy never asks for is in no recording of its attempts, and people do it in passing.
    others = [p for p in (progress.rested & frozenset(policy.prompts)) - _NEVER_WRONG - {asked} if reached[p] >= DONE]
    wrong_since_ms = progress.wrong_since_ms if progress.wrong_since_ms is not None else time_ms
    rested = progress.rested | {prompt for prompt, amplitude in reached.items() if amplitude < AT_REST}
    held_since_ms = progress.held_since_ms if progress.held else time_ms
    if asked is not Prompt.BLINK:
        held = progress.held + 1 if done else 0
        finished = done and time_ms - held_since_ms >= move.hold_ms
    elif time_ms - held_since_ms > _MAX_BLINK_MS:
        # Closed eyes are no blink: they must open first.
        held, finished, rested = 0, False, rested - {Prompt.BLINK}
    else:
        held = progress.held + int(done)
        finished = progress.held > 0 and reached[asked] < AT_REST
    times_done = progress.times_done + int(finished)
    answered = times_done == move.times
    if finished and not answered:
        # Once more, from rest again. Open eyes are at rest already.
        held, rested = 0, rested if asked is Prompt.BLINK else rested - {asked}
    return (
        replace(
            progress,
            rested=rested,
            times_done=times_done,
            held=held,
            held_since_ms=held_since_ms,
            peak=max(progress.peak, reach) if held or finished else progress.peak,
            wrong_since_ms=wrong_since_ms if others and reached[asked] < DONE else None,
        ),
        answered,
    )


def _answered(
    progress: Progress,
    script: Script,
    policy: Policy,
    keyframe: int,
    now_ms: int,
    earlier: Sequence[Fingerprint],
) -> Advance:
    progress = _next_prompt(replace(progress, peaks=(*progress.peaks, progress.peak)), now_ms)
    if progress.index <= len(script.moves):
        return Advance(progress, State.RUNNING, keyframe=keyframe)
    verdict = passive.judge(progress.gathered, policy.passive_rules, earlier)
    progress = replace(progress, verdict=verdict)
    if not verdict.passed:
        return _failed(progress, Failure.PASSIVE)
    return Advance(progress, State.PASSED, keyframe=keyframe)


def _keyframe(progress: Progress, baseline: Baseline, batch: Sequence[Seen], position: int) -> int:
    """Of the frames of this batch that show the answer, the one of the best quality, for the face match."""
    quality = {}
    for index in range(max(0, position - progress.held + 1), position + 1):
        face = batch[index].observation.face
        if face is not None:
            quality[index] = quality_of(face, baseline).together
    return max(quality, key=lambda index: quality[index])


def random_keyframe(
    progress: Progress, policy: Policy, batch: Sequence[Seen], pick: Callable[[int], int]
) -> int | None:
    """The position in the batch of a frame kept for the face match because chance has chosen it, if any.

    About one batch in every `random_keyframe_batches` gives one, up to `random_keyframes`: whoever holds up another's
    picture for the prompts cannot know when else they are looked at. For certain there is one of how the attempt began,
    and the last batch gives one when none did before.
    """
    baseline = progress.baseline
    if baseline is None or progress.random_keyframes >= policy.random_keyframes:
        return None
    needed = not progress.random_keyframes and not 1 < progress.index <= policy.length
    if pick(policy.random_keyframe_batches) and not needed:
        return None
    good = [
        index
        for index, seen in enumerate(batch)
        if framing_hint(seen.observation, policy.framing) is Hint.UNSPECIFIED
        and seen.observation.face is not None
        and quality_of(seen.observation.face, baseline).is_good
    ]
    return good[pick(len(good))] if good else None


def _next_prompt(progress: Progress, now_ms: int) -> Progress:
    return replace(
        progress,
        index=progress.index + 1,
        shown_at_ms=now_ms,
        rested=frozenset(),
        times_done=0,
        held=0,
        peak=0.0,
        wrong_since_ms=None,
    )


def _interrupted(progress: Progress) -> Progress:
    """After a frame without a face, with several, a bad one, or a break, the gesture begins from rest again."""
    return replace(progress, last_face=None, neutral=(), rested=frozenset(), held=0, wrong_since_ms=None)


def _is_break(progress: Progress, time_ms: int, box: Box) -> bool:
    """Whether a face is not known to be the one of the frame before: too much time has passed, or it leapt."""
    if progress.last_face is None:
        return False
    last_ms, last = progress.last_face
    if time_ms - last_ms > _LEAP_WITHIN_MS:
        return time_ms - last_ms > _MAX_GAP_MS
    across = abs(box.left + box.width / 2 - last.left - last.width / 2) / last.width
    down = abs(box.top + box.height / 2 - last.top - last.height / 2) / last.height
    factor = max(box.height / last.height, last.height / box.height)
    return across > _LEAP_SHARE or down > _LEAP_SHARE or factor > _LEAP_FACTOR


def _failed(progress: Progress, failure: Failure) -> Advance:
    return Advance(progress, State.FAILED, failure=failure)


def _hint(progress: Progress, script: Script, policy: Policy, last: Observation, now_ms: int) -> Hint:
    framing = framing_hint(last, policy.framing if progress.index else policy.calm_framing)
    if framing is not Hint.UNSPECIFIED:
        return framing
    if progress.index == 0:
        return Hint.HOLD_STILL if len(progress.neutral) == policy.neutral_frames else Hint.UNSPECIFIED
    late = window_left_ms(progress, script, policy, now_ms) < window_ms(progress, script, policy) / 2
    return Hint.DO_THE_PROMPT if late else Hint.UNSPECIFIED
