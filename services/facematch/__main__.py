"""Wiring of facematch: settings, telemetry, keys, workers, server."""

import asyncio
import secrets
import sys
import time

from finid.facematch.v1 import facematch_pb2 as pb
from finid.facematch.v1 import facematch_pb2_grpc as rpc

from mesh import telemetry
from mesh.health import Probe
from mesh.key_files import receipt_signer_of
from mesh.sealing import KEY_BYTES
from mesh.server import Server, callers
from mesh.settings import read_secret
from services.facematch import policies
from services.facematch.compare import Matcher
from services.facematch.photo import PhotoKey
from services.facematch.references import ReferenceCache
from services.facematch.servicer import FaceMatchServicer
from services.facematch.settings import Settings
from services.facematch.workers import FaceWorkers, ModelFiles

SERVICE = "facematch"
# Twelve probes of 512 KiB, a photo of 1 MiB in base64, a transaction of 64 KiB.
_MAX_MESSAGE_KIB = 8 * 1024
_MAX_CALLS = 64  # of that size, in memory at once


async def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings.load()
    telemetry.start(
        SERVICE, log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    models = ModelFiles.at(settings.face_detector_file, settings.face_embedder_file)
    workers = FaceWorkers.of(
        models,
        processes=settings.face_workers,
        queue_limit=settings.face_queue_limit,
        call_timeout_s=settings.face_call_timeout_s,
    )
    models_sha256 = (models.detector_sha256, models.embedder_sha256)
    references = ReferenceCache(
        key=secrets.token_bytes(KEY_BYTES),
        ttl_s=settings.face_reference_ttl_s,
        max_entries=settings.face_reference_limit,
        models_sha256=models_sha256,
        timers=asyncio.get_running_loop(),
    )
    matcher = Matcher(
        faces=workers,
        references=references,
        photo_key=PhotoKey.from_jwk(read_secret(settings.photo_key_file)),
        policies=policies.load(settings.face_policies_file),
        models_sha256=models_sha256,
        signer=receipt_signer_of(settings, settings.receipt_key_file),
        now=lambda: int(time.time()),
    )
    async with workers.pool:
        server = Server(
            SERVICE,
            settings,
            callers(pb.DESCRIPTOR.services_by_name["FaceMatchService"], "auth_gateway"),
            [Probe("worker", workers.check)],
            max_message_kib=_MAX_MESSAGE_KIB,
            max_calls=_MAX_CALLS,
        )
        rpc.add_FaceMatchServiceServicer_to_server(FaceMatchServicer(matcher), server.grpc)
        server.reflect(pb.DESCRIPTOR)
        await server.run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
