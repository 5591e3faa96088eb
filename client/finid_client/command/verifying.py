"""`finid verify`: whether a signed document holds."""

from pathlib import Path
from typing import Final

import click
from finid.esign.v1 import esign_pb2 as esign
from google.protobuf.timestamp_pb2 import Timestamp

from finid_client import calls
from finid_client.command import dry, options, terminal
from finid_client.command.exits import Exit
from finid_client.errors import ConfigurationError
from finid_client.words import LANGUAGES

_EXITS: Final = {
    esign.INDICATION_TOTAL_PASSED: Exit.DONE,
    esign.INDICATION_TOTAL_FAILED: Exit.NO,
    esign.INDICATION_INDETERMINATE: Exit.INDETERMINATE,
}
_COLOURS: Final = {Exit.DONE: "green", Exit.NO: "red", Exit.INDETERMINATE: "yellow"}
_MAX_BYTES: Final = 12 * 1024 * 1024
_READABLE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command()
@click.argument("file", type=_READABLE)
@click.option("--content", type=_READABLE, help="What a detached signature is over.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as an HTML page.")
@click.option("--language", type=click.Choice(options.LANGUAGES), default="en", show_default=True, help="Of --report.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.pass_obj
def verify(
    context: options.Context,
    file: Path,
    content: Path | None,
    report: Path | None,
    language: str,
    *,
    as_json: bool,
    dry_run: bool,
) -> int:
    """Validate FILE: a signed PDF or XML, or a CMS signature.

    Exit code 0 for TOTAL-PASSED, 1 for TOTAL-FAILED, 2 for INDETERMINATE.
    """
    settings = context.resolve().settings
    signed = file.read_bytes()
    if not 0 < len(signed) <= _MAX_BYTES:
        raise ConfigurationError(f"{file} must have 1 byte to 12 MiB")
    call = calls.verify(signed, content.read_bytes() if content else b"")
    if report is not None:
        call.request.report_language = next(value for word, value in LANGUAGES.items() if word == language)  # type: ignore[attr-defined]
    if dry_run:
        dry.show(settings, call)
        return Exit.DONE
    with settings.client() as client:
        answer = client.send(call)
    if report is not None:
        report.write_text(answer.report_html, encoding="utf-8")
    if as_json:
        answer.ClearField("report_html")
        click.echo(terminal.as_json(answer))
    else:
        _print(answer)
    return _EXITS.get(answer.indication, Exit.INDETERMINATE)


def _print(answer: esign.VerifyDocumentResponse) -> None:
    code = _EXITS.get(answer.indication, Exit.INDETERMINATE)
    word = esign.Indication.Name(answer.indication).removeprefix("INDICATION_").replace("TOTAL_", "TOTAL-")
    click.secho(word, fg=_COLOURS[code], bold=True)
    for number, signature in enumerate(answer.signatures, 1):
        click.echo(f"\nsignature {number}")
        indication = esign.Indication.Name(signature.indication).removeprefix("INDICATION_").replace("TOTAL_", "TOTAL-")
        terminal.print_table(
            [
                ("  indication", " ".join(filter(None, (indication, signature.sub_indication)))),
                ("  why", signature.explanation),
                ("  signer", signature.signer_subject),
                ("  serial", signature.signer_serial),
                ("  format", " ".join(filter(None, (signature.found_format, signature.found_level)))),
                ("  stamped", _time(signature.stamped_time)),
                ("  claimed", _time(signature.claimed_time)),
                ("  proven for", _time(signature.best_signature_time)),
                *(("  afterwards", change.description) for change in signature.changes),
            ]
        )


def _time(stamp: Timestamp) -> str:
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M:%S} UTC" if stamp.seconds else ""
