"""An attempt as it is remembered between calls, and the port of what remembers it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Protocol

from mesh.transaction import Channel
from services.liveness import flash, passive, traces
from services.liveness.attempt import Colours, Failure, Progress
from services.liveness.flash import Outcome, Sample
from services.liveness.frame_times import DeviceClock
from services.liveness.gestures import Baseline
from services.liveness.injection import Declared, Traces
from services.liveness.observation import Box, Face
from services.liveness.passive import Fingerprint, Signal, Verdict
from services.liveness.prompts import Prompt, State
from services.liveness.quality import UNRATED, Quality


@dataclass(frozen=True, slots=True)
class NewSession:
    """An attempt about to begin. `subject` is the caller's opaque name of the person, for all applications the same.

    `known` is the attempt that the caller knew when it decided to begin one, "" for none.
    """

    id: str
    txn: bytes
    subject: str
    policy: str
    channel: Channel
    nonce: bytes
    started_at: datetime
    expires_at: datetime
    progress: Progress = field(default_factory=Progress)
    declared: Declared = field(default_factory=Declared)
    known: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """An attempt. `version` counts its changes; `progress` is None once it has ended."""

    id: str
    txn: bytes
    policy: str
    channel: Channel
    attempt: int
    nonce: bytes
    state: State
    version: int
    progress: Progress | None
    started_at: datetime
    expires_at: datetime
    declared: Declared = field(default_factory=Declared)


@dataclass(frozen=True, slots=True)
class Change:
    """What a batch changes. `keyframe` is the JPEG of the prompt answered with it, at `keyframe_position` from 0.

    After all prompts comes that of the colours, which takes the place of the one before it.

    `injection` are the signs of injection, as `injection.score` counts them, when the attempt has ended.
    `random_keyframe` is one beside, with its position and quality; its position is beyond all prompts'. `fingerprint`
    is what is remembered of the attempt's frames when it has ended.
    """

    state: State
    progress: Progress
    failure: Failure | None = None
    keyframe: bytes | None = field(default=None, repr=False)
    keyframe_position: int = 0
    injection: Mapping[str, int] | None = None
    keyframe_quality: Quality = UNRATED
    random_keyframe: tuple[int, bytes, Quality] | None = field(default=None, repr=False)
    fingerprint: Fingerprint = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attempt that passed leaves: keyframes in the prompts' order, that of the colours, then the random ones.

    `qualities` are the keyframes', in their order.
    `signals_ppm` are the passive signals' scores by name, as passive.Signal has them. `receipt` is the one given, if
    any; `flashed` is what was concluded of the colours, None when none were shown.
    """

    keyframes: tuple[bytes, ...] = field(repr=False)
    qualities: tuple[Quality, ...]
    passive_ppm: int
    prompts_ppm: int
    signals_ppm: Mapping[str, int]
    receipt: str | None
    flashed: flash.Verdict | None = None


class Sessions(Protocol):
    """Remembers attempts, for all replicas of the service."""

    async def begin(self, new: NewSession, *, first_window: timedelta, max_attempts: int, max_per_day: int) -> Session:
        """Record an attempt and return it, numbered from 1; the transaction's running one is abandoned.

        Unless the running one is not the known one: then another call began it, and it is returned instead while it
        waits for its first frames, for `first_window`. Of one to which frames were submitted there is no telling.

        Raises StartedMeanwhileError, AttemptsExhaustedError and PersonLimitError.
        """
        ...

    async def load(self, session: str) -> Session:
        """Return an attempt. Raises SessionUnknownError."""
        ...

    async def change(self, session: Session, change: Change, now: datetime) -> None:
        """Record what a batch changed. Raises SessionBusyError when the attempt has changed since it was loaded."""
        ...

    async def earlier(self, session: Session, now: datetime) -> Sequence[Fingerprint]:
        """Return the fingerprints of the person's other attempts, the latest ones, as far as they are remembered."""
        ...

    async def evidence(self, session: str) -> Evidence:
        """Return what an attempt that passed leaves. Raises NotPassedError and EvidenceErasedError."""
        ...

    async def keep_receipt(self, session: str, receipt: str, now: datetime) -> str:
        """Keep a receipt unless there is one, and return the one kept. Keyframes are erased a while later."""
        ...

    async def reject(self, session: str, now: datetime) -> None:
        """Count an attempt that passed against the person, as one that failed; in all else it stays as it was.

        Raises SessionUnknownError and NotPassedError.
        """
        ...

    async def erase_expired(self, now: datetime) -> int:
        """Erase what is not needed any more; return how many keyframes were."""
        ...


def to_json(progress: Progress) -> str:
    """Progress as it is stored: numbers and the names of gestures, nothing of a picture."""
    return json.dumps(progress, default=_fields_of, allow_nan=False)


def _fields_of(value: Any) -> Any:
    """What JSON has for a dataclass, as it is met: `asdict` would copy each of a clip's thousands of numbers first."""
    if isinstance(value, frozenset):
        return sorted(value)
    return {item.name: getattr(value, item.name) for item in fields(value)}


def from_json(text: str) -> Progress:
    """What `to_json` made text of."""
    value = json.loads(text)
    return Progress(
        **value
        | {
            "clock": _clock(**value["clock"]),
            "traces": _traces(**value["traces"]),
            "last_face": None if value["last_face"] is None else (value["last_face"][0], Box(**value["last_face"][1])),
            "neutral": tuple(_face(face) for face in value["neutral"]),
            "baseline": None if value["baseline"] is None else Baseline(**value["baseline"]),
            "rested": frozenset(Prompt(name) for name in value["rested"]),
            "peaks": tuple(value["peaks"]),
            "gathered": passive.from_json(value["gathered"]),
            "verdict": None if value["verdict"] is None else _verdict(value["verdict"]),
            "colours": None if value["colours"] is None else _colours(value["colours"]),
            "flashed": None if value["flashed"] is None else flash_from_json(value["flashed"]),
        }
    )


def _clock(last_ms: int | None, delay_ms: list[int] | None, steps_ms: list[int]) -> DeviceClock:
    return DeviceClock(last_ms, None if delay_ms is None else (delay_ms[0], delay_ms[1]), tuple(steps_ms))


def _traces(tables: list[str], qualities: list[int], sizes_px: list[list[int]]) -> Traces:
    return Traces(tuple(tables), tuple(qualities), tuple((width, height) for width, height in sizes_px))


def _verdict(value: dict[str, Any]) -> Verdict:
    signals_ppm = {Signal(name): ppm for name, ppm in value["signals_ppm"].items()}
    failed = tuple(Signal(name) for name in value["failed"])
    return Verdict(**value | {"signals_ppm": signals_ppm, "failed": failed})


def flash_from_json(value: Mapping[str, Any]) -> flash.Verdict:
    """What `dataclasses.asdict` and JSON made of a verdict on colours."""
    return flash.Verdict(Outcome(value["outcome"]), value["correlation_ppm"], value["shifted_ppm"])


def _colours(value: dict[str, Any]) -> Colours:
    samples = (Sample(one["at_ms"], tuple(one["face"]), tuple(one["background"])) for one in value["samples"])
    return Colours(**value | {"samples": tuple(samples)})


def _face(value: dict[str, Any]) -> Face:
    # No face that is remembered has light: what was measured while colours were shown is in samples.
    return Face(**value | {"box": Box(**value["box"]), "traces": traces.from_json(value["traces"])})
