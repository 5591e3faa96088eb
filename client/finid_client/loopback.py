"""The way back for a program on the person's own machine: a listener on loopback (RFC 8252 section 7.3).

For tools and sandboxes. A bank's own way back is a page of its site. FinID compares redirect URIs exactly, with the
port, so the port is the registered one and not any free one.
"""

import ipaddress
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

from finid_client.errors import ConfigurationError, NotFinishedError

_LOOK_EVERY_S: Final = 0.5
_CLIENT_TIMEOUT_S: Final = 5.0
_PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>FinID</title>"
    b"<p>\xd0\x96\xd0\xb0\xd0\xb1\xd1\x83\xd2\x93\xd0\xb0 \xd0\xb1\xd0\xbe\xd0\xbb\xd0\xb0\xd0\xb4\xd1\x8b. "
    b"\xd0\x9c\xd0\xbe\xd0\xb6\xd0\xbd\xd0\xbe \xd0\xb7\xd0\xb0\xd0\xba\xd1\x80\xd1\x8b\xd1\x82\xd1\x8c. "
    b"You can close this page."
)


def is_loopback(redirect_uri: str) -> bool:
    """Tell whether a redirect URI is plain HTTP on this machine, by address: a name could lead elsewhere."""
    parts = urlsplit(redirect_uri)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


class LoopbackReturn:
    """Listens at a loopback redirect URI; use it with `with`, from before the person is sent until they are back."""

    def __init__(self, redirect_uri: str) -> None:
        if not is_loopback(redirect_uri):
            raise ConfigurationError(f"{redirect_uri} is not http on a loopback address")
        self.redirect_uri = redirect_uri
        parts = urlsplit(redirect_uri)
        self._path = parts.path or "/"
        self._returned: str | None = None
        received = self._receive

        class Handler(BaseHTTPRequestHandler):
            timeout = _CLIENT_TIMEOUT_S

            def do_GET(self) -> None:
                is_return = received(self.path)
                self.send_response(200 if is_return else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                # The address holds the one-time code: it goes nowhere from this page.
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(_PAGE if is_return else b"")

            def log_message(self, *_: Any) -> None:
                """Say nothing: the path holds the code."""

        class Server(HTTPServer):
            address_family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET

        try:
            self._server = Server((parts.hostname or "", parts.port or 80), Handler)
        except OSError as error:
            raise ConfigurationError(f"nothing can listen at {redirect_uri}: {error.strerror}") from error
        self._server.timeout = _LOOK_EVERY_S

    def _receive(self, path: str) -> bool:
        """Take the first request to the path that brings a code; anything else on this port is none of ours."""
        parts = urlsplit(path)
        if parts.path != self._path or "code=" not in parts.query:
            return False
        if self._returned is None:
            self._returned = f"{self.redirect_uri.partition('?')[0]}?{parts.query}"
        return True

    def poll(self) -> str | None:
        """Serve what comes within half a second; return the address to which the person came back, once they did."""
        self._server.handle_request()
        return self._returned

    def wait(self, timeout_s: float) -> str:
        """Return the address to which the person came back. Raises NotFinishedError when the time is up."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if (returned := self.poll()) is not None:
                return returned
        raise NotFinishedError("the authentication", "nobody came back in time")

    def __enter__(self) -> "LoopbackReturn":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()
