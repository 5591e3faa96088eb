"""Why a bundle of transaction and receipts is refused: one closed list, one error."""

from enum import Enum

from mesh.errors import Code, FinIdError


class Refusal(Enum):
    """Every reason for a refusal, with its code and a message safe to show.

    PERMISSION_DENIED: the bundle is not what it claims to be. FAILED_PRECONDITION: it is genuine, and too weak or too
    late; a new authentication may succeed.
    """

    TRANSACTION_INVALID = (Code.PERMISSION_DENIED, "the transaction is not a canonical FinID transaction")
    PURPOSE_MISMATCH = (Code.PERMISSION_DENIED, "the transaction was confirmed for another purpose")
    PURPOSE_NOT_SERVED = (Code.PERMISSION_DENIED, "this service does nothing for this purpose")
    ENV_MISMATCH = (Code.PERMISSION_DENIED, "the transaction or a receipt belongs to another environment")
    TRANSACTION_NOT_YET_VALID = (Code.FAILED_PRECONDITION, "the transaction is dated in the future")
    TRANSACTION_EXPIRED = (Code.FAILED_PRECONDITION, "the transaction has expired")
    IIN_NOT_OPENED = (Code.PERMISSION_DENIED, "the IIN is not the one the transaction commits to")
    PHONE_NOT_OPENED = (Code.PERMISSION_DENIED, "the phone is not the one the transaction commits to")
    DOCUMENTS_NOT_PREPARED = (Code.PERMISSION_DENIED, "the documents are not those that were prepared")
    DIGEST_NOT_REBUILT = (Code.PERMISSION_DENIED, "a digest to sign does not follow from the content shown")

    RECEIPT_MALFORMED = (Code.PERMISSION_DENIED, "a receipt is not a FinID receipt")
    FACTOR_MISSING = (Code.PERMISSION_DENIED, "a required factor has no receipt")
    FACTOR_REPEATED = (Code.PERMISSION_DENIED, "a factor has more than one receipt")
    FACTOR_UNEXPECTED = (Code.PERMISSION_DENIED, "a receipt is not of a required factor")
    KEY_NOT_PINNED = (Code.PERMISSION_DENIED, "a receipt's key is not pinned for its factor, issuer and environment")
    KEY_NOT_VALID_THEN = (Code.PERMISSION_DENIED, "a receipt's key was not valid when the receipt was issued")
    SIGNATURE_INVALID = (Code.PERMISSION_DENIED, "a receipt's signature is wrong")
    RECEIPT_OF_ANOTHER_TRANSACTION = (Code.PERMISSION_DENIED, "a receipt confirms another transaction")
    RECEIPT_NOT_YET_VALID = (Code.FAILED_PRECONDITION, "a receipt is dated in the future")
    RECEIPT_EXPIRED = (Code.FAILED_PRECONDITION, "a receipt has expired")
    POLICY_MISMATCH = (Code.PERMISSION_DENIED, "a receipt was made under another policy than the transaction's")
    POLICY_TOO_LOW = (Code.FAILED_PRECONDITION, "the policy is not accepted for this purpose")

    RECORD_OF_ANOTHER_PERSON = (Code.PERMISSION_DENIED, "the state record is of another IIN")
    RECORD_OF_ANOTHER_PHONE = (Code.PERMISSION_DENIED, "the state record judged another phone")
    PHONE_NOT_TRUSTED = (Code.FAILED_PRECONDITION, "the phone is not the person's trusted phone")
    CODE_TO_ANOTHER_PHONE = (Code.PERMISSION_DENIED, "the code was sent to another phone")
    REFERENCE_NOT_OF_RECORD = (Code.PERMISSION_DENIED, "the face was compared with a photo not of the state record")
    PROBES_NOT_KEYFRAMES = (Code.PERMISSION_DENIED, "the faces compared are not those whose liveness was shown")
    KEYFRAME_REPEATED = (Code.PERMISSION_DENIED, "a keyframe stands for more than one prompt")
    ATTESTED_ANOTHER_CREDENTIAL = (Code.PERMISSION_DENIED, "the attested key belongs to another credential")

    CHANNEL_MISMATCH = (Code.PERMISSION_DENIED, "liveness was shown over another channel than the transaction's")
    CHANNEL_TOO_LOW = (Code.FAILED_PRECONDITION, "the channel is not accepted for this purpose")
    TOO_FEW_KEYFRAMES = (Code.FAILED_PRECONDITION, "too few prompts were answered")
    PASSIVE_SCORE_TOO_LOW = (Code.FAILED_PRECONDITION, "the passive liveness score is too low for this purpose")
    PROMPTS_SCORE_TOO_LOW = (Code.FAILED_PRECONDITION, "the prompts score is too low for this purpose")
    THRESHOLD_TOO_LOW = (Code.FAILED_PRECONDITION, "the match threshold is too low for this purpose")
    SIMILARITY_TOO_LOW = (Code.FAILED_PRECONDITION, "a face is not similar enough for this purpose")
    MODEL_NOT_ACCEPTED = (Code.FAILED_PRECONDITION, "a model is not accepted for this purpose")
    OUT_OF_ORDER = (Code.PERMISSION_DENIED, "the factors were not confirmed in their order")
    CODE_TOO_OLD = (Code.FAILED_PRECONDITION, "the code was entered too long ago")


class PreconditionError(FinIdError):
    """The two-factor precondition does not hold; `refusal` says why. Nothing was done."""

    def __init__(self, refusal: Refusal) -> None:
        code, message = refusal.value
        super().__init__(message)
        self.refusal = refusal
        self.code = code
        self.reason = refusal.name


def refuse_unless(holds: bool, refusal: Refusal) -> None:
    """Raise PreconditionError with `refusal` unless the rule holds."""
    if not holds:
        raise PreconditionError(refusal)
