"""Wires the authority: settings, telemetry, token, certificates, ledger, server."""

import asyncio
import secrets
import sys
from datetime import UTC, datetime

from finid.ca.v1 import ca_pb2, ca_pb2_grpc

from mesh import floors, pins, telemetry
from mesh.health import Probe
from mesh.hsm import DevelopmentTokenError, TokenPool, announce, open_token
from mesh.postgres import Database
from mesh.sealing import read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.ca import authority
from services.ca.authority import AuthorityError
from services.ca.change import Changes
from services.ca.clock import SteadyClock
from services.ca.crl import RevocationList
from services.ca.expiry import ExpiryNotices
from services.ca.issue import Issue
from services.ca.ocsp import Responder
from services.ca.order import Orders
from services.ca.servicer import CaServicer
from services.ca.settings import CaSettings
from services.ca.store import LedgerStore
from services.ca.timestamp import TimeStamps


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(settings: CaSettings) -> None:
    """Serve until SIGTERM."""
    token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file)
    announce(token, production=settings.env == "production")
    pool = TokenPool(token)
    ours = await authority.take_up(authority.read(settings.ca_pki_folder), pool, _now(), settings.ca_rsa_scheme)
    database = await Database.open(read_secret(settings.database_url_file), service="ca")
    ledger = LedgerStore(database, read_key(settings.field_key_file))
    pinned = pins.parse(settings.pins_file.read_bytes(), Env(settings.env))
    floor = floors.parse(settings.floors_file.read_bytes())
    revocation_list = RevocationList(authority=ours, ledger=ledger, now=_now, file=settings.ca_crl_file)
    responder = Responder(authority=ours, ledger=ledger, now=_now)
    clock = SteadyClock(must_be_synchronized=settings.env == "production" or settings.ca_clock_must_be_synchronized)
    servicer = CaServicer(
        authority=ours,
        issue=Issue(
            authority=ours,
            practice=settings.practice,
            ledger=ledger,
            pins=pinned,
            floors=floor,
            now=_now,
            random_bytes=secrets.token_bytes,
        ),
        changes=Changes(
            ledger=ledger,
            pins=pinned,
            floors=floor,
            orders=Orders.parse(settings.orderers_file.read_bytes(), Env(settings.env)),
            now=_now,
        ),
        expiry_notices=ExpiryNotices(ledger=ledger, now=_now),
        revocation_list=revocation_list,
        responder=responder,
        time_stamps=TimeStamps(
            authority=ours, practice=settings.practice, now=clock.now, random_bytes=secrets.token_bytes
        ),
    )
    file = ca_pb2.DESCRIPTOR
    server = Server(
        "ca",
        settings,
        callers(file.services_by_name["CaService"], "auth_gateway"),
        [Probe("database", database.probe), Probe("token", pool.probe)],
    )
    ca_pb2_grpc.add_CaServiceServicer_to_server(servicer, server.grpc)
    server.reflect(file)
    try:
        await server.run(revocation_list.keep_fresh, responder.keep_fresh)
    finally:
        pool.close()
        await database.close()


def main() -> None:
    """Run the authority."""
    settings = CaSettings.load()
    telemetry.start("ca", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    try:
        asyncio.run(serve(settings))
    except (AuthorityError, DevelopmentTokenError) as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
