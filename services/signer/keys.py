"""Key-encryption keys and the subject keys under them: look, check, make, rotate, back up, restore.

    python -m services.signer.keys status | check | create | rotate [--retire] | backup FILE | restore FILE

Settings are in the environment (`settings.CeremonySettings`, `KeysSettings`, `BackupSettings`, `RestoreSettings`).
What changes something has a dry run that writes a plan, and does exactly what was planned (`mesh.ceremony_tool`).
In production two operators confirm the plan; in a sandbox the PIN's holder may do it alone. Exit codes: 0 done, 1
refused or stopped (says why), 2 wrong arguments, 3 done except for the keys that are named, 78 wrong settings.
"""

import argparse
import asyncio
import functools
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from mesh import ceremony_tool, pins
from mesh.ceremony import CeremonyRefusedError, Recorder
from mesh.ceremony_tool import Given, Occasion
from mesh.errors import FinIdError
from mesh.hsm import KekName, Token, announce, announce_kek, open_token
from mesh.pins import Pins, PinsError
from mesh.postgres import Database
from mesh.receipts import ReceiptSigner
from mesh.sealing import read_key
from mesh.settings import read_secret
from mesh.transaction import Env
from services.signer import key_backup
from services.signer.ceremony import around, occasion_of, place_of
from services.signer.credential import HolderMac
from services.signer.key_backup import Backup, BackupRefusedError, Restore, Restored
from services.signer.lifting import Lifting, LiftingRefusedError
from services.signer.rotation import Rotation, RotationRefusedError, require_retired
from services.signer.settings import BackupSettings, CeremonySettings, KeysSettings, RestoreSettings
from services.signer.store import KeyStore
from services.signer.subject_keys import KEK_LABEL

_SOME_FAILED = 3
# A transcript has a bound (mesh.ceremony); all of them are printed.
_MAX_FAILURES_RECORDED = 1000
_STATEMENT_TIMEOUT_S = 600.0
_SHA256_BYTES = 32
_REFUSALS = (
    BackupRefusedError,
    CeremonyRefusedError,
    FinIdError,
    LiftingRefusedError,
    OSError,
    PinsError,
    RotationRefusedError,
    ValueError,
)


def _now() -> datetime:
    return datetime.now(UTC)


def _say(line: str) -> None:
    print(line, flush=True)


def _open(settings: CeremonySettings, *, writable: bool = False) -> Token:
    token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file, writable=writable)
    announce(token, production=settings.env == "production")
    return token


