"""Notices to people that nothing waits for: what was signed with their key, that a certificate of theirs ends soon.

Each is a row that waits to be told. One for a signature is written in the statement that makes it a success, one for a
certificate's end by `expiry_notices`. A process takes some rows for a while and asks otp to tell them; when it dies,
whatever it had done, the rows are due again and another process asks once more. otp sends one SMS for each, however
often it is asked, and another only when it cannot know of the first (services/otp/notices.py). When otp is away or does
not know, a row is tried again, less and less often, until what it says is worth nothing any more.

The phone is read when it is needed, and is kept nowhere but where it was.
"""

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.status import PeerError
from mesh.transaction import Openings
from services.auth_gateway.authentication import Authentication, Language
from services.auth_gateway.records import Certificate

_AT_ONCE = 20
# Longer than a call to a spoke can last, so that two processes rarely ask for the same.
_TAKEN_FOR = datetime.timedelta(seconds=60)
_LOOK_EVERY_S = 1.0
_FIRST_WAIT_S = 30.0
_LONGEST_WAIT_S = 3600.0
# Another try gives the same answer. Any other refusal may be that of a spoke that is being replaced or set up.
_FINAL = frozenset({"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND"})
# Of these a certificate's owner is told: a hold does not stop the clock, and may be ended.
_IN_USE = frozenset({"ACTIVE", "SUSPENDED"})


class Kind(StrEnum):
    """What a notice tells of."""

    SIGNED = "SIGNED"
    EXPIRY = "EXPIRY"


class Settled(StrEnum):
    """How a notice ended."""

    TOLD = "TOLD"
    """otp has taken it: sent, or once sent before."""
    DROPPED = "DROPPED"
    """There was nothing to tell any more."""
    GIVEN_UP = "GIVEN_UP"
    """It could not be told; `reason` says why."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A certificate's last second, and the number of days that it came nearer than."""

    certificate: str
    not_after: datetime.datetime
    within_days: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What waits to be told. `authentication` is what was signed by, or what the certificate was got by."""

    name: str
    authentication: str
    ending: Ending | None
    tries: int
    gives_up_at: datetime.datetime

    @property
    def kind(self) -> Kind:
        """What it tells of."""
        return Kind.EXPIRY if self.ending else Kind.SIGNED


class WaitingNotices(Protocol):
    """The rows. Each change is one statement, safe over all replicas."""

    async def take(self, at: datetime.datetime, until: datetime.datetime, limit: int) -> tuple[Notice, ...]:
        """Take some that are due, signatures first; they are due again at `until`, unless they are settled."""
        ...

    async def postpone(self, name: str, until: datetime.datetime) -> None:
        """Have one that waits due at `until`."""
        ...

    async def settle(self, name: str, how: Settled, reason: str, at: datetime.datetime) -> bool:
        """End one that waits, for good; False when it does not wait any more."""
        ...


class People(Protocol):
    """Whom to tell, and in which language (part of records.Records)."""

    async def get(self, name: str) -> Authentication | None:
        """Return an authentication."""
        ...

    async def certificate(self, name: str) -> Certificate | None:
        """Return a certificate."""
        ...

    async def last_phone(self, subject: str) -> str | None:
        """Return the phone with which a person got the newest of their certificates whose key was activated."""
        ...


class Teller(Protocol):
    """otp. Each method may raise mesh.status.PeerError; a repeat tells nothing twice that is known to be told."""

    async def notify_signed(self, transaction_bytes: bytes, openings: Openings, language: Language) -> None:
        """Tell the committed phone that what the transaction says was signed."""
        ...

    async def notify_expiry(self, ending: Ending, phone: str, language: Language) -> None:
        """Tell a phone that its owner's certificate ends soon."""
        ...


class Credentials(Protocol):
    """signer. May raise mesh.status.PeerError."""

    async def state(self, credential: str) -> str:
        """Return a credential's state, by the name that the proto gives it."""
        ...


class _NothingToTellError(Exception):
    """The certificate is over, or nobody is known to be told."""

    def __init__(self, how: Settled, reason: str) -> None:
        super().__init__(reason)
        self.how = how
        self.reason = reason


