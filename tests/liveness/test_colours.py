"""The rules of the colours after the last prompt: when they begin, who passes, who fails, what is shown once more."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.transaction import Channel
from services.liveness import attempt, challenge
from services.liveness.attempt import Advance, Colours, Failure, Progress, Seen, advance
from services.liveness.challenge import Scripts
from services.liveness.errors import FlashStartError
from services.liveness.flash import LATEST_MS, RGB_OF, Colour, Outcome, Rgb
from services.liveness.frame_times import DeviceClock
from services.liveness.observation import Face, Light, Observation
from services.liveness.policies import BrightLight, Flash, Policy
from services.liveness.prompts import Hint, Prompt, State
from services.liveness.session import from_json, to_json
from tests.bundles import digest_of
from tests.liveness.faces import FLASHING, NEUTRAL, NOBODY, SEVERAL, STRICT, answer, breathing, script_of

SCRIPTS = Scripts(digest_of("script key"))
FLASH = FLASHING.flash
assert FLASH is not None
EVERY_MS, LENGTH_MS = FLASH.every_ms, FLASH.length_ms
PROMPTS = (Prompt.SMILE, Prompt.TURN_LEFT, Prompt.LOOK_DOWN)
FRAME_MS = 66
START_MS = 90
SKIN: Rgb = (150.0, 115.0, 100.0)
WALL: Rgb = (120.0, 122.0, 118.0)

Lit = Callable[[Colour | None, int], Face | Observation]
"""A face while a colour is shown, None before and after; the second is the frame's number."""


def brighter(surface: Rgb, colour: Colour | None, share: float) -> Rgb:
    light = RGB_OF[colour] if colour else (0.0, 0.0, 0.0)
    red, green, blue = (min(255.0, own + share * more) for own, more in zip(surface, light, strict=True))
    return red, green, blue


def lit_by(face: float = 0.05, beside: float = 0.005, skin: Rgb = SKIN) -> Lit:
    def lit(colour: Colour | None, _: int) -> Face:
        return replace(NEUTRAL, light=Light(brighter(skin, colour, face), brighter(WALL, colour, beside)))

    return lit


herself = lit_by()


class Watching:
    """Somebody who has answered every prompt, before a screen with colours; progress is stored between batches."""

    def __init__(self, policy: Policy = FLASHING, number: int = 0) -> None:
        self.policy = policy
        asked = policy.flash
        assert asked is not None
        self.asked: Flash = asked
        written = SCRIPTS.write(digest_of("a transaction"), number.to_bytes(16), policy, Channel.HOSTED)
        self.script = replace(script_of(*PROMPTS), flashes=written.flashes)
        self.progress, self.time_ms = Progress(), 0
        self.take([NEUTRAL] * policy.neutral_frames)
        for prompt in PROMPTS:
            self.last = self.take(answer(prompt))

    def take(self, faces: Sequence[Face | Observation], every_ms: int = 100, start_ms: int = 0) -> Advance:
        batch = []
        for face in faces:
            seen = face if isinstance(face, Observation) else Observation(1, breathing(face, self.time_ms))
            batch.append(Seen(self.time_ms, seen))
            self.time_ms += every_ms
        progress = attempt.check_start(self.progress, self.policy, start_ms)
        advanced = advance(progress, self.script, self.policy, batch, self.time_ms)
        self.progress = from_json(to_json(advanced.progress))
        assert self.progress == advanced.progress
        return advanced

    @property
    def shown(self) -> Sequence[Colour]:
        assert self.progress.colours is not None
        return self.script.flashes[self.progress.colours.round]

    def watch(
        self,
        lit: Lit = herself,
        shown: Sequence[Colour] | None = None,
        *,
        every_ms: int = FRAME_MS,
        batch: int = 12,
        late_ms: int = 0,
    ) -> Advance:
        """Film the round and send its frames; `shown` are the colours that light the face, the round's when None."""
        colours = shown or self.shown
        start_ms = self.time_ms + START_MS
        frames: list[Face | Observation] = []
        for number, at_ms in enumerate(range(-START_MS, self.asked.length_ms + LATEST_MS + every_ms, every_ms)):
            index = (at_ms - late_ms) // self.asked.every_ms
            frames.append(lit(colours[index] if 0 <= index < len(colours) else None, number))
        steps = [self.take(frames[first : first + batch], every_ms, start_ms) for first in range(0, len(frames), batch)]
        assert all(step.state is State.RUNNING for step in steps[:-1])
        return steps[-1]


def ended(step: Advance) -> tuple[State, Failure | None]:
    return step.state, step.failure


# What is asked.


