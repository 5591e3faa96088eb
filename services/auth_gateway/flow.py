"""The steps of an authentication: the same behind the hosted page, the step calls and the stream.

Each step is: look at the state, ask one spoke, change the state in one guarded statement. A process that dies in
between leaves the earlier state, and the step may be done again; what the spokes count (attempts, codes) stays counted.
"""

import datetime
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mesh import metrics, telemetry
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.facts import Factor
from mesh.floors import required_factors
from mesh.status import PeerError
from services.auth_gateway.authentication import (
    OPEN,
    Authentication,
    AuthenticationExpiredError,
    AuthenticationNotFoundError,
    ConsentsDifferError,
    EtagMismatchError,
    FailureReason,
    NumberDueError,
    NumberWrongError,
    Scores,
    State,
    StepRefusedError,
    Verdict,
    WrongStateError,
)
from services.auth_gateway.completion import Completion
from services.auth_gateway.pace import Pace
from services.auth_gateway.ports import (
    CaptureDevice,
    CodeAsker,
    CodeSent,
    FaceMatch,
    FaceMatcher,
    Frame,
    Liveness,
    LivenessEvidence,
    LivenessState,
    LivenessStep,
    Otp,
)
from services.auth_gateway.records import Records

# Longer than a comparison takes, so that a face that does not match is not told from a record that does not exist.
_REFUSAL_S = 1.5
# What facematch gets in place of a photo that there is none of: it refuses it after the same work.
_NO_PHOTO = "none"
# How facematch says that these are not pictures of one person: about the faces, or about a picture.
_FACE_MISMATCH = "FACE_MISMATCH"
_NOT_USABLE = "INVALID_ARGUMENT"
_UNSAID = CaptureDevice()
# liveness: this transaction has had all its attempts. otp: it has had all its checks.
_ATTEMPTS_EXHAUSTED = "LIVENESS_ATTEMPTS_EXHAUSTED"
_CHECKS_EXHAUSTED = "CHECK_LIMIT"
# liveness: the attempt that runs is another call's, and has been shown frames.
_STARTED_MEANWHILE = "LIVENESS_STARTED_MEANWHILE"
# Where biometrics lead; at once to the end where no code is needed.
_AFTER_BIOMETRICS = frozenset({State.AWAITING_CODE, State.COMPLETING, State.FINISHED})
_VERDICT_POLL_S = 0.25
# What a spoke's refusal says about the step, not about the mesh: it may leave under its own code and reason.
_STEP_CODES = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "NOT_FOUND", "ABORTED"})


def step_error(error: PeerError) -> FinIdError:
    """Return what leaves when a spoke refuses a step: its reason if it helps, else that the mesh is not available."""
    if error.code in _STEP_CODES and error.reason:
        return StepRefusedError(
            Code(error.code),
            error.reason,
            error.message,
            metadata=error.metadata,
            violations=error.violations,
            retry_after_s=error.retry_after_s,
        )
    telemetry.logger().warning("a spoke failed", peer=error.peer, code=error.code, reason=error.reason or "NONE")
    return DependencyUnavailableError("A part of FinID does not answer; try again.", retry_after_s=1.0)


def require_matched(current: Authentication) -> None:
    """Raise NumberDueError while the number of a cross-device journey is still to be entered."""
    if current.number_due:
        raise NumberDueError("Enter the number that is shown where you began.")


@dataclass(frozen=True, slots=True)
class Spokes:
    """The spokes that the steps ask."""

    liveness: Liveness
    facematch: FaceMatcher
    otp: Otp


