"""Moves the pseudonyms of all credentials to a newer `subjects.key`, while the signer is stopped.

    python -m services.signer.rekey [--leave N]

Run it with the receipt key, the pins, FINID_OWNER_DATABASE_URL_FILE, FINID_SUBJECT_HMAC_KEY_FILE (the new key) and
FINID_EARLIER_SUBJECT_HMAC_KEY_FILES (those before it, the oldest first); it needs no token and no PIN. Every row is
attested anew, as `services.signer.keys rotate` does it, so in production two operators confirm its plan. One
transaction: stopped at any point, it has done nothing. Safe to run again. Exit codes are those of
`services.signer.keys`.
"""

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from itertools import islice

from mesh import ceremony_tool, rekeying
from mesh.ceremony import CeremonyRefusedError
from mesh.ceremony_tool import Around, Given, Occasion
from mesh.errors import FinIdError
from mesh.pins import PinsError
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, stamp_of
from mesh.rekeying import to_stdout
from mesh.sealing import FieldKeys
from mesh.settings import read_secret
from mesh.transaction import Env
from services.signer.lifting import Everybody, LiftingRefusedError
from services.signer.lifting_workers import Keys, LiftingWorkers, lifting_of
from services.signer.settings import RekeySettings
from services.signer.store import PSEUDONYM_TABLES, KeyStore, PseudonymStore

_SOME_FAILED = 3
# A transcript has a bound (mesh.ceremony); all of them are printed.
_MAX_FAILURES_RECORDED = 1000
_STATEMENT_TIMEOUT_S = 600.0
_REFUSALS = (
    CeremonyRefusedError,
    FinIdError,
    LiftingRefusedError,
    OSError,
    PinsError,
    PseudonymKeysError,
    ValueError,
)


async def _rekey(told: Given, leaves: int) -> int:
    settings = RekeySettings.load()
    keys = settings.subject_keys()
    owner_url = read_secret(settings.owner_database_url_file)
    lift_by = Keys(
        subject_keys=keys.keys,
        receipt_pem=settings.receipt_key_file.read_bytes(),
        pins_json=settings.pins_file.read_bytes(),
        env=Env(settings.env),
    )
    lifting_of(lift_by).require_believed()
    workers = LiftingWorkers(lift_by)
    try:
        return await _moved(told, settings.env, owner_url, keys, Everybody(workers.lifted, to_stdout, leaves))
    finally:
        workers.close()


async def _moved(told: Given, env: str, owner_url: str, keys: FieldKeys, everybody: Everybody) -> int:
    around = Around(env == "production", to_stdout, lambda: int(time.time()), secrets.token_bytes)
    database = await Database.open(
        owner_url, service="signer-rekey", max_connections=1, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    try:
        stamped = await KeyStore(database).stamped()
        if stamped == stamp_of(keys):
            to_stdout(f"signer: the rows stand under {stamped} already")
            return 0
        since = _since(stamped, keys)
        if told.dry_run:
            could = await everybody.look(PseudonymStore(database), since)
            notes = (
                f"{could} credentials can be moved, {len(everybody.failures)} are not as they were attested",
                "every signer must be stopped",
                "the earlier keys are needed as long as there is a row: keep them",
            )
            ceremony_tool.write_plan(told, _occasion(env, stamped, stamp_of(keys), everybody.leaves, notes), around)
            return 0
    finally:
        await database.close()
    with ceremony_tool.sitting(told, _occasion(env, stamped, stamp_of(keys), everybody.leaves), around) as recorder:
        moved = await rekeying.rekey(
            owner_url,
            "signer",
            keys,
            PSEUDONYM_TABLES,
            lambda transaction, since: everybody.move(PseudonymStore(transaction), since),
            to_stdout,
        )
        recorder.say(f"{moved} credentials moved to {stamp_of(keys)}, {len(everybody.failures)} left as they are")
        for name, why in islice(everybody.failures.items(), _MAX_FAILURES_RECORDED):
            recorder.say(f"{name}: {why}")
    return _SOME_FAILED if everybody.failures else 0


def _since(stamped: str | None, keys: FieldKeys) -> int:
    """How many of the keys the rows stand under; refuse at once what `mesh.rekeying` would refuse after the plan."""
    if stamped is None:
        raise PseudonymKeysError("nothing says yet under which key the rows stand: start the signer once with it alone")
    if not stamp_of(keys).startswith(f"{stamped} "):
        raise PseudonymKeysError(
            f"the rows stand under the keys {stamped}, and {stamp_of(keys)} are given, the oldest first: give those "
            "that the rows stand under, all of them and in that order, and the new one after them"
        )
    return len(stamped.split())


def _occasion(env: str, stamped: str | None, given: str, leaves: int, notes: tuple[str, ...] = ()) -> Occasion:
    steps = [f"move the pseudonyms of all credentials from {stamped} to {given}, and attest each row anew"]
    if leaves:
        steps.append(f"leave {leaves} credentials that are not as they were attested, for good")
    return Occasion("services.signer.rekey", f"{env}, signer.credentials under {stamped}", tuple(steps), notes)


def main(words: Sequence[str] | None = None) -> None:
    """Move the rows; exit as the module's docstring says."""
    parser = argparse.ArgumentParser(
        prog="python -m services.signer.rekey",
        description=(__doc__ or "").partition("\n")[0],
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--leave", type=int, default=0, metavar="N", help="leave exactly N credentials that are not as attested"
    )
    ceremony_tool.add_arguments(parser)
    arguments = parser.parse_args(words)
    try:
        status = asyncio.run(_rekey(ceremony_tool.given(arguments), arguments.leave))
    except _REFUSALS as error:
        sys.exit(f"rekey stopped: {error}")
    sys.exit(status)


if __name__ == "__main__":
    main()
