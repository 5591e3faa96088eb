"""The sample woman before the camera: when her frames are taken, and which they are."""

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from finid.auth.v1 import liveness_step_pb2 as step_pb
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo import camera, screen
from deploy.demo.camera import Person
from deploy.demo.clip import Segment, decoded, load_clip
from deploy.demo.person import CALM_FRAMES, FRAME_PERIOD_S, WATCHED_AFTER_MS, Frame, SamplePerson, UnknownPromptError
from deploy.demo.screen import Lit
from tests import samples
from tests.demo.clock import Clock

PERIOD_MS = round(FRAME_PERIOD_S * 1000)
# What the clip does not show: the sandbox does not ask for it.
NOT_SHOWN = {"PROMPT_UNSPECIFIED", "PROMPT_LOOK_UP", "PROMPT_MOVE_CLOSER"}
PROMPTS = sorted(set(step_pb.Prompt.keys()) - NOT_SHOWN)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def woman(clock: Clock) -> SamplePerson:
    return SamplePerson(samples.assets_folder(), now=clock.now, sleep=clock.sleep)


@pytest.fixture(scope="module")
def segments() -> Mapping[str, Sequence[Segment]]:
    return load_clip(samples.assets_folder()).segments


def shown(frames: Sequence[Frame]) -> list[tuple[int, bool]]:
    """Which frame of the clip each is, and whether mirrored."""
    numbers = {picture: number for number, picture in load_clip(samples.assets_folder()).jpegs.items()}
    return [numbers[frame.jpeg] for frame in frames]


def times_ms(frames: Sequence[camera.Frame]) -> list[int]:
    return [frame.captured_at_ms for frame in frames]


async def test_she_is_somebody_before_the_camera(woman: SamplePerson) -> None:
    person: Person = woman
    assert len(await person.frames("PROMPT_NEUTRAL", 3)) == 3


async def test_frames_are_a_period_apart_from_zero_on(woman: SamplePerson) -> None:
    first, second = await woman.frames("PROMPT_NEUTRAL", 3), await woman.frames("PROMPT_SMILE", 2)
    assert times_ms([*first, *second]) == [0, PERIOD_MS, 2 * PERIOD_MS, 3 * PERIOD_MS, 4 * PERIOD_MS]


async def test_frames_take_real_time() -> None:
    woman = SamplePerson(samples.assets_folder())
    started_s = time.monotonic()
    frames = await woman.frames("PROMPT_NEUTRAL", 3)
    passed_ms = (time.monotonic() - started_s) * 1000
    assert 2 * PERIOD_MS - 20 <= frames[-1].captured_at_ms <= passed_ms + 1  # rounded


async def test_frames_nobody_asked_for_in_time_are_missed(woman: SamplePerson, clock: Clock) -> None:
    await woman.frames("PROMPT_NEUTRAL", 2)
    clock.now_s += 1.03
    assert times_ms(await woman.frames("PROMPT_NEUTRAL", 3)) == [1130, 1230, 1330]


async def test_a_new_attempt_starts_the_clock_and_shows_her_as_filmed(woman: SamplePerson) -> None:
    await woman.frames("PROMPT_TURN_LEFT", 9)
    woman.new_attempt()
    frames = await woman.frames("PROMPT_NEUTRAL", 3)
    assert times_ms(frames) == [0, PERIOD_MS, 2 * PERIOD_MS]
    assert not any(mirrored for _, mirrored in shown(frames))


async def test_calm_is_played_to_and_fro_without_a_cut(
    woman: SamplePerson, segments: Mapping[str, Sequence[Segment]]
) -> None:
    calm = segments["NEUTRAL"][0]
    numbers = [number for number, _ in shown(await woman.frames("PROMPT_NEUTRAL", 50))]
    assert set(numbers) == set(calm.frames)
    assert all(abs(one - next_one) == calm.step for one, next_one in itertools.pairwise(numbers))


@pytest.mark.parametrize("gesture", ["SMILE", "BLINK", "OPEN_MOUTH", "LOOK_DOWN", "TURN_RIGHT"])
async def test_she_reacts_acts_and_acts_again_in_another_way(
    woman: SamplePerson, segments: Mapping[str, Sequence[Segment]], gesture: str
) -> None:
    calm = set(segments["NEUTRAL"][0].frames)
    for segment in (*segments[gesture], segments[gesture][0]):
        reaction = shown(await woman.frames(f"PROMPT_{gesture}", CALM_FRAMES))
        assert {number for number, _ in reaction} <= calm
        acted = shown(await woman.frames(f"PROMPT_{gesture}", len(segment.frames)))
        assert acted == [(number, False) for number in segment.frames]


async def test_another_prompt_ends_the_gesture_with_a_calm_face(
    woman: SamplePerson, segments: Mapping[str, Sequence[Segment]]
) -> None:
    await woman.frames("PROMPT_SMILE", CALM_FRAMES + 2)
    numbers = [number for number, _ in shown(await woman.frames("PROMPT_BLINK", CALM_FRAMES + 1))]
    assert set(numbers[:CALM_FRAMES]) <= set(segments["NEUTRAL"][0].frames)
    assert numbers[CALM_FRAMES] == segments["BLINK"][0].first


