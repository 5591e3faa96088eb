"""Certificate status (OCSP) of the running mesh against `openssl ocsp` as a server.

    python -m bench.certificate_status

openssl has an index file of its own, a responder's key of the same kind in a file, and answers over HTTP from one
process. The mesh is asked at the CA over mTLS and as relying parties ask it: plain HTTP through Envoy and the gateway,
POST and GET, and through an HTTP cache before that, since GET answers may be cached for some minutes (RFC 5019).
Without a nonce the CA's answers are kept; with one each is signed in the token. All are asked about one certificate in
force, by clients that send bytes made beforehand. Rounds of all ways alternate. What an answer costs in the CA itself
is shown with keys and ledger in memory.
"""

import asyncio
import base64
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from urllib.parse import quote

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from finid.ca.v1 import ca_pb2 as pb
from finid.ca.v1 import ca_pb2_grpc as rpc

from bench import closed_loop, raw_http
from bench.closed_loop import Measured, Timing
from bench.peers import start_cache
from bench.table import heading, table
from deploy.local import ports
from deploy.local.display import Display
from deploy.local.mesh import running_mesh
from deploy.local.ports import HOST
from deploy.local.services import Parts
from deploy.local.settings import LocalSettings
from services.ca.authority import CHAIN_FILE, TSA_FILE
from services.ca.ocsp import Responder
from tests.ca.authorities import MemoryAuthority
from tests.ca.memory_ledger import MemoryLedger
from tests.ports import free_port

CALLERS = (1, 16)
ROUNDS = 3
ROUND_S, WARM_UP_S = 0.6, 0.2
INDEXED = 1000
_DEADLINE_S = 10
_MEDIA_TYPE = "application/ocsp-request"
PEER = "openssl ocsp, POST"

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests about one certificate: without a nonce, and with one."""

    plain: bytes
    with_nonce: bytes

    @classmethod
    def about(cls, certificate: x509.Certificate, issuer: x509.Certificate) -> "Asked":
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256())
        nonced = builder.add_extension(x509.OCSPNonce(secrets.token_bytes(16)), critical=False)
        return cls(builder.build().public_bytes(Encoding.DER), nonced.build().public_bytes(Encoding.DER))


def openssl(stack: AsyncExitStack, folder: Path) -> tuple[int, Asked]:
    """Serve an index with openssl; return the port, and what to ask."""
    memory = MemoryAuthority()
    authority = memory.authority
    memory.write(folder)
    (folder / "ocsp.pem").write_bytes(authority.ocsp.certificate.public_bytes(Encoding.PEM))
    key = memory.ocsp_key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "ocsp.key").write_bytes(key)
    ends = authority.tsa.certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ")
    serials = [authority.tsa.certificate.serial_number, *(secrets.randbits(158) for _ in range(INDEXED - 1))]
    lines = [f"V\t{ends}\t\t{serial:040X}\tunknown\t/CN={place}\n" for place, serial in enumerate(serials)]
    (folder / "index.txt").write_text("".join(lines))
    port = free_port()
    command = ["openssl", "ocsp", "-index", "index.txt", "-port", str(port), "-CA", "issuing.pem"]
    command += ["-rsigner", "ocsp.pem", "-rkey", "ocsp.key", "-nmin", "60"]
    log = stack.enter_context((folder / "log").open("wb"))
    served = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)  # noqa: S603  our own words
    stack.callback(served.wait)
    stack.callback(served.terminate)
    return port, Asked.about(authority.tsa.certificate, authority.issuing.certificate)


def _over_http(port: int, request: bytes) -> Ask:
    call = raw_http.client(port)
    return lambda: call(request)


def openssl_ways(stack: AsyncExitStack) -> dict[str, Ask]:
    """The peer."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
    port, asked = openssl(stack, folder)
    return {PEER: _over_http(port, raw_http.post(port, "/", _MEDIA_TYPE, asked.plain))}