def test_colours_come_after_the_last_prompt_in_a_window_of_their_own() -> None:
    person = Watching()
    assert (person.last.state, person.last.progress.index, person.last.keyframe) == (State.RUNNING, 4, 2)
    assert person.progress.colours == Colours()
    assert attempt.move_of(person.progress, person.script) is None
    assert attempt.window_left_ms(person.progress, person.script, FLASHING, person.time_ms) == person.asked.window_ms
    assert attempt.window_left_ms(person.progress, person.script, FLASHING, person.time_ms + 8000) == 0


@pytest.mark.parametrize(
    ("policy", "channel", "shown"),
    [
        (FLASHING, Channel.HOSTED, True),
        (FLASHING, Channel.STEPS, False),
        (FLASHING, Channel.STREAM, False),
        (FLASHING, None, False),
        (STRICT, Channel.HOSTED, True),
        (STRICT, Channel.STEPS, True),
        (STRICT, Channel.STREAM, True),
        (replace(FLASHING, flash=None), Channel.HOSTED, False),
    ],
)
def test_policy_says_over_which_channel_colours_are_shown(policy: Policy, channel: Channel | None, shown: bool) -> None:
    script = SCRIPTS.write(digest_of("a transaction"), b"n" * 16, policy, channel)
    assert bool(script.flashes) is shown
    assert script.moves == SCRIPTS.write(digest_of("a transaction"), b"n" * 16, policy).moves
    assert script.last_index == policy.length + shown
    if shown and policy.flash:
        assert [len(colours) for colours in script.flashes] == [policy.flash.colours] * policy.flash.rounds
        assert len(set(script.flashes)) == len(script.flashes)


def test_whoever_failed_the_passive_signals_is_shown_no_colours() -> None:
    person = Watching.__new__(Watching)
    person.policy, person.script = FLASHING, replace(script_of(*PROMPTS), flashes=((Colour.RED,) * 6,))
    person.progress, person.time_ms = Progress(), 0
    on_a_screen = replace(NEUTRAL, live=0.1)
    step = person.take([on_a_screen] * FLASHING.neutral_frames)
    for prompt in PROMPTS:
        step = person.take([replace(face, live=0.1) for face in answer(prompt)])
    assert ended(step) == (State.FAILED, Failure.PASSIVE)
    assert step.keyframe is None
    assert step.progress.colours is None


# Who passes, and who does not.


@pytest.mark.parametrize("number", range(10))
def test_face_that_reflects_the_colours_passes(number: int) -> None:
    person = Watching(number=number)
    assert ended(person.watch()) == (State.PASSED, None)
    assert person.progress.flashed is not None
    assert person.progress.flashed.outcome is Outcome.FOLLOWED
    assert person.progress.flashed.correlation_ppm > 900_000
    assert person.progress.verdict is not None
    assert person.progress.verdict.passed


@pytest.mark.parametrize("batch", [1, 5, 12])
@pytest.mark.parametrize("every_ms", [33, 66, 100])
def test_neither_the_cameras_rate_nor_the_size_of_batches_matters(batch: int, every_ms: int) -> None:
    assert ended(Watching().watch(every_ms=every_ms, batch=batch)) == (State.PASSED, None)


@pytest.mark.parametrize("late_ms", [40, 100, 150, 200])
def test_screen_and_camera_may_take_their_time(late_ms: int) -> None:
    assert ended(Watching().watch(late_ms=late_ms)) == (State.PASSED, None)


SUNLIT: Rgb = (245.0, 225.0, 210.0)


@pytest.mark.parametrize(
    ("lit", "late_ms", "failure"),
    [
        (lit_by(0.0, 0.0), 0, Failure.FLASH_NOT_FOLLOWED),
        (lit_by(0.05, 0.05), 0, Failure.FLASH_BACKGROUND_TOO),
        (herself, EVERY_MS, Failure.FLASH_NOT_FOLLOWED),
        (herself, 2 * EVERY_MS, Failure.FLASH_NOT_FOLLOWED),
    ],
    ids=["no reflection", "tinted as a whole", "one colour late", "two colours late"],
)
@pytest.mark.parametrize("number", range(5))
def test_what_does_not_follow_as_a_face_does_fails_at_once(
    number: int, lit: Lit, late_ms: int, failure: Failure
) -> None:
    step = Watching(number=number).watch(lit, late_ms=late_ms)
    assert (ended(step), step.hint) == ((State.FAILED, failure), Hint.UNSPECIFIED)


def test_recording_made_for_another_attempt_fails() -> None:
    others = [Watching(number=100 + number).shown for number in range(20)]
    failed = [ended(Watching().watch(shown=other)) for other in others]
    assert failed.count((State.FAILED, Failure.FLASH_NOT_FOLLOWED)) >= 19


