"""`finid cert`: people's certificates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finid.auth.v1 import auth_pb2 as pb
from finid.esign.v1 import esign_pb2 as esign

from finid_client import calls, words
from finid_client.calls import Beginning
from finid_client.client import Client
from finid_client.command import dry, options, terminal
from finid_client.command.exits import Exit
from finid_client.command.person import Journey
from finid_client.command.profile import Settings
from finid_client.returning import Begun

# After the person has confirmed, the CA is all that is waited for.
_DONE_WITHIN_S = 60.0


@click.group()
def cert() -> None:
    """Issue certificates, and end or pause them."""


def _ended(result: pb.AuthenticationResult) -> bool:
    """Tell whether the person did not confirm; say so."""
    if result.verdict == pb.VERDICT_SUCCESS:
        return False
    terminal.print_result(result)
    return True


@cert.command()
@options.person
@click.option("--certificate-profile", default="individual-sign", show_default=True)
@click.option("--replace", metavar="CERTIFICATE", help="certificates/{serial}: reissue, in place of this one.")
@click.option("--pem", type=click.Path(path_type=Path, dir_okay=False), help="Write certificate and chain here.")
@click.option("--json", "as_json", is_flag=True, help="Print the order as JSON.")
@options.journey
def issue(
    settings: Settings,
    journey: Journey,
    iin: str,
    phone: str,
    language: words.Language | None,
    certificate_profile: str,
    replace: str | None,
    pem: Path | None,
    *,
    as_json: bool,
    dry_run: bool,
) -> int:
    """Issue a certificate for a person, who confirms on the hosted page, and print its name."""
    asked: dict[str, Any] = {
        "iin": iin,
        "phone": phone,
        "redirect_uri": settings.redirect_uri,
        "profile": certificate_profile,
        "language": language,
    }
    if dry_run:
        dry.show(settings, calls.reissue(replace, **asked) if replace else calls.issue(**asked))
        return Exit.DONE

    with settings.client() as client:

        def begin() -> Begun[esign.CertificateOrder]:
            return client.certificates.reissue(replace, **asked) if replace else client.certificates.issue(**asked)

        begun, result = _confirmed(client, journey, begin)
        if _ended(result):
            return Exit.NO
        order = client.certificates.wait_for_order(begun.pending.operation, _DONE_WITHIN_S)
    if order.state != esign.OPERATION_STATE_DONE:
        click.echo(f"not issued: {order.reason}", err=True)
        return Exit.NO
    issued = x509.load_der_x509_certificate(order.certificate.certificate_der)
    if pem is not None:
        chain = [issued, *map(x509.load_der_x509_certificate, order.certificate.chain_der)]
        pem.write_bytes(b"".join(item.public_bytes(Encoding.PEM) for item in chain))
    if as_json:
        click.echo(terminal.as_json(order))
    else:
        terminal.print_table(
            [
                ("certificate", order.certificate.name),
                ("subject", issued.subject.rfc4514_string()),
                ("valid until", f"{issued.not_valid_after_utc:%Y-%m-%d}"),
                (
                    "signs from",
                    f"{order.certificate.activate_time.ToDatetime():%Y-%m-%d %H:%M} UTC, unless the person objects"
                    if order.certificate.HasField("activate_time")
                    else "",
                ),
            ]
        )
    return Exit.DONE


def _confirmed(
    client: Client, journey: Journey, begin: Callable[[], Begun[Any]]
) -> tuple[Begun[Any], pb.AuthenticationResult]:
    kept: list[Begun[Any]] = []

    def begin_and_keep() -> Begun[Any]:
        kept.append(begin())
        return kept[0]

    result = journey.confirmed(client, begin_and_keep)
    return kept[0], result


def _change(
    settings: Settings, journey: Journey, beginning: Callable[..., Beginning[Any]], verb: str, done: str, **asked: Any
) -> int:
    certificate, dry_run = asked.pop("certificate"), asked.pop("dry_run")
    asked["redirect_uri"] = settings.redirect_uri
    if dry_run:
        dry.show(settings, beginning(certificate, **asked))
        return Exit.DONE
    with settings.client() as client:
        begin = getattr(client.certificates, verb)
        begun, result = _confirmed(client, journey, lambda: begin(certificate, **asked))
        if _ended(result):
            return Exit.NO
        change = client.certificates.wait_for_change(begun.pending.operation, _DONE_WITHIN_S)
    if change.state != esign.OPERATION_STATE_DONE:
        click.echo(f"not {done}: {change.reason}", err=True)
        return Exit.NO
    terminal.print_table([("certificate", change.certificate), ("state", done)])
    return Exit.DONE


@cert.command()
@click.argument("certificate")
@options.person
@options.journey
def suspend(settings: Settings, journey: Journey, **asked: Any) -> int:
    """Pause CERTIFICATE (certificates/{serial}): nothing is signed with it until it is resumed. No code is needed."""
    return _change(settings, journey, calls.suspend, "suspend", "suspended", **asked)


@cert.command()
@click.argument("certificate")
@options.person
@options.journey
def resume(settings: Settings, journey: Journey, **asked: Any) -> int:
    """End the pause of CERTIFICATE (certificates/{serial})."""
    return _change(settings, journey, calls.resume, "resume", "resumed", **asked)


@cert.command()
@click.argument("certificate")
@options.person
@click.option("--reason", type=click.Choice(get_args(words.RevocationReason)), default="unspecified", show_default=True)
@click.confirmation_option("--yes", prompt="A revoked certificate never comes back. Go on?")
@options.journey
def revoke(settings: Settings, journey: Journey, **asked: Any) -> int:
    """Revoke CERTIFICATE (certificates/{serial}) for good, and disable its key."""
    return _change(settings, journey, calls.revoke, "revoke", "revoked", **asked)