class Notices:
    """Has notices told that wait for it."""

    def __init__(
        self,
        waiting: WaitingNotices,
        people: People,
        teller: Teller,
        credentials: Credentials,
        now: Callable[[], datetime.datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._waiting = waiting
        self._people = people
        self._teller = teller
        self._credentials = credentials
        self._now = now
        self._sleep = sleep

    async def tell(self) -> None:
        """Tell what is due, until cancelled."""
        while True:
            taken = 0
            try:
                taken = await self.tell_once()
            except DependencyUnavailableError:
                telemetry.logger().warning("notices wait, a dependency is lost")
            if taken < _AT_ONCE:
                await self._sleep(_LOOK_EVERY_S)

    async def tell_once(self) -> int:
        """Try some that are due; return how many were taken."""
        now = self._now()
        taken = await self._waiting.take(now, now + _TAKEN_FOR, _AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for notice in taken:
                group.create_task(self._try(notice))
        return len(taken)

    async def _try(self, notice: Notice) -> None:
        """Settle or postpone one; if neither can be done, it is due again by itself."""
        try:
            if notice.gives_up_at <= self._now():
                await self._settle(notice, Settled.GIVEN_UP, "TOO_LATE")
                return
            await self._tell(notice)
            await self._settle(notice, Settled.TOLD, "")
        except _NothingToTellError as nothing:
            await self._settle(notice, nothing.how, nothing.reason)
        except PeerError as error:
            await self._refused(notice, error)
        except DependencyUnavailableError:
            telemetry.logger().warning("a notice waits, a dependency is lost", authentication=notice.authentication)
        except Exception as error:  # noqa: BLE001  one that cannot be told must not keep the others waiting
            telemetry.logger().error(
                "a notice failed",
                authentication=notice.authentication,
                error_class=type(error).__name__,
                stack=telemetry.stack_of(error),
            )

    async def _tell(self, notice: Notice) -> None:
        if notice.ending:
            await self._tell_of_end(notice.ending)
            return
        signed_by = await self._people.get(notice.authentication)
        if signed_by is None:
            raise _NothingToTellError(Settled.GIVEN_UP, "NOBODY_TO_TELL")
        await self._teller.notify_signed(signed_by.transaction_bytes, signed_by.openings, signed_by.language)

    async def _tell_of_end(self, ending: Ending) -> None:
        """Tell the phone that the person has now, in the language in which the certificate was got."""
        certificate = await self._people.certificate(ending.certificate)
        if certificate is None or certificate.replaced:
            raise _NothingToTellError(Settled.DROPPED, "CERTIFICATE_REPLACED")
        # The authority listed it as in force; it may be over since, and the row may have waited.
        if await self._credentials.state(certificate.credential) not in _IN_USE:
            raise _NothingToTellError(Settled.DROPPED, "CREDENTIAL_NOT_ACTIVE")
        phone = await self._people.last_phone(certificate.subject)
        got_by = await self._people.get(certificate.authentication)
        if phone is None or got_by is None:
            raise _NothingToTellError(Settled.GIVEN_UP, "NOBODY_TO_TELL")
        await self._teller.notify_expiry(ending, phone, got_by.language)

    async def _refused(self, notice: Notice, error: PeerError) -> None:
        if error.code in _FINAL:
            await self._settle(notice, Settled.GIVEN_UP, error.reason or error.code)
            return
        telemetry.logger().warning(
            "a notice waits",
            authentication=notice.authentication,
            peer=error.peer,
            code=error.code,
            reason=error.reason or "NONE",
            count=notice.tries,
        )
        wait_s = min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S * 2 ** min(notice.tries - 1, 10), error.retry_after_s or 0.0))
        until = self._now() + datetime.timedelta(seconds=wait_s)
        await self._waiting.postpone(notice.name, min(until, notice.gives_up_at))

    async def _settle(self, notice: Notice, how: Settled, reason: str) -> None:
        if await self._waiting.settle(notice.name, how, reason, self._now()):
            telemetry.logger().info(
                f"notice of {_WORDS[notice.kind]} settled",
                authentication=notice.authentication,
                state=how,
                reason=reason or "NONE",
                count=notice.tries,
            )


_WORDS = {Kind.SIGNED: "a signature", Kind.EXPIRY: "an expiry"}
