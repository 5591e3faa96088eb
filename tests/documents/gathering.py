"""The hub's part in a signing: fetching from the authority whatever documents says is missing, until nothing is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.documents.assembling import Missing, Supplies
from services.documents.preparation import NewDocument, Preparation
from services.documents.revocation import Revocation
from services.documents.signed_document import SignedDocument
from tests.documents.authority import NOW, Authority, issue
from tests.documents.room import Room


def status(authority: Authority, request_der: bytes, *, at: datetime = NOW, revoked: bool = False) -> bytes:
    """An OCSPResponse (DER) by a responder of the issuing CA, with the request's nonce."""
    request = ocsp.load_der_ocsp_request(request_der)
    responder = issue("Test OCSP", authority.issuing, eku=(ExtendedKeyUsageOID.OCSP_SIGNING,))
    assert request.serial_number == authority.signer.certificate.serial_number
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=authority.signer.certificate,
            issuer=authority.issuing.certificate,
            algorithm=request.hash_algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=at,
            next_update=at + timedelta(hours=1),
            revocation_time=at - timedelta(hours=1) if revoked else None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
        .certificates([responder.certificate])
        .add_extension(request.extensions.get_extension_for_class(x509.OCSPNonce).value, critical=False)
    )
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def supplied(room: Room, supplies: Supplies, missing: Missing) -> Supplies:
    """The supplies with what was missing."""
    authority, at = room.authority, room.clock.at

    def stamps(digests: Sequence[bytes]) -> tuple[bytes, ...]:
        return tuple(authority.time_stamp(digest, at=at) for digest in digests)

    return Supplies(
        supplies.signatures,
        supplies.time_stamp_tokens or stamps(missing.time_stamps_sha256),
        supplies.revocation
        or Revocation(
            tuple(status(authority, request, at=at) for request in missing.ocsp_requests),
            authority.crls(at=at) if missing.crls else (),
        ),
        stamps(missing.archive_time_stamps_sha256),
    )


async def gathered(room: Room, made: Preparation) -> Supplies:
    """Everything that a preparation needs."""
    supplies = Supplies(tuple(room.authority.signer.sign_digest(item.digest_sha256) for item in made.documents))
    while (missing := await room.assembling.missing(made.id, supplies)) is not None:
        supplies = supplied(room, supplies, missing)
    return supplies


async def assemble(room: Room, made: Preparation, supplies: Supplies) -> Sequence[SignedDocument]:
    """Assemble from supplies."""
    return await room.assembling.assemble(
        made.id,
        supplies.signatures,
        supplies.time_stamp_tokens,
        supplies.revocation,
        supplies.archive_time_stamp_tokens,
    )


async def signed(room: Room, *documents: NewDocument, **order: Any) -> list[bytes]:
    """Prepare, sign, gather and assemble; return the signed documents' bytes."""
    made = await room.preparing.prepare(room.order(*documents, **order))
    listed = await assemble(room, made, await gathered(room, made))
    fetched = [await room.archive.fetch(made.application, item.id) for item in listed]
    return [item.content for item in fetched]
