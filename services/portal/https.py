"""Serving the portal's HTTPS side to Envoy and nobody else, beside the gRPC server in one event loop."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mesh import identity, telemetry
from mesh.identity import Identity
from mesh.settings import MeshSettings

_ENVOY_URI = ("URI", "spiffe://finid/envoy")
_MAX_HEADER_BYTES = 16 * 1024


class _EnvoyOnly(H11Protocol):
    """Closes a connection whose certificate, though of the mesh's root, does not name Envoy."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert") or {}
        if _ENVOY_URI not in certificate.get("subjectAltName", ()):
            telemetry.logger().warning("caller refused", caller="unknown")
            transport.abort()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the gRPC server's life decides."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def tls_context(settings: MeshSettings) -> ssl.SSLContext:
    """Return TLS 1.2 or later that requires a certificate of the mesh's roots, as they are at each handshake."""
    own = identity.mounted(settings)
    made: dict[Identity, ssl.SSLContext] = {}

    def current() -> ssl.SSLContext:
        holder = own()
        if holder not in made:
            made.clear()
            made[holder] = _context(holder)
        return made[holder]

    def at_handshake(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = current()

    context = _context(own())
    # OpenSSL calls it for every handshake, whether the client names a server or not.
    context.sni_callback = at_handshake
    return context


def _context(holder: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # It reads certificate and key from files only: one in memory has the bytes that were found to belong together.
    with os.fdopen(os.memfd_create("identity"), "wb") as file:
        file.write(holder.key + b"\n" + holder.certificate_chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    context.load_verify_locations(cadata=holder.roots.decode("ascii"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class HttpsServer:
    """An ASGI application on one address."""

    def __init__(self, app: ASGIApp, address: str, settings: MeshSettings) -> None:
        self._address = address
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_EnvoyOnly,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(settings.drain_s),
                ssl_context_factory=lambda _config, _default: tls_context(settings),
            )
        )

    async def serve(self) -> None:
        """Serve until cancelled; then end what runs. Raises OSError when the address cannot be had."""
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        listener = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            await serving
