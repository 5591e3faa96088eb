"""One attempt as a pure state machine: frames in, what to do next out. No clock, no store, no model.

First the person's own neutral face is learnt, then each prompt is judged against it, in order, within its window of
server time. A gesture counts only from rest to done, without a break, within its own window: nothing done before it was
asked for answers it, and no cut between two recordings does. Another gesture that would have counted, had it been asked
for, fails the attempt: otherwise a recording of all gestures, shown again and again, would answer every prompt. So does
the right one once more than it was asked for, in the window of the next.

Where the policy asks for it, the screen then shows colours, which the face must reflect. Here too a face that is lost
or leaps begins anew, with other colours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.liveness import flash, frame_times, gestures, passive
from services.liveness.challenge import Script
from services.liveness.flash import Outcome, Sample
from services.liveness.frame_times import DeviceClock
from services.liveness.gestures import AT_REST, DONE, Baseline
from services.liveness.injection import Traces
from services.liveness.observation import Box, Face, Observation
from services.liveness.passive import Fingerprint, Gathered, Verdict
from services.liveness.policies import BrightLight, Flash, Framing, Policy
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
# What colours are read from: how bright the face is is theirs to judge.
_WELL_FRAMED = frozenset({Hint.UNSPECIFIED, Hint.TOO_DARK, Hint.TOO_BRIGHT})


class Failure(StrEnum):
    """Why an attempt failed: for operators; callers are not told, because it would teach an attacker."""

    TIMEOUT = "TIMEOUT"
    WRONG_GESTURE = "WRONG_GESTURE"
    PASSIVE = "PASSIVE"
    FLASH_NOT_FOLLOWED = "FLASH_NOT_FOLLOWED"
    FLASH_BACKGROUND_TOO = "FLASH_BACKGROUND_TOO"
    FLASH_TOO_BRIGHT = "FLASH_TOO_BRIGHT"
    FLASH_TOO_FEW = "FLASH_TOO_FEW"


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame: when the device says that it was captured (milliseconds of its own clock), and what it shows."""

    captured_at_ms: int
    observation: Observation


@dataclass(frozen=True, slots=True)
class Colours:
    """What has been seen of the round of colours that is shown.

    `round` counts from 0. `started_at_ms` is the device's time of the first colour, None until it is said. `broken`:
    the face was not there throughout. `faces` are those of which a keyframe is drawn.
    """

    round: int = 0
    started_at_ms: int | None = None
    samples: tuple[Sample, ...] = ()
    broken: bool = False
    faces: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What later frames are judged by. `*_ms` of the server count from the start of the attempt.

    `index` is 0 for the neutral face, then 1 for the first prompt and so on; colours come after the last. `clock` is
    what is known of the device's, `traces` what its encoder left.
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
    colours: Colours | None = None
    flashed: flash.Verdict | None = None

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
    """What a batch has changed. `keyframe` is the position in the batch of the frame that shows the answered prompt.

    `lit` are positions of faces that the round's colours were shown to, `lit_before` how many came before them.
    """

    progress: Progress
    state: State
    hint: Hint = Hint.UNSPECIFIED
    failure: Failure | None = None
    keyframe: int | None = None
    lit: tuple[int, ...] = ()
    lit_before: int = 0


def move_of(progress: Progress, script: Script) -> Move | None:
    """Return what is asked now and how, None for the neutral face and while colours are shown."""
    return script.moves[progress.index - 1] if 0 < progress.index <= len(script.moves) else None


def window_ms(progress: Progress, script: Script, policy: Policy) -> int:
    """Return how long the window of the present prompt is."""
    if progress.colours is not None and policy.flash is not None:
        return policy.flash.window_ms
    move = move_of(progress, script)
    return move.window_ms if move else policy.neutral_window_ms


def window_left_ms(progress: Progress, script: Script, policy: Policy, now_ms: int) -> int:
    """Return how long the window of the present prompt still is, 0 when it is over."""
    return max(0, progress.shown_at_ms + window_ms(progress, script, policy) - now_ms)


def check_times(progress: Progress, captured_at_ms: Sequence[int], now_ms: int) -> Progress:
    """Return the progress with the batch's times taken in. Raises FrameTimesError for times that no camera has."""
    clock = frame_times.check(progress.clock, captured_at_ms, now_ms=now_ms, shown_at_ms=progress.shown_at_ms)
    return replace(progress, clock=clock)


def check_start(progress: Progress, policy: Policy, started_at_ms: int) -> Progress:
    """Return the progress with the device's time of the first colour taken in, while colours are shown.

    Raises FlashStartError for a time that cannot be.
    """
    if progress.colours is None or policy.flash is None:
        return progress
    frame_times.check_start(
        progress.clock,
        started_at_ms,
        progress.colours.started_at_ms,
        shown_at_ms=progress.shown_at_ms,
        within_ms=policy.flash.start_within_ms,
    )
    return replace(progress, colours=replace(progress.colours, started_at_ms=started_at_ms))


def advance(
    progress: Progress,
    script: Script,
    policy: Policy,
    batch: Sequence[Seen],
    now_ms: int,
    earlier: Sequence[Fingerprint] = (),
) -> Advance:
    """Judge a batch that came in time. What a batch holds beyond an answered prompt was not an answer to the next.

    `earlier` are the fingerprints of the person's other attempts, needed from the last prompt on.
    """
    if progress.colours is not None and policy.flash is not None:
        return _watch(progress, progress.colours, script, policy, policy.flash, batch, now_ms, earlier)
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
    ended = _ended(progress, policy, earlier)
    if ended.failure or not script.flashes:
        return replace(ended, keyframe=None if ended.failure else keyframe)
    return Advance(replace(progress, colours=Colours()), State.RUNNING, keyframe=keyframe)


