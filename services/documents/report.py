"""The result of a validation, in the terms of ETSI EN 319 102-1 (5.1.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Indication(Enum):
    """What is known of a signature."""

    TOTAL_PASSED = "TOTAL_PASSED"
    TOTAL_FAILED = "TOTAL_FAILED"
    INDETERMINATE = "INDETERMINATE"


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """One signature.

    `sub_indication` is a name from EN 319 102-1 ("" when passed) and `explanation` says it in plain words;
    `signer_subject` is RFC 4514, `signer_serial` lower-case hex, both "" when no certificate was found;
    `stamped_at` is set only when the time stamp itself is valid.
    """

    indication: Indication
    sub_indication: str
    explanation: str
    signer_subject: str = ""
    signer_serial: str = ""
    claimed_at: datetime | None = None
    stamped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole document: as good as its worst signature."""

    indication: Indication
    signatures: tuple[SignatureReport, ...]

    @classmethod
    def of(cls, signatures: Sequence[SignatureReport]) -> "Report":
        """Sum up; `signatures` must not be empty."""
        found = {signature.indication for signature in signatures}
        worst = (Indication.TOTAL_FAILED, Indication.INDETERMINATE, Indication.TOTAL_PASSED)
        return cls(next(indication for indication in worst if indication in found), tuple(signatures))
