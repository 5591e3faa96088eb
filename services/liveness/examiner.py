"""The work of this room: start an attempt, judge its frames, conclude it with a receipt."""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mesh import metrics, telemetry
from mesh.admission import admit
from mesh.facts import PPM, Liveness
from mesh.names import new_id
from mesh.receipts import CurrentSigner
from services.liveness import attempt as attempts
from services.liveness import injection, passive
from services.liveness.attempt import Advance, Failure, Progress, Seen
from services.liveness.challenge import Script, Scripts, new_nonce
from services.liveness.errors import FramesTooLargeError, FrameUnreadableError, PolicyUnknownError
from services.liveness.injection import Declared
from services.liveness.observation import FrameAnalyser
from services.liveness.policies import Policy
from services.liveness.prompts import Hint, Prompt, State, Step
from services.liveness.quality import UNRATED, Quality, quality_of
from services.liveness.session import Change, Evidence, NewSession, Session, Sessions

MAX_BATCH_BYTES = 1024 * 1024
# Positions of random keyframes: after any number of prompts.
_FIRST_RANDOM = 100
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame: JPEG bytes, and milliseconds since the attempt's first frame by the device's clock."""

    jpeg: bytes = field(repr=False)
    captured_at_ms: int


@dataclass(frozen=True, slots=True)
class Concluded:
    """A passed attempt: its receipt, and the keyframes that the receipt names, in the prompts' order."""

    receipt: str
    keyframes: tuple[bytes, ...] = field(repr=False)
    passive_ppm: int
    prompts_ppm: int


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines liveness.

    `models_sha256` are the digests of the landmarker and of passive models A and B; `max_per_day` is how many attempts
    to be one person may fail, be abandoned or show another's face; `pick(n)` is a number below n that nobody can
    foretell.
    """

    sessions: Sessions
    analyser: FrameAnalyser
    scripts: Scripts
    policies: Mapping[str, Policy]
    signer: CurrentSigner
    models_sha256: tuple[bytes, ...]
    max_per_day: int
    now: Callable[[], datetime]
    make_id: Callable[[], str] = new_id
    make_nonce: Callable[[], bytes] = new_nonce
    pick: Callable[[int], int] = secrets.randbelow

    async def start(
        self, transaction_bytes: bytes, subject: str, declared: Declared | None = None, known: str = ""
    ) -> tuple[str, Step]:
        """Start an attempt with a fresh script; return its name and the first step. `declared` is the client's word.

        `known` is the attempt that the caller knew, as `NewSession` has it: of calls that come at once the first starts
        the attempt, and all are told of that one.

        Raises PreconditionError for a transaction that is not one, not of this environment or not current;
        PolicyUnknownError; StartedMeanwhileError; AttemptsExhaustedError; PersonLimitError.
        """
        now = self.now()
        admitted = admit(transaction_bytes, self.signer().env, int(now.timestamp()))
        policy = self._policy(admitted.transaction.policy)
        new = NewSession(
            id=self.make_id(),
            txn=admitted.txn,
            subject=subject,
            policy=policy.id,
            channel=admitted.transaction.channel,
            nonce=self.make_nonce(),
            started_at=now,
            expires_at=datetime.fromtimestamp(admitted.transaction.expires_at, UTC),
            declared=declared or Declared(),
            known=known,
        )
        begun = await self.sessions.begin(
            new,
            first_window=policy.neutral_window_ms * _MILLISECOND,
            max_attempts=policy.attempts,
            max_per_day=self.max_per_day,
        )
        script = self.scripts.write(begun.txn, begun.nonce, policy, begun.channel)
        begun_ms = (now - begun.started_at) // _MILLISECOND
        return begun.id, _step(begun.attempt, Advance(Progress(), State.RUNNING), script, policy, begun_ms)

    async def submit(self, name: str, frames: Sequence[Frame], flash_started_at_ms: int = 0) -> Step:
        """Judge a batch of frames and say what comes next; an attempt that has ended stays as it ended.

        `flash_started_at_ms` is when the device showed the first colour, by its clock; not read while none are asked
        for.

        Raises SessionUnknownError, SessionBusyError, FrameTimesError, FlashStartError, FramesTooLargeError,
        FrameUnreadableError, and whatever says that the frames cannot be analysed now; none of these costs the attempt
        anything but time.
        """
        # 1. The attempt runs, and its prompt's window is open.
        session = await self.sessions.load(name)
        policy = self._policy(session.policy)
        script = self.scripts.write(session.txn, session.nonce, policy, session.channel)
        if session.progress is None:
            return _ended(session, script, policy)
        now = self.now()
        now_ms = (now - session.started_at) // _MILLISECOND
        if now >= session.expires_at or attempts.window_left_ms(session.progress, script, policy, now_ms) == 0:
            late = Advance(session.progress, State.FAILED, failure=Failure.TIMEOUT)
            return await self._record(session, late, script, policy, [], [])

        # 2. The frames are a camera's: their times are plausible, and each can be read.
        if sum(len(frame.jpeg) for frame in frames) > MAX_BATCH_BYTES:
            raise FramesTooLargeError(f"The frames are larger than {MAX_BATCH_BYTES} bytes together.")
        progress = attempts.check_times(session.progress, [frame.captured_at_ms for frame in frames], now_ms)
        progress = attempts.check_start(progress, policy, flash_started_at_ms)
        batch = await self._look(policy, progress, frames)
        progress = replace(progress, traces=injection.look(progress.traces, [frame.jpeg for frame in frames]))

        # 3. What they show is judged, and recorded before anybody learns of it.
        earlier = await self.sessions.earlier(session, now) if progress.index >= len(script.moves) else ()
        advanced = attempts.advance(progress, script, policy, batch, now_ms, earlier)
        return await self._record(session, advanced, script, policy, frames, batch)

    async def conclude(self, name: str) -> Concluded:
        """Return the receipt and keyframes of an attempt that passed, the same ones however often it is asked.

        Raises SessionUnknownError, NotPassedError and EvidenceErasedError.
        """
        session = await self.sessions.load(name)
        policy = self._policy(session.policy)
        script = self.scripts.write(session.txn, session.nonce, policy, session.channel)
        evidence = _distinct(await self.sessions.evidence(name), script.last_index)
        receipt = evidence.receipt
        if receipt is None:
            now = self.now()
            least_ppm = {signal.value: least for signal, least in policy.signals.items()}
            stated = Liveness(
                session=session.id,
                attempt=session.attempt,
                script=script.id,
                **_quality_claims(evidence.qualities),
                keyframes_sha256=tuple(hashlib.sha256(keyframe).digest() for keyframe in evidence.keyframes),
                score_passive_ppm=evidence.passive_ppm,
                score_prompts_ppm=evidence.prompts_ppm,
                signals=tuple(evidence.signals_ppm),
                signals_ppm=tuple(evidence.signals_ppm.values()),
                thresholds_ppm=tuple(least_ppm.get(name, 0) for name in evidence.signals_ppm),
                **_flash_claims(evidence, policy),
                models_sha256=self.models_sha256,
                channel=session.channel,
            )
            signed = self.signer().sign(stated, txn=session.txn, policy=session.policy, now=int(now.timestamp()))
            receipt = await self.sessions.keep_receipt(name, signed, now)
        return Concluded(receipt, evidence.keyframes, evidence.passive_ppm, evidence.prompts_ppm)

    async def reject(self, name: str) -> None:
        """Count an attempt that passed as one that failed: its face is not the record's. Repeats change nothing.

        Raises SessionUnknownError and NotPassedError.
        """
        await self.sessions.reject(name, self.now())

    def _policy(self, policy_id: str) -> Policy:
        policy = self.policies.get(policy_id)
        if policy is None:
            raise PolicyUnknownError("The transaction's policy is not known here.")
        return policy

    async def _look(self, policy: Policy, progress: Progress, frames: Sequence[Frame]) -> list[Seen]:
        # The passive model is asked about one frame of every few, and of what is left of a batch: nobody can tell about
        # which, and nobody answers so fast that it was asked too rarely.
        every = policy.passive_every_frames
        asked = {start + self.pick(min(every, len(frames) - start)) for start in range(0, len(frames), every)}
        due = passive.spoof_is_due(progress.gathered, policy.spoof_every_frames)
        spoof_at = self.pick(len(frames)) if due else None
        seen: list[Seen] = []
        observed = await self.analyser.observe(
            [frame.jpeg for frame in frames],
            passive=[index in asked for index in range(len(frames))],
            spoof=[index == spoof_at for index in range(len(frames))],
            light=progress.colours is not None,
        )
        for index, (frame, observation) in enumerate(zip(frames, observed, strict=True)):
            if observation is None:
                raise FrameUnreadableError(index)
            seen.append(Seen(frame.captured_at_ms, observation))
        return seen

    async def _record(
        self,
        session: Session,
        advanced: Advance,
        script: Script,
        policy: Policy,
        frames: Sequence[Frame],
        batch: Sequence[Seen],
    ) -> Step:
        progress = advanced.progress
        keyframe, quality, random_keyframe = None, UNRATED, None
        answer, position = advanced.keyframe, len(progress.peaks) - 1
        if advanced.lit:
            answer, position = attempts.lit_keyframe(advanced, self.pick), len(script.moves)
        if answer is not None:
            keyframe = await self.analyser.keyframe(frames[answer].jpeg)
            quality = _quality(progress, batch[answer])
        chosen = attempts.random_keyframe(progress, policy, batch, self.pick)
        # One frame is no keyframe twice: facematch refuses a picture that stands for two.
        if chosen is not None and chosen != answer and advanced.state is not State.FAILED:
            random_position = _FIRST_RANDOM + progress.random_keyframes
            jpeg = await self.analyser.keyframe(frames[chosen].jpeg)
            random_keyframe = (random_position, jpeg, _quality(progress, batch[chosen]))
            progress = replace(progress, random_keyframes=progress.random_keyframes + 1)
        now = self.now()
        if progress.colours is not None and progress.colours.started_at_ms is None:
            # The first colour is awaited within a second or so: what this batch took to judge is not the person's time.
            progress = replace(progress, shown_at_ms=(now - session.started_at) // _MILLISECOND)
            advanced = replace(advanced, progress=progress)
        change = Change(
            state=advanced.state,
            progress=progress,
            failure=advanced.failure,
            keyframe=keyframe,
            keyframe_position=position,
            keyframe_quality=quality,
            random_keyframe=random_keyframe,
            fingerprint=() if advanced.state is State.RUNNING else passive.fingerprint(progress.gathered),
            injection=None
            if advanced.state is State.RUNNING
            else injection.score(session.declared, progress.traces, progress.clock),
        )
        await self.sessions.change(session, change, now)
        if advanced.state is not State.RUNNING:
            reason = advanced.failure.value if advanced.failure else "NONE"
            metrics.LIVENESS_ATTEMPTS.add(outcome=advanced.failure.value if advanced.failure else State.PASSED.value)
            if progress.verdict is not None:
                metrics.LIVENESS_PASSIVE_SCORE.record(progress.verdict.score_ppm / PPM)
            said = {"session": session.id, "state": advanced.state.value, "reason": reason}
            if progress.verdict is not None and progress.verdict.failed:
                said["signals"] = ",".join(progress.verdict.failed)
            telemetry.logger().info("attempt ended", **said)
        now_ms = (now - session.started_at) // _MILLISECOND
        return _step(session.attempt, advanced, script, policy, now_ms)


def _distinct(evidence: Evidence, asked: int) -> Evidence:
    """Leave out random keyframes that repeat a picture: facematch refuses one that stands twice.

    That of a prompt or of the colours is never left out: repeated ones are refused there, as they must be.
    """
    kept = list(range(min(asked, len(evidence.keyframes))))
    for index in range(asked, len(evidence.keyframes)):
        if evidence.keyframes[index] not in {evidence.keyframes[other] for other in kept}:
            kept.append(index)
    return replace(
        evidence,
        keyframes=tuple(evidence.keyframes[index] for index in kept),
        qualities=tuple(evidence.qualities[index] for index in kept),
    )


def _flash_claims(evidence: Evidence, policy: Policy) -> dict[str, Any]:
    if evidence.flashed is None or policy.flash is None:
        return {"flash": "NOT_SHOWN", "flash_ppm": 0, "flash_shifted_ppm": 0, "flash_least_ppm": 0}
    return {
        "flash": evidence.flashed.outcome.value,
        "flash_ppm": evidence.flashed.correlation_ppm,
        "flash_shifted_ppm": evidence.flashed.shifted_ppm,
        "flash_least_ppm": policy.flash.least_ppm,
    }


def _quality_claims(qualities: Sequence[Quality]) -> dict[str, Any]:
    return {f"quality_{part.name}": tuple(getattr(one, part.name) for one in qualities) for part in fields(Quality)}


def _quality(progress: Progress, seen: Seen) -> Quality:
    if progress.baseline is None or seen.observation.face is None:
        raise ValueError("a keyframe shows a face, and comes after the neutral one")
    return quality_of(seen.observation.face, progress.baseline)


def _step(number: int, advanced: Advance, script: Script, policy: Policy, now_ms: int) -> Step:
    running = advanced.state is State.RUNNING
    progress = advanced.progress
    move = attempts.move_of(progress, script) if running else None
    colours = progress.colours if running and policy.flash is not None else None
    watch = Prompt.WATCH_COLOURS if colours else Prompt.NEUTRAL
    return Step(
        state=advanced.state,
        prompt=move.prompt if move else watch,
        prompt_index=min(progress.index, script.last_index),
        prompt_count=script.last_index + 1,
        prompt_window_ms=attempts.window_left_ms(progress, script, policy, now_ms) if running else 0,
        hint=advanced.hint,
        attempt=number,
        attempts_left=policy.attempts - number,
        times=move.times if move else 0,
        times_done=progress.times_done if move else 0,
        hold_ms=move.hold_ms if move else 0,
        reach_percent=move.reach_percent if move else 0,
        colours=script.flashes[colours.round] if colours else (),
        every_ms=policy.flash.every_ms if colours and policy.flash else 0,
        flash_round=colours.round + 1 if colours else 0,
    )


def _ended(session: Session, script: Script, policy: Policy) -> Step:
    passed = session.state is State.PASSED
    return Step(
        state=State.PASSED if passed else State.FAILED,
        prompt=Prompt.NEUTRAL,
        prompt_index=script.last_index if passed else 0,
        prompt_count=script.last_index + 1,
        prompt_window_ms=0,
        hint=Hint.UNSPECIFIED,
        attempt=session.attempt,
        attempts_left=policy.attempts - session.attempt,
    )