def test_bright_light_degrades_with_its_reason_where_the_policy_says_so() -> None:
    person = Watching()
    assert ended(person.watch(lit_by(0.01, 0.001, SUNLIT))) == (State.PASSED, None)
    assert person.progress.flashed is not None
    assert person.progress.flashed.outcome is Outcome.TOO_BRIGHT


def test_bright_light_fails_where_the_policy_says_that_and_the_person_is_told() -> None:
    assert STRICT.flash is not None
    assert STRICT.flash.in_bright_light is BrightLight.FAILS
    person = Watching(replace(STRICT, length=3))
    step = person.watch(lit_by(0.01, 0.001, SUNLIT))
    assert (ended(step), step.hint) == ((State.FAILED, Failure.FLASH_TOO_BRIGHT), Hint.TOO_BRIGHT)


# What is shown once more.


def but(number: int, other: Face | Observation) -> Lit:
    """Herself, but for one frame."""
    return lambda colour, at: other if at == number else herself(colour, at)


LEAPT = replace(NEUTRAL, box=replace(NEUTRAL.box, left=NEUTRAL.box.left + NEUTRAL.box.width), light=Light(SKIN, WALL))
NOTHING_BESIDE = Light(SKIN, None)


@pytest.mark.parametrize(
    ("lit", "hint"),
    [
        (but(10, NOBODY), Hint.HOLD_STILL),
        (but(10, SEVERAL), Hint.HOLD_STILL),
        (but(10, LEAPT), Hint.HOLD_STILL),
        (but(10, replace(NEUTRAL, box=replace(NEUTRAL.box, height=0.1))), Hint.HOLD_STILL),
        (lambda _colour, _at: NOBODY, Hint.NO_FACE),
        (lambda _colour, _at: replace(NEUTRAL, light=NOTHING_BESIDE), Hint.HOLD_STILL),
        (lambda _colour, _at: NEUTRAL, Hint.HOLD_STILL),
    ],
    ids=[
        "nobody",
        "several",
        "a leap",
        "too far away",
        "never anybody",
        "nothing beside the face",
        "no light measured",
    ],
)
def test_colours_that_were_not_seen_throughout_are_followed_by_others_and_then_it_fails(lit: Lit, hint: Hint) -> None:
    person = Watching()
    first = person.shown
    step = person.watch(lit)
    assert (ended(step), step.hint) == ((State.RUNNING, None), hint)
    assert person.progress.colours == Colours(round=1)
    assert person.shown != first
    assert attempt.window_left_ms(person.progress, person.script, FLASHING, person.time_ms) == person.asked.window_ms
    assert ended(person.watch(lit)) == (State.FAILED, Failure.FLASH_TOO_FEW)


def test_second_round_is_judged_by_its_own_colours() -> None:
    person = Watching()
    first = person.shown
    person.watch(but(10, NOBODY))
    again = from_json(to_json(person.progress)), person.time_ms
    assert ended(person.watch()) == (State.PASSED, None)
    person.progress, person.time_ms = again
    assert ended(person.watch(shown=first)) == (State.FAILED, Failure.FLASH_NOT_FOLLOWED)


def test_too_slow_a_camera_is_asked_again_and_then_fails() -> None:
    person = Watching()
    assert person.watch(every_ms=250).state is State.RUNNING
    assert ended(person.watch(every_ms=250)) == (State.FAILED, Failure.FLASH_TOO_FEW)


def test_what_was_lost_before_the_first_colour_was_shown_does_not_matter() -> None:
    assert ended(Watching().watch(but(0, NOBODY))) == (State.PASSED, None)


# When the first colour was shown.

CLOCK = DeviceClock(last_ms=9_000, delay_ms=(400, 300), steps_ms=(100,))
GIVEN_MS = 9_200  # of the server; 8,900 of the device at the latest


def started_at(said_ms: int, before_ms: int | None = None) -> Progress:
    progress = Progress(index=4, shown_at_ms=GIVEN_MS, clock=CLOCK, colours=Colours(started_at_ms=before_ms))
    return attempt.check_start(progress, FLASHING, said_ms)


@pytest.mark.parametrize(
    ("said_ms", "before_ms", "rule"),
    [
        (0, None, "must say"),
        (8_899, None, "before the colours"),
        (1, None, "before the colours"),
        (8_900 + FLASH.start_within_ms + 1, None, "within 1500 ms"),
        (599_999, None, "within 1500 ms"),
        (9_000, 8_950, "as it was said"),
        (0, 8_950, "must say"),
    ],
)
def test_time_of_the_first_colour_that_cannot_be_is_refused(said_ms: int, before_ms: int | None, rule: str) -> None:
    with pytest.raises(FlashStartError) as refusal:
        started_at(said_ms, before_ms)
    (violation,) = refusal.value.violations
    assert violation.field == "flash_started_at_ms"
    assert rule in violation.description


