"""What the Operator's people see and do: participants, their applications and client secrets, and who changed what."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.portal.application import Application, State


class Act(StrEnum):
    """What was done."""

    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    SECRET_ADD = "SECRET_ADD"  # noqa: S105  a word
    SECRET_END = "SECRET_END"  # noqa: S105  a word


class Outcome(StrEnum):
    """What came of adding or ending a secret, in the words of the database's functions."""

    ADDED = "ADDED"
    KNOWN = "KNOWN"
    NO_APPLICATION = "NO_APPLICATION"
    TWO_LIVE = "TWO_LIVE"
    ENDED = "ENDED"
    EARLIER = "EARLIER"
    NO_SECRET = "NO_SECRET"  # noqa: S105  a word
    LAST = "LAST"


@dataclass(frozen=True, slots=True)
class Participant:
    """An organisation that uses FinID."""

    name: str
    title: str
    state: State
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OfApplication:
    """An application in its own state, which its participant's suspension overrides, and that participant's name."""

    participant: str
    application: Application


@dataclass(frozen=True, slots=True)
class Secret:
    """A client secret by its id: nothing of the secret itself. `live` tells whether it lets its client in now."""

    id: uuid.UUID
    created_at: datetime
    ends_at: datetime | None
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of what was done. `login` is who the database says it was, `operator` who the person said it was."""

    done_at: datetime
    login: str
    operator: str
    act: Act
    name: str
    secret_id: uuid.UUID | None
    ends_at: datetime | None
    reason: str
