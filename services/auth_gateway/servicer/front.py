"""What every public call passes: the caller's token, and the journal of requests.

The journal is for participants: a call that belongs to none is not in it, so that open endpoints cannot fill the
database.
"""

import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from mesh import status, telemetry
from mesh.errors import DependencyUnavailableError
from services.auth_gateway.access import AccessTokens, Service
from services.auth_gateway.allowance import Allowance
from services.auth_gateway.records import JournalEntry, Records


class CallContext(Protocol):
    """The part of a gRPC context that is read here."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        """Return the request's metadata."""
        ...


def header(context: CallContext, name: str, separator: str = ",") -> str:
    """Return a request header, "" when it is missing; one that was sent in parts is joined."""
    values = (value for key, value in context.invocation_metadata() or () if key == name)
    return separator.join(value for value in values if isinstance(value, str))


@dataclass(slots=True)
class Call:
    """A running call: whose it is, and the resource it turned out to be about."""

    application: str = ""
    resource: str = ""


class Front:
    """Admits participants' calls, and journals every call that belongs to an application."""

    def __init__(
        self, tokens: AccessTokens, records: Records, now: Callable[[], datetime.datetime], allowance: Allowance
    ) -> None:
        self._tokens = tokens
        self._records = records
        self._now = now
        self._allowance = allowance

    @contextlib.asynccontextmanager
    async def participant(
        self, context: CallContext, method: str, service: Service | None = None
    ) -> AsyncIterator[Call]:
        """Admit the holder of an access token, which must be for `service` if one is named, within its allowance."""
        call = Call()
        async with self._journaled(call, method):
            caller = await self._tokens.caller(header(context, "authorization"))
            # Not in the journal: what is refused because there is too much of it would fill the database, too.
            await self._allowance.spend(caller.application, method)
            call.application = caller.application
            if service is not None:
                caller.require(service)
            yield call

    @contextlib.asynccontextmanager
    async def person(self, method: str) -> AsyncIterator[Call]:
        """Journal a call of the hosted page, once its servicer has found out what it belongs to."""
        call = Call()
        async with self._journaled(call, method):
            yield call

    @contextlib.asynccontextmanager
    async def _journaled(self, call: Call, method: str) -> AsyncIterator[None]:
        started = time.monotonic()
        code, reason = "OK", ""
        try:
            yield
        except Exception as error:
            code, reason = status.code_of(error).name, status.reason_of(error)
            raise
        except BaseException:
            code = "CANCELLED"
            raise
        finally:
            duration_ms = int((time.monotonic() - started) * 1000)
            if call.application:
                await self._journal(
                    JournalEntry(call.application, method, call.resource, code, reason, duration_ms, self._now())
                )

    async def _journal(self, entry: JournalEntry) -> None:
        try:
            await self._records.journal(entry)
        except DependencyUnavailableError:
            telemetry.logger().error("request not journaled", code=entry.code)
