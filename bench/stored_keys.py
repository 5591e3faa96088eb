"""SignDigests with few and with very many stored keys: `python -m bench.stored_keys [--most 1000000]`.

Two signers, deployed alike, on one token and one durable PostgreSQL, each with a database of its own: in one a hundred
keys are stored, in the other a million. Some of them were made as everybody's are, and sign; the others are copies of
one of those under other names, transactions and people, made in the database (they could not sign: the attestation of
their key is another's, which nothing here asks about). The two are called in turn, call by call.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
from finid.signer.v1 import signer_pb2_grpc as rpc

from bench import closed_loop
from bench.closed_loop import Measured, Timing
from bench.table import heading, table
from deploy.local.database import Database as Provisioned
from mesh import telemetry
from mesh.hsm import KekName, TokenPool
from mesh.postgres import Database
from services.signer.credential import Credential
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys
from tests.bundles import SentBundle
from tests.deployed import deployed
from tests.postgres import running_cluster
from tests.signer.place import make_place, request_of, stub_of
from tests.signer.room import Clock, Room
from tests.softhsm import SoftHsm, TokenPlace, softhsm_of_this_process

FEWEST = 100
CALLERS = (1, 4)
ROUNDS = 4
ROUND_S, CALLS_A_ROUND = 3.0, 150
ENROLLED = 20
_DEADLINE_S = 30
_PERCENTS = (10, 25, 50)
Sign = Callable[[int, SentBundle], Awaitable[None]]
_KEK = KekName(KEK_LABEL, 1)
_AT_ONCE = 50_000
_COLUMNS = """request_id, state, phone_hmac, public_key_der, wrapped_key, csr_der, key_attestation, superseded,
    certificate_sha256, created_at, activated_at, not_after, activatable_from, photo_hmac, profile, policy"""
_COPY = f"""
    INSERT INTO signer.credentials (credential, txn, subject_hmac, {_COLUMNS})
    SELECT 'credentials/' || translate(left(md5(n::text), 26), '0123456789', 'ghijklmnop'),
        sha256(convert_to('transaction ' || n, 'UTF8')), sha256(convert_to('person ' || n, 'UTF8')), {_COLUMNS}
    FROM signer.credentials, generate_series(%s::int, %s::int) AS n WHERE credential = %s"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Signer:
    """A deployed signer, and credentials that sign."""

    stub: "rpc.SignerServiceAsyncStub"
    room: Room
    credentials: Sequence[Credential]

    def bundles(self, count: int) -> list[SentBundle]:
        """Make transactions that may be signed for the next minute and a half, by all in turn."""
        self.room.clock.unix_s = int(time.time())
        signing = itertools.islice(itertools.cycle(self.credentials), count)
        return [self.room.bundle(one, transaction={"documents": self.room.documents(one, "a.pdf")}) for one in signing]

    async def sign(self, bundle: SentBundle) -> None:
        """Have a bundle signed over the wire."""
        await self.stub.SignDigests(request_of(bundle), timeout=_DEADLINE_S)


def store(provisioned: Provisioned, like: Credential, count: int) -> None:
    """Have so many keys stored besides those that sign, and the planner know of them."""
    with psycopg.connect(provisioned.owner_url, autocommit=True) as database:
        database.execute("SET synchronous_commit = off")
        for begins in range(0, count - ENROLLED, _AT_ONCE):
            ends = min(begins + _AT_ONCE, count - ENROLLED)
            database.execute(_COPY, (begins + 1, ends, like.name))
        database.execute("VACUUM (ANALYZE) signer.credentials")
    with psycopg.connect(provisioned.admin_url, autocommit=True) as server:
        server.execute("CHECKPOINT")  # what was just written is not written out while we measure


async def start(
    stack: AsyncExitStack, softhsm: SoftHsm, token: TokenPlace, pool: TokenPool, provisioned: Provisioned, count: int
) -> Signer:
    """Start a signer with so many stored keys; it stops with the stack."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
    own = make_place(softhsm, token, provisioned, folder)
    database = await Database.open(provisioned.url("signer"), service="bench")
    stack.push_async_callback(database.close)
    room = Room(
        keys=TokenSubjectKeys(pool, _KEK),
        signings=SigningStore(database),
        credentials=CredentialStore(database),
        pins=own.pins,
        clock=Clock(int(time.time())),
        ca=own.ca,
    )
    # Of one person and profile one key is in use: each of these is of a profile of its own.
    credentials = [await room.enrol(profile=f"individual-sign-{number}") for number in range(ENROLLED)]
    await asyncio.to_thread(store, provisioned, credentials[0], count)
    signer = await stack.enter_async_context(deployed("signer", own.authority, own.environment))
    return Signer(stub_of(signer), room, credentials)


async def measure(signers: Sequence[Signer], callers: int) -> list[Measured]:
    """Return the timings of each signer. Each caller calls one and the other in turn: what else the machine does, and
    it may do much, then meets both alike."""
    rounds = []
    for _ in range(ROUNDS):
        calls_s: list[list[float]] = [[] for _ in signers]

        async def sign(which: int, bundle: SentBundle, into: list[list[float]] = calls_s) -> None:
            started = time.perf_counter()
            await signers[which].sign(bundle)
            into[which].append(time.perf_counter() - started)

        pairs = zip(*(one.bundles(CALLS_A_ROUND) for one in signers), strict=True)
        waiting = [list(enumerate(pair))[:: 1 if number % 2 else -1] for number, pair in enumerate(pairs)]

        async def both(pair: Iterable[tuple[int, SentBundle]], call: Sign = sign) -> None:
            for which, bundle in pair:
                await call(which, bundle)

        took = await closed_loop.run(both, waiting, callers, ROUND_S)
        rounds.append([Timing(took.took_s, tuple(of_one)) for of_one in calls_s])
    return [Measured([of_all[place] for of_all in rounds]) for place in range(len(signers))]


async def main(most: int) -> None:
    """Measure and print."""
    telemetry.start("bench", log_level="error", otlp_endpoint=None)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
        softhsm = stack.enter_context(softhsm_of_this_process(folder))
        place = softhsm.new_token()
        token = place.open(writable=True)
        token.create_kek(_KEK)
        pool = TokenPool(token)
        stack.callback(pool.close)
        cluster = stack.enter_context(running_cluster(durable=True))
        counts, signers = (FEWEST, most), list[Signer]()
        for count in counts:
            provisioned = stack.enter_context(cluster.database("signer"))
            signers.append(await start(stack, softhsm, place, pool, provisioned, count))
        for signer in signers:  # connections, statements, sessions
            await closed_loop.run(signer.sign, signer.bundles(40), 4, ROUND_S)
        measured = {callers: await measure(signers, callers) for callers in CALLERS}
    heading("SignDigests by how many keys are stored")
    rows = [
        (
            f"{callers} at once: {count:,} keys",
            str(sum(len(one.calls_s) for one in own.rounds)),
            *(f"{own.percentile_ms(percent):.1f}" for percent in _PERCENTS),
            *(f"{own.percentile_ms(percent) / of_signers[0].percentile_ms(percent):.2f}" for percent in _PERCENTS),
        )
        for callers, of_signers in measured.items()
        for count, own in zip(counts, of_signers, strict=True)
    ]
    columns = [f"p{percent} ms" for percent in _PERCENTS] + [f"p{percent}, of few" for percent in _PERCENTS]
    table(("callers, stored keys", "calls", *columns), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.stored_keys")
    parser.add_argument("--most", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().most))
