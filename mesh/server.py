"""The gRPC server of every service: mTLS, callers by name, deadlines, validation, typed errors, health, drain.

Refusal is the default: a method that no caller is named for is refused, and so is a call without a deadline.
"""

from __future__ import annotations  # grpc.aio's types are generic for the type checker only

import asyncio
import contextlib
import functools
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeAlias

import grpc
import protovalidate
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection
from opentelemetry.instrumentation.grpc import aio_server_interceptor

from mesh import deadline, identity, metrics, status, telemetry
from mesh.errors import (
    CallerNotAllowedError,
    DeadlineRequiredError,
    FieldViolation,
    FinIdError,
    InvalidArgumentError,
    leaves,
)
from mesh.health import Health, Probe
from mesh.identity import Identity
from mesh.instruments import registry_of
from mesh.mounted import Mounted
from mesh.scraping import scraped
from mesh.settings import MeshSettings
from mesh.storable import unstorable

_PEER_URI = re.compile(rb"spiffe://finid/(?P<service>[a-z_]+)")
_KIB = 1024
_CANCELLED = "CANCELLED"

Callers = Mapping[str, frozenset[str]]
"""Full method name (/package.Service/Method) -> names of the services that may call it."""
Rules = Callable[[Message], Sequence[FieldViolation]]
"""Finds what is wrong with a request beyond the rules of its proto."""


def callers(service: ServiceDescriptor, *allowed: str) -> dict[str, frozenset[str]]:
    """Allow every method of a service to the same callers."""
    return {f"/{service.full_name}/{method.name}": frozenset(allowed) for method in service.methods}


@dataclass(frozen=True, slots=True)
class _Peer:
    """The service that a peer's certificate names, "" when it names none or several; and when it runs out."""

    service: str
    not_after: datetime


@functools.lru_cache(maxsize=256)  # connections are few, and calls are many
def _peer(names: tuple[bytes, ...], certificates_pem: tuple[bytes, ...]) -> _Peer:
    services = {match["service"].decode() for name in names if (match := _PEER_URI.fullmatch(name)) is not None}
    ends = [identity.not_after_of(pem) for pem in certificates_pem]
    return _Peer(services.pop() if len(services) == 1 else "", min(ends, default=datetime.min.replace(tzinfo=UTC)))


def _peer_of(context: grpc.aio.ServicerContext[Any, Any]) -> _Peer:
    """Who calls; a peer without a certificate has none that is still good."""
    shown = context.auth_context()
    return _peer(tuple(shown.get("x509_subject_alternative_name", ())), tuple(shown.get("x509_pem_cert", ())))


def validate(request: Message, rules: Rules = lambda _: ()) -> None:
    """Raise InvalidArgumentError naming every field that breaks a rule, of the proto, one of `rules` or everybody's:
    no string holds U+0000."""
    violations = [FieldViolation(_path(item), item.proto.message) for item in protovalidate.collect_violations(request)]
    beyond = [*rules(request), *(FieldViolation(path, "must not hold U+0000") for path in unstorable(request))]
    if not violations and not beyond:
        return
    named = {violation.field for violation in violations}
    violations += [violation for violation in beyond if violation.field not in named]
    raise InvalidArgumentError("The request is not valid.", violations=violations)


def _path(violation: Any) -> str:
    path = ""
    for element in violation.proto.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        index = getattr(element.subscript, "value", None) if element.subscript is not None else None
        path += f"[{index}]" if index is not None else ""
    return path


_Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]"


