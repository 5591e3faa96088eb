"""One document signed by several people, one after another; XML is in test_xades, PDF in test_outside_judges too."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from mesh import signed_attributes
from mesh.errors import FinIdError, InvalidArgumentError
from mesh.transaction import Binding
from services.documents.errors import EarlierSignatureError
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from services.documents.report import Indication
from tests.documents.authority import NOW, Authority, Holder, issue, rsa_key
from tests.documents.gathering import signed
from tests.documents.room import Room, contract_pdf
from tests.documents.test_outside_judges import flipped, openssl_cms, pdfsig, pyhanko_verdicts

CONTENT = "Үш жақты шарт\n".encode()


def of(authority: Authority, signer: Holder) -> Room:
    """The room of another person under the same authority."""
    return Room(Authority(authority.root, authority.issuing, signer, authority.tsa))


@pytest.fixture(scope="module")
def people(authority: Authority) -> tuple[Holder, ...]:
    return tuple(
        issue(f"Person {number}", authority.issuing, key=ec.generate_private_key(curve))
        for number, curve in enumerate((ec.SECP256R1(), ec.SECP384R1(), ec.SECP256R1()))
    )


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    return tmp_path


def beside(earlier: bytes = b"", level: Level = Level.B_T, form: Format = Format.CADES_DETACHED) -> NewDocument:
    return NewDocument("Шарт", CONTENT, form, level, earlier)


def infos(signature: bytes) -> list[asn1_cms.SignerInfo]:
    return list(asn1_cms.ContentInfo.load(signature, strict=True)["content"]["signer_infos"])


async def test_parallel_signatures_stand_in_one_cms_and_all_verify(
    authority: Authority, people: tuple[Holder, ...], folder: Path
) -> None:
    signature = b""
    levels = (Level.B_LTA, Level.B_B, Level.B_LT)
    for number, (person, level) in enumerate(zip(people, levels, strict=True)):
        before = {info.dump() for info in infos(signature)} if signature else set()
        [signature] = await signed(of(authority, person), beside(signature, level), request_id=f"request-000{number}")
        assert before < {info.dump() for info in infos(signature)}, "earlier signers' parts are untouched"
    verdict = openssl_cms(folder, signature, CONTENT)
    assert verdict.accepted, verdict.said
    assert len(infos(signature)) == 3
    for info in infos(signature):  # openssl stops at the first bad one: each is one it looks at
        value = info["signature"].native
        assert not openssl_cms(folder, flipped(signature, signature.index(value) + 20), CONTENT).accepted
    report = await Room(authority).archive.validate(signature, CONTENT, authority.crls())
    assert [item.indication for item in report.signatures] == [Indication.TOTAL_PASSED] * 3
    serials = {f"{person.certificate.serial_number:x}" for person in people}
    assert {item.signer_serial for item in report.signatures} == serials


async def test_second_signature_is_rebuilt_from_the_content_like_the_first(
    authority: Authority, people: tuple[Holder, ...]
) -> None:
    """The signer computes the digest from what the person was shown, whatever stands beside it."""
    [first] = await signed(of(authority, people[0]), beside())
    room = of(authority, people[1])
    made = await room.preparing.prepare(room.order(beside(first)))
    [document] = made.documents
    content_sha256 = hashlib.sha256(CONTENT).digest()
    assert (document.content_sha256, document.format.binding) == (content_sha256, Binding.REBUILT)
    certificate_sha256 = hashlib.sha256(people[1].der).digest()
    assert document.digest_sha256 == signed_attributes.digest(content_sha256, certificate_sha256, int(NOW.timestamp()))
    assert (await room.preparing.content(made.id, 0)).content == CONTENT


async def test_attached_and_detached_signatures_stand_beside_each_other(
    authority: Authority, people: tuple[Holder, ...], folder: Path
) -> None:
    [inside] = await signed(of(authority, people[0]), beside(form=Format.CADES_ATTACHED))
    [outside] = await signed(of(authority, people[1]), beside(inside))
    assert CONTENT not in outside
    assert openssl_cms(folder, outside, CONTENT).accepted
    [both] = await signed(of(authority, people[2]), beside(outside, form=Format.CADES_ATTACHED))
    assert CONTENT in both
    assert len(infos(both)) == 3


async def test_signature_is_added_beside_one_of_another_vendors(authority: Authority, folder: Path) -> None:
    """By `cryptography`, with RSA and SHA-384, without any of the attributes of CAdES."""
    foreign = issue("Foreign", authority.issuing, key=rsa_key())
    assert not isinstance(foreign.key, ec.EllipticCurvePrivateKey)
    theirs = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(CONTENT)
        .add_signer(foreign.certificate, foreign.key, hashes.SHA384())
        .sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
    )
    [both] = await signed(Room(authority), beside(theirs))
    assert openssl_cms(folder, both, CONTENT).accepted
    assert len(infos(both)) == 2
    certificates = pkcs7.load_der_pkcs7_certificates(both)
    assert {item.serial_number for item in certificates} >= {foreign.certificate.serial_number}
    assert all(isinstance(item, x509.Certificate) for item in certificates)


def _without_signers(good: bytes) -> bytes:
    envelope = asn1_cms.ContentInfo.load(good)
    envelope["content"]["signer_infos"] = []
    return bytes(envelope.dump(force=True))


Spoil = Callable[[bytes], bytes]
SPOILT: dict[str, Spoil] = {
    "no CMS": lambda _: b"not a CMS",
    "cut off": lambda good: good[:-5],
    "something behind it": lambda good: good + b"\0",
    "no SignedData": lambda _: asn1_cms.ContentInfo({"content_type": "data", "content": b"x"}).dump(),
    "no signer": _without_signers,
    "another content's digest": lambda good: good.replace(
        hashlib.sha256(CONTENT).digest(), hashlib.sha256(b"x").digest()
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
async def test_what_is_no_signature_over_this_content_gets_no_second_one(room: Room, spoil: Spoil) -> None:
    [good] = await signed(room, beside(), request_id="request-0001")
    before = room.stored_objects()
    with pytest.raises(EarlierSignatureError) as refused:
        await room.preparing.prepare(room.order(beside(spoil(good)), request_id="request-0002"))
    assert refused.value.metadata["index"] == "0"
    assert room.stored_objects() == before


@pytest.mark.parametrize("form", [Format.PADES, Format.XADES_DETACHED, Format.XADES_ENVELOPED])
async def test_only_cms_has_room_beside_an_earlier_signature(room: Room, form: Format) -> None:
    [earlier] = await signed(room, beside(), request_id="request-0001")
    with pytest.raises(InvalidArgumentError) as refused:
        await room.preparing.prepare(room.order(beside(earlier, form=form), request_id="request-0002"))
    assert [item.field for item in refused.value.violations] == ["documents[0].earlier_signature"]


async def test_repeat_with_another_earlier_signature_is_a_conflict(room: Room) -> None:
    [one] = await signed(room, beside(), request_id="request-0001")
    await room.preparing.prepare(room.order(beside(one), request_id="request-0002"))
    with pytest.raises(FinIdError) as refused:
        await room.preparing.prepare(room.order(beside(), request_id="request-0002"))
    assert refused.value.reason == "REQUEST_CONFLICT"


async def test_each_of_several_signers_of_a_pdf_leaves_the_earlier_signatures_valid(
    authority: Authority, people: tuple[Holder, ...], folder: Path
) -> None:
    """Also behind security stores and document time stamps, and again with ones of its own."""
    content = contract_pdf()
    levels = (Level.B_LTA, Level.B_T, Level.B_LTA)
    for number, (person, level) in enumerate(zip(people, levels, strict=True)):
        document = NewDocument("Шарт", content, Format.PADES, level)
        [content] = await signed(of(authority, person), document, request_id=f"request-000{number}")
    assert pdfsig(folder, content).count("Signature Validation: Signature is Valid.") == 3
    verdicts = await pyhanko_verdicts(content, authority)
    assert [verdict.bottom_line for verdict in verdicts] == [True] * 3
