"""The file of policies: of one shape, or refused."""

from pathlib import Path

import pytest

import services.liveness
from mesh.transaction import Channel
from services.liveness import policies
from services.liveness.policies import BrightLight, PoliciesError
from services.liveness.prompts import GESTURES, Prompt

SHIPPED = Path(services.liveness.__path__[0]) / "policies.toml"


def sandbox_alone() -> str:
    text = SHIPPED.read_text(encoding="utf-8")
    return text[: text.index("[[policy]]", text.index("[[policy]]") + 1)]


def test_policy_for_everything_asks_for_everything() -> None:
    shipped = policies.load(SHIPPED)
    assert set(shipped["full-range"].prompts) == set(GESTURES)
    assert set(GESTURES) - set(shipped["sandbox-standard"].prompts) == {Prompt.LOOK_UP, Prompt.MOVE_CLOSER}


def test_shipped_file_is_read_and_states_where_its_numbers_come_from() -> None:
    shipped = policies.load(SHIPPED)
    assert set(shipped) == {"sandbox-standard", "sandbox-strict", "full-range"}
    policy = shipped["sandbox-standard"]
    assert policy.length >= 3
    assert policy.attempts == 3
    text = SHIPPED.read_text(encoding="utf-8")
    assert "Where the numbers come from" in text
    assert "not documented" in text


def test_policy_without_colours_shows_none(tmp_path: Path) -> None:
    text = sandbox_alone()
    without = tmp_path / "policies.toml"
    without.write_text(text[: text.index("[policy.flash]")], encoding="utf-8")
    assert policies.load(without)["sandbox-standard"].flash is None


def test_strict_policy_asks_for_at_least_as_much_as_the_standard_one_everywhere() -> None:
    shipped = policies.load(SHIPPED)
    standard, strict = shipped["sandbox-standard"], shipped["sandbox-strict"]
    assert strict.length > standard.length
    assert strict.random_keyframes > standard.random_keyframes
    assert strict.passive_threshold_ppm >= standard.passive_threshold_ppm
    assert all(strict.signals[signal] >= least for signal, least in standard.signals.items())
    assert standard.flash is not None
    assert strict.flash is not None
    assert set(strict.flash.channels) == set(Channel) > set(standard.flash.channels) == {Channel.HOSTED}
    assert strict.flash.colours > standard.flash.colours
    assert strict.flash.least_ppm > standard.flash.least_ppm
    assert (standard.flash.in_bright_light, strict.flash.in_bright_light) == (BrightLight.PASSES, BrightLight.FAILS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("length = 3", "length = 2"),
        ("length = 3", "length = 7"),
        ("length = 3", "length = true"),
        ("length = 3", "length = 3.5"),
        ("length = 3", ""),
        ("length = 3", "length = 3\nspeed = 4"),
        ("attempts = 3", "attempts = 4"),
        ("attempts = 3", "attempts = 0"),
        ('"SMILE", "BLINK"', '"SMILE", "SMILE"'),
        ('"SMILE", "BLINK"', '"SMILE", "WINK"'),
        ('"SMILE", "BLINK"', '"SMILE", "NEUTRAL"'),
        ('prompts = ["SMILE"', 'prompts = [1, "SMILE"'),
        ("passive_threshold_ppm = 500000", "passive_threshold_ppm = 1000001"),
        ("turn_deg = 9.0", "turn_deg = 0.0"),
        ("turn_deg = 9.0", "turn_deg = true"),
        ("turn_deg = 9.0", ""),
        ("times = [1, 2]", "times = [2, 1]"),
        ("times = [1, 2]", "times = [1, 1]"),
        ("times = [1, 2]", "times = []"),
        ("times = [1, 2]", "times = 1"),
        ("times = [1, 2]", "times = [0, 1]"),
        ("times = [1, 2]", "times = [true, 2]"),
        ("times = [1, 2]", "times = [1, 6]"),
        ("times = [1, 2]", ""),
        ("blinks = [1, 2, 3]", "blinks = [1, 9]"),
        ("holds_ms = [200", "holds_ms = [100"),
        ("800, 1000]", "800, 4000]"),
        ("reaches_percent = [100", "reaches_percent = [50"),
        ("reaches_percent = [100, 108, 116]", "reaches_percent = [100, 300]"),
        ("windows_ms = [10000", "windows_ms = [2000"),
        ("[policy.variety]", "[policy.varieties]"),
        ("[policy.framing]", "[policy.frame]"),
        ("colours = 6", "colours = 4"),
        ("colours = 6", "colours = 13"),
        ("colours = 6", "colours = 6.0"),
        ("colours = 6", ""),
        ("colours = 6", "colours = 6\nbrightness = 1"),
        ("every_ms = 300", "every_ms = 199"),  # more than three flashes a second
        ("every_ms = 300", "every_ms = 1001"),
        ("every_ms = 300", "every_ms = true"),
        ("window_ms = 8000", "window_ms = 4000"),  # less than the colours take and their frames need to arrive
        ("window_ms = 8000", "window_ms = 60000"),
        ("start_within_ms = 1500", "start_within_ms = 0"),
        ("least_ppm = 750000", "least_ppm = 1000001"),
        ("rounds = 2", "rounds = 4"),
        ("rounds = 2", "rounds = 0"),
        ('channels = ["HOSTED"]', "channels = []"),
        ('channels = ["HOSTED"]', 'channels = ["HOSTED", "HOSTED"]'),
        ('channels = ["HOSTED"]', 'channels = ["POST"]'),
        ('channels = ["HOSTED"]', 'channels = "HOSTED"'),
        ('in_bright_light = "PASSES"', 'in_bright_light = "MAYBE"'),
        ('in_bright_light = "PASSES"', ""),
        ("[policy.flash]", "[policy.flashes]"),
        ("[policy.flash]", "flash = 1\n[policy.flashes]"),
        ("random_keyframes = 3", "random_keyframes = 9"),
        ('id = "sandbox-standard"', "id = 7"),
        ('id = "sandbox-standard"', ""),
        ("[[policy]]", "[[policies]]"),
        ("[[policy]]", "[policy]"),
        ("[[policy]]", "[[policy"),
    ],
)
def test_file_of_another_shape_is_refused(tmp_path: Path, before: str, after: str) -> None:
    text = sandbox_alone()
    assert before in text
    changed = tmp_path / "policies.toml"
    changed.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(PoliciesError):
        policies.load(changed)


def test_policy_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    twice = tmp_path / "policies.toml"
    text = sandbox_alone()
    twice.write_text(text + text[text.index("[[policy]]") :], encoding="utf-8")
    with pytest.raises(PoliciesError):
        policies.load(twice)
