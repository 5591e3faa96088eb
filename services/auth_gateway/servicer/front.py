"""What every public call passes: the caller's token, and the journal of requests."""

import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from mesh import status, telemetry
from mesh.errors import DependencyUnavailableError
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.records import JournalEntry, Records


class CallContext(Protocol):
    """The part of a gRPC context that is read here."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        """Return the request's metadata."""
        ...


def header(context: CallContext, name: str) -> str:
    """Return a request header, "" when it is missing."""
    values = (value for key, value in context.invocation_metadata() or () if key == name)
    value = next(values, "")
    return value if isinstance(value, str) else ""


@dataclass(slots=True)
class Call:
    """A running call: whose it is, and the resource it turned out to be about."""

    application: str = ""
    resource: str = ""


class Front:
    """Admits participants' calls and journals all."""

    def __init__(self, tokens: AccessTokens, store: Records, now: Callable[[], datetime.datetime]) -> None:
        self._tokens = tokens
        self._store = store
        self._now = now

    @contextlib.asynccontextmanager
    async def participant(self, context: CallContext, method: str) -> AsyncIterator[Call]:
        """Admit the holder of an access token."""
        call = Call()
        async with self._journaled(call, method):
            call.application = (await self._tokens.caller(header(context, "authorization"))).application
            yield call

    @contextlib.asynccontextmanager
    async def person(self, method: str) -> AsyncIterator[Call]:
        """Journal a call of the hosted page; the page's own credentials are checked by its servicer."""
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
        finally:
            duration_ms = int((time.monotonic() - started) * 1000)
            entry = JournalEntry(call.application, method, call.resource, code, reason, duration_ms, self._now())
            try:
                await self._store.journal(entry)
            except DependencyUnavailableError:
                telemetry.logger().error("request not journaled", code=code)