@asynccontextmanager
async def _rows(settings: KeysSettings) -> AsyncIterator[KeyStore]:
    url = read_secret(settings.owner_database_url_file)
    database = await Database.open(
        url, service="signer-keys", max_connections=2, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    try:
        yield KeyStore(database)
    finally:
        await database.close()


def _attester(settings: KeysSettings) -> tuple[ReceiptSigner, Pins]:
    env = Env(settings.env)
    attester = ReceiptSigner.from_pem(settings.receipt_key_file.read_bytes(), env)
    return attester, pins.parse(settings.pins_file.read_bytes(), env)


def _plan(told: Given, occasion: Occasion, settings: CeremonySettings) -> int:
    """The end of a dry run."""
    ceremony_tool.write_plan(told, occasion, around(settings))
    return 0


def _sitting(told: Given, occasion: Occasion, settings: CeremonySettings) -> AbstractContextManager[Recorder]:
    """Around what is done: nothing that is not planned and confirmed."""
    return ceremony_tool.sitting(told, occasion, around(settings))


# status, check


async def _status() -> int:
    """Show what the token and the database hold."""
    settings = KeysSettings.load()
    token = _open(settings)
    _say(place_of(settings, token))
    async with _rows(settings) as rows:
        held, signings = await rows.held(), await rows.signings(_now())
    names = {kek.in_envelopes: kek.token_label for kek in token.keks(KEK_LABEL)}
    for kek in sorted(names.keys() | {item.kek for item in held if item.kek}):
        name = names.get(kek, f"NOT IN THE TOKEN ({kek.hex()})")
        under = [item for item in held if item.kek == kek]
        _say(f"{name}: {sum(item.keys for item in under)} keys")
        for item in under:
            _say(f"  {item.state.value}: {item.keys}, oldest of {item.oldest:%Y-%m-%dT%H:%M:%SZ}")
    _say(f"destroyed: {sum(item.keys for item in held if not item.kek)}")
    _say("signings: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in signings.items()))
    _say("each running signer compares its own unwraps with its intents, and logs an error when they differ")
    return 0


def _check() -> int:
    """Tell what the token lacks; nothing stays in it."""
    settings = CeremonySettings.load()
    token = _open(settings)
    _say(place_of(settings, token))
    lacking = [f"LACKS {line}" for line in token.lacks()]
    for kek in token.keks(KEK_LABEL):
        if not token.forces_sensitive(kek):
            lacking.append(f"{kek.token_label} LACKS CKA_UNWRAP_TEMPLATE with CKA_SENSITIVE: rotate to a new one")
        if not token.never_left(kek):
            lacking.append(f"{kek.token_label} was imported, or could be extracted once: rotate to a new one")
    if not token.keks(KEK_LABEL):
        _say(f"no {KEK_LABEL} yet: create one")
    for line in lacking:
        _say(line)
    if not lacking:
        _say("the token has every mechanism and attribute that subject keys need")
    return 1 if lacking else 0


# create, rotate


def _create(told: Given) -> int:
    """Make the next generation beside those that are there."""
    settings = CeremonySettings.load()
    token = _open(settings, writable=not told.dry_run)
    there = token.keks(KEK_LABEL)
    kek = KekName(KEK_LABEL, there[-1].generation + 1 if there else 1)
    held = f"the token holds {', '.join(item.token_label for item in there) or 'no key-encryption key'}"
    occasion = occasion_of("services.signer.keys create", settings, token, kek, held)
    if told.dry_run:
        return _plan(told, occasion, settings)
    with _sitting(told, occasion, settings) as recorder:
        token.create_kek(kek)
        announce_kek(token, kek, production=settings.env == "production")
        recorder.say(f"{kek.token_label}: made")
        recorder.say(f"start every signer with FINID_SUBJECT_KEK_GENERATION={kek.generation}, then rotate")
    return 0


def _generations(token: Token) -> tuple[Sequence[KekName], KekName]:
    *earlier, newest = token.keks(KEK_LABEL) or (None,)
    if newest is None or not earlier:
        raise RotationRefusedError("the token holds one generation or none: there is nothing to rotate from")
    return [kek for kek in earlier if kek is not None], newest


async def _rotate(told: Given) -> int:
    """Rewrap what is under earlier generations by the newest one."""
    settings = KeysSettings.load()
    token = _open(settings)
    earlier, newest = _generations(token)
    announce_kek(token, newest, production=settings.env == "production")
    attester, pinned = _attester(settings)
    async with _rows(settings) as rows:
        counts = [f"{await rows.count_under(kek)} keys are under {kek.token_label} now" for kek in earlier]
        occasion = Occasion(
            "services.signer.keys rotate",
            place_of(settings, token),
            tuple(f"rewrap every subject key under {kek.token_label} by {newest.token_label}" for kek in earlier),
            tuple(counts),
        )
        if told.dry_run:
            return _plan(told, occasion, settings)
        with _sitting(told, occasion, settings) as recorder:
            failures: dict[str, str] = {}
            for kek in earlier:
                rotation = Rotation(
                    rows=rows,
                    token=token,
                    attester=attester,
                    pins=pinned,
                    old=kek,
                    new=newest,
                    now=_now,
                    say=_say,
                )
                done = await rotation.run()
                failures |= done.failures
                recorder.say(f"{kek.token_label}: {done.rewrapped} keys rewrapped by {newest.token_label}")
            return _recorded(recorder, failures)


def _recorded(recorder: Recorder, failures: Mapping[str, str]) -> int:
    """Name the keys that stayed as they were; return the exit code."""
    for name, why in islice(failures.items(), _MAX_FAILURES_RECORDED):
        recorder.say(f"{name}: {why}")
    recorder.say(f"{len(failures)} keys refused" if failures else "no key refused")
    return _SOME_FAILED if failures else 0


async def _retire(told: Given) -> int:
    """Destroy the earlier generations, under which no key is left."""
    settings = KeysSettings.load()
    token = _open(settings, writable=not told.dry_run)
    earlier, newest = _generations(token)
    async with _rows(settings) as rows:
        for kek in earlier:
            await require_retired(rows, token, kek)
        occasion = Occasion(
            "services.signer.keys rotate --retire",
            place_of(settings, token),
            tuple(f"destroy {kek.token_label} for good" for kek in earlier),
            (
                f"every signer must run with FINID_SUBJECT_KEK_GENERATION={newest.generation} before",
                "backups that were made before the rotation cannot be restored after",
            ),
        )
        if told.dry_run:
            return _plan(told, occasion, settings)
        with _sitting(told, occasion, settings) as recorder:
            for kek in earlier:
                await require_retired(rows, token, kek)
                token.destroy_kek(kek)
                recorder.say(f"{kek.token_label}: destroyed")
    return 0


# backup, restore


@contextmanager
def _new_file(file: Path) -> Iterator[BinaryIO]:
    """Write a file that is there when it is whole, and was not there before."""
    if file.exists():
        raise BackupRefusedError(f"{file.name} exists: every backup has a file of its own")
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as output:
        yield output
        output.flush()
        os.fsync(output.fileno())
    draft.rename(file)


async def _backup(file: Path) -> int:
    """Write the wrapped keys with all that belongs to them into one signed, sealed file."""
    settings = BackupSettings.load()
    attester, _ = _attester(settings)
    with _new_file(file) as output:
        async with _rows(settings) as rows:
            kids = await rows.stamped() or ""
            count, sha256 = await key_backup.write(
                output,
                rows.records(),
                key=read_key(settings.keys_backup_key_file),
                kids=kids,
                attester=attester,
                made_at=_now(),
                random_bytes=secrets.token_bytes,
            )
            if kids != (await rows.stamped() or ""):
                raise BackupRefusedError("the key of the pseudonyms was replaced meanwhile: make it again")
    _say(f"{count} keys, signed sha256 {sha256.hex()}")
    return 0


async def _restore(told: Given, file: Path, revoked: Path | None) -> int:
    """Put back what is missing or damaged; nothing comes back to life."""
    settings = RestoreSettings.load()
    token = _open(settings)
    attester, pinned = _attester(settings)
    keys = settings.subject_keys()
    lifting = Lifting(holders=HolderMac(*keys.keys), attester=attester, pins=pinned, now=_now)
    backup = Backup(file, key=read_key(settings.keys_backup_key_file), pins=pinned)
    revoked_sha256 = _digests(revoked) if revoked is not None else frozenset()
    occasion = Occasion(
        "services.signer.keys restore",
        place_of(settings, token),
        (
            f"restore {backup.keys} keys of the backup sha256 {backup.sha256.hex()}",
            f"hold {len(revoked_sha256)} certificates for revoked (digest {_digest_of(revoked_sha256)})",
        ),
        (f"the backup is of {datetime.fromtimestamp(backup.made_at, UTC):%Y-%m-%dT%H:%M:%SZ}",),
    )
    restore = functools.partial(
        Restore,
        token=token,
        pins=pinned,
        keys=keys,
        lifting=lifting,
        revoked_sha256=revoked_sha256,
        now=_now,
        say=_say,
    )
    async with _rows(settings) as rows:
        if told.dry_run:
            found = await restore(rows=rows, dry_run=True).run(backup)
            _say(f"would be: {_counts(found)}")
            return _plan(told, occasion, settings)
        with _sitting(told, occasion, settings) as recorder:
            done = await restore(rows=rows, dry_run=False).run(backup)
            recorder.say(_counts(done))
            return _recorded(recorder, done.failures)


def _counts(done: Restored) -> str:
    return (
        f"{done.unchanged} unchanged, {done.put_back} put back, {done.repaired} repaired, "
        f"{done.stricter} made stricter, {len(done.failures)} refused"
    )


def _digests(file: Path) -> frozenset[bytes]:
    """SHA-256 of certificates (DER), one in hexadecimal on each line."""
    digests = frozenset(bytes.fromhex(line) for line in file.read_text(encoding="ascii").split())
    if any(len(item) != _SHA256_BYTES for item in digests):
        raise ValueError(f"{file.name}: a line is no SHA-256 of a certificate")
    return digests


def _digest_of(digests: frozenset[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    whole = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m services.signer.keys",
        description=whole[0],
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=does)

    command("status", "show which keys are under which KEK, in which state, and the signings")
    command("check", "tell what the token lacks for wrapped subject keys; nothing stays in it")
    confirmed = "Production: two operators confirm the plan. Sandbox: the PIN's holder may do it alone."
    create = command("create", f"make the next generation of the KEK beside the earlier ones. {confirmed}")
    rotate = command("rotate", f"rewrap all subject keys by the newest KEK; repeat it to go on. {confirmed}")
    rotate.add_argument("--retire", action="store_true", help="destroy earlier KEKs, under which no key is left")
    backup = command("backup", "write wrapped keys, attestations and states into one signed, sealed file")
    backup.add_argument("file", type=Path)
    restore = command("restore", f"put back what is missing or damaged; what was ACTIVE is SUSPENDED. {confirmed}")
    restore.add_argument("file", type=Path)
    restore.add_argument(
        "--revoked", type=Path, metavar="FILE", help="certificates revoked since: a SHA-256 in hexadecimal a line"
    )
    for changing in (create, rotate, restore):
        ceremony_tool.add_arguments(changing)
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "status":
            return asyncio.run(_status())
        case "check":
            return _check()
        case "create":
            return _create(ceremony_tool.given(arguments))
        case "rotate":
            return asyncio.run((_retire if arguments.retire else _rotate)(ceremony_tool.given(arguments)))
        case "backup":
            return asyncio.run(_backup(arguments.file))
        case _:
            return asyncio.run(_restore(ceremony_tool.given(arguments), arguments.file, arguments.revoked))


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exit as the module's docstring says."""
    arguments = _arguments(words)
    try:
        status = _run(arguments)
    except _REFUSALS as error:
        sys.exit(f"{arguments.command} stopped: {error}")
    sys.exit(status)


if __name__ == "__main__":
    main()
