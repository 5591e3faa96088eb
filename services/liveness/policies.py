"""The policies that a transaction may name, from a file that states where their numbers come from."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

from mesh.transaction import Channel
from services.liveness.passive import Rules, Signal
from services.liveness.prompts import GESTURES, Prompt

_PPM = 1_000_000
_FULL_PERCENT = 100
_MAX_PERCENT = 200
MAX_KEYFRAMES = 12
"""What facematch takes."""
_MIN_PROMPTS = 3  # the rules for banks (2026) ask for at least three
_MAX_PROMPTS = 6  # their keyframes go out in one message
_MAX_TIMES = 5
_MAX_HOLD_MS = 3000
# A window leaves time to read, and to try again: so many times what the longest prompt takes to hold.
_MIN_WINDOW_HOLDS = 3
_MAX_ATTEMPTS = 3  # and say that three failed attempts mean refusal
# Fewer colours follow each other by chance too often. A quarter of a second shows a camera of ten frames a second each
# one twice. No faster than five changes a second: three flashes, each a change and one back, are safe to look at (WCAG
# 2.2, 2.3.1).
_COLOURS = (5, 12)
_EVERY_MS = (200, 1000)
_MAX_ROUNDS = 3
# What a window leaves for frames to arrive after the last colour.
_MIN_ARRIVAL_MS = 1000
_MAX_FLASH_WINDOW_MS = 30_000


class PoliciesError(ValueError):
    """The file of policies cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Amplitudes:
    """How far from the person's own baseline each gesture counts. Degrees; fractions as `observation.Face` has them.

    `smile`: share of the way from the baseline to a full smile. `blink`: share of the eyes' height that is gone.
    `closer`: by how much the face has grown, as a share of its width and height.
    """

    smile: float
    blink: float
    open_mouth: float
    look_down_deg: float
    look_up_deg: float
    turn_deg: float
    closer: float


@dataclass(frozen=True, slots=True)
class Framing:
    """Which frames can be judged: the face's height as a share of the frame's, and its brightness (0 to 255)."""

    min_face: float
    max_face: float
    min_luma: float
    max_luma: float


@dataclass(frozen=True, slots=True)
class Variety:
    """How a prompt may be asked; a script draws one of each. Each list goes up, without repeats.

    `times` is how often a gesture is asked for, `blinks` how often a blink; `reaches_percent` are shares of the
    policy's amplitude, `holds_ms` are the device's time (a blink is not held), `windows_ms` server time.
    """

    times: tuple[int, ...]
    blinks: tuple[int, ...]
    holds_ms: tuple[int, ...]
    reaches_percent: tuple[int, ...]
    windows_ms: tuple[int, ...]


class BrightLight(StrEnum):
    """What becomes of an attempt whose light hides the screen's. PASSES: with a receipt that says so."""

    PASSES = "PASSES"
    FAILS = "FAILS"


@dataclass(frozen=True, slots=True)
class Flash:
    """Colours that the screen shows after the last prompt, in attempts over `channels`: `colours` of them.

    Each is shown for `every_ms` of the device's time, the first at most `start_within_ms` after it was asked for; all
    frames arrive within `window_ms` of server time. The face's changes of colour correlate with the sequence's by at
    least `least_ppm`. When too little of it is seen, or the face is lost meanwhile, another sequence is shown, in at
    most `rounds`.
    """

    channels: tuple[Channel, ...]
    colours: int
    every_ms: int
    start_within_ms: int
    window_ms: int
    least_ppm: int
    rounds: int
    in_bright_light: BrightLight

    def __post_init__(self) -> None:
        rules = (
            ("channels", bool(self.channels) and len(set(self.channels)) == len(self.channels)),
            ("colours", _COLOURS[0] <= self.colours <= _COLOURS[1]),
            ("every_ms", _EVERY_MS[0] <= self.every_ms <= _EVERY_MS[1]),
            ("least_ppm", self.least_ppm <= _PPM),
            ("rounds", self.rounds <= _MAX_ROUNDS),
            (
                "window_ms",
                self.start_within_ms + self.length_ms + _MIN_ARRIVAL_MS <= self.window_ms <= _MAX_FLASH_WINDOW_MS,
            ),
        )
        if broken := [name for name, holds in rules if not holds]:
            raise PoliciesError(f"flash: {broken[0]} is out of range")

    @property
    def length_ms(self) -> int:
        """How long all colours together are shown."""
        return self.colours * self.every_ms


