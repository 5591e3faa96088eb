"""`finid auth`: who a person is."""

from pathlib import Path
from typing import Any, get_args

import click
from finid.auth.v1 import auth_pb2 as pb

from finid_client import calls, words
from finid_client.command import dry, options, terminal
from finid_client.command.exits import Exit
from finid_client.command.person import Journey
from finid_client.command.profile import Settings
from finid_client.evidence import verify_evidence
from finid_client.keys import KeySet
from finid_client.statements import verify_result
from mesh.transaction import Env, Purpose


@click.group()
def auth() -> None:
    """Authenticate people."""


@auth.command()
@options.person
@click.option("--scope", "scopes", multiple=True, type=click.Choice(get_args(words.Scope)), help="May be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--evidence", type=click.Path(path_type=Path, file_okay=False), help="A folder for the proofs.")
@options.journey
def start(
    settings: Settings,
    journey: Journey,
    iin: str,
    phone: str,
    language: words.Language | None,
    scopes: tuple[words.Scope, ...],
    evidence: Path | None,
    *,
    as_json: bool,
    dry_run: bool,
) -> int:
    """Authenticate a person on the hosted page, and print the verdict.

    The link is printed at once: give it to the person, in their own browser. Where the redirect URI is on a loopback
    address, this command waits there; otherwise it asks for the address to which they came back.
    """
    if evidence is not None:
        settings.require("application")
    asked: dict[str, Any] = {
        "iin": iin,
        "phone": phone,
        "redirect_uri": settings.redirect_uri,
        "scopes": scopes,
        "language": language,
        "cross_device": journey.shows_qr,
    }
    if dry_run:
        dry.show(settings, calls.start(**asked))
        return Exit.DONE
    with settings.client() as client:
        result = journey.confirmed(client, lambda: client.authentications.start(**asked))
        is_success = result.verdict == pb.VERDICT_SUCCESS
        if evidence is not None and is_success:
            found = client.authentications.evidence(result.name)
            _keep(evidence, result, found, client.receipt_keys(), settings.application)
    if as_json:
        click.echo(terminal.as_json(result))
    else:
        terminal.print_result(result)
    return Exit.DONE if is_success else Exit.NO


def _keep(folder: Path, result: pb.AuthenticationResult, found: pb.Evidence, jwks: bytes, application: str) -> None:
    """Verify evidence and signed result with the keys of now, and write them and the keys."""
    keys = KeySet.parse(jwks)
    env = next((pin.env for pin in keys.receipt_pins), Env.PRODUCTION)
    proven = verify_evidence(found, keys.pins(env), purpose=Purpose.IDENTIFY)
    signed = verify_result(
        result.result_jws, keys, env=env, application=application, authentication=proven.transaction.authentication
    )
    signed.require_person(result.person)
    files = {
        "evidence.json": terminal.as_json(found).encode(),
        "result.jws": result.result_jws.encode(),
        "jwks.json": jwks,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # The evidence names the person.
    for name, content in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