def _ended(progress: Progress, policy: Policy, earlier: Sequence[Fingerprint]) -> Advance:
    """Judge the clip: the end of an attempt in which everything asked for was done."""
    verdict = passive.judge(progress.gathered, policy.passive_rules, earlier)
    progress = replace(progress, verdict=verdict)
    return Advance(progress, State.PASSED) if verdict.passed else _failed(progress, Failure.PASSIVE)


def _watch(
    progress: Progress,
    colours: Colours,
    script: Script,
    policy: Policy,
    asked: Flash,
    batch: Sequence[Seen],
    now_ms: int,
    earlier: Sequence[Fingerprint],
) -> Advance:
    """Take in frames of the time in which colours are shown; judge them with the first one that is later."""
    started_at_ms = colours.started_at_ms
    if started_at_ms is None:
        raise ValueError("check_start comes first")
    last_ms = asked.length_ms + flash.LATEST_MS
    progress = replace(progress, gathered=passive.gather(progress.gathered, _unlit(progress.gathered, batch)))
    lit_before, lit = colours.faces, _lit_faces(progress, policy, batch, range(started_at_ms, started_at_ms + last_ms))
    colours = replace(colours, faces=lit_before + len(lit))
    for seen in batch:
        at_ms = seen.captured_at_ms - started_at_ms
        face = seen.observation.face
        if face is None or framing_hint(seen.observation, policy.framing) not in _WELL_FRAMED:
            progress = _interrupted(progress)
            colours = replace(colours, broken=colours.broken or 0 <= at_ms < last_ms)
            continue
        leapt = _is_break(progress, seen.captured_at_ms, face.box)
        progress = replace(progress, last_face=(seen.captured_at_ms, face.box))
        colours = replace(colours, broken=colours.broken or (leapt and bool(colours.samples)))
        if 0 <= at_ms < last_ms and face.light is not None and face.light.beside is not None:
            sample = Sample(at_ms, face.light.skin, face.light.beside)
            colours = replace(colours, samples=(*colours.samples, sample))
    progress = replace(progress, colours=colours)
    hint = framing_hint(batch[-1].observation, policy.framing)
    if batch[-1].captured_at_ms - started_at_ms < last_ms:
        return Advance(progress, State.RUNNING, hint=hint, lit=lit, lit_before=lit_before)
    shown = script.flashes[colours.round]
    verdict = flash.judge(shown, asked.every_ms, () if colours.broken else colours.samples, asked.least_ppm)
    progress = replace(progress, flashed=verdict)
    if verdict.outcome is Outcome.TOO_FEW and colours.round + 1 < len(script.flashes):
        again = replace(progress, shown_at_ms=now_ms, colours=Colours(colours.round + 1), flashed=None)
        return Advance(again, State.RUNNING, hint=Hint.HOLD_STILL if hint is Hint.UNSPECIFIED else hint)
    bright = verdict.outcome is Outcome.TOO_BRIGHT
    if verdict.outcome is Outcome.FOLLOWED or (bright and asked.in_bright_light is BrightLight.PASSES):
        return replace(_ended(progress, policy, earlier), lit=lit, lit_before=lit_before)
    failed = _failed(progress, Failure(f"FLASH_{verdict.outcome}"))
    return replace(failed, hint=Hint.TOO_BRIGHT) if bright else failed


def _unlit(gathered: Gathered, batch: Sequence[Seen]) -> list[tuple[int, Observation]]:
    """The batch for the passive signals: the screen's light on what is around the face is no cut between scenes."""
    seen_at: list[tuple[int, Observation]] = []
    for seen in batch:
        face = seen.observation.face
        if face is not None and gathered.last is not None:
            face = replace(face, traces=replace(face.traces, tone=gathered.last[1]))
        seen_at.append((seen.captured_at_ms, replace(seen.observation, face=face)))
    return seen_at


def lit_keyframe(advanced: Advance, pick: Callable[[int], int]) -> int | None:
    """The position in the batch of the frame that is kept for the face match of those that colours were shown to.

    Each of the round's faces is as likely, in whichever batch it came: a later batch takes the place of an earlier
    one's by as much as it has of all faces so far.
    """
    if not advanced.lit or advanced.state is State.FAILED:
        return None
    chosen = pick(advanced.lit_before + len(advanced.lit)) - advanced.lit_before
    return advanced.lit[chosen] if chosen >= 0 else None


def _lit_faces(progress: Progress, policy: Policy, batch: Sequence[Seen], shown_ms: range) -> tuple[int, ...]:
    """Positions of the faces that can be matched; of all, when a quarter cannot, so that nobody hides in bad frames."""
    faces = [n for n, seen in enumerate(batch) if seen.observation.face is not None and seen.captured_at_ms in shown_ms]
    good = [index for index in _good(progress, policy, batch) if index in faces]
    return tuple(good if 4 * len(good) >= 3 * len(faces) else faces)


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
    good = _good(progress, policy, batch)
    return good[pick(len(good))] if good else None


def _good(progress: Progress, policy: Policy, batch: Sequence[Seen]) -> list[int]:
    """Positions of the frames of which a match can be expected."""
    return [
        index
        for index, seen in enumerate(batch)
        if framing_hint(seen.observation, policy.framing) is Hint.UNSPECIFIED
        and seen.observation.face is not None
        and progress.baseline is not None
        and quality_of(seen.observation.face, progress.baseline).is_good
    ]


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
