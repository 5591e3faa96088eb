"""Wires documents: settings, telemetry, workers, store, server."""

import asyncio
import functools
import secrets
import sys
from datetime import UTC, datetime

from finid.documents.v1 import documents_pb2, documents_pb2_grpc

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.health import Probe
from mesh.key_files import receipt_signer_of
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import KEY_BYTES
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from mesh.worker.pool import WorkerPool
from services.documents.archive import Archive
from services.documents.assembling import Assembling
from services.documents.inspector import Inspector
from services.documents.preparing import Preparing
from services.documents.pseudonyms import PERSON_LABEL, Pseudonyms
from services.documents.retention import Retention
from services.documents.servicer import DocumentsServicer
from services.documents.settings import DocumentsSettings
from services.documents.signed_document import PageTokens
from services.documents.store import CONTENT_KEY_LABEL, Store
from services.documents.vault import Vault
from services.documents.vouching import Vouching

# A request of 32 MiB of documents, or a signed PDF, its content and the CRLs to validate it.
_MAX_MESSAGE_KIB = 40 * 1024
_MAX_CALLS = 16  # of that size, in memory at once
# Processor time that one upload may cost, and after how long a worker is taken for stuck.
_CPU_BUDGET_S = 5.0
_CALL_TIMEOUT_S = 20.0
_MAX_WORKER_MEMORY_BYTES = 1024 * 1024 * 1024
_FORGET_EVERY_S = 600.0


def _now() -> datetime:
    return datetime.now(UTC)


def workers(settings: DocumentsSettings) -> WorkerPool:
    """The processes that read uploads."""
    return WorkerPool(
        "services.documents.confined.worker:serve",
        arguments={
            "font_file": str(settings.documents_font_file),
            "trust_anchors_pem": settings.trust_anchors_file.read_text(encoding="ascii"),
            "cpu_budget_s": _CPU_BUDGET_S,
        },
        pool="documents",
        processes=settings.documents_workers,
        queue_limit=64,
        call_timeout_s=_CALL_TIMEOUT_S,
        max_address_space_bytes=_MAX_WORKER_MEMORY_BYTES,
    )


async def serve(settings: DocumentsSettings) -> None:
    """Serve until SIGTERM."""
    env = Env(settings.env)
    signer = receipt_signer_of(settings, settings.receipt_key_file)
    keys = settings.field_keys()
    database = await Database.open(read_secret(settings.database_url_file), service="documents")
    stamped = functools.partial(require_stamped, database, "documents", keys)
    store = Store(database, keys.seal(CONTENT_KEY_LABEL))
    vault = Vault(settings.object_store())
    pool = workers(settings)
    inspector = Inspector(pool)
    new_key = functools.partial(secrets.token_bytes, KEY_BYTES)
    url = settings.documents_verification_url or ""
    pseudonyms = Pseudonyms(*keys.derived(PERSON_LABEL))
    preparing = Preparing(
        store, vault, inspector, now=_now, new_key=new_key, pseudonyms=pseudonyms, verification_url=url
    )
    vouching = Vouching(store, signer, env=env, now=_now)
    assembling = Assembling(store, vault, inspector, now=_now)
    *earlier, newest = keys.derived("documents-page-token")
    page_tokens = PageTokens(newest, *earlier)
    archive = Archive(store, vault, inspector, page_tokens, pseudonyms, now=_now, egress=settings.egress())
    retention = Retention(store, vault, now=_now)

    async def probe_workers() -> None:
        if not pool.healthy:
            raise DependencyUnavailableError("no worker is ready")

    file = documents_pb2.DESCRIPTOR
    service = file.services_by_name["DocumentsService"]
    probes = [Probe("database", database.probe), Probe("workers", probe_workers)]
    server = Server(
        "documents",
        settings,
        callers(service, "auth_gateway"),
        probes,
        max_message_kib=_MAX_MESSAGE_KIB,
        max_calls=_MAX_CALLS,
    )
    servicer = DocumentsServicer(preparing, vouching, assembling, archive)
    documents_pb2_grpc.add_DocumentsServiceServicer_to_server(servicer, server.grpc)
    server.reflect(file)
    try:
        async with pool:
            await server.run(functools.partial(retention.run, every_s=_FORGET_EVERY_S), first=stamped)
    finally:
        await database.close()


def main() -> None:
    """Run documents."""
    settings = DocumentsSettings.load()
    telemetry.start(
        "documents",
        log_level=settings.log_level,
        otlp_endpoint=settings.otlp_endpoint,
        trace_ratio=settings.trace_ratio,
    )
    try:
        asyncio.run(serve(settings))
    except PseudonymKeysError as error:
        sys.exit(f"refused to start: {error}")


if __name__ == "__main__":
    main()