async def mesh_ways(stack: AsyncExitStack, parts: Parts) -> dict[str, Ask]:
    """The running mesh at its doors."""
    own = parts.identities["auth_gateway"]
    credentials = grpc.ssl_channel_credentials(
        own.root.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()
    )
    name = (("grpc.ssl_target_name_override", "ca.finid.internal"),)
    channel = grpc.aio.secure_channel(f"{HOST}:{parts.ports['ca']}", credentials, name)
    stack.push_async_callback(channel.close)
    stub: rpc.CaServiceAsyncStub = rpc.CaServiceStub(channel)
    issuing, _ = x509.load_pem_x509_certificates((parts.pki / CHAIN_FILE).read_bytes())
    asked = Asked.about(x509.load_pem_x509_certificate((parts.pki / TSA_FILE).read_bytes()), issuing)
    port = parts.ports["envoy pki"]

    def at_the_ca(request_der: bytes) -> Ask:
        request = pb.OcspRequest(request_der=request_der)
        return lambda: stub.Ocsp(request, timeout=_DEADLINE_S)

    cache_port = await start_cache(stack.enter_context(ExitStack()), parts, port)
    path = f"/pki/ocsp/{quote(base64.b64encode(asked.plain).decode(), safe='')}"
    return {
        "the CA over mTLS, kept": at_the_ca(asked.plain),
        "the CA over mTLS, nonce": at_the_ca(asked.with_nonce),
        "Envoy, POST, kept": _over_http(port, raw_http.post(port, "/pki/ocsp", _MEDIA_TYPE, asked.plain)),
        "Envoy, GET, kept": _over_http(port, raw_http.get(port, path)),
        "an HTTP cache before that, GET": _over_http(cache_port, raw_http.get(cache_port, path)),
        "Envoy, POST, nonce": _over_http(port, raw_http.post(port, "/pki/ocsp", _MEDIA_TYPE, asked.with_nonce)),
    }


async def responder_ways() -> dict[str, Ask]:
    """The responder itself, with keys and ledger in memory."""
    authority = MemoryAuthority().authority
    responder = Responder(authority=authority, ledger=MemoryLedger(), now=lambda: datetime.now(UTC))
    await responder.catch_up()
    asked = Asked.about(authority.tsa.certificate, authority.issuing.certificate)
    return {
        "the responder alone, kept": lambda: responder.answer(asked.plain),
        "the responder alone, nonce, key in software": lambda: responder.answer(asked.with_nonce),
    }


async def measure(ways: Mapping[str, Ask], callers: int, round_s: float) -> dict[str, Measured]:
    """Return the timings of each way for a number of callers at once."""
    rounds: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, ask in ways.items():
            rounds[name].append(await closed_loop.run(lambda call: call(), repeat(ask), callers, round_s))
            # Two seconds' worth is what Envoy lets pass at once: the next round finds it whole again.
            await asyncio.sleep(round_s if "Envoy" in name else 0)
    return {name: Measured(timings) for name, timings in rounds.items()}


async def main() -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        # /var/tmp, and the folder opened by the mesh itself: PostgreSQL's user must be able to pass through.
        folder = tempfile.mkdtemp(prefix="finid-bench-", dir="/var/tmp")
        stack.callback(shutil.rmtree, folder)
        own = {"FINID_STATE": folder, "FINID_PORT_BASE": str(ports.free_base())}
        settings = LocalSettings.from_environment(os.environ | own)
        mesh = await stack.enter_async_context(running_mesh(settings, Display(sys.stderr)))
        ways = {**openssl_ways(stack), **await mesh_ways(stack, mesh.parts), **await responder_ways()}
        await asyncio.to_thread(time.sleep, 1)  # openssl reads its index
        await measure(ways, max(CALLERS), WARM_UP_S)
        measured = {callers: await measure(ways, callers, ROUND_S) for callers in CALLERS}
    for callers, of_ways in measured.items():
        heading(f"Certificate status, {callers} at once")
        rows = [
            (
                name,
                f"{own.calls_per_s:.0f}",
                f"{own.percentile_ms(50):.2f}",
                f"{own.percentile_ms(99):.1f}",
                f"{own.calls_per_s / of_ways[PEER].calls_per_s:.2f}",
            )
            for name, own in of_ways.items()
        ]
        table(("way", "answers/s", "p50 ms", "p99 ms", "of openssl"), rows)


if __name__ == "__main__":
    asyncio.run(main())
