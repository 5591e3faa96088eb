"""What doors are compared with: a raw echo in a process of its own, the mesh's Envoy before it, an HTTP cache."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import grpc

from deploy.envoy.bootstrap import render
from deploy.envoy.edge import typed
from deploy.local import envoy
from deploy.local.ports import HOST
from deploy.local.readiness import https_get
from deploy.local.services import Parts
from tests.ports import free_port

# The echo is faster than the limit of the mesh's own edge.
_REQUESTS_PER_SECOND = 100_000
_READY_S = 20.0
_END_S = 5.0


@contextmanager
def _program(parts: Parts, name: str, command: Sequence[str]) -> Iterator[None]:
    """Run a program until the block ends, or this process does; it writes where the mesh's processes do."""
    with (parts.state.private("log") / f"{name}.log").open("wb") as log:
        tied = ["/usr/bin/setpriv", "--pdeathsig=KILL", "--", *command]
        process = subprocess.Popen(tied, stdout=log, stderr=log)  # noqa: S603  a list of our own
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def start_echo(stack: ExitStack, parts: Parts, answer: bytes) -> tuple[int, int]:
    """Start the echo, with the gateway's certificate; return its plain and its mTLS port."""
    identity, plain, mtls = parts.identities["auth_gateway"], free_port(), free_port()
    answer_file = parts.state.write("run/bench-answer.bin", answer)
    arguments = (answer_file, plain, mtls, identity.certificate, identity.key, identity.root)
    stack.enter_context(_program(parts, "echo", (sys.executable, "-m", "bench.echo", *map(str, arguments))))
    async with grpc.aio.insecure_channel(f"{HOST}:{plain}") as channel, asyncio.timeout(_READY_S):
        await channel.channel_ready()
    return plain, mtls


async def start_edge(stack: ExitStack, parts: Parts, upstream_port: int) -> int:
    """Start an Envoy configured as the mesh's, before another gateway; return its HTTPS port."""
    edge = envoy.edge(parts)
    own = replace(
        edge,
        https_port=free_port(),
        pki_port=free_port(),
        admin_port=free_port(),
        metrics_port=free_port(),
        gateway=replace(edge.gateway, port=upstream_port),
        requests_per_second=_REQUESTS_PER_SECOND,
    )
    configuration = parts.state.write("run/bench-envoy.json", render(own), mode=0o600)
    stack.enter_context(_program(parts, "envoy-before-echo", envoy.program(configuration)))
    is_ready = https_get(f"https://localhost:{own.https_port}/.well-known/jwks.json", parts.web.root)
    async with asyncio.timeout(_READY_S):
        while await is_ready():  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.1)
    return own.https_port


async def start_cache(stack: ExitStack, parts: Parts, upstream_port: int) -> int:
    """Start an HTTP cache (Envoy's own, in memory) before a plain port of loopback; return its port."""
    port = free_port()
    configuration = parts.state.write("run/bench-cache.json", json.dumps(_cache(port, upstream_port)).encode())
    stack.enter_context(_program(parts, "cache", envoy.program(configuration)))
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return port


def _cache(port: int, upstream_port: int) -> dict[str, Any]:
    """Envoy's bootstrap."""
    http = "envoy.extensions.filters.http"
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="cache",
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
        http_filters=[
            {
                "name": "envoy.filters.http.cache",
                "typed_config": typed(
                    f"{http}.cache.v3.CacheConfig",
                    typed_config=typed("envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"),
                ),
            },
            {"name": "envoy.filters.http.router", "typed_config": typed(f"{http}.router.v3.Router")},
        ],
    )
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "cache", "address": _address(port), "filter_chains": [{"filters": filters}]}
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    origin = {
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [origin]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