@pytest.mark.parametrize("said_ms", [8_900, 9_000, 8_900 + FLASH.start_within_ms])
def test_time_of_the_first_colour_is_remembered(said_ms: int) -> None:
    progress = started_at(said_ms)
    assert progress.colours == Colours(started_at_ms=said_ms)
    assert started_at(said_ms, said_ms).colours == Colours(started_at_ms=said_ms)


def test_time_is_not_read_while_no_colours_are_asked_for() -> None:
    progress = Progress(index=1, clock=CLOCK)
    assert attempt.check_start(progress, FLASHING, 7) == progress


# The frame that is kept for the face match.


def always(number: int) -> Callable[[int], int]:
    """Chance that always chooses the same."""
    return lambda below: number % below


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), data=st.data())
def test_each_face_that_colours_were_shown_to_may_be_the_one_that_is_compared(sizes: list[int], data: Any) -> None:
    """The last batch that gives a frame gives the one that is kept: for every face some choices keep it."""
    person = Watching()
    start_ms, wanted = person.time_ms + 30, data.draw(st.integers(0, sum(sizes) - 1))
    person.take([NEUTRAL] * 3, 10, start_ms)  # before the first colour
    kept, first = None, 0
    for size in sizes:
        step = person.take([herself(Colour.RED, 0)] * size, 20, start_ms)
        assert (step.lit, step.lit_before) == (tuple(range(size)), first)
        choice = wanted if first <= wanted < first + size else 0
        index = attempt.lit_keyframe(step, always(choice))
        kept, first = kept if index is None else first + index, first + size
    assert kept == wanted


def test_nobody_hides_in_frames_that_no_colour_was_shown_to() -> None:
    """Neither before the first nor after the last: whoever is seen there is not who followed them."""
    person = Watching()
    start_ms = person.time_ms + 500
    assert person.take([NEUTRAL] * 10, 50, start_ms).lit == ()
    assert person.take([NEUTRAL] * 10, 50, start_ms).lit == tuple(range(10))
    person.time_ms = start_ms + LENGTH_MS + LATEST_MS - 100
    assert person.take([NEUTRAL] * 4, 50, start_ms).lit == ()  # failed, by too few
    person = Watching()
    start_ms = person.time_ms
    person.time_ms = start_ms + LENGTH_MS + LATEST_MS - 100
    assert person.take([NEUTRAL] * 2, 50, start_ms).lit == (0, 1)


def test_bad_frames_do_not_hide_another_face() -> None:
    """Blurred ones are passed over while they are few; when they are many, each of all is as likely."""
    blurred = replace(NEUTRAL, traces=replace(NEUTRAL.traces, sharp=0.1))

    def chosen(faces: Sequence[Face | Observation]) -> set[int | None]:
        person = Watching()
        step = person.take(faces, 50, person.time_ms)
        return {attempt.lit_keyframe(step, always(pick)) for pick in range(24)}

    assert chosen([NEUTRAL, blurred, NEUTRAL, NEUTRAL, NOBODY]) == {0, 2, 3}
    assert chosen([NEUTRAL, blurred, NEUTRAL, blurred]) == {0, 1, 2, 3}
    assert chosen([NOBODY, SEVERAL]) == {None}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["herself", "nobody", "several", "dark", "leapt", "unlit"]),
            st.integers(1, 12),
            st.integers(8, 200),
        ),
        max_size=30,
    )
)
def test_whatever_is_shown_rounds_are_few_and_the_end_is_final(shown: list[tuple[str, int, int]]) -> None:
    faces: dict[str, Face | Observation] = {
        "herself": herself(Colour.RED, 0),
        "nobody": NOBODY,
        "several": SEVERAL,
        "dark": replace(NEUTRAL, luma=1.0, light=Light((1.0, 1.0, 1.0), WALL)),
        "leapt": LEAPT,
        "unlit": NEUTRAL,
    }
    person = Watching()
    for name, count, every_ms in shown:
        colours = person.progress.colours
        assert colours is not None
        start_ms = colours.started_at_ms or person.time_ms + 1
        step = person.take([faces[name]] * count, every_ms, start_ms)
        if step.state is not State.RUNNING:
            assert person.progress.flashed is not None
            return
        assert step.progress.colours is not None
        assert step.progress.colours.round < person.asked.rounds
        assert step.progress.flashed is None


def test_rounds_of_one_attempt_are_no_ones_elses() -> None:
    """Neither a round nor an attempt repeats what another has shown."""
    assert challenge.NONCE_BYTES == 16
    flashes = [
        colours
        for number in range(200)
        for colours in SCRIPTS.write(digest_of("a transaction"), number.to_bytes(16), FLASHING, Channel.HOSTED).flashes
    ]
    assert len(set(flashes)) > 0.97 * len(flashes)
