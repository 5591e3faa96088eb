"""The file of policies: of one shape, or refused."""

from pathlib import Path

import pytest

import services.liveness
from services.liveness import policies
from services.liveness.policies import PoliciesError
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
    assert set(shipped) == {"sandbox-standard", "full-range"}
    policy = shipped["sandbox-standard"]
    assert policy.length >= 3
    assert policy.attempts == 3
    text = SHIPPED.read_text(encoding="utf-8")
    assert "Where the numbers come from" in text
    assert "not documented" in text


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
        ("passive_threshold_ppm = 900000", "passive_threshold_ppm = 1000001"),
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
