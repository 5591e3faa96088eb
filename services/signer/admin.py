"""What the signer's people do from a command line: the key's part of an order of the Operator or the authority.

    python -m services.signer.admin apply < order.jws | python -m services.ca.admin apply     REVOKE, SUSPEND
    python -m services.ca.admin apply < order.jws | python -m services.signer.admin apply     RESUME

Both do the same order, each in its own place, and pass it on, so that a pipe does one after the other: the key goes
first and wakes last, and nothing is signed under a certificate that is on the list. `set -o pipefail` tells of a
refusal by the first. Whatever dies in between, the same pipe again does what is missing: each half happens once, and
its repeat says since when (on stderr).

It runs on the signer's host with the service's database and the pinned keys of orderers. It needs neither the gateway,
the running service nor the token: a revocation waits for none of them. If this host is lost, the authority's half goes
first, and this one before the signer serves again.
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from mesh.errors import FinIdError
from mesh.order import Orders
from mesh.postgres import Database
from mesh.settings import read_secret
from mesh.transaction import Env
from services.signer.ordered import OrderedChanges
from services.signer.settings import AdminSettings
from services.signer.store import CredentialStore


async def _apply(token: str) -> str:
    settings = AdminSettings.load()
    orders = Orders.parse(settings.orderers_file.read_bytes(), Env(settings.env))
    database = await Database.open(read_secret(settings.database_url_file), service="signer-admin")
    try:
        changes = OrderedChanges(credentials=CredentialStore(database), orders=orders, now=lambda: datetime.now(UTC))
        return f"{await changes.obey(token):%Y-%m-%dT%H:%M:%SZ}"
    finally:
        await database.close()


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog="python -m services.signer.admin", description=(__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="do what the order on standard input says, and pass it on")
    parser.parse_args()
    token = sys.stdin.read().strip()
    try:
        since = asyncio.run(_apply(token))
    except (FinIdError, OSError, ValueError) as error:
        sys.exit(f"refused: {error}")
    print(f"signer: done at {since}", file=sys.stderr)
    print(token)


if __name__ == "__main__":
    main()
