"""SignerService: protobuf to the domain and back."""

from typing import Any

import grpc
from finid.factor.v1 import bundle_pb2
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc

from mesh.transaction import Openings
from services.signer.credential import State
from services.signer.enrolment import Enrolment
from services.signer.signing import DigestSigner

_Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    State.PENDING: pb.CREDENTIAL_STATE_PENDING,
    State.ACTIVE: pb.CREDENTIAL_STATE_ACTIVE,
    State.DISABLED: pb.CREDENTIAL_STATE_DISABLED,
}


class SignerServicer(rpc.SignerServiceServicer):
    """The signer's methods. See signer.proto."""

    def __init__(self, enrolment: Enrolment, digest_signer: DigestSigner) -> None:
        self._enrolment = enrolment
        self._digest_signer = digest_signer

    async def GenerateKey(self, request: pb.GenerateKeyRequest, _context: _Context) -> pb.GenerateKeyResponse:
        """Make the key of a new credential."""
        bundle = request.bundle
        key = await self._enrolment.generate_key(
            request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        return pb.GenerateKeyResponse(
            credential=key.credential, csr_der=key.csr_der, key_attestation=key.key_attestation
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
        bundle = request.bundle
        await self._enrolment.disable(
            request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        return pb.DisableResponse()

    async def GetCredential(self, request: pb.GetCredentialRequest, _context: _Context) -> pb.GetCredentialResponse:
        """Tell a credential's state."""
        credential = await self._enrolment.get(request.credential)
        return pb.GetCredentialResponse(
            state=_STATES[credential.state],
            public_key_der=credential.public_key_der,
            certificate_sha256=credential.certificate_sha256,
        )


def _openings(message: bundle_pb2.Openings) -> Openings:
    return Openings(message.iin, message.iin_salt, message.phone, message.phone_salt)