async def test_a_turn_to_the_left_is_the_mirrored_turn_to_the_right_and_changes_sides_once(
    woman: SamplePerson, segments: Mapping[str, Sequence[Segment]]
) -> None:
    before = shown(await woman.frames("PROMPT_SMILE", 8))
    turn = shown(await woman.frames("PROMPT_TURN_LEFT", CALM_FRAMES + 4))
    after = shown(await woman.frames("PROMPT_SMILE", 8))
    assert [number for number, _ in turn[CALM_FRAMES:]] == list(segments["TURN_RIGHT"][0].frames[:4])
    assert [mirrored for _, mirrored in (*before, *turn, *after)] == [False] * 8 + [True] * (CALM_FRAMES + 4 + 8)


async def test_a_turn_to_the_right_shows_her_as_filmed_again(woman: SamplePerson) -> None:
    await woman.frames("PROMPT_TURN_LEFT", 6)
    assert not any(mirrored for _, mirrored in shown(await woman.frames("PROMPT_TURN_RIGHT", 6)))


SHOWN = ["SCREEN_COLOUR_RED", "SCREEN_COLOUR_BLUE", "SCREEN_COLOUR_GREEN"]
EVERY_MS = 300


async def test_colours_are_shown_from_the_first_frame_on_and_the_last_comes_after_them(woman: SamplePerson) -> None:
    before = await woman.frames("PROMPT_SMILE", 6)
    watched = await woman.watch(SHOWN, EVERY_MS)
    times = times_ms(watched.frames)
    assert watched.started_at_ms == times[0] > times_ms(before)[-1]
    assert times[-2] < times[0] + EVERY_MS * len(SHOWN) + WATCHED_AFTER_MS <= times[-1]
    assert all(84 <= later - earlier <= 86 for earlier, later in itertools.pairwise(times))
    counted = Counter((at_ms - times[0]) // EVERY_MS for at_ms in times)
    assert all(counted[index] >= 3 for index in range(len(SHOWN)))


def face_and_corner(picture_jpeg: bytes) -> list[tuple[float, ...]]:
    """Mean blue, green and red of her cheek's place as filmed, and of the corner behind her."""
    picture_bgr = decoded(picture_jpeg)
    patches = (picture_bgr[170:220, 280:350], picture_bgr[:80, :80])
    return [tuple(patch.reshape(-1, 3).mean(axis=0)) for patch in patches]


async def test_her_face_is_lit_by_each_colour_in_its_time_and_the_room_is_not(woman: SamplePerson) -> None:
    (calm,) = await woman.frames("PROMPT_NEUTRAL", 1)
    watched = await woman.watch(SHOWN, EVERY_MS)
    unlit_face, unlit_corner = face_and_corner(calm.jpeg)
    lit_frames = [frame for frame in watched.frames if frame.captured_at_ms < watched.started_at_ms + 900]
    assert len(lit_frames) == 11
    for frame in lit_frames:
        colour = SHOWN[(frame.captured_at_ms - watched.started_at_ms) // EVERY_MS]
        face, corner = face_and_corner(frame.jpeg)
        more = [lit - unlit for lit, unlit in zip(face, unlit_face, strict=True)]
        channel = {"SCREEN_COLOUR_BLUE": 0, "SCREEN_COLOUR_GREEN": 1, "SCREEN_COLOUR_RED": 2}[colour]
        assert more[channel] > 8
        assert all(abs(other) < 4 for index, other in enumerate(more) if index != channel)
        assert all(abs(lit - unlit) < 3 for lit, unlit in zip(corner, unlit_corner, strict=True))
    assert watched.frames[-1].jpeg in load_clip(samples.assets_folder()).jpegs.values()


@pytest.mark.parametrize("how", [screen.nowhere, screen.on_everything, screen.as_before])
async def test_attacks_before_the_screen_are_other_pictures(how: Lit) -> None:
    clock, other = Clock(), Clock()
    woman = SamplePerson(samples.assets_folder(), now=clock.now, sleep=clock.sleep)
    attack = SamplePerson(samples.assets_folder(), lit=how, now=other.now, sleep=other.sleep)
    hers, its = await woman.watch(SHOWN, EVERY_MS), await attack.watch(SHOWN, EVERY_MS)
    assert all(one.jpeg != two.jpeg for one, two in zip(hers.frames[:11], its.frames[:11], strict=True))


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_she_answers_every_prompt_of_the_public_api_that_the_clip_shows(woman: SamplePerson, prompt: str) -> None:
    assert len(await woman.frames(prompt, 12)) == 12


@pytest.mark.parametrize("prompt", [*sorted(NOT_SHOWN), "PROMPT_WINK", "", "SMILING"])
async def test_a_prompt_that_the_clip_does_not_show_is_refused(woman: SamplePerson, prompt: str) -> None:
    with pytest.raises(UnknownPromptError):
        await woman.frames(prompt, 1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PROMPTS), st.integers(1, 12), st.floats(0, 3, allow_nan=False)),
        min_size=1,
        max_size=12,
    )
)
async def test_whatever_is_asked_time_goes_forward_and_sides_change_only_at_a_turn(
    asked: list[tuple[str, int, float]],
) -> None:
    clock = Clock()
    woman = SamplePerson(samples.assets_folder(), now=clock.now, sleep=clock.sleep)
    last_ms, side = -PERIOD_MS, False
    for prompt, count, pause_s in asked:
        frames = await woman.frames(prompt, count)
        side = {"PROMPT_TURN_LEFT": True, "PROMPT_TURN_RIGHT": False}.get(prompt, side)
        assert {mirrored for _, mirrored in shown(frames)} == {side}
        for frame in frames:
            # A millisecond less than the period at most: times are rounded.
            assert frame.captured_at_ms >= last_ms + PERIOD_MS - 1
            last_ms = frame.captured_at_ms
        clock.now_s += pause_s
