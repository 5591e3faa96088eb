"""Issue through gRPC against the bare builder with the same key of the same token: `python -m bench.issue_certificate`.

The bare builder is `cryptography`'s, filled by the authority's own profile, signed by the issuing key (P-384) in the
SoftHSM token, in this process with nothing around it: no request, no factors, no lint, no record. The CA is the one
that is deployed, and every call brings a person, a transaction and a key of its own, made beforehand. Rounds of the two
alternate. Then the same objects in this process are watched, so that a call says what it is made of.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bench import authority as bench_authority
from bench import closed_loop
from bench.authority import Ca, now, request_of
from bench.closed_loop import Measured
from bench.table import heading, table
from bench.watch import Watch
from mesh import floors, precondition, receipts, telemetry
from mesh.facts import Release
from mesh.floors import Floors
from mesh.pins import Pins
from mesh.postgres import Database, Row, Transaction
from mesh.server import validate
from mesh.transaction import Purpose, txn_of
from services.ca import lint, profiles, subject
from services.ca.authority import ISSUING_KEY
from services.ca.issue import Issue, IssueCommand
from services.ca.profiles import SERIAL_BYTES, SUBJECTS
from services.ca.signing import PrivateKey
from services.ca.store import LedgerStore
from tests.ca.authorities import PRACTICE

CALLERS = (1, 4)
ROUNDS = 3
RAW_ROUND_S, ROUND_S = 0.7, 2.0
CALLS_A_ROUND = 160
SPLIT_CALLS = 60
_DEADLINE_S = 30
_PROFILE = "individual-sign"
_WHOLE, _ISSUE = "the round trip", "Issue in this process"
_READS, _INTENT, _RECORD = "SQL: two reads", "SQL: intent, to disk", "SQL: record, to disk"


@dataclass(frozen=True, slots=True)
class Bare:
    """The bare builder."""

    ca: Ca
    name: x509.Name
    key: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, ca: Ca) -> "Bare":
        command = ca.hub.issue_to_another()
        release = receipts.verify(
            command.release,
            Release,
            ca.hub.pins(),
            txn=txn_of(command.transaction_bytes),
            now=int(now().timestamp()),
        ).facts
        return cls(ca, subject.of_person(release), ec.generate_private_key(ec.SECP256R1()).public_key())

    def builder(self) -> x509.CertificateBuilder:
        """What is to be signed."""
        authority = self.ca.authority
        return profiles.builder(
            SUBJECTS[_PROFILE],
            PRACTICE,
            authority.issuer,
            self.name,
            self.key,
            serial=profiles.serial_number(secrets.token_bytes(SERIAL_BYTES)),
            now=now(),
            not_after=authority.issuing.certificate.not_valid_after_utc,
        )

    def build_and_sign(self) -> Callable[[], x509.Certificate]:
        """Take the token's key; return the call."""
        key, signing = self.ca.token.private_key(ISSUING_KEY), self.ca.authority.issuing.signing
        return lambda: signing.sign_built(self.builder(), key)


