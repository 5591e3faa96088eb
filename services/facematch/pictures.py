"""What a picture may be, why one is refused, and the port that finds faces in pictures.

The service and its worker share this module; it imports nothing that decodes a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


class FaceReader(Protocol):
    """Finds the face that is meant in each picture and embeds it."""

    async def read(self, pictures: Sequence[bytes], rules: Sequence[FaceRule]) -> list[Embedding | Fault]:
        """Answer each picture by its rule, in order, with its face or with why it cannot be used.

        Raises FinIdError when the answer cannot be had now.
        """