@dataclass(frozen=True, slots=True)
class Policy:
    """How strict an attempt is. `neutral_window_ms` is server time, `hold_ms` is the device's, `*_frames` are counts.

    `hold_ms` is how long a gesture that was not asked for is held to fail the attempt.
    """

    id: str
    prompts: tuple[Prompt, ...]
    length: int
    attempts: int
    neutral_window_ms: int
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
    variety: Variety
    signals: Mapping[Signal, int]
    flash: Flash | None = None

    def flash_over(self, channel: Channel | None) -> Flash | None:
        """What colours are shown over a channel, None when none are."""
        return self.flash if self.flash is not None and channel in self.flash.channels else None

    @property
    def passive_rules(self) -> Rules:
        """What the clip's passive signals are judged by."""
        return Rules(self.passive_min_frames, self.passive_threshold_ppm, self.signals)

    def __post_init__(self) -> None:
        variety = self.variety
        rules = (
            ("prompts", set(self.prompts) <= set(GESTURES) and len(set(self.prompts)) == len(self.prompts)),
            ("length", _MIN_PROMPTS <= self.length <= min(_MAX_PROMPTS, len(self.prompts))),
            ("attempts", 1 <= self.attempts <= _MAX_ATTEMPTS),
            ("signals", {Signal.MODEL_A, Signal.MODEL_B} <= set(self.signals)),
            ("random_keyframes", self.length + self.random_keyframes + bool(self.flash) <= MAX_KEYFRAMES),
            ("signals", all(0 < least <= _PPM for least in self.signals.values())),
            ("passive_threshold_ppm", 0 < self.passive_threshold_ppm <= _PPM),
            ("times", variety.times[-1] <= _MAX_TIMES and variety.blinks[-1] <= _MAX_TIMES),
            ("holds_ms", self.hold_ms <= variety.holds_ms[0] <= variety.holds_ms[-1] <= _MAX_HOLD_MS),
            (
                "reaches_percent",
                _FULL_PERCENT <= variety.reaches_percent[0] <= variety.reaches_percent[-1] <= _MAX_PERCENT,
            ),
            ("windows_ms", variety.windows_ms[0] >= _MIN_WINDOW_HOLDS * variety.times[-1] * variety.holds_ms[-1]),
        )
        if broken := [name for name, holds in rules if not holds]:
            raise PoliciesError(f"policy {self.id}: {broken[0]} is out of range")

    @property
    def calm_framing(self) -> Framing:
        """The framing of the neutral face: when the person may have to move closer, it leaves room for that."""
        if Prompt.MOVE_CLOSER not in self.prompts:
            return self.framing
        most = 1 + self.amplitudes.closer * self.variety.reaches_percent[-1] / _FULL_PERCENT
        return replace(self.framing, max_face=self.framing.max_face / most)


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
    variety = Variety(**_choices(values.pop("variety")))
    signals = _signals(values.pop("signals"))
    flash = _flash(values.pop("flash")) if "flash" in values else None
    names = values.pop("prompts")
    if not isinstance(names, list) or not all(name in GESTURES for name in names):
        raise PoliciesError("prompts must be gestures")
    policy_id = values.pop("id")
    tables_of = {"prompts", "amplitudes", "framing", "variety", "signals", "flash"}
    counts = {field.name for field in fields(Policy)} - {"id"} - tables_of
    # Python's bool is an int, and TOML has both floats and booleans.
    numbers = {name: value for name, value in values.items() if type(value) is int and value > 0}
    if not isinstance(policy_id, str) or set(values) != counts or numbers != values:
        raise PoliciesError(f"a policy has an id and, as whole numbers above 0, exactly {', '.join(sorted(counts))}")
    prompts = tuple(Prompt(name) for name in names)
    return Policy(
        id=policy_id,
        prompts=prompts,
        amplitudes=amplitudes,
        framing=framing,
        variety=variety,
        signals=signals,
        flash=flash,
        **numbers,
    )


def _choices(value: object) -> dict[str, tuple[int, ...]]:
    names = {field.name for field in fields(Variety)}
    if not isinstance(value, dict) or set(value) != names:
        raise PoliciesError(f"variety has exactly {', '.join(sorted(names))}")
    for name, choices in value.items():
        if not isinstance(choices, list) or not choices or not all(type(item) is int and item > 0 for item in choices):
            raise PoliciesError(f"variety: {name} is a list of whole numbers above 0")
        if choices != sorted(set(choices)):
            raise PoliciesError(f"variety: {name} goes up, without repeats")
    return {name: tuple(choices) for name, choices in value.items()}


def _flash(value: object) -> Flash:
    names = {field.name for field in fields(Flash)}
    if not isinstance(value, dict) or set(value) != names:
        raise PoliciesError(f"flash has exactly {', '.join(sorted(names))}")
    numbers = dict(value)
    channels, in_bright_light = numbers.pop("channels"), numbers.pop("in_bright_light")
    if not isinstance(channels, list) or not all(name in set(Channel) for name in channels):
        raise PoliciesError(f"flash: channels are of {', '.join(Channel)}")
    if in_bright_light not in set(BrightLight):
        raise PoliciesError(f"flash: in_bright_light is one of {', '.join(BrightLight)}")
    if not all(type(number) is int and number > 0 for number in numbers.values()):
        raise PoliciesError("flash: numbers are whole and above 0")
    return Flash(
        channels=tuple(Channel(name) for name in channels), in_bright_light=BrightLight(in_bright_light), **numbers
    )


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
