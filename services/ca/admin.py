"""What the authority's people do from a command line.

    python -m services.ca.admin sign --key FILE --env production REVOKE SHA256 privilegeWithdrawn "court order 2-118"
    python -m services.signer.admin apply < order.jws | python -m services.ca.admin apply > done.jws
    python -m services.ca.admin audit [--expect SEQ:HASH]
    python -m services.ca.admin expiring 30

`sign` runs where an orderer's key is and needs nothing else. The others run on the authority's host with the service's
own settings, and need neither the gateway nor the running service: a revocation must not wait for either.

`apply` does the certificate's part of an order and passes the order on. The key's part comes first, but to RESUME:
`services.signer.admin` says how the two go together, and what when the signer's host is lost.
"""

import argparse
import asyncio
import functools
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh import floors, pins
from mesh.errors import FinIdError
from mesh.names import new_id
from mesh.order import Claims, Kind, Orders, sign
from mesh.postgres import Database
from mesh.settings import read_secret
from mesh.transaction import Env
from services.ca import audit
from services.ca.audit import AuditBrokenError
from services.ca.change import Changes
from services.ca.expiry import ExpiryNotices
from services.ca.ledger import Expiring
from services.ca.profiles import SERIAL_BYTES
from services.ca.settings import CaSettings
from services.ca.store import LedgerStore

_PAGE = 1000


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def _ledger(settings: CaSettings) -> AsyncIterator[LedgerStore]:
    database = await Database.open(read_secret(settings.database_url_file), service="ca-admin")
    try:
        yield LedgerStore(database, *settings.field_keys().keys)
    finally:
        await database.close()


def _sign(arguments: argparse.Namespace) -> str:
    key = load_pem_private_key(Path(arguments.key).read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the key is not an Ed25519 key")  # noqa: TRY004  the file is wrong, not a type
    now = int(time.time())
    claims = Claims(
        id=new_id(),
        env=Env(arguments.env),
        kind=Kind(arguments.kind),
        certificate_sha256=bytes.fromhex(arguments.certificate_sha256),
        reason=arguments.reason,
        grounds=arguments.grounds,
        iat=now,
        exp=now + arguments.lifetime_s,
    )
    return sign(claims, key)


async def _apply(token: str) -> str:
    settings = CaSettings.load()
    env = Env(settings.env)
    async with _ledger(settings) as ledger:
        changes = Changes(
            ledger=ledger,
            pins=functools.partial(pins.parse, settings.pins_file.read_bytes(), env),
            floors=floors.parse(settings.floors_file.read_bytes()),
            orders=Orders.parse(settings.orderers_file.read_bytes(), env),
            now=_now,
        )
        return f"{await changes.by_order(token):%Y-%m-%dT%H:%M:%SZ}"


async def _audit(expected: str) -> str:
    async with _ledger(CaSettings.load()) as ledger:
        return str(await audit.verify(ledger.audit, expected))


async def _expiring(within_days: int) -> str:
    """One line for each certificate: until when, serial, credential, profile."""
    lines, page_token = list[str](), ""
    async with _ledger(CaSettings.load()) as ledger:
        notices = ExpiryNotices(ledger=ledger, now=_now)
        while True:
            page = await notices.page(within_days, _PAGE, page_token)
            lines += map(_line, page.certificates)
            page_token = page.next_page_token
            if not page_token:
                return "\n".join(lines)


def _line(found: Expiring) -> str:
    serial = found.serial.to_bytes(SERIAL_BYTES).hex()
    return f"{found.not_after:%Y-%m-%d} {serial} {found.credential} {found.profile}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.ca.admin", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    signing = commands.add_parser("sign", help="print a signed order")
    signing.add_argument("--key", required=True, help="Ed25519 key, PKCS#8 PEM")
    signing.add_argument("--env", required=True, choices=[env.value for env in Env])
    signing.add_argument("--lifetime-s", type=int, default=3600)
    signing.add_argument("kind", choices=[kind.value for kind in Kind])
    signing.add_argument("certificate_sha256", help="64 hex digits")
    signing.add_argument("reason", help='of RFC 5280; certificateHold for SUSPEND, "" for RESUME')
    signing.add_argument("grounds", help="for the auditor; names nobody")
    commands.add_parser("apply", help="do what the order on standard input says, and pass it on")
    verifying = commands.add_parser("audit", help="follow the audit's chain; prints its head as SEQ:HASH")
    verifying.add_argument("--expect", default="", metavar="SEQ:HASH", help="a head that was printed before")
    expiring = commands.add_parser("expiring", help="list certificates that end soon")
    expiring.add_argument("within_days", type=int)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Run one command."""
    arguments = _parser().parse_args(words)
    try:
        match arguments.command:
            case "sign":
                print(_sign(arguments))
            case "apply":
                token = sys.stdin.read().strip()
                print(f"authority: done at {asyncio.run(_apply(token))}", file=sys.stderr)
                print(token)
            case "audit":
                print(asyncio.run(_audit(arguments.expect)))
            case _:
                print(asyncio.run(_expiring(arguments.within_days)))
    except (AuditBrokenError, FinIdError, OSError, ValueError) as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
