"""Why facematch refuses. Names are stable; see docs/errors.md."""

from mesh.errors import Code, FieldViolation, FinIdError
from services.facematch.pictures import Fault

REFERENCE = "photo_jwe"


def probe(index: int) -> str:
    """The name of one probe in errors: its field in the request."""
    return f"probes[{index}]"


class PictureError(FinIdError):
    """One picture cannot be used; metadata and violation name it: photo_jwe (the reference) or probes[n]."""

    code = Code.INVALID_ARGUMENT
    explanation = "The picture cannot be used."

    def __init__(self, picture: str) -> None:
        super().__init__(
            self.explanation,
            metadata={"image": picture},
            violations=[FieldViolation(picture, self.explanation)],
        )


class PhotoNotOpenedError(PictureError):
    """The reference photo's JWE is not one that this service can open, or was tampered with."""

    reason = "PHOTO_NOT_OPENED"
    explanation = "The reference photo cannot be decrypted."


class UnreadableImageError(PictureError):
    """Not a whole JPEG or PNG."""

    reason = "UNREADABLE_IMAGE"
    explanation = "The picture is not a readable JPEG or PNG."


class ImageTooLargeError(PictureError):
    """More bytes or pixels than are decoded."""

    reason = "IMAGE_TOO_LARGE"
    explanation = "The picture has too many bytes or pixels."


class ImageTooSmallError(PictureError):
    """Fewer pixels than a face needs."""

    reason = "IMAGE_TOO_SMALL"
    explanation = "The picture has too few pixels."


class NoFaceError(PictureError):
    """No face is found."""

    reason = "NO_FACE"
    explanation = "The picture shows no face."


class SeveralFacesError(PictureError):
    """More than one face is found."""

    reason = "SEVERAL_FACES"
    explanation = "The picture shows more than one face."


class FaceTooSmallError(PictureError):
    """The face has too few pixels to be compared."""

    reason = "FACE_TOO_SMALL"
    explanation = "The face in the picture is too small."


class QualityTooLowError(PictureError):
    """A component of the probe's quality is below what the policy asks for; metadata `component` names it."""

    reason = "QUALITY_TOO_LOW"
    explanation = "The picture is not good enough."

    def __init__(self, picture: str, component: str) -> None:
        super().__init__(picture)
        self.metadata["component"] = component


ERROR_OF: dict[Fault, type[PictureError]] = {
    Fault.UNREADABLE: UnreadableImageError,
    Fault.TOO_LARGE: ImageTooLargeError,
    Fault.TOO_SMALL: ImageTooSmallError,
    Fault.NO_FACE: NoFaceError,
    Fault.SEVERAL_FACES: SeveralFacesError,
    Fault.FACE_TOO_SMALL: FaceTooSmallError,
}


class FaceMismatchError(FinIdError):
    """At least one probe does not show the person of the reference. Scores are not told: they would guide attackers."""

    code = Code.FAILED_PRECONDITION
    reason = "FACE_MISMATCH"


class ProbeRepeatedError(FinIdError):
    """One picture stands for more than one prompt."""

    code = Code.INVALID_ARGUMENT
    reason = "PROBE_REPEATED"


class PolicyUnknownError(FinIdError):
    """The transaction names a policy that this service does not have."""

    code = Code.FAILED_PRECONDITION
    reason = "POLICY_UNKNOWN"
