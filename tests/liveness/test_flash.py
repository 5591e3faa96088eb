"""Reflections made to measure: of the sequence shown, of another, of none, of everything, and in bright light."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from services.liveness.flash import LATEST_MS, RGB_OF, Colour, Outcome, Rgb, Sample, Verdict, judge, sequence
from services.liveness.policies import Flash, Policy
from tests.bundles import digest_of
from tests.liveness.faces import FLASHING, STRICT

KEY, TXN, NONCE = digest_of("script key"), digest_of("a transaction"), b"n" * 16
EVERY_MS = 500
LENGTH = 8
SKIN: Rgb = (150.0, 115.0, 100.0)
WALL: Rgb = (120.0, 122.0, 118.0)
SEEDS = range(40)


def shown(number: int) -> tuple[Colour, ...]:
    return sequence(KEY, TXN, number.to_bytes(16), LENGTH)


def filmed(
    reflected: Sequence[Colour] | None,
    *,
    seed: int,
    face: float = 0.05,
    behind: float = 0.008,
    delay_ms: int = 0,
    skin: Rgb = SKIN,
    noise: float = 1.0,
) -> list[Sample]:
    """What a camera sees ten times a second of a face lit by these colours, each for EVERY_MS; light drifts slowly."""
    chance = random.Random(seed)
    samples = []
    for at_ms in range(0, EVERY_MS * LENGTH, 100):
        index = max(0, at_ms - delay_ms) // EVERY_MS
        light: Rgb = RGB_OF[reflected[index]] if reflected else (0.0, 0.0, 0.0)
        drift = 1 + 0.03 * at_ms / (EVERY_MS * LENGTH)

        def seen(surface: Rgb, share: float, light: Rgb = light, drift: float = drift) -> Rgb:
            red, green, blue = (
                min(255.0, own * drift + share * lit + chance.gauss(0, noise))
                for own, lit in zip(surface, light, strict=True)
            )
            return red, green, blue

        samples.append(Sample(at_ms, seen(skin, face), seen(WALL, behind)))
    return samples


def outcomes(verdicts: Sequence[Verdict]) -> set[Outcome]:
    return {verdict.outcome for verdict in verdicts}


def test_face_lit_by_the_sequence_follows_it() -> None:
    verdicts = [judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.FOLLOWED}
    assert all(verdict.correlation_ppm > verdict.shifted_ppm + 200_000 for verdict in verdicts)


def test_face_lit_by_another_attempts_sequence_does_not() -> None:
    verdicts = [judge(shown(seed), EVERY_MS, filmed(shown(1000 + seed), seed=seed)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.NOT_FOLLOWED}


@pytest.mark.parametrize("delay_ms", [20, 70, 150, 200])
def test_screen_and_camera_may_take_their_time(delay_ms: int) -> None:
    verdicts = [judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed, delay_ms=delay_ms)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.FOLLOWED}


@pytest.mark.parametrize("late", [1, 2, 3])
def test_face_lit_by_the_sequence_at_another_time_does_not(late: int) -> None:
    """Frames that were made after the colours were seen come too late."""
    verdicts = [
        judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed, delay_ms=late * EVERY_MS)) for seed in SEEDS
    ]
    assert outcomes(verdicts) == {Outcome.NOT_FOLLOWED}


def test_face_that_no_screen_lit_follows_nothing() -> None:
    verdicts = [judge(shown(seed), EVERY_MS, filmed(None, seed=seed)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.NOT_FOLLOWED}


def test_picture_tinted_as_a_whole_is_no_lit_face() -> None:
    verdicts = [judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed, behind=0.05)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.BACKGROUND_TOO}


@pytest.mark.parametrize("wall", [WALL, (55.0, 47.0, 44.0), (12.0, 10.0, 10.0)], ids=["light", "dark", "black"])
def test_picture_whose_colours_are_multiplied_is_none_either(wall: Rgb) -> None:
    """A tint that leaves dark things dark, before whatever wall."""
    for seed in SEEDS:
        samples = []
        for sample in filmed(shown(seed), seed=seed, face=0.0, behind=0.0):
            light = RGB_OF[shown(seed)[sample.at_ms // EVERY_MS]]
            gains = [1 + 0.06 * lit / 128 for lit in light]
            face = [own * gain for own, gain in zip(sample.face, gains, strict=True)]
            behind = [own * gain for own, gain in zip(wall, gains, strict=True)]
            behind = [value + 0.05 * random.Random(seed + sample.at_ms).gauss(0, 1) for value in behind]
            samples.append(Sample(sample.at_ms, (face[0], face[1], face[2]), (behind[0], behind[1], behind[2])))
        assert judge(shown(seed), EVERY_MS, samples).outcome is Outcome.BACKGROUND_TOO


def test_bright_light_hides_the_screen_and_says_so() -> None:
    sunlit: Rgb = (245.0, 225.0, 210.0)
    verdicts = [judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed, face=0.01, skin=sunlit)) for seed in SEEDS]
    assert outcomes(verdicts) == {Outcome.TOO_BRIGHT}
    daylight: Rgb = (200.0, 170.0, 160.0)
    verdicts = [
        judge(shown(seed), EVERY_MS, filmed(shown(seed), seed=seed, face=0.003, skin=daylight)) for seed in SEEDS
    ]
    assert outcomes(verdicts) == {Outcome.TOO_BRIGHT}


def test_too_few_frames_say_nothing() -> None:
    samples = filmed(shown(0), seed=0)
    assert judge(shown(0), EVERY_MS, samples[:10]).outcome is Outcome.TOO_FEW
    assert judge(shown(0), EVERY_MS, samples[:-4]).outcome is Outcome.TOO_FEW
    assert judge(shown(0), EVERY_MS, []).outcome is Outcome.TOO_FEW


def test_sequence_is_of_one_attempt_only_and_never_repeats_a_colour_at_once() -> None:
    sequences = [shown(number) for number in range(2_000)]
    assert len(set(sequences)) > 1_980
    assert sequence(KEY, TXN, NONCE, LENGTH) == sequence(KEY, TXN, NONCE, LENGTH)
    assert sequence(digest_of("another key"), TXN, NONCE, LENGTH) != sequence(KEY, TXN, NONCE, LENGTH)
    assert sequence(KEY, digest_of("another transaction"), NONCE, LENGTH) != sequence(KEY, TXN, NONCE, LENGTH)
    assert all(one is not other for colours in sequences for one, other in itertools.pairwise(colours))
    first, last = Counter(colours[0] for colours in sequences), Counter(colours[-1] for colours in sequences)
    assert all(270 < count < 400 for counted in (first, last) for count in counted.values())


# What the comment on `flash` in policies.toml says, counted again: colours of one attempt, lit faces of another.


def camera(reflected: Sequence[Colour], every_ms: int, share: float, seed: int, late_ms: int = 40) -> list[Sample]:
    """About 15 frames a second, of skin that reflects red best, on a screen and a camera that are so late."""
    chance = random.Random(seed)
    at_ms, samples = chance.uniform(0, 67), []
    while at_ms < every_ms * len(reflected) + LATEST_MS:
        light = RGB_OF[reflected[min(int(max(0.0, at_ms - late_ms) // every_ms), len(reflected) - 1)]]
        face = [
            own * (1 + 0.03 * at_ms / 2000) + share * albedo * lit + chance.gauss(0, 1)
            for own, albedo, lit in zip(SKIN, (1, 0.75, 0.6), light, strict=True)
        ]
        wall = [own + 0.1 * share * lit + chance.gauss(0, 1) for own, lit in zip(WALL, light, strict=True)]
        samples.append(Sample(int(at_ms), (face[0], face[1], face[2]), (wall[0], wall[1], wall[2])))
        at_ms += 67 + chance.uniform(-8, 8)
    return samples


def fits(asked: Flash, pairs: int) -> int:
    """How many recordings, lit by the colours of one attempt, follow those of another."""
    chance = random.Random(1)
    shown = [sequence(KEY, TXN, number.to_bytes(16), asked.colours) for number in range(1_000)]
    fitting = 0
    for seed in range(pairs):
        one, other = chance.sample(shown, 2)
        verdict = judge(one, asked.every_ms, camera(other, asked.every_ms, 0.05, seed), asked.least_ppm)
        fitting += verdict.outcome is Outcome.FOLLOWED and one != other
    return fitting


@pytest.mark.parametrize(("policy", "most"), [(FLASHING, 0.03), (STRICT, 0.01)], ids=lambda value: str(value)[:20])
def test_recording_lit_by_the_colours_of_one_attempt_seldom_fits_another(policy: Policy, most: float) -> None:
    assert policy.flash is not None
    assert fits(policy.flash, 1_500) <= most * 1_500


@pytest.mark.parametrize("late_ms", [0, 40, 120, 200])
@pytest.mark.parametrize("policy", [FLASHING, STRICT], ids=lambda policy: str(policy.id))
def test_faces_lit_by_a_fiftieth_of_the_screens_light_follow_it(policy: Policy, late_ms: int) -> None:
    asked = policy.flash
    assert asked is not None
    shown = [sequence(KEY, TXN, number.to_bytes(16), asked.colours) for number in range(100)]
    verdicts = [
        judge(colours, asked.every_ms, camera(colours, asked.every_ms, 0.02, seed, late_ms), asked.least_ppm)
        for seed, colours in enumerate(shown)
    ]
    assert sum(verdict.outcome is Outcome.FOLLOWED for verdict in verdicts) >= 97
