"""The gRPC server of every service: mTLS, callers by name, deadlines, validation, typed errors, health, drain.

Refusal is the default: a method that no caller is named for is refused, and so is a call without a deadline.
"""

from __future__ import annotations  # grpc.aio's types are generic for the type checker only

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import protovalidate
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection
from opentelemetry.instrumentation.grpc import aio_server_interceptor

from mesh import deadline, status, telemetry
from mesh.errors import (
    CallerNotAllowedError,
    DeadlineRequiredError,
    FieldViolation,
    FinIdError,
    InvalidArgumentError,
    leaves,
)
from mesh.health import Health, Probe
from mesh.settings import MeshSettings

_PEER_URI = re.compile(rb"spiffe://finid/(?P<service>[a-z_]+)")
_KIB = 1024

Callers = Mapping[str, frozenset[str]]
"""Full method name (/package.Service/Method) -> names of the services that may call it."""
Rules = Callable[[Message], Sequence[FieldViolation]]
"""Finds what is wrong with a request beyond the rules of its proto."""


def callers(service: ServiceDescriptor, *allowed: str) -> dict[str, frozenset[str]]:
    """Allow every method of a service to the same callers."""
    return {f"/{service.full_name}/{method.name}": frozenset(allowed) for method in service.methods}


def credentials(settings: MeshSettings) -> grpc.ServerCredentials:
    """Return mTLS credentials that require a certificate of the mesh's own root."""
    key, certificate = settings.tls_key_file.read_bytes(), settings.tls_certificate_file.read_bytes()
    root = settings.tls_ca_file.read_bytes()
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=root, require_client_auth=True)


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the service that the peer's certificate names, "" when it names none or several."""
    names = {
        match["service"].decode()
        for value in context.auth_context().get("x509_subject_alternative_name", ())
        if (match := _PEER_URI.fullmatch(value)) is not None
    }
    return names.pop() if len(names) == 1 else ""


def validate(request: Message, rules: Rules = lambda _: ()) -> None:
    """Raise InvalidArgumentError naming every field that breaks a rule, of the proto or one of `rules`."""
    violations = [FieldViolation(_path(item), item.proto.message) for item in protovalidate.collect_violations(request)]
    named = {violation.field for violation in violations}
    violations += [violation for violation in rules(request) if violation.field not in named]
    if violations:
        raise InvalidArgumentError("The request is not valid.", violations=violations)


def _path(violation: Any) -> str:
    path = ""
    for element in violation.proto.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        index = getattr(element.subscript, "value", None) if element.subscript is not None else None
        path += f"[{index}]" if index is not None else ""
    return path


class _Guard(grpc.aio.ServerInterceptor):
    """Runs around every method: who calls, how long they wait, what they send, and how an error leaves."""

    def __init__(self, allowed: Callers, rules: Rules) -> None:
        self._allowed = allowed
        self._rules = rules

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = str(handler_call_details.method)
        behaviour: Any = handler
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, behaviour.stream_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, behaviour.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _admit(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        caller = caller_of(context)
        if caller not in self._allowed.get(method, frozenset()):
            telemetry.logger().warning("caller refused", method=method, caller=caller or "unknown")
            raise CallerNotAllowedError("The caller may not use this method.")
        remaining_s = context.time_remaining()
        if remaining_s is None:
            raise DeadlineRequiredError("The call has no deadline.")
        deadline.set_remaining_s(remaining_s)

    @contextlib.asynccontextmanager
    async def _around(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        started = time.monotonic()
        try:
            self._admit(method, context)
            yield
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:  # noqa: BLE001  the one place where an error leaves a service
            _log_refusal(method, error, (time.monotonic() - started) * 1000)
            code, answer = status.code_of(error), status.to_status(error)
            try:
                await context.abort(code, answer.message, status.trailers(error, answer))
            except grpc.aio.AbortError as aborted:
                # The span records it with all that it came from; what an error says is for no trace.
                raise aborted from None

    def _unary(self, method: str, behaviour: Callable[..., Awaitable[Message]]) -> Callable[..., Awaitable[Message]]:
        async def guarded(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            async with self._around(method, context):
                validate(request, self._rules)
                return await behaviour(request, context)
            raise AssertionError("abort() does not return")

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
            async with self._around(method, context):
                async for response in behaviour(validated(requests), context):
                    yield response

        return guarded


def _log_refusal(method: str, error: Exception, duration_ms: float) -> None:
    log = telemetry.logger()
    shown = {"method": method, "reason": status.reason_of(error), "duration_ms": f"{duration_ms:.1f}"}
    if isinstance(error, FinIdError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "none"
        log.info("call refused", code=error.code.value, error_class=cause, **shown)
    else:
        log.error("call failed", error_class=type(error).__name__, stack=telemetry.stack_of(error), **shown)


class Server:
    """One service: its gRPC server on mTLS, its health on a plain port, and its life until SIGTERM.

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
            interceptors=[aio_server_interceptor(), _Guard(allowed, rules)],
            maximum_concurrent_rpcs=max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message_kib * _KIB),
                ("grpc.max_send_message_length", max_message_kib * _KIB),
                ("grpc.so_reuseport", 0),
            ],
        )

    def stop(self) -> None:
        """Begin to drain, as SIGTERM does."""
        self._stop.set()

    def reflect(self, *files: FileDescriptor) -> None:
        """Answer server reflection for these protos, where settings ask for it (development)."""
        if self._settings.reflection:
            names = [item.full_name for file in files for item in file.services_by_name.values()]
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self.grpc)

    async def run(self, *background: Callable[[], Awaitable[None]]) -> None:
        """Serve until SIGTERM or SIGINT, then drain: health first, then running calls, at most `drain_s`.

        `background` are loops that live as long as the service; one that raises ends it, with exit status 1.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self._health.start()
        self.grpc.add_secure_port(self._settings.listen, credentials(self._settings))
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
        except* Exception as errors:  # noqa: BLE001  told below, by class and place
            failed.extend(leaves(errors))
        finally:
            await self.grpc.stop(grace=0)
            await self._health.stop()
        for error in failed:
            # Not the error itself: its text may hold what no log may.
            telemetry.logger().critical(
                "ended by a background task", error_class=type(error).__name__, stack=telemetry.stack_of(error)
            )
        telemetry.stop()
        if failed:
            raise SystemExit(1)


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()
