"""Wires the portal: settings, telemetry, keys, gRPC for the hub and HTTPS for Envoy."""

import asyncio
import functools
import sys
from datetime import UTC, datetime, timedelta

from finid.portal.v1 import portal_pb2, portal_pb2_grpc

from mesh import telemetry
from mesh.health import Probe
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.server import Server, callers
from mesh.settings import read_secret
from services.portal import access_token
from services.portal.access_token import AccessTokens, TokenKeys
from services.portal.client_credentials import ClientCredentials
from services.portal.client_secret import SecretHash
from services.portal.https import HttpsServer
from services.portal.servicer import PortalServicer
from services.portal.settings import PortalSettings
from services.portal.store import ApplicationStore, ClientStore
from services.portal.web import PortalWeb


def _now() -> datetime:
    return datetime.now(UTC)


def _token_keys(settings: PortalSettings) -> TokenKeys:
    announced = [file for file in (settings.token_next_key_file, settings.token_previous_key_file) if file is not None]
    return TokenKeys(
        access_token.read_key(settings.token_key_file.read_bytes(), private=True),
        [access_token.read_key(file.read_bytes(), private=False) for file in announced],
    )


async def serve(settings: PortalSettings) -> None:
    """Serve until SIGTERM."""
    keys, secret_keys = _token_keys(settings), settings.client_secret_keys()
    database = await Database.open(read_secret(settings.database_url_file), service="portal")
    stamped = functools.partial(require_stamped, database, "portal", secret_keys)
    client_credentials = ClientCredentials(
        clients=ClientStore(
            database,
            max_failures=settings.login_max_failures,
            window=timedelta(seconds=settings.login_window_s),
        ),
        secret_hash=SecretHash(*secret_keys.keys),
        tokens=AccessTokens(keys=keys, issuer=settings.token_issuer, now=_now),
        now=_now,
    )
    file = portal_pb2.DESCRIPTOR
    service = file.services_by_name["PortalService"]
    server = Server("portal", settings, callers(service, "auth_gateway"), [Probe("database", database.probe)])
    portal_pb2_grpc.add_PortalServiceServicer_to_server(
        PortalServicer(ApplicationStore(database), keys.jwks()), server.grpc
    )
    server.reflect(file)
    https = HttpsServer(PortalWeb(client_credentials, keys.jwks()).app(), settings.portal_http_listen, settings)
    try:
        await server.run(https.serve, first=stamped)
    finally:
        await database.close()


def main() -> None:
    """Run the portal."""
    settings = PortalSettings.load()
    telemetry.start(
        "portal", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    try:
        asyncio.run(serve(settings))
    except PseudonymKeysError as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
