"""Options that several commands share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from finid_client.command.person import Journey
from finid_client.command.profile import Found
from finid_client.command.terminal import Progress
from finid_client.waiting import DEFAULT_TIMEOUT_S

F = TypeVar("F", bound=Callable[..., Any])
LANGUAGES = ("kk", "ru", "en")


@dataclass(frozen=True, slots=True)
class Context:
    """What the root command resolved; a found configuration may still lack something that a command needs."""

    resolve: Callable[[], Found]
    quiet: bool


def person(command: F) -> F:
    """Add whose authentication it is. Asked for when left out: a command line can be seen by others."""
    for option in (
        click.option("--language", type=click.Choice(LANGUAGES), help="Of consents and SMS."),
        click.option("--phone", prompt="Phone", help="E.164, for example +77011234567. The code goes there."),
        click.option("--iin", prompt="IIN", help="Individual identification number, 12 digits."),
    ):
        command = option(command)
    return command


def journey(command: F) -> F:
    """Add how the person gets to the hosted page; the command gets `journey`, a Journey, and `dry_run`."""

    @click.option("--open", "opens", is_flag=True, help="Open the link in this machine's browser (or BROWSER).")
    @click.option("--qr", is_flag=True, help="Show the link as a QR code, for the person's phone.")
    @click.option("--timeout", "timeout_s", default=DEFAULT_TIMEOUT_S, show_default=True, help="Seconds to wait.")
    @click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
    @click.pass_obj
    @functools.wraps(command)
    def wrapped(
        context: Context, /, *args: Any, opens: bool, qr: bool, timeout_s: float, dry_run: bool, **kwargs: Any
    ) -> Any:
        settings = context.resolve().settings
        settings.require("redirect_uri")
        made = Journey(settings.redirect_uri, opens, qr, timeout_s, Progress(quiet=context.quiet))
        return command(*args, settings=settings, journey=made, dry_run=dry_run, **kwargs)

    return wrapped  # type: ignore[return-value]
