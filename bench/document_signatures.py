"""Making signatures at level B-T: this room's builders beside pyHanko's own, in one process and one run.

    flock … nice python -m bench.document_signatures

Both get the same key in software, the same content and a ready time stamp token, so that only the making counts. For
PAdES this is reserving the place, the CMS and filling it; for CAdES the signed attributes and the CMS. What the room
spends besides (checking certificate and token in a worker, encrypting, storing) is not in it.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from io import BytesIO

from asn1crypto import cms as asn1_cms
from asn1crypto import keys, x509
from cryptography.hazmat.primitives import serialization
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers, timestamps
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko_certvalidator.registry import SimpleCertificateStore

from services.documents import cms, pades
from services.documents.confined import pdf
from tests.documents.authority import NOW, Authority
from tests.documents.room import contract_pdf

_SECONDS = 4.0
_ROUNDS = 3


class ReadyStamps(timestamps.TimeStamper):
    """Answers at once with the one token that it has."""

    def __init__(self, token: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._token = token

    async def async_timestamp(self, message_digest: bytes, md_algorithm: str) -> asn1_cms.ContentInfo:
        return asn1_cms.ContentInfo.load(self._token)

    async def async_dummy_response(self, md_algorithm: str) -> asn1_cms.ContentInfo:
        return asn1_cms.ContentInfo.load(self._token)


async def rate(make: Callable[[], Awaitable[bytes]]) -> float:
    """Signatures a second, the best of some rounds: what else the machine does only makes it slower."""
    best = 0.0
    for _ in range(_ROUNDS):
        started, made = time.perf_counter(), 0
        while time.perf_counter() - started < _SECONDS / _ROUNDS:
            await make()
            made += 1
        best = max(best, made / (time.perf_counter() - started))
    return best


async def main() -> None:
    authority, content, document = Authority.new(), b"content " * 64, contract_pdf()
    chain = (authority.signer.der, *authority.chain)
    token = authority.time_stamp(hashlib.sha256(b"any signature").digest())
    private = authority.signer.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    registry = SimpleCertificateStore()
    registry.register(x509.Certificate.load(authority.issuing.der))
    theirs = signers.SimpleSigner(
        signing_cert=x509.Certificate.load(authority.signer.der),
        signing_key=keys.PrivateKeyInfo.load(private),
        cert_registry=registry,
    )
    stamps = ReadyStamps(token)

    async def our_cades() -> bytes:
        attributes = cms.cades_attributes(hashlib.sha256(content).digest(), chain[0], NOW)
        signature = authority.signer.sign_digest(hashlib.sha256(attributes).digest())
        return cms.signed_data(attributes, signature, chain, token)

    async def their_cades() -> bytes:
        made = await theirs.async_sign_general_data(
            content, "sha256", detached=True, use_cades=True, timestamper=stamps
        )
        return bytes(made.dump())

    async def our_pades() -> bytes:
        reserved = pades.reserve_bytes(chain)
        update = pdf.reserve(document, field_name="bench", signing_time=NOW, reserved_bytes=reserved)
        stored = document + update.appended
        attributes = cms.pades_attributes(pades.range_sha256(stored, update.place), chain[0])
        signature = authority.signer.sign_digest(hashlib.sha256(attributes).digest())
        return pades.fill(stored, update.place, cms.signed_data(attributes, signature, chain, token))

    async def their_pades() -> bytes:
        metadata = signers.PdfSignatureMetadata(
            field_name="bench", md_algorithm="sha256", subfilter=SigSeedSubFilter.PADES
        )
        signer = signers.PdfSigner(metadata, theirs, timestamper=stamps)
        made = await signer.async_sign_pdf(IncrementalPdfFileWriter(BytesIO(document)))
        return bytes(made.getvalue())

    for name, ours, peer in (("CAdES B-T", our_cades, their_cades), ("PAdES B-T", our_pades, their_pades)):
        mine, other = await rate(ours), await rate(peer)
        print(f"{name}: {mine:.0f}/s here, {other:.0f}/s pyHanko's own, ratio {mine / other:.1f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