class Flow:
    """Moves authentications through their states."""

    def __init__(
        self,
        records: Records,
        spokes: Spokes,
        completion: Completion,
        now: Callable[[], datetime.datetime],
        pace: Pace,
    ) -> None:
        self._records = records
        self._spokes = spokes
        self._completion = completion
        self._now = now
        self._pace = pace

    async def give_consents(self, current: Authentication, given: Sequence[tuple[str, str]]) -> Authentication:
        """Record that the person agreed to exactly the transaction's consents (id, version)."""
        self._require(current, State.AWAITING_CONSENTS)
        require_matched(current)
        if sorted(given) != sorted((text.id, text.version) for text in current.consents):
            raise ConsentsDifferError("The consents given are not exactly those of the authentication.")
        if not await self._records.give_consents(current.name, self._now(), current.only_version):
            raise await self._moved_on(current)
        return await self._reload(current)

    async def confirm_match(self, current: Authentication, entered: str, shown: str) -> Authentication:
        """Compare the number that the person entered with the one shown on the other device: one try, for good.

        Of calls at once the first that is stored decides, whichever it is, so that many guesses are worth one.
        """
        self._require(current, State.AWAITING_CONSENTS)
        if not current.number_due:
            return current
        if not hmac.compare_digest(entered.encode(), shown.encode()):
            await self._fail(current, FailureReason.NUMBER_NOT_MATCHED)
            raise NumberWrongError("This is not the number that is shown where you began.")
        if not await self._records.confirm_match(current.name, self._now()):
            raise await self._moved_on(current)
        return replace(current, number_due=False)

    async def start_liveness(self, current: Authentication, device: CaptureDevice = _UNSAID) -> LivenessStep:
        """Start an attempt with a fresh script; one that was running is abandoned and counts.

        Calls that come at once are told of the same attempt, and so is one that comes again because its answer got
        lost before the attempt was remembered here.
        """
        self._require(current, State.AWAITING_LIVENESS)
        known = current.liveness_session
        try:
            asked = (current.transaction_bytes, current.subject, device, known)
            session, step = await self._spokes.liveness.start(*asked)
        except PeerError as error:
            if error.reason == _STARTED_MEANWHILE:
                raise await self._started_meanwhile(current) from error
            # Another call's last attempt may have passed since this one looked: it is not failed for having come late.
            if error.reason == _ATTEMPTS_EXHAUSTED and not await self._fail(
                current, FailureReason.LIVENESS_FAILED, known
            ):
                raise await self._started_meanwhile(current) from error
            raise step_error(error) from error
        if not await self._records.start_liveness(
            current.name, session, self._now(), known=known, version=current.only_version
        ):
            raise await self._started_meanwhile(current)
        return step

    async def submit_frames(
        self, current: Authentication, frames: Sequence[Frame], flash_started_at_ms: int = 0
    ) -> LivenessStep:
        """Pass frames on; when the attempt passes, compare its keyframes with the reference photo."""
        self._require(current, State.AWAITING_LIVENESS)
        if not current.liveness_session:
            raise WrongStateError(current.state)
        try:
            step = await self._spokes.liveness.submit(current.liveness_session, frames, flash_started_at_ms)
            if step.state is LivenessState.PASSED:
                evidence = await self._spokes.liveness.conclude(current.liveness_session)
        except PeerError as error:
            raise step_error(error) from error
        if step.state is LivenessState.FAILED and step.attempts_left == 0:
            await self._fail(current, FailureReason.LIVENESS_FAILED)
        if step.state is not LivenessState.PASSED:
            return step
        return await self._match(current, step, evidence)

    async def _match(self, current: Authentication, step: LivenessStep, evidence: LivenessEvidence) -> LivenessStep:
        started = self._pace.clock()
        photo_jwe = await self._records.photo(current.name)
        if photo_jwe is None:
            return await self._judged_by_another(current, step)
        match = await self._compare(current, photo_jwe or _NO_PHOTO, evidence)
        if match is None:
            # Counted before anything else is done about it: until then a repeat judges the same attempt again, and from
            # then on whoever hangs up or cancels has had it.
            await self._reject(current)
            await self._pace.until(started + _REFUSAL_S)
            if not await self._records.drop_liveness(current.name, current.liveness_session):
                return await self._judged_by_another(current, step)
            if step.attempts_left == 0:
                await self._fail(current, FailureReason.IDENTITY_NOT_CONFIRMED)
            return replace(step, state=LivenessState.FAILED)
        scores = Scores(
            evidence.score_passive_ppm, evidence.score_prompts_ppm, match.similarities_ppm, match.threshold_ppm
        )
        receipts = (evidence.receipt, match.receipt)
        return step if await self._pass(current, receipts, scores) else await self._judged_by_another(current, step)

    async def _pass(self, current: Authentication, receipts: tuple[str, str], scores: Scores) -> bool:
        """Go on to the code; where none is needed, do what the authentication is for."""
        passed = (current.name, current.liveness_session, receipts, scores, self._now())
        if Factor.SMS_OTP in required_factors(current.purpose):
            return await self._records.pass_biometrics(*passed, current.only_version)
        lease_ends_at = self._completion.new_lease()
        if not await self._records.pass_biometrics_alone(*passed, lease_ends_at, current.only_version):
            return False
        await self._completion.run(current.name, lease_ends_at)
        return True

    async def _compare(self, current: Authentication, photo_jwe: str, evidence: LivenessEvidence) -> FaceMatch | None:
        """Return the match; None when the face is not the record's or there is no record, which look the same."""
        try:
            return await self._spokes.facematch.compare(current.transaction_bytes, photo_jwe, evidence.keyframes)
        except PeerError as error:
            if error.reason != _FACE_MISMATCH and error.code != _NOT_USABLE:
                raise step_error(error) from error
            telemetry.logger().info(
                "face match refused", authentication=current.name, reason=error.reason or "NONE", code=error.code
            )
            return None

    async def _reject(self, current: Authentication) -> None:
        try:
            await self._spokes.liveness.reject(current.liveness_session)
        except PeerError as error:
            raise step_error(error) from error

    async def _judged_by_another(self, current: Authentication, step: LivenessStep) -> LivenessStep:
        """Answer frames that came twice as the call that was first did; raise if the authentication has moved on."""
        reloaded = await self._reload(current)
        refusal = self._refusal(reloaded)
        if current.is_pinned and reloaded.version != current.version:
            raise EtagMismatchError
        if reloaded.state in _AFTER_BIOMETRICS:
            return step
        if reloaded.state is State.AWAITING_LIVENESS and not isinstance(refusal, AuthenticationExpiredError):
            return replace(step, state=LivenessState.FAILED)
        raise refusal

    async def send_code(self, current: Authentication, address: str = "") -> CodeSent:
        """Send, or send again, the code; otp renders the text from the transaction.

        `address` is the network address of the person's own browser, "" where the caller is somebody's server.
        """
        self._require(current, State.AWAITING_CODE)
        asker = CodeAsker(current.subject, address, current.challenge)
        try:
            sent = await self._spokes.otp.send(current.transaction_bytes, current.openings, current.language, asker)
        except PeerError as error:
            if error.reason == _CHECKS_EXHAUSTED:
                await self._fail(current, FailureReason.CODE_FAILED)
            raise step_error(error) from error
        if not await self._records.send_code(current.name, sent.challenge, self._now(), current.only_version):
            raise await self._moved_on(current)
        return sent

    async def verify_code(self, current: Authentication, code: str) -> Authentication:
        """Check the code, then do what the authentication is for.

        When that takes longer, the answer is COMPLETING; a repeat then says where it stands, as it does in FINISHED.
        """
        if current.state in {State.COMPLETING, State.FINISHED}:
            await self._completion.complete(current.name)
            return await self._reload(current)
        self._require(current, State.AWAITING_CODE)
        if not current.challenge:
            raise WrongStateError(current.state)
        try:
            sms_otp = await self._spokes.otp.verify(current.challenge, current.txn, code)
        except PeerError as error:
            if error.reason == _CHECKS_EXHAUSTED or error.metadata.get("checks_left") == "0":
                await self._fail(current, FailureReason.CODE_FAILED)
            raise step_error(error) from error
        lease_ends_at = self._completion.new_lease()
        passed = (current.name, current.challenge, sms_otp, self._now(), lease_ends_at, current.only_version)
        if not await self._records.pass_code(*passed):
            raise await self._moved_on(current)
        await self._completion.run(current.name, lease_ends_at)
        return await self._reload(current)

    async def wait_for_verdict(self, current: Authentication) -> Authentication:
        """Return the authentication once it is not COMPLETING any more."""
        while current.state is State.COMPLETING:
            await self._pace.sleep(_VERDICT_POLL_S)
            await self._completion.complete(current.name)
            current = await self._reload(current)
        return current

    async def cancel(self, current: Authentication) -> Authentication:
        """Give up before the factors are passed."""
        if current.state is State.CANCELLED:
            return current
        if not await self._records.cancel(current.name, current.only_version):
            reloaded = await self._reload(current)
            if current.is_pinned and reloaded.version != current.version:
                raise EtagMismatchError
            raise WrongStateError(reloaded.state)
        metrics.AUTHENTICATIONS_ABANDONED.add(state="CANCELLED")
        return await self._reload(current)

    def _require(self, current: Authentication, state: State) -> None:
        refusal = self._refusal(current)
        if current.state is not state or isinstance(refusal, AuthenticationExpiredError):
            raise refusal

    async def _moved_on(self, current: Authentication) -> FinIdError:
        """What to say when a guarded statement found another state than the one just read."""
        reloaded = await self._reload(current)
        if current.is_pinned and reloaded.version != current.version:
            return EtagMismatchError()
        return self._refusal(reloaded)

    async def _started_meanwhile(self, current: Authentication) -> FinIdError:
        """What to say to a start that lost against another call: of an attempt, unless the authentication moved on."""
        refusal = await self._moved_on(current)
        if isinstance(refusal, WrongStateError) and refusal.state is State.AWAITING_LIVENESS:
            return StepRefusedError(Code.ABORTED, _STARTED_MEANWHILE, "Another call started an attempt meanwhile.")
        return refusal

    def _refusal(self, current: Authentication) -> FinIdError:
        if current.state is State.EXPIRED or (current.state in OPEN and current.expires_at <= self._now()):
            return AuthenticationExpiredError("The time for this authentication is over.")
        return WrongStateError(current.state)

    async def _reload(self, current: Authentication) -> Authentication:
        reloaded = await self._records.get(current.name)
        if reloaded is None:
            raise AuthenticationNotFoundError("There is no such authentication.")
        return reloaded

    async def _fail(self, current: Authentication, reason: FailureReason, session: str | None = None) -> bool:
        """End it; with a session only while that is the last attempt. Return whether this call did."""
        failed = await self._records.fail(current.name, current.state, reason, self._now(), session)
        if failed:
            metrics.AUTHENTICATIONS_FINISHED.add(purpose=current.purpose, verdict=Verdict.FAILURE, reason=reason)
            telemetry.logger().info(
                "authentication finished", authentication=current.name, state=Verdict.FAILURE, reason=reason
            )
        return failed
