"""What every public call passes: the caller's token, and the journal of requests.

The journal is for participants: a call that belongs to none is not in it, so that open endpoints cannot fill the
database.
"""

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from mesh import metrics, status, telemetry
from mesh.errors import DependencyUnavailableError
from services.auth_gateway.access import AccessTokens, Service
from services.auth_gateway.allowance import Allowance, Kind, kind_of
from services.auth_gateway.authentication import AuthenticationNotFoundError, View
from services.auth_gateway.group_commit import GroupCommit
from services.auth_gateway.records import JournalEntry, Records

_CANCELLED = "CANCELLED"
_FRAMES = frozenset({"FinIdService.SubmitFrames", "CaptureService.SubmitFrames"})


class CallContext(Protocol):
    """The part of a gRPC context that is read here."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        """Return the request's metadata."""
        ...


def header(context: CallContext, name: str, separator: str = ",") -> str:
    """Return a request header, "" when it is missing; one that was sent in parts is joined."""
    values = [value for key, value in context.invocation_metadata() or () if key == name and isinstance(value, str)]
    return separator.join(values)


@dataclass(slots=True)
class Call:
    """A running call: whose it is, and the resource it turned out to be about.

    `started` counts seconds; `journaled` is the code that stands in the journal already, "" while none does.
    """

    method: str
    application: str = ""
    resource: str = ""
    started: float = field(default_factory=time.monotonic)
    journaled: str = ""

    def is_journaled_as(self, code: str) -> bool:
        """Tell whether the journal knows: a caller who gave up after the line was written changes nothing in it."""
        return self.journaled != "" and code in {self.journaled, _CANCELLED}


class Front:
    """Admits participants' calls, and journals every call that belongs to an application."""

    def __init__(
        self, tokens: AccessTokens, records: Records, now: Callable[[], datetime.datetime], allowance: Allowance
    ) -> None:
        self._tokens = tokens
        self._records = records
        self._lines = GroupCommit(records.journal)
        self._frame_lines = GroupCommit(records.journal_soon)
        self._looks = GroupCommit(self._look)
        self._now = now
        self._allowance = allowance

    def participant(self, context: CallContext, method: str, service: Service | None = None) -> "_Passage":
        """Admit the holder of an access token, which must be for `service` if one is named, within its allowance."""

        async def admit(call: Call) -> None:
            caller = await self._tokens.caller(header(context, "authorization"))
            # Not in the journal: what is refused because there is too much of it would fill the database, too.
            await self._allowance.spend(caller.application, kind_of(method))
            call.application = caller.application
            if service is not None:
                caller.require(service)

        return _Passage(Call(method), self.journal, admit)

    @contextlib.asynccontextmanager
    async def stream(self, context: CallContext, method: str, service: Service) -> AsyncIterator[Call]:
        """Admit a participant's stream as its calls, unless the application has too many open."""
        caller = await self._tokens.caller(header(context, "authorization"))
        with self._allowance.stream(caller.application):
            async with self.participant(context, method, service) as call:
                yield call

    async def step(self, call: Call) -> None:
        """Let a step within a stream pass, within the allowance of step calls."""
        await self._allowance.spend(call.application, Kind.STEP)

    def person(self, method: str) -> "_Passage":
        """Journal a call of the hosted page, once its servicer has found out what it belongs to."""
        return _Passage(Call(method), self.journal)

    async def look(self, call: Call, name: str) -> View | None:
        """Return what an authentication of the calling application shows, and journal the call, by one statement.

        None when the application has none of this name, which is journaled as AuthenticationNotFoundError.
        """
        call.resource = name
        call.journaled = "OK"  # whoever gives up meanwhile has been journaled all the same
        try:
            opens = await self._looks.write(call)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                call.journaled = ""
            raise
        if opens is None:
            call.journaled = AuthenticationNotFoundError.code.value
            return None
        return opens()

    async def _look(self, calls: Sequence[Call]) -> Sequence[Callable[[], View] | None]:
        return await self._records.look([self._line(call, "OK", "") for call in calls])

    async def journal(self, call: Call, error: BaseException | None) -> None:
        """Journal how a call ended, unless it belongs to no application or stands there already."""
        code, reason = "OK", ""
        if isinstance(error, Exception):
            code, reason = status.code_of(error).name, status.reason_of(error)
        elif error is not None:
            code = _CANCELLED
        if call.application and not call.is_journaled_as(code):
            await self._journal(self._line(call, code, reason))

    def _line(self, call: Call, code: str, reason: str) -> JournalEntry:
        duration_ms = int((time.monotonic() - call.started) * 1000)
        return JournalEntry(call.application, call.method, call.resource, code, reason, duration_ms, self._now())

    async def _journal(self, entry: JournalEntry) -> None:
        try:
            lines = self._frame_lines if entry.method in _FRAMES else self._lines
            await lines.write(entry)
        except DependencyUnavailableError:
            metrics.JOURNAL_WRITE_ERRORS.add()
            telemetry.logger().error("request not journaled", code=entry.code)


@dataclass(slots=True)
class _Passage:
    """Around a call, with `async with`: `admit` before it, `journal` after it, however it ends."""

    call: Call
    journal: Callable[[Call, BaseException | None], Awaitable[None]]
    admit: Callable[[Call], Awaitable[None]] | None = None

    async def __aenter__(self) -> Call:
        if self.admit is not None:
            try:
                await self.admit(self.call)
            except BaseException as error:
                await self.journal(self.call, error)
                raise
        return self.call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.journal(self.call, error)
