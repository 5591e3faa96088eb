"""Wires the signer: settings, telemetry, token, keys, database, server."""

import asyncio
import functools
import sys
from datetime import UTC, datetime, timedelta

from finid.signer.v1 import signer_pb2, signer_pb2_grpc

from mesh import floors, telemetry
from mesh.health import Probe
from mesh.hsm import KekName, TokenKeyMissingError, TokenPool, announce, announce_kek, open_token
from mesh.key_files import pins_of, receipt_signer_of
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.server import Server, callers
from mesh.settings import read_secret
from services.signer.credential import HolderMac
from services.signer.enrolment import Enrolment
from services.signer.issuing_ca import IssuingCa
from services.signer.lifecycle import Lifecycle
from services.signer.servicer import SignerServicer
from services.signer.settings import SignerSettings
from services.signer.signing import DigestSigner
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys
from services.signer.unwraps import Unwraps


def _now() -> datetime:
    return datetime.now(UTC)


def _open_pool(settings: SignerSettings, kek: KekName) -> TokenPool:
    """Log in to the token and see that it holds the KEK."""
    token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file)
    announce(token, production=settings.env == "production")
    if not token.has_kek(kek):
        raise TokenKeyMissingError(f"the token holds no key {kek.token_label}: run the ceremony")
    token.require_kek(kek)
    for held in token.keks(KEK_LABEL):
        # Others only warn: keys are rotated away from them while the service runs.
        announce_kek(token, held, production=settings.env == "production" and held == kek)
    return TokenPool(token)


async def serve(settings: SignerSettings) -> None:
    """Serve until SIGTERM."""
    kek = KekName(KEK_LABEL, settings.subject_kek_generation)
    pool = _open_pool(settings, kek)
    keys = TokenSubjectKeys(pool, kek)
    unwraps = Unwraps(lambda: pool.token.unwraps)
    subject_keys = settings.subject_keys()
    holders = HolderMac(*subject_keys.keys)
    pinned = pins_of(settings, settings.pins_file)
    least = floors.parse(settings.floors_file.read_bytes())
    database = await Database.open(read_secret(settings.database_url_file), service="signer")
    stamped = functools.partial(require_stamped, database, "signer", subject_keys)
    credentials = CredentialStore(database)
    attester = receipt_signer_of(settings, settings.receipt_key_file, pinned)
    enrolment = Enrolment(
        credentials=credentials,
        keys=keys,
        unwraps=unwraps,
        holders=holders,
        attester=attester,
        issuing_ca=IssuingCa.from_pem(settings.issuing_ca_file.read_bytes()),
        pins=pinned,
        floors=least,
        now=_now,
        new_phone_wait=timedelta(seconds=settings.new_phone_wait_s),
    )
    lifecycle = Lifecycle(
        credentials=credentials, holders=holders, attester=attester, pins=pinned, floors=least, now=_now
    )
    digest_signer = DigestSigner(
        credentials=credentials,
        signings=SigningStore(database),
        keys=keys,
        unwraps=unwraps,
        holders=holders,
        pins=pinned,
        floors=least,
        now=_now,
    )
    file = signer_pb2.DESCRIPTOR
    service = file.services_by_name["SignerService"]
    probes = [Probe("database", database.probe), Probe("token", pool.probe)]
    server = Server("signer", settings, callers(service, "auth_gateway"), probes)
    servicer = SignerServicer(enrolment, lifecycle, digest_signer)
    signer_pb2_grpc.add_SignerServiceServicer_to_server(servicer, server.grpc)
    server.reflect(file)
    try:
        await server.run(digest_signer.abort_expired_intents, first=stamped)
    finally:
        await database.close()
        pool.close()


def main() -> None:
    """Run the signer."""
    settings = SignerSettings.load()
    telemetry.start(
        "signer", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    try:
        asyncio.run(serve(settings))
    except PseudonymKeysError as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
