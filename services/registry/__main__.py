"""Wires the registry: settings, telemetry, keys, source, server."""

import asyncio
import functools
import sys
from datetime import UTC, datetime

from finid.registry.v1 import registry_pb2, registry_pb2_grpc

from mesh import floors, telemetry
from mesh.health import Probe
from mesh.key_files import pins_of, receipt_signer_of
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.registry.attestation import Attestation
from services.registry.locator import Locator
from services.registry.photo import PhotoRecipient
from services.registry.release import Release
from services.registry.servicer import RegistryServicer
from services.registry.settings import RegistrySettings
from services.registry.store import FIELD_LABEL, InquiryStore, ReleaseStore, SandboxPeople


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(settings: RegistrySettings) -> None:
    """Serve until SIGTERM."""
    env = Env(settings.env)
    keys = settings.field_keys()
    seal, locator = keys.seal(FIELD_LABEL), Locator(*keys.keys)
    pinned = pins_of(settings, settings.pins_file)
    signer = receipt_signer_of(settings, settings.receipt_key_file, pinned)
    database = await Database.open(read_secret(settings.database_url_file), service="registry")
    stamped = functools.partial(require_stamped, database, "registry", keys)
    source = SandboxPeople(database, seal, locator)
    telemetry.logger().warning("sandbox state source, its people are made up")
    attestation = Attestation(
        env=env,
        source=source,
        inquiries=InquiryStore(database, locator, max_per_hour=settings.inquiries_per_hour),
        signer=signer,
        recipient=PhotoRecipient.from_jwk(settings.photo_recipient_file.read_text(encoding="utf-8")),
        now=_now,
    )
    release = Release(
        source=source,
        releases=ReleaseStore(database, seal),
        signer=signer,
        pins=pinned,
        floors=floors.parse(settings.floors_file.read_bytes()),
        now=_now,
    )
    file = registry_pb2.DESCRIPTOR
    service = file.services_by_name["RegistryService"]
    server = Server("registry", settings, callers(service, "auth_gateway"), [Probe("database", database.probe)])
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(RegistryServicer(attestation, release), server.grpc)
    server.reflect(file)
    try:
        await server.run(first=stamped)
    finally:
        await database.close()


def main() -> None:
    """Run the registry."""
    settings = RegistrySettings.load()
    telemetry.start(
        "registry", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    try:
        asyncio.run(serve(settings))
    except PseudonymKeysError as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
