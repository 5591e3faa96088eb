"""Where the time of one whole authentication goes, by service: `python -m bench.one_authentication`.

Starts the whole mesh with every call traced, lets the sample person authenticate step by step over REST, in real time
as she was filmed, and takes apart the spans that Envoy, the services and their workers export. What is shared out is
the time in which her device or her bank waits for FinID, from the first call to the result; the seconds in which she
does as she is asked are nobody's. A span's own time is what no span below it covers.
"""

import argparse
import asyncio
import base64
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from bench.table import heading, table
from deploy.demo.__main__ import surroundings
from deploy.demo.camera import Frame, Step, show
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Participant
from deploy.demo.walk import Surroundings
from deploy.local import ports
from deploy.local.__main__ import addresses
from deploy.local.display import Display
from deploy.local.mesh import running_mesh
from deploy.local.settings import LocalSettings
from tests.collector import Collector, running_collector

# Beside a service itself, what it waits for, by how its span's name begins.
_BEHIND = {
    "worker ": "{}: its worker (decoding, models)",
    "sql ": "{}: its database",
    "pkcs11 ": "{}: its token",
    "wait on purpose": "{}: waits on purpose (what is refused takes as long)",
}
_WIRE = "between services (gRPC, mTLS, and waiting for the processor)"
_EXPORTED_WITHIN_S = 7.0
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Taken:
    """One authentication: milliseconds by what they go to, how many public calls, how many seconds it took in all."""

    own_ms: dict[str, float]
    calls: int
    whole_s: float

    @property
    def waited_ms(self) -> float:
        """All time that somebody waited for FinID."""
        return sum(self.own_ms.values())

    @property
    def workers_ms(self) -> float:
        """What the workers took."""
        return sum(value for part, value in self.own_ms.items() if "worker" in part)

    @property
    def on_purpose_ms(self) -> float:
        """What answers were held back for, so that no clock tells what they hide."""
        return sum(value for part, value in self.own_ms.items() if "on purpose" in part)


async def authenticate(given: Surroundings, bank: Participant) -> None:
    """One authentication that succeeds, step by step; AssertionError otherwise."""
    asked = {
        "requestId": secrets.token_hex(16),
        "subject": {"iin": given.live.iin, "phone": given.live.phone},
        "channel": "CHANNEL_STEPS",
        "scopes": ["SCOPE_NAME"],
    }
    created = await bank.call("POST", "/v1/authentications", asked)
    path = f"/v1/{created['name']}"
    consents = [{"id": item["id"], "version": item["version"]} for item in created["consents"]]
    await bank.call("POST", f"{path}:giveConsents", {"consents": consents})

    async def submit(frames: Sequence[Frame], flash_started_at_ms: int) -> Step:
        sent = [
            {"jpeg": base64.b64encode(frame.jpeg).decode(), "capturedAtMs": str(frame.captured_at_ms)}
            for frame in frames
        ]
        body = {"frames": sent, "flashStartedAtMs": str(flash_started_at_ms)}
        return await bank.call("POST", f"{path}:submitFrames", body)

    first = await bank.call("POST", f"{path}:startLiveness", {})
    ended = await show(given.camera(), first, submit, lambda _step: None)
    if ended["state"] != "LIVENESS_STATE_PASSED":
        raise AssertionError(f"the attempt ended as {ended['state']}")
    phone = Phone(given.live.phone, given.outbox)
    await bank.call("POST", f"{path}:sendCode", {})
    code, _ = await phone.next_code()
    await bank.call("POST", f"{path}:verifyCode", {"code": code})
    result = await bank.call("POST", f"{path}:readResult", {})
    if result["verdict"] != "VERDICT_SUCCESS":
        raise AssertionError(f"it ended with {result['reason']}")


def own_times_ms(exported: Iterable[ResourceSpans], since_ns: int, until_ns: int) -> tuple[dict[str, float], int]:
    """Milliseconds by service of the public calls that began within a time, and how many calls those were."""
    spans: dict[bytes, tuple[str, Span]] = {}
    below: dict[bytes, list[Span]] = defaultdict(list)
    for group in exported:
        service = next(
            (item.value.string_value for item in group.resource.attributes if item.key == "service.name"), ""
        )
        for span in (span for scope in group.scope_spans for span in scope.spans):
            spans[span.span_id] = (service.removeprefix("finid-"), span)
            below[span.parent_span_id].append(span)
    own_ms: dict[str, float] = defaultdict(float)
    calls = 0
    for service, span in spans.values():
        if service == "envoy" and span.parent_span_id not in spans and since_ns <= span.start_time_unix_nano < until_ns:
            calls += 1
            _share_out(service, span, spans, below, own_ms)
    return dict(own_ms), calls


