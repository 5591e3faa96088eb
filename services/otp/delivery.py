"""The port to SMS providers."""

from dataclasses import dataclass
from typing import Protocol

from mesh.errors import Code, FinIdError


class PhoneUnreachableError(FinIdError):
    """The provider says that this number takes no SMS; another try will not help."""

    code = Code.FAILED_PRECONDITION
    reason = "PHONE_UNREACHABLE"


class SmsUnavailableError(FinIdError):
    """The provider took nothing: it is away, overloaded, or refuses our account. A later try may succeed."""

    code = Code.UNAVAILABLE
    reason = "SMS_UNAVAILABLE"


class DeliveryUnknownError(Exception):
    """The provider was asked and its answer got lost: the SMS may be on its way. It must not be sent again unasked."""

    provider: str = ""
    """Who was asked, where several may be."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the SMS; `reference` is its own name for it, `provider` who took it where several may."""

    reference: str
    provider: str = ""


class SmsProvider(Protocol):
    """Sends one SMS."""

    @property
    def name(self) -> str:
        """A word for logs and records."""
        ...

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Hand `text` for the E.164 number `phone` to the provider, once; never retry inside.

        After `valid_s` the text is worthless, and a provider that still holds it should drop it. `name` is what the
        provider may name the SMS by when it reports on it; "" when nobody waits for reports. Raises
        PhoneUnreachableError or SmsUnavailableError only when it is certain that nothing was taken, and
        DeliveryUnknownError whenever it is not. Neither phone nor text goes into a log or an error.
        """
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...
