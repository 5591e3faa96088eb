"""The policies that a transaction may name, from a file that states where their numbers come from."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from services.liveness.passive import Rules, Signal
from services.liveness.prompts import GESTURES, Prompt

_PPM = 1_000_000
MAX_KEYFRAMES = 12
"""What facematch takes."""
_MIN_PROMPTS = 3  # the rules for banks (2026) ask for at least three
_MAX_ATTEMPTS = 3  # and say that three failed attempts mean refusal


class PoliciesError(ValueError):
    """The file of policies cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Amplitudes:
    """How far from the person's own baseline each gesture counts. Degrees; fractions as `observation.Face` has them.

    `smile`: share of the way from the baseline to a full smile. `blink`: share of the eyes' height that is gone.
    """

    smile: float
    blink: float
    open_mouth: float
    look_down_deg: float
    turn_deg: float


@dataclass(frozen=True, slots=True)
class Framing:
    """Which frames can be judged: the face's height as a share of the frame's, and its brightness (0 to 255)."""

    min_face: float
    max_face: float
    min_luma: float
    max_luma: float


@dataclass(frozen=True, slots=True)
class Policy:
    """How strict an attempt is. `*_window_ms` are server time, `hold_ms` is the device's, `*_frames` are counts."""

    id: str
    prompts: tuple[Prompt, ...]
    length: int
    attempts: int
    neutral_window_ms: int
    prompt_window_ms: int
    neutral_frames: int
    hold_ms: int
    passive_every_frames: int
    passive_min_frames: int
    passive_threshold_ppm: int
    spoof_every_frames: int
    random_keyframes: int
    random_keyframe_batches: int
    amplitudes: Amplitudes
    framing: Framing
    signals: Mapping[Signal, int]

    @property
    def passive_rules(self) -> Rules:
        """What the clip's passive signals are judged by."""
        return Rules(self.passive_min_frames, self.passive_threshold_ppm, self.signals)

    def __post_init__(self) -> None:
        rules = (
            ("prompts", set(self.prompts) <= set(GESTURES) and len(set(self.prompts)) == len(self.prompts)),
            ("length", _MIN_PROMPTS <= self.length <= len(self.prompts)),
            ("attempts", 1 <= self.attempts <= _MAX_ATTEMPTS),
            ("signals", {Signal.MODEL_A, Signal.MODEL_B} <= set(self.signals)),
            ("random_keyframes", self.length + self.random_keyframes <= MAX_KEYFRAMES),
            ("signals", all(0 < least <= _PPM for least in self.signals.values())),
            ("passive_threshold_ppm", 0 < self.passive_threshold_ppm <= _PPM),
        )
        if broken := [name for name, holds in rules if not holds]:
            raise PoliciesError(f"policy {self.id}: {broken[0]} is out of range")


def load(path: Path) -> Mapping[str, Policy]:
    """The policies in a TOML file, by id. Raises PoliciesError when one is not of this shape or stands there twice."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["policy"]
        policies = {policy.id: policy for policy in map(_policy, tables)}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise PoliciesError(f"{path.name}: not a list of policies") from error
    if not policies or len(policies) != len(tables):
        raise PoliciesError(f"{path.name}: each policy stands there once, and at least one does")
    return policies


def _policy(table: object) -> Policy:
    if not isinstance(table, dict):
        raise PoliciesError("a policy is a table")
    values = dict(table)
    amplitudes = Amplitudes(**_floats(values.pop("amplitudes"), Amplitudes))
    framing = Framing(**_floats(values.pop("framing"), Framing))
    signals = _signals(values.pop("signals"))
    names = values.pop("prompts")
    if not isinstance(names, list) or not all(name in GESTURES for name in names):
        raise PoliciesError("prompts must be gestures")
    policy_id = values.pop("id")
    counts = {field.name for field in fields(Policy)} - {"id", "prompts", "amplitudes", "framing", "signals"}
    # Python's bool is an int, and TOML has both floats and booleans.
    numbers = {name: value for name, value in values.items() if type(value) is int and value > 0}
    if not isinstance(policy_id, str) or set(values) != counts or numbers != values:
        raise PoliciesError(f"a policy has an id and, as whole numbers above 0, exactly {', '.join(sorted(counts))}")
    prompts = tuple(Prompt(name) for name in names)
    return Policy(id=policy_id, prompts=prompts, amplitudes=amplitudes, framing=framing, signals=signals, **numbers)


def _signals(value: object) -> Mapping[Signal, int]:
    if not isinstance(value, dict) or not all(name in set(Signal) for name in value):
        raise PoliciesError("signals has the least score of each signal that decides")
    if not all(type(least) is int for least in value.values()):
        raise PoliciesError("signals: numbers must be whole")
    return {Signal(name): least for name, least in value.items()}


def _floats(value: object, kind: type[Amplitudes | Framing]) -> dict[str, float]:
    names = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        raise PoliciesError(f"{kind.__name__.lower()} has exactly {', '.join(sorted(names))}")
    if not all(type(number) in {int, float} and number > 0 for number in value.values()):
        raise PoliciesError(f"{kind.__name__.lower()}: numbers must be above 0")
    return {name: float(number) for name, number in value.items()}
