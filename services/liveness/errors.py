"""Why liveness refuses. Names are stable; see docs/errors.md. That an attempt fails is a result, not an error."""

from mesh.errors import Code, FieldViolation, FinIdError, InvalidArgumentError


class PolicyUnknownError(FinIdError):
    """The transaction names a policy that this service does not have."""

    code = Code.FAILED_PRECONDITION
    reason = "POLICY_UNKNOWN"


class AttemptsExhaustedError(FinIdError):
    """The transaction has had all its attempts."""

    code = Code.FAILED_PRECONDITION
    reason = "LIVENESS_ATTEMPTS_EXHAUSTED"


class StartedMeanwhileError(FinIdError):
    """Another call started the attempt that runs, and frames were submitted to it: only who knows it ends it."""

    code = Code.ABORTED
    reason = "LIVENESS_STARTED_MEANWHILE"


class PersonLimitError(FinIdError):
    """Too many attempts to be this person failed, were abandoned or showed another's face within a day.

    Over all applications.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = "LIVENESS_PERSON_LIMIT"


class SessionUnknownError(FinIdError):
    """There is no such attempt."""

    code = Code.NOT_FOUND
    reason = "LIVENESS_SESSION_UNKNOWN"


class SessionBusyError(FinIdError):
    """Other frames of the same attempt were judged meanwhile; frames go up one batch after the other."""

    code = Code.ABORTED
    reason = "LIVENESS_SESSION_BUSY"


class NotPassedError(FinIdError):
    """Only an attempt that passed has a receipt."""

    code = Code.FAILED_PRECONDITION
    reason = "LIVENESS_NOT_PASSED"


class EvidenceErasedError(FinIdError):
    """The keyframes were erased, as they are soon after the receipt was given; a new attempt is needed."""

    code = Code.FAILED_PRECONDITION
    reason = "LIVENESS_EVIDENCE_ERASED"


class FrameUnreadableError(InvalidArgumentError):
    """A frame is no JPEG of a kind that is decoded; names it, and the rule that it breaks."""

    reason = "FRAME_UNREADABLE"

    def __init__(self, index: int, rule: str = "must be a whole JPEG with sides of 240 to 2048 pixels") -> None:
        super().__init__("A frame cannot be read.", violations=[FieldViolation(f"frames[{index}].jpeg", rule)])


class FramesTooLargeError(InvalidArgumentError):
    """The frames of one batch are too many bytes together."""

    reason = "FRAMES_TOO_LARGE"


class FrameTimesError(InvalidArgumentError):
    """Capture times that no camera can have, as `frame_times.check` lists them; names the frame and the rule."""

    reason = "FRAME_TIMES_IMPLAUSIBLE"

    def __init__(self, index: int, rule: str) -> None:
        violation = FieldViolation(f"frames[{index}].captured_at_ms", rule)
        super().__init__("The frames' times are not plausible.", violations=[violation])


class FlashStartError(InvalidArgumentError):
    """When the first colour was shown is not said, or cannot be, as `frame_times.check_start` lists it."""

    reason = "FLASH_START_IMPLAUSIBLE"

    def __init__(self, rule: str) -> None:
        violation = FieldViolation("flash_started_at_ms", rule)
        super().__init__("The time of the first colour is not plausible.", violations=[violation])
