"""The port to state sources, and what they know of a person."""

from dataclasses import dataclass, field
from typing import Protocol

from mesh.errors import Code, FinIdError


class UnknownIinError(FinIdError):
    """The source answered: nobody has this IIN. The hub never lets this out, so that nobody can probe who exists."""

    code = Code.NOT_FOUND
    reason = "UNKNOWN_IIN"


class SourceUnavailableError(FinIdError):
    """The source did not answer, or not with a whole record; the call may be retried."""

    code = Code.UNAVAILABLE
    reason = "SOURCE_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IdentityDocument:
    """An identity document; dates are YYYY-MM-DD."""

    kind: str = field(repr=False)
    number: str = field(repr=False)
    issue_date: str = field(repr=False)
    expiry_date: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Person:
    """A person's names as in the document (Cyrillic) and in its machine-readable zone (Latin); '' for a missing one."""

    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    patronymic: str = field(repr=False)
    family_name_latin: str = field(repr=False)
    given_name_latin: str = field(repr=False)
    birth_date: str = field(repr=False)
    document: IdentityDocument = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrustedPhone:
    """The phone the state knows to be the person's: E.164, and Unix seconds since when."""

    number: str = field(repr=False)
    since: int = field(repr=False)


class StateSource(Protocol):
    """What FinID needs of the state's registers. Every method raises UnknownIinError or SourceUnavailableError.

    Obligations of an implementation: an answer is what the register says now, never a cached one, because it decides
    whose face and phone count; "nobody has this IIN" is said only when the register said so, everything else that goes
    wrong is SourceUnavailableError; a record is whole or not given; nothing of it is logged.
    """

    async def person(self, iin: str) -> Person:
        """Return the person's names, birth date and document."""
        ...

    async def trusted_phone(self, iin: str) -> TrustedPhone | None:
        """Return the phone the register ties to the person; None when it knows the person and no phone."""
        ...

    async def reference_photo(self, iin: str) -> bytes:
        """Return the photo of the person's document: one JPEG of at most MAX_PHOTO_BYTES, as registered."""
        ...


MAX_PHOTO_BYTES = 512 * 1024
