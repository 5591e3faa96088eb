"""The policies that a transaction may name, from a file that states where their numbers come from."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from services.facematch.pictures import MAX_QUALITY, QUALITY_COMPONENTS, FaceRule

_PPM = 1_000_000


class PoliciesError(ValueError):
    """The file of policies cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How alike every probe must be to the reference (`threshold_ppm`, millionths), and what counts as a face.

    `min_quality` is the least of those components of a probe's quality that decide; the others are stated only.
    """

    id: str
    threshold_ppm: int
    min_score_ppm: int
    min_face_px: int
    min_document_face_px: int
    min_quality: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Python's bool is an int, and TOML has both floats and booleans.
        sides_px = (self.min_face_px, self.min_document_face_px)
        if not all(type(number) is int for number in (self.threshold_ppm, self.min_score_ppm, *sides_px)):
            raise PoliciesError(f"policy {self.id}: numbers must be integers")
        if not (0 < self.threshold_ppm <= _PPM and 0 < self.min_score_ppm <= _PPM and min(sides_px) > 0):
            raise PoliciesError(f"policy {self.id}: a number is out of range")
        if not isinstance(self.min_quality, dict) or not set(self.min_quality) <= set(QUALITY_COMPONENTS):
            raise PoliciesError(f"policy {self.id}: min_quality has components of quality")
        if not all(type(least) is int and 0 < least <= MAX_QUALITY for least in self.min_quality.values()):
            raise PoliciesError(f"policy {self.id}: min_quality: numbers must be 1 to {MAX_QUALITY}")

    @property
    def rule(self) -> FaceRule:
        """What counts as the face of a probe."""
        return FaceRule(self.min_score_ppm, self.min_face_px)

    @property
    def document_rule(self) -> FaceRule:
        """What counts as the face of a reference photo."""
        return FaceRule(self.min_score_ppm, self.min_document_face_px, takes_largest=True)


def load(path: Path) -> Mapping[str, Policy]:
    """The policies in a TOML file, by id. Raises PoliciesError when one is not of this shape or stands there twice."""
    names = {field.name for field in fields(Policy)}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["policy"]
        if any(set(table) | {"min_quality"} != names for table in tables):
            raise PoliciesError(
                f"{path.name}: a policy has the fields {', '.join(sorted(names))}; min_quality may miss"
            )
        policies = {table["id"]: Policy(**table) for table in tables}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise PoliciesError(f"{path.name}: not a list of policies") from error
    if not policies or len(policies) != len(tables):
        raise PoliciesError(f"{path.name}: each policy stands there once, and at least one does")
    return policies
