"""The port that Prometheus scrapes: GET /metrics, and nothing else.

Plain HTTP without a caller's name, as Prometheus does it; what is there tells how much is going on and nothing of
anybody. Deployments let only their monitoring reach the port.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_PATH = "/metrics"
# A scrape takes milliseconds; two Prometheus servers and a person are few.
_AT_ONCE = 4
_TIMEOUT_S = 5.0


class _Handler(BaseHTTPRequestHandler):
    """One connection, one scrape."""

    registry: CollectorRegistry
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """Answer with the figures of now."""
        if self.path != _PATH:
            self._answer(HTTPStatus.NOT_FOUND, b"")
            return
        self._answer(HTTPStatus.OK, generate_latest(self.registry))

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, _message: str | None = None, _explain: str | None = None) -> None:
        """Answer what is no scrape without repeating any of it."""
        self._answer(HTTPStatus(code), b"")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: a path may hold anything."""


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Turn away who comes while others are served: nobody can fill the process with connections."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A scrape that breaks off is the scraper's to tell."""


@contextmanager
def scraped(address: str, registry: CollectorRegistry) -> Iterator[int]:
    """Serve a registry at host:port, in threads; give the port. Raises OSError when the address is taken."""
    host, _, port = address.rpartition(":")
    handler = type("_RegistryHandler", (_Handler,), {"registry": registry})
    server = _Server((host.strip("[]"), int(port)), handler)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
