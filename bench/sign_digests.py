"""SignDigests through gRPC against raw unwrap, sign, destroy on the same token: `python -m bench.sign_digests`.

The signer is the one that is deployed: a process of its own behind mTLS, on a SoftHSM token and a durable PostgreSQL.
Every call brings a transaction of its own, made beforehand, with one document; then with several, as a person signs
them in one confirmation. The raw calls go through python-pkcs11 in this process with nothing around them: no signer on
this token can be faster. Rounds of the two alternate.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pkcs11
from finid.signer.v1 import signer_pb2_grpc as rpc
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.constants import DEFAULT

from bench import closed_loop
from bench.closed_loop import Measured
from bench.table import heading, table
from bench.watched_signer import WatchedDatabase, WatchedKeys, WatchedSigner, watched_signer
from mesh import telemetry
from mesh.hsm import KekName, TokenPool, WrappedKey
from services.signer.credential import Credential
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys
from tests.bundles import SentBundle
from tests.deployed import deployed
from tests.postgres import running_cluster
from tests.signer.place import make_place, request_of, stub_of
from tests.signer.room import Clock, Room
from tests.softhsm import MODULE_PATH, softhsm_of_this_process

CALLERS = (1, 4, 16)
ROUNDS = 3
RAW_ROUND_S, ROUND_S = 0.7, 1.5
CALLS_A_ROUND = 300
DOCUMENTS = (1, 10, 100)
SPLIT_CALLS = 100
_DEADLINE_S = 30
_KEK = KekName(KEK_LABEL, 1)
_SIGNS_INSIDE = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    # python-pkcs11 fills these in for every unwrapped key, and SoftHSM refuses them on a private key.
    Attribute.ENCRYPT: DEFAULT,
    Attribute.VERIFY: DEFAULT,
    Attribute.WRAP: DEFAULT,
}


@dataclass(frozen=True, slots=True)
class Signer:
    """The deployed signer, beside it a watched one in this process, and a credential that both know."""

    stub: "rpc.SignerServiceAsyncStub"
    room: Room
    credential: Credential
    watched: WatchedSigner
    token_label: str

    def bundles(self, count: int, documents_each: int = 1) -> list[SentBundle]:
        """Make transactions that may be signed for the next minute and a half."""
        self.room.clock.unix_s = int(time.time())
        documents = self.room.documents(self.credential, *(f"{place}.pdf" for place in range(documents_each)))
        return [self.room.bundle(self.credential, transaction={"documents": documents}) for _ in range(count)]

    async def sign(self, bundle: SentBundle) -> None:
        """Have a bundle signed over the wire."""
        await self.stub.SignDigests(request_of(bundle), timeout=_DEADLINE_S)

    def raw_signing(self, digests: int = 1) -> Callable[[], bytes]:
        """Open a session; return the call that unwraps the credential's key, signs so often and destroys it."""
        # mesh.hsm has loaded the module in this process, initialised it for threads and logged in.
        token = pkcs11.lib(str(MODULE_PATH.resolve())).get_token(token_label=self.token_label)
        kek: Any = token.open().get_key(object_class=ObjectClass.SECRET_KEY, label=_KEK.token_label)
        wrapped = WrappedKey.from_bytes(self.credential.wrapped_key).wrapped
        digest = bytes(32)

        def unwrap_sign_destroy() -> bytes:
            key = kek.unwrap_key(
                ObjectClass.PRIVATE_KEY,
                KeyType.EC,
                wrapped,
                mechanism=Mechanism.AES_KEY_WRAP_PAD,
                capabilities=MechanismFlag.SIGN,
                template=_SIGNS_INSIDE,
            )
            for _ in range(digests):
                signature: bytes = key.sign(digest, mechanism=Mechanism.ECDSA)
            key.destroy()
            return signature

        return unwrap_sign_destroy


