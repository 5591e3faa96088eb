"""Sending the person to the hosted page, and waiting until they are back."""

import contextlib
import os
import shlex
import subprocess
import time
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import click
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign

from finid_client import waiting
from finid_client.client import Client
from finid_client.command import terminal
from finid_client.command.terminal import Progress
from finid_client.errors import ConfigurationError, FinIdClientError, NotFinishedError
from finid_client.loopback import LoopbackReturn, is_loopback
from finid_client.returning import Begun, Pending

O = TypeVar("O", auth.Authentication, esign.CertificateOrder, esign.CertificateChange, esign.Signature)  # noqa: E741

_ASK_EVERY_S = 1.5
_STANDARD_ERROR = 2
_GONE = frozenset({auth.AUTHENTICATION_STATE_CANCELLED, auth.AUTHENTICATION_STATE_EXPIRED})


@dataclass(frozen=True, slots=True)
class Journey:
    """How the person gets to the page and back."""

    redirect_uri: str
    opens_browser: bool
    shows_qr: bool
    timeout_s: float
    progress: Progress

    def __post_init__(self) -> None:
        if self.shows_qr and is_loopback(self.redirect_uri):
            raise ConfigurationError(
                f"--qr is for another device, which cannot come back to {self.redirect_uri}: use --open, or a redirect"
                " URI of a site"
            )

    def confirmed(self, client: Client, begin: Callable[[], Begun[O]]) -> auth.AuthenticationResult:
        """Begin, send the person, wait, and read the result. Raises FinIdClientError."""
        with contextlib.ExitStack() as stack:
            # Listening before anybody can come back; the port is known to be free before anything is created.
            listener = (
                stack.enter_context(LoopbackReturn(self.redirect_uri)) if is_loopback(self.redirect_uri) else None
            )
            begun = begin()
            with _given_up_when_interrupted(client, begun.pending):
                self._send(begun)
                returned_to = self._listen(client, begun.pending, listener) if listener else self._paste(client, begun)
        return client.authentications.read_result(begun.pending, returned_to)

    def _send(self, begun: Begun[O]) -> None:
        terminal.show_link(begun.capture_uri, qr=self.shows_qr)
        operation = begun.operation
        if isinstance(operation, auth.Authentication) and operation.match_number:
            click.echo(f"  On the other device, enter {operation.match_number}\n", err=True)
        if self.opens_browser:
            _open(begun.capture_uri)

    def _listen(self, client: Client, pending: Pending, listener: LoopbackReturn) -> str:
        until, ask_at = time.monotonic() + self.timeout_s, 0.0
        state = auth.AUTHENTICATION_STATE_AWAITING_CONSENTS
        while time.monotonic() < until:
            if (returned_to := listener.poll()) is not None:
                return returned_to
            if time.monotonic() >= ask_at:
                found = client.authentications.get(pending.authentication)
                state = found.state
                self.progress.state(waiting.state_name(found))
                if state in _GONE:
                    break
                ask_at = time.monotonic() + _ASK_EVERY_S
        raise NotFinishedError(pending.authentication, waiting.state_name(auth.Authentication(state=state)))

    def _paste(self, client: Client, begun: Begun[O]) -> str:
        last = auth.Authentication()
        for last in client.authentications.watch(begun.pending.authentication, self.timeout_s):
            self.progress.state(waiting.state_name(last))
        if last.state != auth.AUTHENTICATION_STATE_FINISHED:
            raise NotFinishedError(begun.pending.authentication, waiting.state_name(last))
        return str(click.prompt("Paste the address to which the person came back", err=True))


@contextlib.contextmanager
def _given_up_when_interrupted(client: Client, pending: Pending) -> Iterator[None]:
    """Cancel what nobody waits for any more, so that its link is worth nothing."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        with contextlib.suppress(FinIdClientError):
            client.authentications.cancel(pending.authentication)
        raise


def _open(link: str) -> None:
    """Open the link: with the command in BROWSER (`%s` is the link, `&` at its end is meant), or the system's browser.

    The link is a secret for one use. A browser gets it as an argument, as every program that opens links does.
    """
    if command := os.environ.get("BROWSER"):
        words = [word.replace("%s", link) for word in shlex.split(command.removesuffix("&"))]
        if link not in words:
            words.append(link)
        try:
            subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=_STANDARD_ERROR, start_new_session=True)  # noqa: S603
        except OSError as error:
            raise ConfigurationError(f"BROWSER does not start: {error.strerror}") from error
    elif not webbrowser.open(link):
        click.echo("there is no browser on this machine: open the link yourself", err=True)
