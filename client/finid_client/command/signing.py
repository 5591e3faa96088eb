"""`finid sign`: a document signed by a person in the cloud."""

import os
from pathlib import Path
from typing import Any, Final, get_args

import click
from finid.auth.v1 import auth_pb2 as pb
from finid.esign.v1 import esign_pb2 as esign

from finid_client import calls, words
from finid_client.command import certificates, dry, options, terminal
from finid_client.command.exits import Exit
from finid_client.command.person import Journey
from finid_client.command.profile import Settings
from finid_client.errors import ConfigurationError
from finid_client.returning import Begun

_MAX_BYTES: Final = 10 * 1024 * 1024
_DONE_WITHIN_S: Final = 120.0


def _signed_path(path: Path, signature_format: words.Format) -> Path:
    """Return where the signed file goes: inside what was signed, or beside it."""
    if signature_format in {"pades", "xades-enveloped"}:
        return path.with_name(f"{path.stem}.signed{path.suffix}")
    return path.with_name(f"{path.name}.{'xml' if signature_format == 'xades-detached' else 'p7s'}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@options.person
@click.option(
    "--certificate",
    envvar="FINID_CERTIFICATE",
    help="certificates/{serial} of this person; the newest that signs is looked for when it is left out.",
)
@click.option("--title", help="What the person sees, also in the SMS; the file's name by default.")
@click.option(
    "--format",
    "signature_format",
    type=click.Choice(get_args(words.Format)),
    help="By default pades for a PDF, cades-detached for anything else.",
)
@click.option("--level", type=click.Choice(get_args(words.Level)), default="b-t", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where the signed file goes.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@options.journey
def sign(
    settings: Settings,
    journey: Journey,
    file: Path,
    iin: str,
    phone: str,
    language: words.Language | None,
    certificate: str | None,
    title: str | None,
    signature_format: words.Format | None,
    level: words.Level,
    output: Path | None,
    *,
    force: bool,
    dry_run: bool,
) -> int:
    """Have FILE signed by a person, who reads and confirms it on the hosted page, and save the signed file."""
    content = file.read_bytes()
    if not 0 < len(content) <= _MAX_BYTES:
        raise ConfigurationError(f"{file} must have 1 byte to 10 MiB")
    chosen = signature_format or ("pades" if content.startswith(b"%PDF-") else "cades-detached")
    target = output or _signed_path(file, chosen)
    # Before the person has signed anything, not after.
    if target.exists() and not force:
        raise ConfigurationError(f"{target} exists: --force overwrites it")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise ConfigurationError(f"{target.parent} is not a folder that can be written")
    document = words.document(title or file.name, content, format=chosen, level=level)
    asked: dict[str, Any] = {
        "iin": iin,
        "phone": phone,
        "redirect_uri": settings.redirect_uri,
        "language": language,
    }
    if dry_run:
        dry.show(settings, calls.sign(certificate or "certificates/…", [document], **asked))
        return Exit.DONE
    kept: list[Begun[esign.Signature]] = []
    with settings.client() as client:
        signer = certificate or certificates.newest_of(client, iin)
        journey.progress.say(f"to be signed with {signer}")

        def begin() -> Begun[esign.Signature]:
            kept.append(client.signatures.create(signer, [document], **asked))
            return kept[0]

        result = journey.confirmed(client, begin)
        if result.verdict != pb.VERDICT_SUCCESS:
            terminal.print_result(result)
            return Exit.NO
        journey.progress.say("confirmed; the document is being completed")
        signature = client.signatures.wait(kept[0].pending.operation, _DONE_WITHIN_S)
        if signature.state != esign.OPERATION_STATE_DONE:
            click.echo(f"not signed: {signature.reason}", err=True)
            return Exit.NO
        signed = client.documents.download(signature.documents[0].name).data
    _save(target, signed, force=force)
    terminal.print_table([("signed", str(target)), ("document", signature.documents[0].name)])
    return Exit.DONE


def _save(target: Path, signed: bytes, *, force: bool) -> None:
    """Write all or nothing, and never over what came there meanwhile."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(signed)
    try:
        if force:
            partial.replace(target)
        else:
            os.link(partial, target)
    except FileExistsError as error:
        raise ConfigurationError(f"{target} exists: --force overwrites it") from error
    finally:
        partial.unlink(missing_ok=True)
