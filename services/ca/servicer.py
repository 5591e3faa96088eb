"""CaService: protobuf to the domain and back."""

from typing import Any

import grpc
from finid.ca.v1 import ca_pb2 as pb
from finid.ca.v1 import ca_pb2_grpc as rpc
from finid.factor.v1 import bundle_pb2

from mesh.transaction import Openings
from services.ca.authority import Authority
from services.ca.crl import RevocationList
from services.ca.issue import Issue, IssueCommand
from services.ca.ocsp import Responder
from services.ca.profiles import SERIAL_BYTES
from services.ca.revoke import Revoke
from services.ca.timestamp import TimeStamps

_Context = grpc.aio.ServicerContext[Any, Any]


class CaServicer(rpc.CaServiceServicer):
    """The authority's methods. See ca.proto."""

    def __init__(
        self,
        *,
        authority: Authority,
        issue: Issue,
        revoke: Revoke,
        revocation_list: RevocationList,
        responder: Responder,
        time_stamps: TimeStamps,
    ) -> None:
        self._authority = authority
        self._issue = issue
        self._revoke = revoke
        self._revocation_list = revocation_list
        self._responder = responder
        self._time_stamps = time_stamps

    async def Issue(self, request: pb.IssueRequest, _context: _Context) -> pb.IssueResponse:
        """Issue a certificate to an attested key."""
        issued = await self._issue.issue(
            IssueCommand(
                request_id=request.request_id,
                transaction_bytes=request.bundle.transaction,
                openings=_openings(request.bundle.openings),
                receipts=tuple(request.bundle.receipts),
                csr_der=request.csr_der,
                release=request.release,
            )
        )
        return pb.IssueResponse(
            certificate_der=issued.certificate_der,
            chain_der=self._authority.chain_der,
            serial=issued.serial.to_bytes(SERIAL_BYTES).hex(),
        )

    async def Revoke(self, request: pb.RevokeRequest, _context: _Context) -> pb.RevokeResponse:
        """Revoke a person's own certificate."""
        bundle = request.bundle
        revoked_at = await self._revoke.revoke(
            request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        return pb.RevokeResponse(revoked_at=int(revoked_at.timestamp()))

    async def GetCrl(self, request: pb.GetCrlRequest, _context: _Context) -> pb.GetCrlResponse:
        """Return a revocation list."""
        if request.issuer == pb.CRL_ISSUER_ROOT:
            return pb.GetCrlResponse(crl_der=self._authority.root_crl_der)
        return pb.GetCrlResponse(crl_der=await self._revocation_list.current())

    async def GetChain(self, _request: pb.GetChainRequest, _context: _Context) -> pb.GetChainResponse:
        """Return issuing CA and root."""
        return pb.GetChainResponse(chain_der=self._authority.chain_der)

    async def Ocsp(self, request: pb.OcspRequest, _context: _Context) -> pb.OcspResponse:
        """Answer an OCSP request."""
        return pb.OcspResponse(response_der=await self._responder.answer(request.request_der))

    async def TimeStamp(self, request: pb.TimeStampRequest, _context: _Context) -> pb.TimeStampResponse:
        """Answer a time stamp request."""
        return pb.TimeStampResponse(response_der=await self._time_stamps.stamp(request.request_der))

    async def StampDigest(self, request: pb.StampDigestRequest, _context: _Context) -> pb.StampDigestResponse:
        """Stamp a digest of the mesh's own."""
        return pb.StampDigestResponse(token_der=await self._time_stamps.stamp_digest(request.digest_sha256))


def _openings(message: bundle_pb2.Openings) -> Openings:
    return Openings(message.iin, message.iin_salt, message.phone, message.phone_salt)