def _share_out(
    service: str,
    span: Span,
    spans: dict[bytes, tuple[str, Span]],
    below: dict[bytes, list[Span]],
    own_ms: dict[str, float],
) -> None:
    """Add the own times of a span and of all below it."""
    children = below[span.span_id]
    covered_ns, end_ns = 0, span.start_time_unix_nano
    for child in sorted(children, key=lambda item: item.start_time_unix_nano):
        start_ns = max(child.start_time_unix_nano, end_ns)
        end_ns = max(end_ns, min(child.end_time_unix_nano, span.end_time_unix_nano))
        covered_ns += max(0, end_ns - start_ns)
        _share_out(spans[child.span_id][0], child, spans, below, own_ms)
    own_ns = span.end_time_unix_nano - span.start_time_unix_nano - covered_ns
    own_ms[_part(service, span)] += own_ns / _NS_PER_MS


def _part(service: str, span: Span) -> str:
    for begins, part in _BEHIND.items():
        if span.name.startswith(begins):
            return part.format(service)
    # The time on the way to a service and back, and that of what stands before its first line and after its last.
    return _WIRE if service != "envoy" and span.kind == Span.SPAN_KIND_CLIENT else service


async def measure(stack: AsyncExitStack, rounds: int) -> list[Taken]:
    """Start everything, authenticate, return what the spans say."""
    folder = tempfile.mkdtemp(prefix="finid-bench-", dir="/var/tmp")
    stack.callback(shutil.rmtree, folder)
    collector: Collector = stack.enter_context(running_collector())
    own = {
        "FINID_STATE": folder,
        "FINID_PORT_BASE": str(ports.free_base()),
        "FINID_OTLP_ENDPOINT": collector.address,
    }
    settings = LocalSettings.from_environment(os.environ | own)
    mesh = await stack.enter_async_context(running_mesh(settings, Display(sys.stderr)))
    given = surroundings(Path(folder), addresses(mesh))
    bank = await Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret)
    stack.push_async_callback(bank.close)
    times: list[tuple[int, int]] = []
    await authenticate(given, bank)  # connections, prepared statements, models' first runs
    for _ in range(rounds):
        began_ns = time.time_ns()
        await authenticate(given, bank)
        times.append((began_ns, time.time_ns()))
    await asyncio.sleep(_EXPORTED_WITHIN_S)
    exported = collector.exported()
    return [
        Taken(*own_times_ms(exported, began_ns, ended_ns), (ended_ns - began_ns) / 1e9) for began_ns, ended_ns in times
    ]


def rows(taken: Sequence[Taken]) -> list[tuple[str, ...]]:
    """The table's rows: medians over the authentications."""
    parts = sorted({part for one in taken for part in one.own_ms})
    middle = {part: median(one.own_ms.get(part, 0.0) for one in taken) for part in parts}
    whole_ms = sum(middle.values())
    ordered = sorted(middle.items(), key=lambda item: -item[1])
    return [
        *((part, f"{value:.0f}", f"{value / whole_ms:.0%}") for part, value in ordered),
        ("all", f"{whole_ms:.0f}", "100%"),
    ]


async def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_authentication", description="Its time, by service")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    async with AsyncExitStack() as stack:
        taken = await measure(stack, asked.rounds)
    heading(f"Where one authentication's time goes, medians of {len(taken)}")
    table(("part", "ms", "share"), rows(taken))
    print(
        f"{median(one.calls for one in taken):.0f} calls; {median(one.whole_s for one in taken):.1f} s in all,", end=" "
    )
    print("most of which the person acts")
    for what, beyond in (
        ("beyond the workers' own time", [one.waited_ms / one.workers_ms - 1 for one in taken]),
        ("without the wait on purpose", [(one.waited_ms - one.on_purpose_ms) / one.workers_ms - 1 for one in taken]),
    ):
        print(f"{what}: {median(beyond):.0%} (each: {', '.join(f'{one:.0%}' for one in beyond)})")


if __name__ == "__main__":
    asyncio.run(main())
