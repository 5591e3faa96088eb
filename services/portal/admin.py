"""What the Operator's people do with participants, applications and client secrets from a command line.

    python -m services.portal.admin list
    python -m services.portal.admin show participants/… | applications/…
    python -m services.portal.admin log
    python -m services.portal.admin suspend participants/… --by NAME --reason TEXT
    python -m services.portal.admin resume applications/… --by NAME --reason TEXT
    python -m services.portal.admin secret add applications/… --secret-file FILE --by NAME --reason TEXT
    python -m services.portal.admin secret end ID [--in-hours N] [--even-last] --by NAME --reason TEXT

With FINID_ENV and FINID_PORTAL_ADMIN_DATABASE_URL_FILE (the role finid_portal_admin, or a person's own that is a member
of it); `secret add` also with the portal's keys as it has them
(FINID_CLIENT_SECRET_KEY_FILE, FINID_EARLIER_CLIENT_SECRET_KEY_FILES). `--dry-run` does all of it but the commit.
Who did what, when and why stays in portal.administration: written by the database with the change itself, with the
login that it knows beside the name that `--by` says.

A suspended participant or application starts nothing more (the hub asks at each start: APPLICATION_NOT_ALLOWED), is
given no access token (unauthorized_client) and is told nothing by webhook. Tokens that it holds live on for at most 15
minutes, and authentications that were started before go on until their own end, at most 15 minutes after their start.

Everything may be said again: what is so already is left, and no line is written.
"""

import argparse
import asyncio
import re
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from mesh.errors import FinIdError
from mesh.names import is_name
from mesh.postgres import Database, PostgresError
from mesh.pseudonyms import PseudonymKeysError
from mesh.settings import read_secret
from services.portal.administration import Line, OfApplication, Outcome, Secret
from services.portal.application import State
from services.portal.client_secret import SecretHash, ensure_secret, is_secret, new_secret
from services.portal.settings import AdminSettings, SecretAdminSettings
from services.portal.store import AdministrationStore

_PARTICIPANTS, _APPLICATIONS = "participants", "applications"
_MAX_OPERATOR, _MAX_REASON = 100, 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RefusedError(Exception):
    """What was asked for cannot be done; the message says why."""


@asynccontextmanager
async def _store(settings: AdminSettings, *, dry_run: bool = False) -> AsyncIterator[AdministrationStore]:
    url = read_secret(settings.portal_admin_database_url_file)
    database = await Database.open(url, service="portal-admin", max_connections=1)
    try:
        yield AdministrationStore(database, dry_run=dry_run)
    finally:
        await database.close()


async def _list() -> str:
    async with _store(AdminSettings.load()) as store:
        participants, applications = await store.participants(), await store.applications()
    lines = list[str]()
    for participant in participants:
        lines.append(f"{participant.name} {participant.state} {participant.title}")
        lines += [f"  {_application_line(item)}" for item in applications if item.participant == participant.name]
    return "\n".join(lines)


def _application_line(item: OfApplication) -> str:
    return f"{item.application.name} {item.application.state} {item.application.client_id} {item.application.title}"


async def _show(name: str) -> str:
    async with _store(AdminSettings.load()) as store:
        if is_name(_PARTICIPANTS, name):
            lines = await _participant_lines(store, name)
        else:
            lines = await _application_lines(store, name)
        return "\n".join([*lines, *map(_line, await store.lines(name))])


async def _participant_lines(store: AdministrationStore, name: str) -> list[str]:
    participant = await store.participant(name)
    if participant is None:
        raise RefusedError(f"there is no {name}")
    return [
        f"{participant.name} {participant.state} {participant.title}, since {_time(participant.created_at)}",
        *(f"  {_application_line(item)}" for item in await store.applications(name)),
    ]


