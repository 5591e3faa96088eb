"""Wiring of liveness: settings, telemetry, keys, database, workers, server."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from finid.liveness.v1 import liveness_pb2 as pb
from finid.liveness.v1 import liveness_pb2_grpc as rpc

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.health import Probe
from mesh.key_files import receipt_signer_of
from mesh.postgres import Database
from mesh.sealing import read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from services.liveness import policies
from services.liveness.analyser import FrameWorkers, ModelFiles
from services.liveness.challenge import Scripts
from services.liveness.examiner import Examiner
from services.liveness.servicer import LivenessServicer
from services.liveness.settings import Settings
from services.liveness.store import FIELD_LABEL, SessionStore

SERVICE = "liveness"
# A batch of 1 MiB comes in; at most twelve keyframes of at most 512 KiB go out.
_MAX_MESSAGE_KIB = 8 * 1024
_MAX_CALLS = 128
_ERASE_EVERY_S = 10.0


async def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings.load()
    telemetry.start(
        SERVICE, log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    database = await Database.open(read_secret(settings.database_url_file), service=SERVICE)
    sessions = SessionStore(
        database,
        settings.field_keys().seal(FIELD_LABEL),
        keep_fingerprints=timedelta(days=settings.liveness_fingerprint_days),
    )
    models = ModelFiles.at(settings.landmarker_file, settings.passive_model_file, settings.spoof_model_file)
    workers = FrameWorkers.of(
        models,
        processes=settings.liveness_workers,
        queue_limit=settings.liveness_queue_limit,
        call_timeout_s=settings.liveness_call_timeout_s,
    )
    examiner = Examiner(
        sessions=sessions,
        analyser=workers,
        scripts=Scripts(read_key(settings.script_key_file)),
        policies=policies.load(settings.liveness_policies_file),
        signer=receipt_signer_of(settings, settings.receipt_key_file),
        models_sha256=models.digests_sha256,
        max_per_day=settings.liveness_attempts_per_day,
        now=_now,
    )
    try:
        async with workers.pool:
            server = Server(
                SERVICE,
                settings,
                callers(pb.DESCRIPTOR.services_by_name["LivenessService"], "auth_gateway"),
                [Probe("database", database.probe), Probe("worker", workers.check)],
                max_message_kib=_MAX_MESSAGE_KIB,
                max_calls=_MAX_CALLS,
            )
            rpc.add_LivenessServiceServicer_to_server(LivenessServicer(examiner), server.grpc)
            server.reflect(pb.DESCRIPTOR)
            await server.run(_eraser(sessions))
    finally:
        await database.close()


def _eraser(sessions: SessionStore) -> Callable[[], Awaitable[None]]:
    """Erases what has expired, as long as the service runs; a database that is away is asked again later."""

    async def erase() -> None:
        while True:
            try:
                await sessions.erase_expired(_now())
            except DependencyUnavailableError:
                telemetry.logger().warning("expired keyframes not erased yet", dependency="database")
            await asyncio.sleep(_ERASE_EVERY_S)

    return erase


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
