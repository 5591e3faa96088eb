"""SignerService: protobuf to the domain and back."""

from datetime import datetime
from typing import Any

import grpc
from finid.factor.v1 import bundle_pb2
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc
from google.protobuf import timestamp_pb2

from mesh.transaction import Openings, Purpose
from services.signer.credential import State
from services.signer.enrolment import Enrolment
from services.signer.lifecycle import Lifecycle
from services.signer.signing import DigestSigner

_Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    State.PENDING: pb.CREDENTIAL_STATE_PENDING,
    State.ACTIVE: pb.CREDENTIAL_STATE_ACTIVE,
    State.SUSPENDED: pb.CREDENTIAL_STATE_SUSPENDED,
    State.REVOKED: pb.CREDENTIAL_STATE_REVOKED,
    State.EXPIRED: pb.CREDENTIAL_STATE_EXPIRED,
    State.DESTROYED: pb.CREDENTIAL_STATE_DESTROYED,
}


class SignerServicer(rpc.SignerServiceServicer):
    """The signer's methods. See signer.proto."""

    def __init__(self, enrolment: Enrolment, lifecycle: Lifecycle, digest_signer: DigestSigner) -> None:
        self._enrolment = enrolment
        self._lifecycle = lifecycle
        self._digest_signer = digest_signer

    async def GenerateKey(self, request: pb.GenerateKeyRequest, _context: _Context) -> pb.GenerateKeyResponse:
        """Make the key of a new credential."""
        bundle = request.bundle
        key = await self._enrolment.generate_key(
            request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        return pb.GenerateKeyResponse(
            credential=key.credential,
            csr_der=key.csr_der,
            key_attestation=key.key_attestation,
            activatable_time=_timestamp(key.activatable_from),
        )

    async def Activate(self, request: pb.ActivateRequest, _context: _Context) -> pb.ActivateResponse:
        """Take a credential's certificate."""
        await self._enrolment.activate(request.credential, request.certificate_der)
        return pb.ActivateResponse()

    async def SignDigests(self, request: pb.SignDigestsRequest, _context: _Context) -> pb.SignDigestsResponse:
        """Sign the transaction's digests."""
        bundle = request.bundle
        signatures = await self._digest_signer.sign_digests(
            request.request_id,
            bundle.transaction,
            _openings(bundle.openings),
            tuple(bundle.receipts),
            tuple(request.digests_sha256),
        )
        return pb.SignDigestsResponse(signatures=signatures)

    async def Disable(self, request: pb.DisableRequest, _context: _Context) -> pb.DisableResponse:
        """Disable a credential."""
        await self._change(Purpose.REVOKE, request)
        return pb.DisableResponse()

    async def Suspend(self, request: pb.SuspendRequest, _context: _Context) -> pb.SuspendResponse:
        """Pause a credential."""
        await self._change(Purpose.SUSPEND, request)
        return pb.SuspendResponse()

    async def Resume(self, request: pb.ResumeRequest, _context: _Context) -> pb.ResumeResponse:
        """End a pause."""
        await self._change(Purpose.RESUME, request)
        return pb.ResumeResponse()

    async def DestroyKey(self, request: pb.DestroyKeyRequest, _context: _Context) -> pb.DestroyKeyResponse:
        """Erase a key that can never sign again."""
        return pb.DestroyKeyResponse(proof=await self._lifecycle.destroy_key(request.credential))

    async def GetCredential(self, request: pb.GetCredentialRequest, _context: _Context) -> pb.GetCredentialResponse:
        """Tell a credential's state."""
        credential = await self._enrolment.get(request.credential)
        return pb.GetCredentialResponse(
            state=_STATES[credential.state],
            public_key_der=credential.public_key_der,
            certificate_sha256=credential.certificate_sha256,
            activatable_time=_timestamp(credential.activatable_from),
            not_after_time=None if credential.not_after is None else _timestamp(credential.not_after),
        )

    async def _change(
        self, purpose: Purpose, request: pb.DisableRequest | pb.SuspendRequest | pb.ResumeRequest
    ) -> None:
        bundle = request.bundle
        await self._lifecycle.change(
            purpose, request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )


def _timestamp(at: datetime) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(at.timestamp()))


def _openings(message: bundle_pb2.Openings) -> Openings:
    return Openings(message.iin, message.iin_salt, message.phone, message.phone_salt)