async def start(stack: AsyncExitStack) -> Signer:
    """Start everything; it stops with the stack."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
    softhsm = stack.enter_context(softhsm_of_this_process(folder))
    place = softhsm.new_token()
    token = place.open(writable=True)
    token.create_kek(_KEK)
    provisioned = stack.enter_context(stack.enter_context(running_cluster(durable=True)).database("signer"))
    own = make_place(softhsm, place, provisioned, folder)

    # In this process: who enrols the person, makes the bundles, and is watched.
    database = await WatchedDatabase.open(provisioned.url("signer"), service="signer")
    stack.push_async_callback(database.close)
    pool = TokenPool(token)
    stack.callback(pool.close)
    room = Room(
        keys=WatchedKeys(TokenSubjectKeys(pool, _KEK), database.watch),
        signings=SigningStore(database),
        credentials=CredentialStore(database),
        pins=own.pins,
        clock=Clock(int(time.time())),
        ca=own.ca,
    )
    credential = await room.enrol()
    signer = await stack.enter_async_context(deployed("signer", own.authority, own.environment))
    watched = await stack.enter_async_context(watched_signer(room, credential, database.watch, folder))
    return Signer(stub_of(signer), room, credential, watched, place.label)


async def compare(signer: Signer, callers: int) -> tuple[Measured, Measured]:
    """Return (raw, SignDigests) for a number of callers at once."""
    raw, signed = [], []
    for _ in range(ROUNDS):
        raw.append(await asyncio.to_thread(closed_loop.run_in_threads, signer.raw_signing, callers, RAW_ROUND_S))
        signed.append(await closed_loop.run(signer.sign, signer.bundles(CALLS_A_ROUND), callers, ROUND_S))
    return Measured(raw), Measured(signed)


async def compare_documents(signer: Signer, documents: int) -> tuple[Measured, Measured]:
    """Return (raw, SignDigests), each of so many digests a call, one call at once."""
    raw, signed = [], []
    for _ in range(ROUNDS):
        call = partial(signer.raw_signing, documents)
        raw.append(await asyncio.to_thread(closed_loop.run_in_threads, call, 1, RAW_ROUND_S))
        bundles = signer.bundles(CALLS_A_ROUND // (1 + documents // 10), documents)
        signed.append(await closed_loop.run(signer.sign, bundles, 1, ROUND_S))
    return Measured(raw), Measured(signed)


def _row(callers: int, name: str, measured: Measured, limit: Measured) -> tuple[str, ...]:
    return (
        f"{callers} at once: {name}",
        f"{measured.calls_per_s:.0f}",
        f"{measured.percentile_ms(50):.1f}",
        f"{measured.percentile_ms(99):.1f}",
        f"{measured.calls_per_s / limit.calls_per_s:.2f}",
    )


async def main() -> None:
    """Measure and print."""
    telemetry.start("bench", log_level="error", otlp_endpoint=None)
    async with AsyncExitStack() as stack:
        signer = await start(stack)
        await closed_loop.run(signer.sign, signer.bundles(40), 4, ROUND_S)  # connections, statements, sessions
        compared = {callers: await compare(signer, callers) for callers in CALLERS}
        by_documents = {documents: await compare_documents(signer, documents) for documents in DOCUMENTS}
        for bundle in signer.bundles(SPLIT_CALLS):
            await signer.watched.sign(bundle)
        parts = signer.watched.parts_ms()

    heading("SignDigests, one digest a call")
    rows = [
        row
        for callers, (raw, signed) in compared.items()
        for row in (_row(callers, "raw unwrap, sign, destroy", raw, raw), _row(callers, "SignDigests", signed, raw))
    ]
    table(("callers", "calls/s", "p50 ms", "p99 ms", "of raw"), rows)
    heading("SignDigests, one call at once, by how many digests are in it")
    one_by_one = by_documents[1][0].calls_per_s
    rows = [
        (
            str(documents),
            f"{signed.calls_per_s * documents:.0f}",
            f"{signed.percentile_ms(50):.1f}",
            f"{signed.calls_per_s * documents / one_by_one:.2f}",
            f"{signed.calls_per_s / raw.calls_per_s:.2f}",
        )
        for documents, (raw, signed) in by_documents.items()
    ]
    table(
        ("digests a call", "signatures/s", "p50 ms", "of raw, one by one", "of raw, as many for one unwrapping"), rows
    )
    heading("Where the time of one call goes, one at once, medians")
    whole_ms = max(parts.values())
    table(("part", "ms", "share"), [(part, f"{ms:.2f}", f"{ms / whole_ms:.0%}") for part, ms in parts.items()])


if __name__ == "__main__":
    asyncio.run(main())
