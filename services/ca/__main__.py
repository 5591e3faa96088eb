"""Wires the authority: settings, telemetry, token, certificates, ledger, server."""

import asyncio
import secrets
import sys
from datetime import UTC, datetime
from functools import partial

from finid.ca.v1 import ca_pb2, ca_pb2_grpc

from mesh import floors, metrics, telemetry
from mesh.health import Probe
from mesh.hsm import DevelopmentTokenError, TokenPool, announce, open_token
from mesh.key_files import pins_of
from mesh.order import Orders
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.ca import authority
from services.ca.authority import Authority, AuthorityError
from services.ca.change import Changes
from services.ca.clock import SteadyClock
from services.ca.crl import RevocationList
from services.ca.expiry import ExpiryNotices
from services.ca.issue import Issue
from services.ca.known_keys import KnownKeys
from services.ca.ocsp import Responder
from services.ca.servicer import CaServicer
from services.ca.settings import CaSettings
from services.ca.store import LedgerStore
from services.ca.timestamp import TimeStamps


def _now() -> datetime:
    return datetime.now(UTC)


def _show_own_certificates(ours: Authority) -> None:
    """Show how long the authority's own certificates are good; the root's key and calendar are in a vault."""
    for name, own in (("issuing", ours.issuing), ("ocsp", ours.ocsp), ("tsa", ours.tsa)):
        ends_at = own.certificate.not_valid_after_utc
        metrics.OWN_CERTIFICATE_ENDS.read(partial(_seconds_until, ends_at), certificate=name)


def _seconds_until(at: datetime) -> float:
    return (at - _now()).total_seconds()


async def serve(settings: CaSettings) -> None:
    """Serve until SIGTERM."""
    token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file)
    announce(token, production=settings.env == "production")
    pool = TokenPool(token)
    ours = await authority.take_up(authority.read(settings.ca_pki_folder), pool, _now(), settings.ca_rsa_scheme)
    _show_own_certificates(ours)
    database = await Database.open(read_secret(settings.database_url_file), service="ca")
    keys = settings.field_keys()
    known_keys = KnownKeys(partial(require_stamped, database, "ca", keys, waits=False))
    await known_keys.look()
    ledger = LedgerStore(database, *keys.keys, stands=known_keys)
    pinned = pins_of(settings, settings.pins_file)
    floor = floors.parse(settings.floors_file.read_bytes())
    revocation_list = RevocationList(authority=ours, ledger=ledger, now=_now, file=settings.ca_crl_file)
    responder = Responder(authority=ours, ledger=ledger, now=_now)
    expiry_notices = ExpiryNotices(ledger=ledger, now=_now)
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
        expiry_notices=expiry_notices,
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
        await server.run(known_keys.watch, revocation_list.keep_fresh, responder.keep_fresh, expiry_notices.watch)
    finally:
        pool.close()
        await database.close()


def main() -> None:
    """Run the authority."""
    settings = CaSettings.load()
    telemetry.start(
        "ca", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    try:
        asyncio.run(serve(settings))
    except (AuthorityError, DevelopmentTokenError, PseudonymKeysError) as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
