"""Stand-ins for what liveness reaches over a wire: a store in memory, a worker without a process, a clock."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.liveness.errors import (
    AttemptsExhaustedError,
    EvidenceErasedError,
    NotPassedError,
    PersonLimitError,
    SessionBusyError,
    SessionUnknownError,
    StartedMeanwhileError,
)
from services.liveness.flash import Verdict
from services.liveness.observation import Observation, from_worker
from services.liveness.passive import Fingerprint
from services.liveness.prompts import State
from services.liveness.quality import Quality
from services.liveness.session import Change, Evidence, NewSession, Session, from_json, to_json
from tests.bundles import NOW

if TYPE_CHECKING:
    from services.liveness.model import FrameModel


@dataclass
class Clock:
    """Time that moves when it is told to, or when somebody sleeps."""

    at: datetime = field(default_factory=lambda: datetime.fromtimestamp(NOW - 60, UTC))

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class _Kept:
    session: Session
    subject: str
    keyframes: dict[int, bytes] = field(default_factory=dict)
    qualities: dict[int, Quality] = field(default_factory=dict)
    scores: tuple[int, int] = (0, 0)
    signals: dict[str, int] = field(default_factory=dict)
    flash: Verdict | None = None
    rejected: bool = False
    receipt: str | None = None
    failure: str = ""
    injection: Mapping[str, int] | None = None
    fingerprint: Fingerprint = ()


class SessionsInMemory:
    """See session.Sessions."""

    def __init__(self) -> None:
        self.kept: dict[str, _Kept] = {}

    async def begin(self, new: NewSession, *, first_window: timedelta, max_attempts: int, max_per_day: int) -> Session:
        of_transaction = [kept for kept in self.kept.values() if kept.session.txn == new.txn]
        for kept in of_transaction:
            if kept.session.state is State.RUNNING:
                if kept.session.id != new.known and kept.session.version:
                    raise StartedMeanwhileError("")
                if kept.session.id != new.known and kept.session.started_at + first_window > new.started_at:
                    return kept.session
                kept.session = replace(kept.session, state=State.ABANDONED, progress=None)
        if len(of_transaction) >= max_attempts:
            raise AttemptsExhaustedError("")
        counted = [
            kept
            for kept in self.kept.values()
            if kept.subject == new.subject
            and (kept.session.state is not State.PASSED or kept.rejected)
            and kept.session.started_at > new.started_at - timedelta(days=1)
        ]
        if len(counted) >= max_per_day:
            raise PersonLimitError("")
        session = Session(
            id=new.id,
            txn=new.txn,
            policy=new.policy,
            channel=new.channel,
            attempt=len(of_transaction) + 1,
            nonce=new.nonce,
            state=State.RUNNING,
            version=0,
            progress=from_json(to_json(new.progress)),
            started_at=new.started_at,
            expires_at=new.expires_at,
            declared=new.declared,
        )
        self.kept[new.id] = _Kept(session, new.subject)
        return session

    async def load(self, session: str) -> Session:
        if session not in self.kept:
            raise SessionUnknownError("")
        return self.kept[session].session

    async def change(self, session: Session, change: Change, now: datetime) -> None:
        kept = self.kept[session.id]
        if kept.session.version != session.version or kept.session.state is not State.RUNNING:
            raise SessionBusyError("")
        running = change.state is State.RUNNING
        progress = from_json(to_json(change.progress)) if running else None
        kept.session = replace(session, version=session.version + 1, state=change.state, progress=progress)
        kept.scores = (change.progress.passive_ppm, change.progress.prompts_ppm)
        verdict = change.progress.verdict
        kept.signals = {signal.value: ppm for signal, ppm in verdict.signals_ppm.items()} if verdict else {}
        kept.flash = change.progress.flashed
        kept.failure = change.failure.value if change.failure else ""
        kept.injection = change.injection
        kept.fingerprint = change.fingerprint
        if change.keyframe is not None:
            kept.keyframes[change.keyframe_position] = change.keyframe
            kept.qualities[change.keyframe_position] = change.keyframe_quality
        if change.random_keyframe is not None:
            position, kept.keyframes[position], kept.qualities[position] = change.random_keyframe
        if change.state is State.FAILED:
            kept.keyframes.clear()

    async def earlier(self, session: Session, now: datetime) -> Sequence[Fingerprint]:
        subject = self.kept[session.id].subject
        return [
            kept.fingerprint
            for name, kept in self.kept.items()
            if kept.subject == subject and name != session.id and kept.fingerprint
        ]

    async def evidence(self, session: str) -> Evidence:
        kept = self.kept[session]
        if kept.session.state is not State.PASSED:
            raise NotPassedError("")
        if not kept.keyframes:
            raise EvidenceErasedError("")
        keyframes = tuple(keyframe for _, keyframe in sorted(kept.keyframes.items()))
        qualities = tuple(quality for _, quality in sorted(kept.qualities.items()))
        return Evidence(keyframes, qualities, *kept.scores, kept.signals, kept.receipt, kept.flash)

    async def keep_receipt(self, session: str, receipt: str, now: datetime) -> str:
        self.kept[session].receipt = self.kept[session].receipt or receipt
        return str(self.kept[session].receipt)

    async def reject(self, session: str, now: datetime) -> None:
        if (await self.load(session)).state is not State.PASSED:
            raise NotPassedError("")
        self.kept[session].rejected = True

    async def erase_expired(self, now: datetime) -> int:
        return 0

    def only(self) -> _Kept:
        (kept,) = self.kept.values()
        return kept


class Remembering:
    """The real model, asked once about each picture: it judges each by itself (test_model.py shows that)."""

    def __init__(self, model: "FrameModel") -> None:
        self._model = model
        self._answers: dict[tuple[bytes, bool, bool, bool], Any] = {}

    def observe(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        asked = list(zip(blobs, header["passive"], header["spoof"], strict=True))
        return {"frames": [self._answer(*one, bool(header["light"])) for one in asked]}, []

    def keyframe(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        return self._model.keyframe(header, blobs)

    def _answer(self, jpeg: bytes, passive: bool, spoof: bool, light: bool) -> Any:
        key = (jpeg, passive, spoof, light)
        if key not in self._answers:
            header = {"passive": [passive], "spoof": [spoof], "light": light}
            (self._answers[key],) = self._model.observe(header, [jpeg])[0]["frames"]
        return self._answers[key]


class ModelInProcess:
    """The real model, or anything with its methods, called without a process."""

    def __init__(self, model: Any) -> None:
        self._model = model

    async def observe(
        self, frames: Sequence[bytes], *, passive: Sequence[bool], spoof: Sequence[bool] = (), light: bool = False
    ) -> list[Observation | None]:
        header, _ = self._model.observe(
            {"passive": list(passive), "spoof": list(spoof) or [False] * len(frames), "light": light}, frames
        )
        return [from_worker(answer) for answer in json.loads(json.dumps(header))["frames"]]

    async def keyframe(self, frame: bytes) -> bytes:
        _, blobs = self._model.keyframe({}, [frame])
        return bytes(blobs[0])