async def _application_lines(store: AdministrationStore, name: str) -> list[str]:
    item = await _application(store, name)
    application, participant = item.application, await store.participant(item.participant)
    assert participant is not None  # noqa: S101  the table refers to it
    return [
        _application_line(item),
        f"  of {participant.name} {participant.state} {participant.title}",
        f"  channels {' '.join(application.channels)}; purposes {' '.join(application.purposes)}",
        f"  scopes {' '.join(application.scopes) or 'none'}; policy {application.policy}",
        f"  goes back to {' '.join(application.redirect_uris) or 'nowhere'}",
        f"  webhooks to {application.webhook_uri or 'nowhere'}",
        *(f"  secret {_secret_line(secret)}" for secret in await store.secrets(application.client_id)),
    ]


async def _application(store: AdministrationStore, name: str) -> OfApplication:
    found = await store.applications(name)
    if not found:
        raise RefusedError(f"there is no {name}")
    return found[0]


def _secret_line(secret: Secret) -> str:
    end = "" if secret.ends_at is None else f", {'ends' if secret.live else 'ended'} {_time(secret.ends_at)}"
    return f"{secret.id} {'live' if secret.live else 'over'}, since {_time(secret.created_at)}{end}"


def _line(line: Line) -> str:
    secret = "" if line.secret_id is None else f" {line.secret_id}"
    end = "" if line.ends_at is None else f" (ends {_time(line.ends_at)})"
    return f"{_time(line.done_at)} {line.act} {line.name}{secret}{end} by {line.operator} ({line.login}): {line.reason}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


async def _log() -> str:
    async with _store(AdminSettings.load()) as store:
        return "\n".join(map(_line, await store.lines()))


async def _change(name: str, state: State, arguments: argparse.Namespace) -> str:
    async with _store(AdminSettings.load(), dry_run=arguments.dry_run) as store:
        before = await store.change_state(name, state, arguments.by, arguments.reason)
        if before is None:
            raise RefusedError(f"there is no {name}")
        if before is state:
            return f"{name} is {state} already; nothing was changed, and no line written"
        says = [f"{_would(arguments)}{name}: {before} -> {state}"]
        if is_name(_PARTICIPANTS, name):
            says += [f"  with it {_application_line(item)}" for item in await store.applications(name)]
        elif state is State.ACTIVE:
            of = await store.participant((await _application(store, name)).participant)
            if of is not None and of.state is State.SUSPENDED:
                says.append(f"  it stays shut as long as {of.name} is {of.state}")
    if state is State.SUSPENDED:
        says.append("  no start and no token from now on; tokens and authentications of before end within 15 minutes")
    return "\n".join(says)


async def _add_secret(arguments: argparse.Namespace) -> str:
    settings = SecretAdminSettings.load()
    keys, file, name = settings.client_secret_keys(), arguments.secret_file, arguments.name
    async with _store(settings, dry_run=arguments.dry_run) as store:
        item = await _application(store, name)
        secret = new_secret() if arguments.dry_run and not file.exists() else ensure_secret(file)
        if not is_secret(secret):
            raise RefusedError(f"{file} holds no secret that was made here: name a file that does not exist yet")
        secret_hmac = SecretHash(*keys.keys).of(item.application.client_id, secret)
        outcome, secret_id = await store.add_secret(name, secret_hmac, keys, arguments.by, arguments.reason)
    if outcome is Outcome.TWO_LIVE:
        raise RefusedError(f"{name} has two live secrets: end one of them first (`show {name}` names them)")
    if outcome is Outcome.KNOWN:
        return f"{name}: the secret in {file} is {secret_id} already; nothing was changed, and no line written"
    if outcome is Outcome.NO_APPLICATION:
        raise RefusedError(f"there is no {name}")
    if arguments.dry_run:
        return f"{_would(arguments)}{name}: a new secret"
    return f"{name}: {secret_id} is live; client id {item.application.client_id}, the secret is in {file}"