class _WatchedDatabase(Database):
    """The ledger's database, its statements watched."""

    def __init__(self, pool: object) -> None:
        super().__init__(pool)
        self.watch = Watch()

    async def one(self, sql: str, *arguments: object) -> Row | None:
        with self.watch.on(_READS):
            return await super().one(sql, *arguments)

    async def run(self, sql: str, *arguments: object) -> int:
        with self.watch.on(_INTENT):
            return await super().run(sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        with self.watch.on(_RECORD):
            async with super().transaction() as transaction:
                yield transaction


@dataclass(slots=True)
class WatchedIssue:
    """Issue in this process, and its pure parts called once more one by one."""

    ca: Ca
    bare: Bare
    database: _WatchedDatabase
    pins: Pins = field(init=False)
    least: Floors = field(init=False)
    issue: Issue = field(init=False)

    def __post_init__(self) -> None:
        self.pins = self.ca.hub.pins()
        self.least = floors.parse(self.ca.hub.world.floors_json(attested=True))
        self.issue = Issue(
            authority=self.ca.authority,
            practice=PRACTICE,
            ledger=LedgerStore(self.database, bench_authority.FIELD_KEY),
            pins=lambda: self.pins,
            floors=self.least,
            now=now,
            random_bytes=secrets.token_bytes,
        )

    async def __call__(self, over_the_wire: IssueCommand, here: IssueCommand) -> None:
        """Issue once over the wire and once here, and take the checks one by one."""
        watch, ca = self.database.watch, self.ca
        watch.next_call()
        request = request_of(over_the_wire)
        with watch.on(_WHOLE):
            await ca.stub.Issue(request, timeout=_DEADLINE_S)
        with watch.on(_ISSUE):
            await self.issue.issue(here)
        with watch.on("validation of the request"):
            validate(request)
        moment = int(now().timestamp())
        with watch.on("authorize"):
            grant = precondition.authorize(
                Purpose.ISSUE,
                here.transaction_bytes,
                here.openings,
                here.receipts,
                self.pins,
                self.least,
                moment,
            )
        with watch.on("the released data's receipt"):
            receipts.verify(here.release, Release, self.pins, txn=grant.txn, now=moment)
        with watch.on("the request's proof of possession"):
            assert x509.load_der_x509_csr(here.csr_der).is_signature_valid
        signing = ca.authority.issuing.signing
        with watch.on("the builder, signed by a throw-away key"):
            copy = signing.sign_built(self.bare.builder(), signing.throw_away_key())
        with watch.on("the lint"):
            lint.require_clean(copy)

        def sign(key: PrivateKey) -> x509.Certificate:
            return signing.sign_built(self.bare.builder(), key)

        with watch.on("the builder, signed in the token"):
            signed = await ca.authority.issuing.key.sign_with(sign)
        with watch.on("what was signed is verified"):
            signed.verify_directly_issued_by(ca.authority.issuing.certificate)

    def parts_ms(self) -> dict[str, float]:
        """Return what the calls were made of, medians; what is left over, and the whole, come last."""
        parts = self.database.watch.median_ms()
        whole, issue = parts.pop(_WHOLE), parts.pop(_ISSUE)
        validation = parts.pop("validation of the request")
        return {
            **parts,
            "the rest of Issue": issue - sum(parts.values()),
            "validation of the request": validation,
            "gRPC and mTLS, both ends, and another process": whole - issue - validation,
            _WHOLE: whole,
        }


async def compare(ca: Ca, bare: Bare, callers: int) -> tuple[Measured, Measured]:
    """Return (bare, Issue) for a number of callers at once."""
    raw, issued = [], []

    async def issue(command: IssueCommand) -> None:
        await ca.stub.Issue(request_of(command), timeout=_DEADLINE_S)

    for _ in range(ROUNDS):
        raw.append(await asyncio.to_thread(closed_loop.run_in_threads, bare.build_and_sign, callers, RAW_ROUND_S))
        commands = [ca.hub.issue_to_another() for _ in range(CALLS_A_ROUND)]
        issued.append(await closed_loop.run(issue, commands, callers, ROUND_S))
    return Measured(raw), Measured(issued)


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
        ca = await bench_authority.start(stack)
        bare = Bare.of(ca)
        database = await _WatchedDatabase.open(ca.provisioned.url("ca"), service="bench")
        stack.push_async_callback(database.close)
        watched = WatchedIssue(ca, bare, database)
        await ca.stub.Issue(request_of(ca.hub.issue_to_another()), timeout=_DEADLINE_S)
        compared = {callers: await compare(ca, bare, callers) for callers in CALLERS}
        for _ in range(SPLIT_CALLS):
            await watched(ca.hub.issue_to_another(), ca.hub.issue_to_another())
        parts = watched.parts_ms()
    heading("Issue, a P-256 key under a P-384 issuing key")
    rows = [
        row
        for callers, (raw, issued) in compared.items()
        for row in (_row(callers, "the bare builder", raw, raw), _row(callers, "Issue", issued, raw))
    ]
    table(("callers", "calls/s", "p50 ms", "p99 ms", "of bare"), rows)
    heading("Where the time of one call goes, one at once, medians")
    whole_ms = max(parts.values())
    table(("part", "ms", "share"), [(part, f"{ms:.2f}", f"{ms / whole_ms:.0%}") for part, ms in parts.items()])


if __name__ == "__main__":
    asyncio.run(main())
