"""Webhooks: telling an application that one of its authentications is in another state.

What is told was written by the statement that changed the state (`store`). It is sent until the application's server
takes it, at most for three days, ever more seldom, by whichever process has a lease on it: a process that dies after
it has sent and before it has recorded that leaves a lease that runs out, and the same message goes again, under the
same id. So messages come at least once and in no certain order, and say nothing but where the authentication stands:
never its verdict, nor anything of the person.

The format is Standard Webhooks (standardwebhooks.com), signed with Ed25519 ("v1a").
"""

import asyncio
import base64
import datetime
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from mesh import metrics, telemetry
from mesh.egress import AddressRefusedError, Egress, EgressRefusedError
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.status import PeerError
from mesh.watching import keep_shown
from services.auth_gateway.authentication import State
from services.auth_gateway.ports import Portal
from services.auth_gateway.statements import SigningKey

# Longer than an attempt takes (`egress` ends one after 10 s), so that no two processes send at once.
LEASE = datetime.timedelta(seconds=60)
KEPT: Final = datetime.timedelta(days=30)
_GIVE_UP_AFTER: Final = datetime.timedelta(days=3)
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 6 * 3600.0
# 5 s doubled so often is above the longest wait.
_MAX_DOUBLINGS: Final = 13
_AT_ONCE: Final = 32
# Of one application, so that one whose server hangs does not keep the others waiting.
_AT_ONCE_FOR_ONE: Final = 4
_LOOK_EVERY_S: Final = 0.5
_WATCHED_EVERY_S: Final = 15.0
_FORGET_EVERY: Final = datetime.timedelta(hours=1)
_OK: Final = range(200, 300)
_GONE: Final = 410


class Delivery(StrEnum):
    """Where a message stands."""

    PENDING = "PENDING"
    """It will be sent, or sent again."""
    DELIVERED = "DELIVERED"
    """It was answered with a status of 2xx."""
    GIVEN_UP = "GIVEN_UP"
    """It is not sent any more, unless it is asked for."""


class Problem(StrEnum):
    """What stood in the way of an attempt; a status tells the rest."""

    NO_ANSWER = "NO_ANSWER"
    """No connection, a certificate that is not good for the host, or nothing in time."""
    ADDRESS_REFUSED = "ADDRESS_REFUSED"
    """The address is not asked: not https, another port, or a host with an address that is not public."""
    NO_ADDRESS = "NO_ADDRESS"
    """The application has no webhook any more, or is suspended."""
    NOT_SENT = "NOT_SENT"
    """A part of FinID did not answer; nothing was sent yet."""