class _Guard(grpc.aio.ServerInterceptor):
    """Runs around every method: who calls, how long they wait, what they send, and how an error leaves.

    Around that is a span where spans are read; elsewhere the method goes on with the caller's trace only.
    """

    def __init__(self, allowed: Callers, rules: Rules) -> None:
        self._in_flight = 0
        metrics.RPC_SERVER_IN_FLIGHT.read(lambda: self._in_flight)
        self._allowed = allowed
        self._rules = rules
        self._spanned = aio_server_interceptor()
        self._guarded: dict[str, tuple[object, grpc.RpcMethodHandler[Any, Any]]] = {}

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if telemetry.is_recorded():
            around: grpc.RpcMethodHandler[Any, Any] | None = await self._spanned.intercept_service(
                functools.partial(self._guarded_of, continuation), handler_call_details
            )
            return around
        # The method runs in this task, so it finds the trace; nothing needs to be wrapped around it.
        telemetry.join_trace(handler_call_details.invocation_metadata or ())
        return await self._guarded_of(continuation, handler_call_details)

    async def _guarded_of(
        self, continuation: _Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        if handler is None:
            return handler
        method = str(details.method)
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = self._guarded[method] = (handler, self._guard(method, handler))
        return known[1]

    def _guard(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        behaviour: Any = handler
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, behaviour.stream_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, behaviour.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _admit(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        peer = _peer_of(context)
        caller = peer.service
        if datetime.now(UTC) >= peer.not_after:
            # TLS looks at the handshake only; a connection may outlive the certificate that it was opened with.
            telemetry.logger().warning("caller's certificate has run out", method=method, caller=caller or "unknown")
            raise CallerNotAllowedError("The caller's certificate has run out.")
        if caller not in self._allowed.get(method, frozenset()):
            telemetry.logger().warning("caller refused", method=method, caller=caller or "unknown")
            raise CallerNotAllowedError("The caller may not use this method.")
        remaining_s = context.time_remaining()
        if remaining_s is None:
            raise DeadlineRequiredError("The call has no deadline.")
        deadline.set_remaining_s(remaining_s)

    def _begin(self) -> float:
        self._in_flight += 1
        return time.monotonic()

    def _end(self, method: str, started: float, answered: str) -> None:
        self._in_flight -= 1
        metrics.RPC_SERVER_DURATION.record(time.monotonic() - started, method=metrics.METHODS.of(method), code=answered)

    def _unary(self, method: str, behaviour: Callable[..., Awaitable[Message]]) -> Callable[..., Awaitable[Message]]:
        async def guarded(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            started, answered = self._begin(), _CANCELLED
            try:
                self._admit(method, context)
                validate(request, self._rules)
                response = await behaviour(request, context)
                answered = "OK"
            except Exception as error:  # noqa: BLE001  the one place where an error leaves a service
                answered = _code_of(error)
                await _abort(context, method, error, started)
            finally:
                self._end(method, started, answered)
            return response

        return guarded

    def _stream(
        self, method: str, behaviour: Callable[..., AsyncIterator[Message]]
    ) -> Callable[..., AsyncIterator[Message]]:
        async def validated(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
            async for request in requests:
                validate(request, self._rules)
                yield request

        async def guarded(
            requests: AsyncIterator[Message], context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Message]:
            started, answered = self._begin(), _CANCELLED
            try:
                self._admit(method, context)
                async for response in behaviour(validated(requests), context):
                    yield response
                answered = "OK"
            except Exception as error:  # noqa: BLE001  as above
                answered = _code_of(error)
                await _abort(context, method, error, started)
            finally:
                self._end(method, started, answered)

        return guarded


def _code_of(error: Exception) -> str:
    return "UNKNOWN" if isinstance(error, grpc.aio.AbortError) else status.code_of(error).name


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], method: str, error: Exception, started: float
) -> NoReturn:
    """End the call with what may be told of `error`; a call that was ended by its method is left as that ended it."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    _log_refusal(method, error, (time.monotonic() - started) * 1000)
    answer = status.to_status(error)
    try:
        await context.abort(status.code_of(error), answer.message, status.trailers(error, answer))
    except grpc.aio.AbortError as aborted:
        # The span records it with all that it came from; what an error says is for no trace.
        raise aborted from None
    raise AssertionError("abort() does not return")


def _log_refusal(method: str, error: Exception, duration_ms: float) -> None:
    log = telemetry.logger()
    shown = {"method": method, "reason": status.reason_of(error), "duration_ms": f"{duration_ms:.1f}"}
    if isinstance(error, FinIdError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "none"
        log.info("call refused", code=error.code.value, error_class=cause, **shown)
    else:
        log.error("call failed", error_class=type(error).__name__, stack=telemetry.stack_of(error), **shown)


def _not_offered(_service: str, _handlers: Mapping[str, object]) -> None:
    """Take no registered methods."""


def _left_s(held: Mounted[Identity]) -> float:
    """How long the certificate that is shown is good: a newer file may be one that could not be taken up."""
    return (held().not_after - datetime.now(UTC)).total_seconds()


class Server:
    """One service: its gRPC server on mTLS, health and figures on plain ports, and its life until SIGTERM.

    `allowed` names the callers of every method. `probes` say what the service cannot work without.
    `max_message_kib` bounds what it reads and writes; `max_calls` how many calls run at once. `rules` are those of
    requests that no proto can say.
    """

    def __init__(
        self,
        service: str,
        settings: MeshSettings,
        allowed: Callers,
        probes: Sequence[Probe],
        *,
        max_message_kib: int = 4 * _KIB,
        max_calls: int = 256,
        rules: Rules = lambda _: (),
    ) -> None:
        self._service = service
        self._settings = settings
        self._health = Health(service, settings.health_listen, probes)
        self._stop = asyncio.Event()
        self.grpc = grpc.aio.server(
            interceptors=[_Guard(allowed, rules)],
            maximum_concurrent_rpcs=max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message_kib * _KIB),
                ("grpc.max_send_message_length", max_message_kib * _KIB),
                ("grpc.so_reuseport", 0),
                # A caller asks for names again when a connection ends (mesh.channel), so that new pods get their share.
                # Calls that run are not cut, and no new one is sent on a connection that is to end.
                ("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000)),
            ],
        )

        # Generated code offers each method a second way in, besides the handlers that it adds. grpc.aio keeps a task
        # for each method offered so and looks through all of them at every call (grpc#43461): nothing is offered.
        setattr(self.grpc, "add_registered_method_handlers", _not_offered)  # noqa: B010  mypy knows it as a method

    def stop(self) -> None:
        """Begin to drain, as SIGTERM does."""
        self._stop.set()

    def reflect(self, *files: FileDescriptor) -> None:
        """Answer server reflection for these protos, where settings ask for it (development)."""
        if self._settings.reflection:
            names = [item.full_name for file in files for item in file.services_by_name.values()]
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self.grpc)

    async def run(
        self, *background: Callable[[], Awaitable[None]], first: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Serve until SIGTERM or SIGINT, then drain: health first, then running calls, at most `drain_s`.

        `first` has to be done before any call is taken, and may wait for a dependency: meanwhile health answers that
        the service does not serve, and figures are shown. What it raises, this raises.
        `background` are loops that live as long as the service; one that raises ends it, with exit status 1.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self._health.start()
        held = identity.mounted(self._settings)
        scraping = contextlib.ExitStack()
        if self._settings.metrics_address is not None:
            metrics.OWN_CERTIFICATE_ENDS.read(functools.partial(_left_s, held), certificate="mtls")
            registry = registry_of(self._service, metrics.CATALOGUE.values())
            scraping.enter_context(scraped(self._settings.metrics_address, registry))
        failed: list[Exception] = []
        try:
            if first is None or await self._is_done_before_the_end(first):
                failed = await self._serve(held, background)
        finally:
            await self._health.stop()
            scraping.close()
        for error in failed:
            # Not the error itself: its text may hold what no log may.
            telemetry.logger().critical(
                "ended by a background task", error_class=type(error).__name__, stack=telemetry.stack_of(error)
            )
        telemetry.stop()
        if failed:
            raise SystemExit(1)

    async def _is_done_before_the_end(self, first: Callable[[], Awaitable[object]]) -> bool:
        async def work() -> None:
            await first()

        done, ended = asyncio.create_task(work()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                done.result()
            return not ended.done()
        finally:
            for task in (done, ended):
                task.cancel()
            await asyncio.wait({done, ended})

    async def _serve(
        self, held: Mounted[Identity], background: Sequence[Callable[[], Awaitable[None]]]
    ) -> list[Exception]:
        """Take calls until the end; return what background tasks raised."""
        self.grpc.add_secure_port(self._settings.listen, identity.server_credentials(held))
        await self.grpc.start()
        telemetry.logger().info("listening", address=self._settings.listen)
        failed: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._health.watch())]
                tasks += [group.create_task(_forever(work)) for work in background]
                await self._stop.wait()
                telemetry.logger().info("draining")
                await self._health.drain()
                await self.grpc.stop(grace=self._settings.drain_s)
                for task in tasks:
                    task.cancel()
        except* Exception as errors:  # noqa: BLE001  told by run(), by class and place
            failed.extend(leaves(errors))
        finally:
            await self.grpc.stop(grace=0)
        return failed


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()
