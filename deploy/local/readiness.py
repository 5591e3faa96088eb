"""Who is ready, and who is not and why: gRPC health of every service, and a request through Envoy."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2

from deploy.local.ports import HOST

_CHECK_TIMEOUT_S = 1.0
# A health call over TLS or gRPC costs milliseconds of the same cores that those who start need.
_PAUSE_S = 0.25

_NO_ANSWER = "does not answer yet"

Check = Callable[[], Awaitable[str]]
"""Returns "" when ready, else why not."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """Who was not ready in time, and why."""

    reasons: Mapping[str, str]


def grpc_health(port: int) -> Check:
    """Ready when grpc.health.v1 says SERVING for the whole server."""

    async def check() -> str:
        if not await _listens(port):
            return _NO_ANSWER
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            ask = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await ask(health_pb2.HealthCheckRequest(), timeout=_CHECK_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return _NO_ANSWER
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        return "says it is not serving: something it needs is missing"

    return check


async def _listens(port: int) -> bool:
    """Whether the port takes a connection: asking that costs nothing beside a channel of gRPC's."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def https_get(url: str, root: Path) -> Check:
    """Ready when the URL answers 200 under the root's certificate."""
    context = ssl.create_default_context(cafile=str(root))

    async def check() -> str:
        try:
            async with httpx.AsyncClient(verify=context, timeout=_CHECK_TIMEOUT_S, trust_env=False) as client:
                answer = await client.get(url)
        except httpx.HTTPError:
            return _NO_ANSWER
        return "" if answer.status_code == httpx.codes.OK else f"answers {answer.status_code}"

    return check


async def wait_for_all(
    checks: Mapping[str, Check],
    timeout_s: float,
    ready: Callable[[str, float], None],
    waiting: Callable[[Mapping[str, str]], None],
) -> NotReady | None:
    """Ask everybody at once and again until all are ready together; return None, or who was not within the time.

    `ready(name, after_s)` is called for each as it becomes ready, `waiting(reasons)` while somebody is not.
    """
    started = time.monotonic()
    reasons = dict.fromkeys(checks, "is starting")

    async def follow(name: str) -> None:
        while reason := await checks[name]():
            reasons[name] = reason
            await asyncio.sleep(_PAUSE_S)
        del reasons[name]
        ready(name, time.monotonic() - started)

    async def look_again(name: str) -> None:
        if reason := await checks[name]():
            reasons[name] = reason

    async def report() -> None:
        while reasons:
            waiting(dict(reasons))
            await asyncio.sleep(_PAUSE_S * 2)

    try:
        async with asyncio.timeout(timeout_s):
            while reasons:
                async with asyncio.TaskGroup() as group:
                    group.create_task(report())
                    for name in list(reasons):
                        group.create_task(follow(name))
                # Who was ready first may have died meanwhile.
                async with asyncio.TaskGroup() as group:
                    for name in checks:
                        group.create_task(look_again(name))
    except TimeoutError:
        return NotReady(dict(reasons))
    return None
