"""Applications of participants, and what is said of them."""

from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import Code, FinIdError
from mesh.transaction import Channel, Purpose


class State(StrEnum):
    """Whether an application may be used. A participant's suspension suspends its applications."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class Service(StrEnum):
    """What a participant connects to; the OAuth2 scopes of an access token."""

    FINID = "finid"
    ESIGN = "esign"


@dataclass(frozen=True, slots=True)
class Application:
    """An application as the Operator approved it. `scopes` are the personal data it may ask for.

    `webhook_uri` is where it is told of state changes, "" for nowhere.
    """

    name: str
    client_id: str
    title: str
    state: State
    channels: tuple[Channel, ...]
    purposes: tuple[Purpose, ...]
    scopes: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    policy: str
    webhook_uri: str = ""

    @property
    def services(self) -> tuple[Service, ...]:
        """What its purposes amount to."""
        finid = (Service.FINID,) if Purpose.IDENTIFY in self.purposes else ()
        esign = (Service.ESIGN,) if set(self.purposes) - {Purpose.IDENTIFY} else ()
        return finid + esign


class ApplicationNotFoundError(FinIdError):
    """No application has this name."""

    code = Code.NOT_FOUND
    reason = "APPLICATION_NOT_FOUND"
