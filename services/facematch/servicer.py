"""FaceMatchService: protobuf in, domain, protobuf out."""

from dataclasses import asdict
from typing import Any

import grpc
from finid.facematch.v1 import facematch_pb2 as pb
from finid.facematch.v1 import facematch_pb2_grpc as rpc

from services.facematch.compare import Matcher


class FaceMatchServicer(rpc.FaceMatchServiceServicer):
    """The public face of `Matcher`."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    async def Compare(
        self, request: pb.CompareRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.CompareResponse:
        """Compare every probe with the reference photo."""
        passed = await self._matcher.compare(request.transaction, request.photo_jwe, request.probes)
        return pb.CompareResponse(
            receipt=passed.receipt,
            similarities_ppm=passed.similarities_ppm,
            threshold_ppm=passed.threshold_ppm,
            qualities=[pb.FaceQuality(**asdict(quality)) for quality in passed.qualities],
        )
