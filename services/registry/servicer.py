"""RegistryService: protobuf to the domain and back."""

from typing import Any

import grpc
from finid.factor.v1 import bundle_pb2
from finid.registry.v1 import registry_pb2 as pb
from finid.registry.v1 import registry_pb2_grpc as rpc

from mesh.transaction import Openings
from services.registry.attestation import Attestation
from services.registry.release import Release


class RegistryServicer(rpc.RegistryServiceServicer):
    """The registry's methods. See registry.proto."""

    def __init__(self, attestation: Attestation, release: Release) -> None:
        self._attestation = attestation
        self._release = release

    async def Attest(
        self, request: pb.AttestRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AttestResponse:
        """Attest what the source knows."""
        attested = await self._attestation.attest(request.transaction, _openings(request.openings))
        return pb.AttestResponse(receipt=attested.receipt, photo_jwe=attested.photo_jwe)

    async def Release(
        self, request: pb.ReleaseRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReleaseResponse:
        """Release the person's data."""
        bundle = request.bundle
        answer = await self._release.release(
            request.request_id, bundle.transaction, _openings(bundle.openings), tuple(bundle.receipts)
        )
        person = answer.person
        return pb.ReleaseResponse(
            person=pb.PersonRecord(
                iin=person.iin,
                family_name=person.family_name,
                given_name=person.given_name,
                patronymic=person.patronymic,
                family_name_latin=person.family_name_latin,
                given_name_latin=person.given_name_latin,
                birth_date=person.birth_date,
                document_kind=person.document_kind,
                document_number=person.document_number,
                document_issue_date=person.document_issue_date,
                document_expiry_date=person.document_expiry_date,
            ),
            release=answer.release,
        )


def _openings(message: bundle_pb2.Openings) -> Openings:
    return Openings(message.iin, message.iin_salt, message.phone, message.phone_salt)
