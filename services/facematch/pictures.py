"""What a picture may be, why one is refused, and the port that finds faces in pictures.

The service and its worker share this module; it imports nothing that decodes a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    """Why a picture cannot be used. The values cross the pipe between worker and service."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_TOO_SMALL = "face_too_small"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is decoded at all: the file's size, the picture's area, its shorter and its longer side."""

    max_bytes: int = 1 << 20
    max_pixels: int = 4_200_000
    min_side_px: int = 64
    max_side_px: int = 4096


@dataclass(frozen=True, slots=True)
class FaceRule:
    """What counts as a face, and how small it may be: `min_score_ppm` is the detector's, one million being certain.

    `takes_largest`: as on the photo of a document, of several faces the largest and most central one is meant, and one
    that fills the picture is a face too; otherwise several faces are a fault.
    """

    min_score_ppm: int
    min_face_px: int
    takes_largest: bool = False


Embedding = tuple[float, ...]
"""A face as a direction: EMBEDDING_VALUES finite numbers of length 1."""
EMBEDDING_VALUES = 128


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a picture shows its face: components of ISO/IEC 29794-5, each 0 to 100, 100 the best.

    Of the picture: `sharpness`, `illumination_uniformity` (left to right), `luminance_mean`,
    `under_exposure_prevention`, `over_exposure_prevention`, `dynamic_range`, `natural_colour` (0 is grey),
    `compression_artifacts` (0 is all blocks), `background_uniformity`. Of the subject: `inter_eye_distance`,
    `head_pose_yaw`, `head_pose_roll`, `head_size`, `face_margins`, the least of the standard's four, and
    `single_face_present`: what the largest other face lacks of this one's area; below 100 another was passed over.
    """

    sharpness: int
    illumination_uniformity: int
    luminance_mean: int
    under_exposure_prevention: int
    over_exposure_prevention: int
    dynamic_range: int
    natural_colour: int
    compression_artifacts: int
    inter_eye_distance: int
    head_pose_yaw: int
    head_pose_roll: int
    head_size: int
    face_margins: int
    background_uniformity: int
    single_face_present: int


QUALITY_COMPONENTS: tuple[str, ...] = tuple(field.name for field in fields(Quality))
MAX_QUALITY = 100


@dataclass(frozen=True, slots=True)
class Portrait:
    """The face that is meant in a picture, and how well the picture shows it."""

    embedding: Embedding
    quality: Quality


class FaceReader(Protocol):
    """Finds the face that is meant in each picture, embeds it and rates it."""

    async def read(self, pictures: Sequence[bytes], rules: Sequence[FaceRule]) -> list[Portrait | Fault]:
        """Answer each picture by its rule, in order, with its face or with why it cannot be used.

        Raises FinIdError when the answer cannot be had now.
        """