class WebhookNotFoundError(FinIdError):
    """The application has no such message."""

    code = Code.NOT_FOUND
    reason = "WEBHOOK_DELIVERY_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Event:
    """One message to be sent: `attempt` counts from 1 and names the lease, `tries` those since it was asked for."""

    authentication: str
    state: State
    application: str
    operation: str
    changed_at: datetime.datetime
    attempt: int
    tries: int
    tried_from: datetime.datetime

    @property
    def id(self) -> str:
        """The same for every attempt, and for no other message."""
        return event_id(self.authentication, self.state)

    def body(self) -> bytes:
        """Return the message, the same bytes for every attempt."""
        said = {
            "type": "authentication.state_changed",
            "timestamp": self.changed_at.astimezone(datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "data": {
                "authentication": self.authentication,
                "state": self.state.value,
                "operation": self.operation,
            },
        }
        return json.dumps(said, separators=(",", ":")).encode()


def event_id(authentication: str, state: State) -> str:
    """Return what names a message: no authentication enters a state twice."""
    return f"{authentication.removeprefix('authentications/')}-{state.value}"


@dataclass(frozen=True, slots=True)
class Told:
    """A message and what became of it, for its application."""

    authentication: str
    state: State
    changed_at: datetime.datetime
    delivery: Delivery
    attempts: int
    attempted_at: datetime.datetime | None
    status_code: int
    problem: str
    next_attempt_at: datetime.datetime | None
    delivered_at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of messages, newest first, goes on: after this one."""

    changed_at: datetime.datetime
    authentication: str
    state: State


class Outbox(Protocol):
    """Messages to be sent, and what became of them."""

    async def lease(
        self, at: datetime.datetime, until: datetime.datetime, count: int, besides: Collection[str], each: int
    ) -> Sequence[Event]:
        """Take what is due, until then, and count the attempt: `each` at most of one application, none of `besides`."""
        ...

    async def delivered(self, event: Event, status_code: int, at: datetime.datetime) -> bool:
        """Record that a message was taken, by the holder of its lease."""
        ...

    async def failed(self, event: Event, status_code: int, problem: str, again_at: datetime.datetime | None) -> bool:
        """Record an attempt in vain, by the holder of the lease; None gives the message up."""
        ...

    async def oldest_pending(self) -> datetime.datetime | None:
        """Return when the oldest change was that is still to be told, among the many that are due first."""
        ...

    async def forget(self, before: datetime.datetime) -> int:
        """Erase messages of changes before then that are not sent any more."""
        ...


class Deliveries(Protocol):
    """What became of messages."""

    async def page(self, application: str, count: int, after: Place | None) -> Sequence[Told]:
        """Return an application's messages, newest first."""
        ...

    async def told(self, application: str, authentication: str, state: State) -> Told | None:
        """Return an application's message."""
        ...

    async def again(self, application: str, authentication: str, state: State) -> bool:
        """Have a message sent again, at once and for as long as a new one; False when there is none such."""
        ...


def signature(key: SigningKey, message_id: str, sent_at_s: int, body: bytes) -> str:
    """Return the header webhook-signature: Ed25519 over id, time and body, as Standard Webhooks has it."""
    signed = f"{message_id}.{sent_at_s}.".encode() + body
    return f"v1a,{base64.b64encode(key.key.sign(signed)).decode()}"


class Webhooks:
    """Sends messages. `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        portal: Portal,
        key: Callable[[], SigningKey],
        egress: Egress,
        now: Callable[[], datetime.datetime],
        chance: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._portal = portal
        self._key = key
        self._egress = egress
        self._now = now
        self._chance = chance
        self._sleep = sleep
        self._under_way: dict[str, int] = {}
        self._forgotten_at = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    for event in await self._take():
                        group.create_task(self._deliver(event))
                except DependencyUnavailableError:
                    telemetry.logger().warning("webhooks wait, a dependency is lost")
                await self._sleep(_LOOK_EVERY_S)

    async def run_once(self) -> None:
        """Send what is due now."""
        async with asyncio.TaskGroup() as group:
            for event in await self._take():
                group.create_task(self._deliver(event))

    async def _take(self) -> Sequence[Event]:
        now = self._now()
        if now - self._forgotten_at > _FORGET_EVERY:
            self._forgotten_at = now
            await self._outbox.forget(now - KEPT)
        free = _AT_ONCE - sum(self._under_way.values())
        if free <= 0:
            return ()
        busy = [name for name, count in self._under_way.items() if count >= _AT_ONCE_FOR_ONE]
        taken = await self._outbox.lease(now, now + LEASE, free, busy, _AT_ONCE_FOR_ONE)
        for event in taken:
            self._under_way[event.application] = self._under_way.get(event.application, 0) + 1
        return taken

    async def _deliver(self, event: Event) -> None:
        try:
            await self._attempt(event)
        except DependencyUnavailableError:
            # The lease runs out, and the message goes again.
            telemetry.logger().warning(
                "webhook not recorded, a dependency is lost", authentication=event.authentication
            )
        except Exception as error:  # noqa: BLE001  one that cannot be sent must not keep the others waiting
            telemetry.logger().error(
                "webhook failed",
                authentication=event.authentication,
                error_class=type(error).__name__,
                stack=telemetry.stack_of(error),
            )
        finally:
            left = self._under_way[event.application] - 1
            if left:
                self._under_way[event.application] = left
            else:
                del self._under_way[event.application]

    async def _attempt(self, event: Event) -> None:
        status_code, problem = 0, ""
        try:
            application = await self._portal.application(event.application)
            if not application.active or not application.webhook_uri:
                await self._failed(event, 0, Problem.NO_ADDRESS.value, None)
                return
            status_code = await self._post(application.webhook_uri, event)
        except PeerError as error:
            telemetry.logger().warning("webhook waits for the portal", code=error.code)
            problem = Problem.NOT_SENT.value
        except AddressRefusedError:
            problem = Problem.ADDRESS_REFUSED.value
        except EgressRefusedError:
            problem = Problem.NO_ANSWER.value
        if status_code in _OK:
            if await self._outbox.delivered(event, status_code, self._now()):
                metrics.WEBHOOK_DELIVERIES.add(outcome="delivered")
            return
        telemetry.logger().info(
            "webhook not taken",
            authentication=event.authentication,
            state=event.state,
            reason=problem or "STATUS",
            count=event.attempt,
        )
        await self._failed(event, status_code, problem, self._again_at(event, status_code))

    async def _failed(self, event: Event, status_code: int, problem: str, again_at: datetime.datetime | None) -> None:
        if await self._outbox.failed(event, status_code, problem, again_at):
            metrics.WEBHOOK_DELIVERIES.add(outcome="given_up" if again_at is None else "failed")

    async def watch_backlog(self) -> None:
        """Show how old the oldest message is that still waits, until cancelled."""
        await keep_shown(metrics.WEBHOOK_OLDEST_PENDING, self._look_at_backlog, _WATCHED_EVERY_S, self._sleep)

    async def _look_at_backlog(self) -> None:
        oldest = await self._outbox.oldest_pending()
        waits_s = 0.0 if oldest is None else (self._now() - oldest).total_seconds()
        metrics.WEBHOOK_OLDEST_PENDING.set(max(0.0, waits_s))

    async def _post(self, uri: str, event: Event) -> int:
        body, sent_at_s = event.body(), int(self._now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(sent_at_s),
            "webhook-signature": signature(self._key(), event.id, sent_at_s, body),
        }
        return await self._egress.post(uri, body, headers)

    def _again_at(self, event: Event, status_code: int) -> datetime.datetime | None:
        """When to try again: after twice as long as before, less up to half of it by chance; None for never."""
        longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(event.tries - 1, _MAX_DOUBLINGS))
        again_at = self._now() + datetime.timedelta(seconds=longest_s * (1.0 - self._chance() / 2))
        is_over = status_code == _GONE or again_at > event.tried_from + _GIVE_UP_AFTER
        return None if is_over else again_at
