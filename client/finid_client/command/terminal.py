"""What the command says: results on standard output, everything else on standard error."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
import segno
from finid.auth.v1 import auth_pb2 as auth
from google.protobuf import json_format
from google.protobuf.message import Message

_STATES = {
    "AWAITING_CONSENTS": "the person is to open the link and agree",
    "AWAITING_LIVENESS": "agreed; the face is next",
    "AWAITING_CODE": "the face is confirmed; the code is next",
    "COMPLETING": "the code is confirmed; what was asked for is being done",
    "FINISHED": "finished; waiting for the person to come back",
}


class Progress:
    """Says what happens, with the seconds since the beginning."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        """Say something once."""
        if not self._quiet and text != self._last:
            self._last = text
            click.echo(f"[{time.monotonic() - self._began:5.1f} s] {text}", err=True)

    def state(self, name: str) -> None:
        """Say where an authentication stands."""
        self.say(_STATES.get(name, name))


def show_link(link: str, *, qr: bool) -> None:
    """Show where the person goes. It works once: whoever opens it first has the session."""
    if qr:
        segno.make(link, error="l").terminal(out=sys.stderr, compact=True)
    click.echo(f"\n  {link}\n", err=True)


def as_json(message: Message) -> str:
    """Return a message as REST gives it."""
    return json_format.MessageToJson(message, ensure_ascii=False)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a value of our own."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values; empty values are left out."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        if value:
            click.echo(f"{name:<{width}}  {value}")


def print_result(result: auth.AuthenticationResult) -> None:
    """Print a verdict with what belongs to it."""
    person = result.person
    print_table(
        [
            ("verdict", auth.Verdict.Name(result.verdict).removeprefix("VERDICT_")),
            ("reason", result.reason),
            ("name", " ".join(filter(None, (person.family_name, person.given_name, person.patronymic)))),
            ("born", person.birth_date),
            ("document", " ".join(filter(None, (person.document_kind, person.document_number)))),
            ("outcome", result.outcome),
            ("authentication", result.name),
        ]
    )
