"""CaService: protobuf to the domain and back."""

import contextlib
from typing import Any

import grpc
from finid.ca.v1 import ca_pb2 as pb
from finid.ca.v1 import ca_pb2_grpc as rpc
from finid.factor.v1 import bundle_pb2

from mesh.errors import DependencyUnavailableError
from mesh.order import Kind
from mesh.transaction import Openings
from services.ca.authority import Authority
from services.ca.change import Changes
from services.ca.crl import RevocationList
from services.ca.expiry import ExpiryNotices
from services.ca.issue import Issue, IssueCommand
from services.ca.ocsp import Responder
from services.ca.profiles import SERIAL_BYTES
from services.ca.timestamp import TimeStamps

_Context = grpc.aio.ServicerContext[Any, Any]


class CaServicer(rpc.CaServiceServicer):
    """The authority's methods. See ca.proto."""

    def __init__(
        self,
        *,
        authority: Authority,
        issue: Issue,
        changes: Changes,
        expiry_notices: ExpiryNotices,
        revocation_list: RevocationList,
        responder: Responder,
        time_stamps: TimeStamps,
    ) -> None:
        self._authority = authority
        self._issue = issue
        self._changes = changes
        self._expiry_notices = expiry_notices
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
        await self._tell()
        return pb.IssueResponse(
            certificate_der=issued.certificate_der,
            chain_der=self._authority.chain_der,
            serial=issued.serial.to_bytes(SERIAL_BYTES).hex(),
        )

    async def Activate(self, request: pb.ActivateRequest, _context: _Context) -> pb.ActivateResponse:
        """Put a certificate in force whose key was activated."""
        await self._changes.activate(request.credential)
        await self._tell()
        return pb.ActivateResponse()

    async def Withdraw(self, request: pb.WithdrawRequest, _context: _Context) -> pb.WithdrawResponse:
        """Revoke a certificate whose key will never be activated."""
        await self._changes.withdraw(request.credential)
        await self._tell()
        return pb.WithdrawResponse()

    async def Revoke(self, request: pb.RevokeRequest, _context: _Context) -> pb.RevokeResponse:
        """Revoke a person's own certificate."""
        return pb.RevokeResponse(revoked_at=await self._by_person(Kind.REVOKE, request))

    async def Suspend(self, request: pb.SuspendRequest, _context: _Context) -> pb.SuspendResponse:
        """Suspend a person's own certificate."""
        return pb.SuspendResponse(suspended_at=await self._by_person(Kind.SUSPEND, request))

    async def Resume(self, request: pb.ResumeRequest, _context: _Context) -> pb.ResumeResponse:
        """End a suspension of the person's own."""
        return pb.ResumeResponse(resumed_at=await self._by_person(Kind.RESUME, request))

    async def _by_person(self, kind: Kind, request: pb.RevokeRequest | pb.SuspendRequest | pb.ResumeRequest) -> int:
        bundle = request.bundle
        at = await self._changes.by_person(
            kind, request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        await self._tell()
        return int(at.timestamp())

    async def _tell(self) -> None:
        """Have status say at once what was just changed; what fails here is caught up with a moment later."""
        with contextlib.suppress(DependencyUnavailableError):
            await self._responder.catch_up()

    async def Order(self, request: pb.OrderRequest, _context: _Context) -> pb.OrderResponse:
        """Do what a signed order says."""
        done_at = await self._changes.by_order(request.order)
        await self._tell()
        return pb.OrderResponse(done_at=int(done_at.timestamp()))

    async def ListExpiring(self, request: pb.ListExpiringRequest, _context: _Context) -> pb.ListExpiringResponse:
        """Return certificates that end soon."""
        page = await self._expiry_notices.page(request.within_days, request.page_size, request.page_token)
        return pb.ListExpiringResponse(
            certificates=[
                pb.ExpiringCertificate(
                    serial=found.serial.to_bytes(SERIAL_BYTES).hex(),
                    credential=found.credential,
                    certificate_sha256=found.certificate_sha256,
                    profile=found.profile,
                    not_after=int(found.not_after.timestamp()),
                )
                for found in page.certificates
            ],
            next_page_token=page.next_page_token,
        )

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