async def _end_secret(arguments: argparse.Namespace) -> str:
    after = timedelta(hours=arguments.in_hours)
    secret: uuid.UUID = arguments.id
    async with _store(AdminSettings.load(), dry_run=arguments.dry_run) as store:
        outcome, ends_at = await store.end_secret(
            secret, after, arguments.by, arguments.reason, even_last=arguments.even_last
        )
    if ends_at is None:
        if outcome is Outcome.LAST:
            raise RefusedError(
                f"{secret} is the last that lets its application in: add another first, or say --even-last"
            )
        raise RefusedError(f"there is no secret {secret}")
    if outcome is Outcome.EARLIER:
        return f"{secret} ends {_time(ends_at)} already, which is no later; nothing was changed, and no line written"
    return f"{_would(arguments)}{secret} ends {_time(ends_at)}"


def _would(arguments: argparse.Namespace) -> str:
    return "dry run, nothing was changed: " if arguments.dry_run else ""


def _name(text: str) -> str:
    if not is_name(_PARTICIPANTS, text) and not is_name(_APPLICATIONS, text):
        raise argparse.ArgumentTypeError("must be participants/… or applications/…, in full")
    return text


def _application_name(text: str) -> str:
    if not is_name(_APPLICATIONS, text):
        raise argparse.ArgumentTypeError("must be applications/…, in full")
    return text


def _operator(text: str) -> str:
    return _said(text, _MAX_OPERATOR)


def _reason(text: str) -> str:
    return _said(text, _MAX_REASON)


def _said(text: str, most: int) -> str:
    if not text.strip() or len(text) > most or _CONTROL.search(text):
        raise argparse.ArgumentTypeError(f"must be one line of 1 to {most} characters")
    return text


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours <= 24 * 366:
        raise argparse.ArgumentTypeError("must be 0 to 8784")
    return hours


def _parser() -> argparse.ArgumentParser:
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument("--by", required=True, type=_operator, metavar="NAME", help="who does it")
    change.add_argument("--reason", required=True, type=_reason, metavar="TEXT", help="why, for the auditor")
    change.add_argument("--dry-run", action="store_true", help="do all of it but the commit")
    parser = argparse.ArgumentParser(
        prog="python -m services.portal.admin", description=(__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every participant with its applications")
    commands.add_parser("log", help="everything that was done, the newest first")
    showing = commands.add_parser("show", help="one of them, its secrets' ids, and what was done to it")
    showing.add_argument("name", type=_name)
    for command, does in (("suspend", "it starts nothing and gets no token"), ("resume", "end a suspension")):
        changing = commands.add_parser(command, parents=[change], help=does)
        changing.add_argument("name", type=_name)
    secrets = commands.add_parser("secret", help="an application's client secrets").add_subparsers(
        dest="secret", required=True
    )
    adding = secrets.add_parser("add", parents=[change], help="add a second one, or the first")
    adding.add_argument("name", type=_application_name)
    adding.add_argument(
        "--secret-file", type=Path, required=True, help="where it is, or is to be made (0400): it is never printed"
    )
    ending = secrets.add_parser("end", parents=[change], help="end one, now or later; a later call may bring it nearer")
    ending.add_argument("id", type=uuid.UUID)
    ending.add_argument("--in-hours", type=_hours, default=0.0, metavar="N")
    ending.add_argument("--even-last", action="store_true", help="even if nobody can log in then")
    return parser


async def _run(arguments: argparse.Namespace) -> str:
    match arguments.command:
        case "list":
            return await _list()
        case "log":
            return await _log()
        case "show":
            return await _show(arguments.name)
        case "suspend":
            return await _change(arguments.name, State.SUSPENDED, arguments)
        case "resume":
            return await _change(arguments.name, State.ACTIVE, arguments)
        case _:
            return await (_add_secret(arguments) if "secret_file" in arguments else _end_secret(arguments))


def main(words: Sequence[str] | None = None) -> None:
    """Run one command."""
    arguments = _parser().parse_args(words)
    try:
        sys.stdout.write(f"{asyncio.run(_run(arguments))}\n")
    except PostgresError as error:
        sys.exit(f"refused by the database: {error} (is it the URL of finid_portal_admin, and is the schema migrated?)")
    except (RefusedError, PseudonymKeysError, FinIdError, OSError, ValueError) as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
