"""GetAuthentication over REST and gRPC, through Envoy and at the gateway, against a raw grpc.aio echo.

`python -m bench.get_authentication` starts the whole mesh in a state folder and on ports of its own; a raw echo that
answers with the same bytes, in a process of its own; and before the echo an Envoy configured as the mesh's. So each way
to the gateway stands beside the same way to a server that does nothing. Rounds of all ways alternate.
"""

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from bench import closed_loop
from bench.closed_loop import Measured, Timing
from bench.gateway_parts import gateway_parts
from bench.peers import start_echo, start_edge
from bench.table import heading, table
from bench.ways import MAX_CALLERS, Clients, Way, access_token, new_authentication, published_keys
from deploy.local import ports
from deploy.local.display import Display
from deploy.local.mesh import running_mesh
from deploy.local.settings import LocalSettings
from services.portal.sandbox import CLIENT_ID

CALLERS = (1, MAX_CALLERS)
ROUNDS = 3
ROUND_S, WARM_UP_S, PART_S = 0.6, 0.1, 0.2
RAW = "gRPC, no TLS: echo"
WHOLE, WIRE = "the round trip", "gRPC and mTLS, both ends (the echo's round trip)"


@dataclass(frozen=True, slots=True)
class Row:
    """One way, and the way to the echo that it is compared with."""

    name: str
    way: Way
    peer: str


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured: the ways, the parts of a call, and the authentication that they are about."""

    rows: tuple[Row, ...]
    parts: dict[str, Way]
    name: str


async def start(stack: AsyncExitStack) -> Bench:
    """Start everything; it stops with the stack."""
    # /var/tmp, and the folder opened by the mesh itself: PostgreSQL's user must be able to pass through.
    folder = tempfile.mkdtemp(prefix="finid-bench-", dir="/var/tmp")
    stack.callback(shutil.rmtree, folder)
    own = {"FINID_STATE": folder, "FINID_PORT_BASE": str(ports.free_base())}
    settings = LocalSettings.from_environment(os.environ | own)
    mesh = await stack.enter_async_context(running_mesh(settings, Display(sys.stderr)))
    parts, url, root = mesh.parts, mesh.parts.web_url, mesh.parts.web.root
    token = await access_token(url, root, CLIENT_ID, mesh.client_secret_file.read_text())
    name = await new_authentication(url, root, token)

    clients = Clients(stack, token, root, parts.identities["envoy"])
    gateway = await clients.grpc_mtls(parts.ports["auth_gateway"])
    answer = (await gateway(name)).SerializeToString()
    programs = stack.enter_context(ExitStack())
    plain_port, mtls_port = await start_echo(programs, parts, answer)
    edge_port = await start_edge(programs, parts, mtls_port)
    https_port = parts.ports["envoy https"]
    echo = await clients.grpc_mtls(mtls_port)
    rows = (
        Row(RAW, await clients.grpc_plain(plain_port), RAW),
        Row("gRPC, mTLS: echo", echo, RAW),
        Row("gRPC, mTLS: gateway", gateway, "gRPC, mTLS: echo"),
        Row("gRPC, Envoy: echo", await clients.grpc_tls(edge_port), RAW),
        Row("gRPC, Envoy: gateway", await clients.grpc_tls(https_port), "gRPC, Envoy: echo"),
        Row("REST, Envoy: echo", await clients.rest(edge_port), RAW),
        Row("REST, Envoy: gateway", await clients.rest(https_port), "REST, Envoy: echo"),
    )
    token_keys = await published_keys(url, root)
    within = await stack.enter_async_context(gateway_parts(parts, token_keys, token, name))
    return Bench(rows, {WHOLE: gateway, WIRE: echo, **within}, name)


async def measure(ways: Mapping[str, Way], name: str, callers: int, round_s: float) -> dict[str, Measured]:
    """Return the timings of each way for a number of callers at once."""
    rounds: dict[str, list[Timing]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, call in ways.items():
            rounds[way].append(await closed_loop.run(call, itertools.repeat(name), callers, round_s))
    return {way: Measured(timings) for way, timings in rounds.items()}


async def taken_apart(bench: Bench) -> dict[str, float]:
    """Return the milliseconds of a call by what they go to, medians; what is left over, and the whole, come last."""
    measured = await measure(bench.parts, bench.name, 1, PART_S)
    parts_ms = {part: timings.percentile_ms(50) for part, timings in measured.items()}
    whole_ms = parts_ms.pop(WHOLE)
    return {
        **parts_ms,
        "guard, waiting for the processor, the rest": whole_ms - sum(parts_ms.values()),
        WHOLE: whole_ms,
    }


def lines(bench: Bench, measured: dict[str, Measured]) -> list[tuple[str, ...]]:
    """Return the rows of a table."""
    return [
        (
            row.name,
            f"{own.calls_per_s:.0f}",
            f"{own.percentile_ms(50):.1f}",
            f"{own.percentile_ms(99):.1f}",
            "" if row.peer == RAW else f"{own.calls_per_s / measured[row.peer].calls_per_s:.2f}",
            f"{own.calls_per_s / measured[RAW].calls_per_s:.2f}",
        )
        for row in bench.rows
        for own in (measured[row.name],)
    ]


async def main() -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        bench = await start(stack)
        ways = {row.name: row.way for row in bench.rows}
        await measure(ways, bench.name, MAX_CALLERS, WARM_UP_S)  # connections, prepared statements, keys
        measured = {callers: await measure(ways, bench.name, callers, ROUND_S) for callers in CALLERS}
        parts_ms = await taken_apart(bench)

    for callers in CALLERS:
        heading(f"GetAuthentication, {callers} at once")
        table(("way", "calls/s", "p50 ms", "p99 ms", "of its echo", "of raw"), lines(bench, measured[callers]))
    heading("Where the time of one call goes at the gateway, one at once, medians")
    share = [(part, f"{ms:.2f}", f"{ms / parts_ms[WHOLE]:.0%}") for part, ms in parts_ms.items()]
    table(("part", "ms", "share"), share)


if __name__ == "__main__":
    asyncio.run(main())
