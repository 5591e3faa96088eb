"""What the CA issues and stamps is what documents accepts, and what both make together passes validation."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from services.ca import profiles
from services.ca.crl import RevocationList
from services.ca.profiles import SUBJECTS, Issuer
from services.ca.timestamp import TimeStamps
from services.documents.pades import TIME_STAMP_MAX_BYTES
from services.documents.report import Indication
from tests.ca.authorities import PRACTICE, MemoryAuthority
from tests.ca.memory_ledger import MemoryLedger
from tests.documents.authority import Authority, Holder, issue
from tests.documents.room import APPLICATION, Clock, Room, cades, pdf

PERSON = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "KZ"),
        x509.NameAttribute(NameOID.COMMON_NAME, "ӘЛІМҚЫЗЫ ӘСЕЛ"),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, "IIN900101300017"),
    ]
)


def certified(memory: MemoryAuthority) -> Authority:
    """The CA's authority, and a person's certificate in its profile, as the documents' tests know them."""
    ours = memory.authority
    draft = issue("Person", None)
    unsigned = profiles.builder(
        SUBJECTS["individual-sign"],
        PRACTICE,
        Issuer(ours.issuing.certificate.subject, ours.issuing.public_key),
        PERSON,
        draft.key.public_key(),
        serial=profiles.serial_number(secrets.token_bytes(20)),
        now=memory.at,
    )
    signer = Holder(unsigned.sign(memory.issuing_key.key, hashes.SHA384()), draft.key)
    return Authority(
        Holder(ours.root, memory.root_key.key),
        Holder(ours.issuing.certificate, memory.issuing_key.key),
        signer,
        Holder(ours.tsa.certificate, memory.tsa_key.key),
    )


@pytest.fixture(scope="module")
def memory() -> MemoryAuthority:
    return MemoryAuthority(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1))


async def test_certificate_and_time_stamps_of_the_ca_make_documents_that_pass(memory: MemoryAuthority) -> None:
    room = Room(certified(memory), clock=Clock(datetime.now(UTC).replace(microsecond=0)))
    stamps = TimeStamps(authority=memory.authority, practice=PRACTICE, now=room.clock, random_bytes=secrets.token_bytes)
    made = await room.preparing.prepare(room.order(pdf(), cades(content=b"content")))
    signatures = [room.authority.signer.sign_digest(document.digest_sha256) for document in made.documents]
    tokens = [await stamps.stamp_digest(hashlib.sha256(signature).digest()) for signature in signatures]
    assert max(map(len, tokens)) < TIME_STAMP_MAX_BYTES / 2
    listed = await room.assembling.assemble(made.id, signatures, tokens)

    revoked = RevocationList(authority=memory.authority, ledger=MemoryLedger(), now=room.clock)
    crls = (await revoked.current(), memory.authority.root_crl_der)
    for document, content in zip(listed, (b"", b"content"), strict=True):
        signed = (await room.archive.fetch(APPLICATION, document.id)).content
        report = await room.archive.validate(signed, content, crls)
        assert report.indication is Indication.TOTAL_PASSED
        [signature] = report.signatures
        assert signature.signer_subject == "serialNumber=IIN900101300017,CN=ӘЛІМҚЫЗЫ ӘСЕЛ,C=KZ"
        assert signature.stamped_at == room.clock.at
