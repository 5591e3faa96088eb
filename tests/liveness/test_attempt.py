"""The rules of an attempt: order, rest, hold, windows, wrong gestures, one face, times, passive scores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.liveness import attempt, gestures
from services.liveness.attempt import Advance, Failure, Progress, advance
from services.liveness.observation import Box, Face, Observation
from services.liveness.policies import Policy
from services.liveness.prompts import GESTURES, Hint, Move, Prompt, State
from services.liveness.session import from_json, to_json
from tests.liveness.faces import (
    ALL_PROMPTS,
    NEUTRAL,
    NOBODY,
    POLICY,
    SEVERAL,
    answer,
    asked,
    clip,
    doing,
    script_of,
)

SCRIPT = script_of(Prompt.SMILE, Prompt.TURN_LEFT, Prompt.LOOK_DOWN)
CALM: list[Face | Observation] = [NEUTRAL] * POLICY.neutral_frames


class Attempt:
    """Feeds batches to `advance` as the service does, storing progress as JSON between them."""

    def __init__(self, *prompts: Prompt | Move, policy: Policy = ALL_PROMPTS) -> None:
        self.script = script_of(*prompts) if prompts else SCRIPT
        self.policy = policy
        self.progress = Progress()
        self.time_ms = 0

    def show(self, faces: Sequence[Face | Observation], every_ms: int = 100) -> Advance:
        batch = clip(faces, self.time_ms, every_ms)
        self.time_ms += len(faces) * every_ms
        advanced = advance(self.progress, self.script, self.policy, batch, self.time_ms)
        self.progress = from_json(to_json(advanced.progress))
        assert self.progress == advanced.progress
        return advanced

    def calm(self) -> "Attempt":
        """Get past the neutral face."""
        assert self.show(CALM).progress.index == 1
        return self


# What an honest person does.


def test_person_who_answers_every_prompt_passes_with_one_keyframe_each() -> None:
    person = Attempt().calm()
    steps = [person.show(answer(prompt)) for prompt in SCRIPT.prompts]
    assert [step.state for step in steps] == [State.RUNNING, State.RUNNING, State.PASSED]
    assert [step.keyframe for step in steps] == [2, 2, 2]
    assert person.progress.passive_ppm == 990_000
    assert person.progress.prompts_ppm == 700_000


@pytest.mark.parametrize("prompt", GESTURES)
def test_each_gesture_answers_its_prompt(prompt: Prompt) -> None:
    advanced = Attempt(prompt, Prompt.SMILE).calm().show(answer(prompt))
    assert advanced.progress.index == 2
    assert advanced.keyframe is not None


@pytest.mark.parametrize("prompt", GESTURES)
def test_gesture_that_is_too_small_does_not(prompt: Prompt) -> None:
    advanced = Attempt(prompt).calm().show(answer(prompt, much=0.9))
    assert advanced.progress.index == 1
    assert advanced.keyframe is None


@pytest.mark.parametrize("prompt", GESTURES)
@pytest.mark.parametrize("other", GESTURES)
def test_gesture_answers_no_other_prompt(prompt: Prompt, other: Prompt) -> None:
    if prompt is not other:
        assert Attempt(prompt, Prompt.SMILE).calm().show(answer(other)).progress.index == 1


def test_baseline_is_the_persons_own() -> None:
    """Somebody whose face rests in a smile, turned and with narrow eyes, is measured from there."""
    resting = replace(NEUTRAL, smile=0.5, yaw=-12.0, eyes=0.18, mouth=0.1)
    person = Attempt()
    person.show([resting] * POLICY.neutral_frames)
    assert person.progress.baseline == gestures.Baseline(
        yaw=-12.0, pitch=-3.0, smile=0.5, eyes=0.18, mouth=0.1, width=0.3, height=0.5
    )
    person.show([resting, *[doing(Prompt.SMILE, 1.2, resting)] * 3])
    assert person.progress.index == 2


def test_keyframe_is_the_one_turned_away_least_of_those_that_show_the_gesture() -> None:
    person = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm()
    far, near = doing(Prompt.TURN_LEFT, 2.0), doing(Prompt.TURN_LEFT, 1.1)
    assert person.show([NEUTRAL, far, far, near]).keyframe == 3
    person = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm()
    assert person.show([NEUTRAL, near, far, far]).keyframe == 1


def test_gesture_may_span_two_batches() -> None:
    person = Attempt(Prompt.SMILE, Prompt.BLINK).calm()
    assert person.show([NEUTRAL, doing(Prompt.SMILE), doing(Prompt.SMILE)]).keyframe is None
    assert person.show([doing(Prompt.SMILE)]).keyframe == 0


# What does not count.


def test_prompts_are_answered_in_their_order_only() -> None:
    person = Attempt().calm()
    ended = person.show(answer(SCRIPT.prompts[1]))
    assert (ended.progress.index, ended.failure) == (1, Failure.WRONG_GESTURE)


def test_gesture_held_since_before_its_prompt_does_not_count() -> None:
    person = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm()
    assert person.show([doing(Prompt.TURN_LEFT)] * 6).progress.index == 1
    assert person.show(answer(Prompt.TURN_LEFT)).progress.index == 2


def test_frames_beyond_an_answered_prompt_do_not_answer_the_next() -> None:
    person = Attempt().calm()
    ahead = person.show([*answer(Prompt.SMILE), *answer(Prompt.TURN_LEFT)])
    assert ahead.state is State.RUNNING
    assert ahead.progress.index == 2
    assert ahead.progress.held == 0


def test_gesture_that_is_not_held_does_not_count() -> None:
    passing = [NEUTRAL, doing(Prompt.TURN_LEFT), doing(Prompt.TURN_LEFT)]
    person = Attempt(Prompt.TURN_LEFT).calm()
    assert person.show(passing * 3).progress.index == 1
    person = Attempt(Prompt.TURN_LEFT).calm()
    assert person.show([NEUTRAL, *[doing(Prompt.TURN_LEFT)] * 11, NEUTRAL], every_ms=15).progress.index == 1


def test_closed_eyes_are_no_blink_until_they_have_opened_and_blinked() -> None:
    person = Attempt(Prompt.BLINK, Prompt.SMILE).calm()
    closed = doing(Prompt.BLINK)
    assert person.show([NEUTRAL, *[closed] * 12]).progress.index == 1
    assert person.show([NEUTRAL]).progress.index == 1
    assert person.show([closed, NEUTRAL]).progress.index == 2


def test_bowed_head_is_no_blink() -> None:
    """Its eyes seem closed. A recording of somebody who looks down would answer two prompts."""
    bowed = replace(doing(Prompt.LOOK_DOWN), eyes=doing(Prompt.BLINK).eyes)
    ended = Attempt(Prompt.BLINK).calm().show([NEUTRAL, *[bowed] * 4, NEUTRAL])
    assert (ended.progress.index, ended.failure) == (1, Failure.WRONG_GESTURE)


def test_laugh_is_no_open_mouth() -> None:
    laugh = doing(Prompt.OPEN_MOUTH, face=doing(Prompt.SMILE))
    assert Attempt(Prompt.OPEN_MOUTH).calm().show([NEUTRAL, *[laugh] * 4]).progress.index == 1


@pytest.mark.parametrize("interruption", [NOBODY, SEVERAL, replace(NEUTRAL, luma=10), replace(NEUTRAL, luma=250)])
def test_gesture_begins_from_rest_again_after_frames_that_cannot_be_judged(interruption: Face | Observation) -> None:
    smile = doing(Prompt.SMILE)
    person = Attempt().calm()
    assert person.show([NEUTRAL, smile, interruption, smile, smile, smile]).progress.index == 1
    assert person.show([NEUTRAL, smile, smile, smile]).progress.index == 2


def test_gesture_cut_together_with_another_recording_does_not_count() -> None:
    """At rest here, done there: the face leaps across the picture between the two."""
    elsewhere = replace(doing(Prompt.SMILE), box=Box(0.62, 0.2, 0.3, 0.5))
    nearer = replace(doing(Prompt.SMILE), box=Box(0.2, 0.05, 0.5, 0.9))
    for cut in (elsewhere, nearer):
        person = Attempt().calm()
        assert person.show([NEUTRAL, NEUTRAL, *[cut] * 5]).progress.index == 1
        rested = replace(NEUTRAL, box=cut.box)
        assert person.show([rested, cut, cut, cut]).progress.index == 2


def test_gesture_begins_from_rest_again_after_a_gap_in_the_frames() -> None:
    person = Attempt().calm()
    person.show([NEUTRAL, NEUTRAL])
    person.time_ms += 1600
    assert person.show([doing(Prompt.SMILE)] * 5).progress.index == 1
    person = Attempt().calm()
    person.show([NEUTRAL, NEUTRAL])
    person.time_ms += 1200
    assert person.show([doing(Prompt.SMILE)] * 5).progress.index == 2


def test_face_that_moves_as_heads_do_is_no_cut() -> None:
    moved = replace(doing(Prompt.SMILE), box=Box(0.45, 0.25, 0.3, 0.5))
    assert Attempt().calm().show([NEUTRAL, moved, moved, moved]).progress.index == 2


def test_baseline_needs_a_calm_face_that_looks_ahead_with_open_eyes() -> None:
    swaying = [replace(NEUTRAL, yaw=float(yaw)) for yaw in (0, 5, 10, 5, 0)]
    restless: list[Sequence[Face | Observation]] = [
        swaying,
        [replace(NEUTRAL, yaw=30.0)] * 5,
        [replace(NEUTRAL, roll=-30.0)] * 5,
        [replace(NEUTRAL, eyes=0.05)] * 5,
        [NEUTRAL, NEUTRAL, NOBODY, NEUTRAL, NEUTRAL],
    ]
    for faces in restless:
        person = Attempt()
        assert person.show(faces).progress.index == 0
        assert person.show(CALM).progress.index == 1


# What fails an attempt.


@pytest.mark.parametrize("wrong", [prompt for prompt in GESTURES if prompt is not Prompt.BLINK])
@pytest.mark.parametrize("asked", GESTURES)
def test_gesture_that_would_have_counted_fails_the_attempt_when_another_is_asked(asked: Prompt, wrong: Prompt) -> None:
    if asked is not wrong:
        advanced = Attempt(asked).calm().show(answer(wrong))
        assert (advanced.state, advanced.failure) == (State.FAILED, Failure.WRONG_GESTURE)


def test_recording_of_all_gestures_shown_again_and_again_does_not_pass() -> None:
    loop = [face for prompt in GESTURES for face in answer(prompt)]
    for prompt in GESTURES:
        ended = (
            Attempt(prompt, *SCRIPT.prompts).calm().show(loop[6 * (GESTURES.index(prompt) + 1) % len(loop) :] + loop)
        )
        assert ended.failure is Failure.WRONG_GESTURE


def test_blinking_is_never_wrong() -> None:
    faces = [NEUTRAL, *[doing(Prompt.BLINK)] * 11]
    assert Attempt(Prompt.TURN_LEFT).calm().show(faces).state is State.RUNNING


def test_gesture_in_passing_is_not_wrong() -> None:
    passing = [NEUTRAL, doing(Prompt.OPEN_MOUTH), doing(Prompt.OPEN_MOUTH)]
    assert Attempt(Prompt.TURN_LEFT).calm().show(passing * 4).state is State.RUNNING


def test_gesture_that_mixes_with_the_right_one_is_not_wrong() -> None:
    both = doing(Prompt.LOOK_DOWN, face=doing(Prompt.TURN_LEFT))
    advanced = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm().show([NEUTRAL, doing(Prompt.LOOK_DOWN), both, both, both])
    assert advanced.progress.index == 2


def test_gesture_still_held_from_the_prompt_before_is_not_wrong() -> None:
    person = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm()
    person.show([NEUTRAL, *[doing(Prompt.TURN_LEFT)] * 3])
    assert person.show([doing(Prompt.TURN_LEFT)] * 10).state is State.RUNNING


def test_answers_from_a_picture_of_a_picture_fail_the_attempt() -> None:
    person = Attempt().calm()
    steps = [person.show([replace(face, live=0.1) for face in answer(prompt)]) for prompt in SCRIPT.prompts]
    assert (steps[-1].state, steps[-1].failure) == (State.FAILED, Failure.PASSIVE)


def test_few_low_scores_are_outvoted_by_the_median() -> None:
    person = Attempt().calm()
    person.show([replace(face, live=0.2) for face in answer(Prompt.SMILE)])
    steps = [person.show(answer(prompt)) for prompt in SCRIPT.prompts[1:]]
    assert steps[-1].state is State.PASSED


def test_too_few_passive_scores_fail_the_attempt() -> None:
    person = Attempt()
    person.show([replace(NEUTRAL, live=None)] * POLICY.neutral_frames)
    steps = [person.show([replace(face, live=None) for face in answer(prompt)]) for prompt in SCRIPT.prompts]
    assert steps[-1].failure is Failure.PASSIVE


def test_window_is_of_server_time() -> None:
    progress = replace(Progress(), index=1, shown_at_ms=5000)
    script = script_of(asked(Prompt.SMILE, window_ms=11_000), asked(Prompt.BLINK, window_ms=12_000))
    assert attempt.window_left_ms(progress, script, POLICY, 5000) == 11_000
    assert attempt.window_left_ms(progress, script, POLICY, 5000 + 11_000) == 0
    assert attempt.window_left_ms(replace(progress, index=2), script, POLICY, 5000) == 12_000
    assert attempt.window_left_ms(Progress(), script, POLICY, 0) == POLICY.neutral_window_ms


# Hints.


@pytest.mark.parametrize(
    ("last", "hint"),
    [
        (NOBODY, Hint.NO_FACE),
        (SEVERAL, Hint.SEVERAL_FACES),
        (replace(NEUTRAL, box=Box(0.4, 0.4, 0.1, 0.2)), Hint.COME_CLOSER),
        (replace(NEUTRAL, box=Box(0.0, 0.0, 0.9, 0.97)), Hint.MOVE_BACK),
        (replace(NEUTRAL, box=Box(-0.05, 0.2, 0.3, 0.5)), Hint.FACE_NOT_WHOLE),
        (replace(NEUTRAL, box=Box(0.3, 0.6, 0.3, 0.5)), Hint.FACE_NOT_WHOLE),
        (replace(NEUTRAL, luma=20.0), Hint.TOO_DARK),
        (replace(NEUTRAL, luma=240.0), Hint.TOO_BRIGHT),
        (NEUTRAL, Hint.UNSPECIFIED),
    ],
)
def test_hint_says_what_is_wrong_with_the_last_frame(last: Any, hint: Hint) -> None:
    assert Attempt().show([NEUTRAL, last]).hint is hint


def test_hints_to_hold_still_and_to_do_the_prompt() -> None:
    person = Attempt()
    assert person.show([replace(NEUTRAL, yaw=9.0 * (number % 2)) for number in range(6)]).hint is Hint.HOLD_STILL
    person = Attempt().calm()
    assert person.show([NEUTRAL] * 6).hint is Hint.UNSPECIFIED
    for _ in range(8):
        last = person.show([NEUTRAL] * 6)
    assert last.hint is Hint.DO_THE_PROMPT


# How a prompt is asked: how often, how long, how far.


def test_gesture_is_done_as_often_as_asked_from_rest_each_time_in_one_window() -> None:
    person = Attempt(asked(Prompt.TURN_LEFT, times=2), Prompt.SMILE).calm()
    once = person.show(answer(Prompt.TURN_LEFT))
    assert (once.progress.index, once.progress.times_done, once.keyframe) == (1, 1, None)
    twice = person.show(answer(Prompt.TURN_LEFT))
    assert (twice.progress.index, twice.progress.times_done, twice.keyframe) == (2, 0, 2)
    assert len(person.progress.peaks) == 1


def test_gesture_held_twice_as_long_is_not_done_twice() -> None:
    person = Attempt(asked(Prompt.TURN_LEFT, times=2), Prompt.SMILE).calm()
    assert person.show([NEUTRAL, *[doing(Prompt.TURN_LEFT)] * 11]).progress.times_done == 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_blinks_are_counted(times: int) -> None:
    person = Attempt(asked(Prompt.BLINK, times=times), Prompt.SMILE).calm()
    for blink in range(times):
        assert person.progress.index == 1
        assert person.show([NEUTRAL, doing(Prompt.BLINK), NEUTRAL]).progress.times_done == (blink + 1) % times
    assert person.progress.index == 2


def test_gesture_done_once_too_often_fails_the_attempt() -> None:
    """Else a recording that does everything twice would serve whatever the count."""
    person = Attempt(Prompt.TURN_LEFT, Prompt.SMILE).calm()
    assert person.show(answer(Prompt.TURN_LEFT)).progress.index == 2
    assert person.show(answer(Prompt.TURN_LEFT)).failure is Failure.WRONG_GESTURE


@pytest.mark.parametrize(("hold_ms", "frames"), [(200, 3), (400, 5), (1000, 11)])
def test_gesture_counts_when_it_was_held_for_as_long_as_asked(hold_ms: int, frames: int) -> None:
    for shown, index in ((frames - 1, 1), (frames, 2)):
        person = Attempt(asked(Prompt.SMILE, hold_ms=hold_ms), Prompt.BLINK).calm()
        assert person.show([NEUTRAL, *[doing(Prompt.SMILE)] * shown, NEUTRAL]).progress.index == index


@pytest.mark.parametrize("prompt", GESTURES)
def test_gesture_counts_when_it_went_as_far_as_asked(prompt: Prompt) -> None:
    for much, index in ((1.1, 1), (1.25, 2)):
        person = Attempt(asked(prompt, reach_percent=120), Prompt.SMILE).calm()
        assert person.show(answer(prompt, much)).progress.index == index


def test_clearness_is_measured_by_what_was_asked() -> None:
    person = Attempt(asked(Prompt.SMILE, reach_percent=150), Prompt.BLINK).calm()
    person.show(answer(Prompt.SMILE, 1.5))
    assert person.progress.prompts_ppm == 500_000


def test_gesture_that_the_policy_never_asks_for_is_not_wrong() -> None:
    assert Prompt.LOOK_UP not in POLICY.prompts
    looks_up = [NEUTRAL, *[doing(Prompt.LOOK_UP)] * 6]
    assert Attempt(Prompt.SMILE, policy=POLICY).calm().show(looks_up).state is State.RUNNING


def test_who_may_have_to_move_closer_begins_from_far_enough_away() -> None:
    near = replace(NEUTRAL, box=Box(0.05, 0.05, 0.6, 0.8))
    assert Attempt(policy=POLICY).show([near] * POLICY.neutral_frames).progress.index == 1
    person = Attempt(policy=ALL_PROMPTS)
    refused = person.show([near] * POLICY.neutral_frames)
    assert (refused.progress.index, refused.hint) == (0, Hint.MOVE_BACK)


def test_open_mouth_or_turned_head_is_no_nearer_face() -> None:
    for box in (Box(0.3, 0.2, 0.3, 0.7), Box(0.3, 0.2, 0.45, 0.5)):
        assert Attempt(Prompt.MOVE_CLOSER).calm().show([NEUTRAL, *[replace(NEUTRAL, box=box)] * 5]).progress.index == 1


# Any sequence at all.

OBSERVATIONS = st.one_of(
    st.sampled_from([NOBODY, SEVERAL, NEUTRAL, *(doing(prompt) for prompt in GESTURES)]),
    st.builds(
        lambda yaw, smile, eyes, left, live: replace(
            NEUTRAL, yaw=yaw, smile=smile, eyes=eyes, box=Box(left, 0.2, 0.3, 0.5), live=live
        ),
        st.floats(-180, 180),
        st.floats(0, 1),
        st.floats(0, 10),
        st.floats(-1, 1),
        st.none() | st.floats(0, 1),
    ),
)


@settings(max_examples=150)
@given(st.lists(st.lists(OBSERVATIONS, min_size=1, max_size=12), max_size=12))
def test_no_sequence_breaks_an_attempt_or_passes_it_out_of_order(batches: list[list[Any]]) -> None:
    person = Attempt()
    keyframes = 0
    for batch in batches:
        before = person.progress.index
        advanced = person.show(batch)
        assert advanced.progress.index - before in {0, 1}
        if advanced.keyframe is not None:
            keyframes += 1
            assert advanced.progress.index == before + 1
            assert clip(batch)[advanced.keyframe].observation.face is not None
        if advanced.state is State.PASSED:
            assert keyframes == len(SCRIPT.moves)
        if advanced.state is not State.RUNNING:
            return
