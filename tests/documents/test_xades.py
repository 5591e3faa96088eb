"""XML signatures: what they cover, that xmlsec1 and signxml accept them, and what XML is refused."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from asn1crypto import cms as asn1_cms
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.exceptions import InvalidDigest, InvalidSignature
from signxml.verifier import SignatureConfiguration
from signxml.xades.xades import XAdESVerifier

from mesh.errors import FinIdError
from mesh.transaction import Binding
from services.documents.confined import xml_place as confined
from services.documents.errors import DocumentTooComplexError, XmlBrokenError, XmlLockedError
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from tests.documents.authority import Authority, issue
from tests.documents.gathering import signed
from tests.documents.room import Room
from tests.documents.test_outside_judges import Verdict, flipped, run

CONTENT = "Несие шарты: 1 000 000 ₸\n".encode()
TITLE = "Шарт №1.txt"
CONTRACT = """<?xml version="1.0" encoding="UTF-8"?>
<!-- the parties' own copy -->
<contract xmlns="urn:bank" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xml:lang="kk" b="2" a='1'>
  <party role="borrower">Әсел &amp; Ко</party><sum currency="KZT"><![CDATA[1 000 000 < 2]]></sum><empty/>
  <t:annex xmlns:t="urn:bank:annex" t:page="1">  <?print duplex?>  </t:annex>
</contract>
<?after the end?>
""".encode()
DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
LEVELS = list(Level)


def enveloped(level: Level = Level.B_T, content: bytes = CONTRACT) -> NewDocument:
    return NewDocument(TITLE, content, Format.XADES_ENVELOPED, level)


def detached(level: Level = Level.B_T, content: bytes = CONTENT) -> NewDocument:
    return NewDocument(TITLE, content, Format.XADES_DETACHED, level)


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "root.pem").write_bytes(authority.root.pem)
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    return tmp_path


def xmlsec1(folder: Path, document: bytes, *, content: bytes = b"", signature: int = 1) -> Verdict:
    """Verify one of the signatures of a document; `content` is what a detached one is about."""
    (folder / "signed.xml").write_bytes(document)
    [uri] = [
        item.get("URI") for item in etree.fromstring(document).iter(f"{DS}Reference") if "#" not in item.get("URI", "#")
    ][:1] or [""]
    if uri:
        (folder / unquote(uri)).write_bytes(content)
    return run(
        "xmlsec1", "--verify", "--trusted-pem", folder / "root.pem", "--enabled-key-data", "x509",
        "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
        "--node-xpath", f"(//*[local-name()='Signature'])[{signature}]", folder / "signed.xml",
        cwd=folder,
    )  # fmt: skip


def signxml(document: bytes, authority: Authority, *, content: bytes = b"") -> None:
    """Raises unless signxml accepts the first signature."""
    XAdESVerifier().verify(
        document,
        x509_cert=authority.signer.pem.decode(),
        uri_resolver=lambda _: content,
        expect_config=SignatureConfiguration(require_x509=True, expect_references=2),
    )


# What outside judges say


@pytest.mark.parametrize("level", LEVELS)
async def test_xmlsec1_accepts_every_level_inside_the_document(room: Room, folder: Path, level: Level) -> None:
    [document] = await signed(room, enveloped(level))
    verdict = xmlsec1(folder, document)
    assert verdict.accepted, verdict.said
    for mark in (b"borrower", b"urn:bank:annex", b"1 000 000", b"2026" if b"2026" in document else b"T"):
        broken = document.replace(mark, flipped(mark, 1), 1)
        assert broken != document
        assert not xmlsec1(folder, broken).accepted, mark


@pytest.mark.parametrize("level", LEVELS)
async def test_xmlsec1_accepts_every_level_beside_the_content(room: Room, folder: Path, level: Level) -> None:
    [document] = await signed(room, detached(level))
    verdict = xmlsec1(folder, document, content=CONTENT)
    assert verdict.accepted, verdict.said
    assert not xmlsec1(folder, document, content=flipped(CONTENT, 3)).accepted
    value = etree.fromstring(document).findtext(f"{DS}SignatureValue")
    assert value is not None
    at = document.index(value.encode()) + 20
    other = b"A" if document[at : at + 1] != b"A" else b"B"
    assert not xmlsec1(folder, document[:at] + other + document[at + 1 :], content=CONTENT).accepted


@pytest.mark.parametrize("level", LEVELS)
async def test_signxml_accepts_every_level(room: Room, authority: Authority, level: Level) -> None:
    # Without instructions outside the outermost tags, which signxml leaves out of the document.
    content = CONTRACT.replace(b"<?after the end?>", b"")
    inside, beside = await signed(room, enveloped(level, content), detached(level))
    signxml(inside, authority)
    signxml(beside, authority, content=CONTENT)
    with pytest.raises(InvalidDigest):
        signxml(inside.replace(b"borrower", b"borrowes"), authority)
    with pytest.raises(InvalidDigest):
        signxml(beside, authority, content=flipped(CONTENT, 3))
    value = etree.fromstring(beside).findtext(f"{DS}SignatureValue")
    assert value is not None
    other = base64.b64encode(flipped(base64.b64decode(value), 5))
    with pytest.raises(InvalidSignature):
        signxml(beside.replace(value.encode(), other), authority, content=CONTENT)


async def test_key_on_p384_signs_xml(authority: Authority, folder: Path) -> None:
    signer = issue("P-384", authority.issuing, key=ec.generate_private_key(ec.SECP384R1()))
    other = Authority(authority.root, authority.issuing, signer, authority.tsa)
    inside, beside = await signed(Room(other), enveloped(), detached())
    assert xmlsec1(folder, inside).accepted
    assert xmlsec1(folder, beside, content=CONTENT).accepted
    value = etree.fromstring(beside).findtext(f"{DS}SignatureValue")
    assert value is not None
    assert len(base64.b64decode(value)) == 2 * 48


# What is in them


async def test_document_keeps_its_bytes_and_gets_the_signature_before_its_last_tag(room: Room) -> None:
    [document] = await signed(room, enveloped())
    start, end = document.index(b"<ds:Signature "), document.rindex(b"</ds:Signature>") + len(b"</ds:Signature>")
    assert document[:start] + document[end:] == CONTRACT
    assert document[end:].startswith(b"</contract>")


async def test_digest_alone_binds_and_is_of_the_signed_info(room: Room) -> None:
    made = await room.preparing.prepare(room.order(enveloped(), detached()))
    assert {item.format.binding for item in made.documents} == {Binding.DIGEST_ONLY}
    assert [item.content_sha256 for item in made.documents] == [
        hashlib.sha256(content).digest() for content in (CONTRACT, CONTENT)
    ]


async def test_what_is_hashed_is_canonical_as_it_is_written(room: Room) -> None:
    """The digests are over text that was never canonicalised: lxml, which does, comes to the same octets."""
    for document in await signed(room, enveloped(Level.B_LTA), detached(Level.B_LTA)):
        root = etree.fromstring(document)
        for tag in (
            f"{DS}SignedInfo",
            f"{DS}SignatureValue",
            f"{DS}KeyInfo",
            f"{XADES}SignedProperties",
            f"{XADES}SignatureTimeStamp",
            f"{XADES}CertificateValues",
            f"{XADES}RevocationValues",
            "{http://uri.etsi.org/01903/v1.4.1#}ArchiveTimeStamp",
        ):
            [element] = root.iter(tag)
            assert etree.tostring(element, method="c14n", exclusive=True, with_tail=False) in document, tag


@pytest.mark.parametrize("document", [enveloped, detached])
async def test_time_stamps_cover_what_they_must(
    room: Room, folder: Path, document: Callable[[Level], NewDocument]
) -> None:
    """Recomputed from the finished document as EN 319 132-1, 5.3 and 5.5.2.2 say, and judged by openssl."""
    [made] = await signed(room, document(Level.B_LTA))
    root = etree.fromstring(made)

    def octets(tag: str) -> bytes:
        [element] = root.iter(tag)
        return bytes(etree.tostring(element, method="c14n", exclusive=True, with_tail=False))

    unsigned = next(root.iter(f"{XADES}UnsignedSignatureProperties"))
    reference = CONTENT if document is detached else canonical_without_signature(made)
    archived = reference + octets(f"{XADES}SignedProperties") + octets(f"{DS}SignedInfo")
    archived += octets(f"{DS}SignatureValue") + octets(f"{DS}KeyInfo")
    archived += b"".join(octets(str(item.tag)) for item in unsigned[:-1])
    assert [etree.QName(item).localname for item in unsigned] == [
        "SignatureTimeStamp",
        "CertificateValues",
        "RevocationValues",
        "ArchiveTimeStamp",
    ]
    for stamp, covered in ((unsigned[0], octets(f"{DS}SignatureValue")), (unsigned[-1], archived)):
        token = base64.b64decode(stamp.findtext(f"{XADES}EncapsulatedTimeStamp") or "")
        assert asn1_cms.ContentInfo.load(token, strict=True)["content_type"].native == "signed_data"
        (folder / "token.tst").write_bytes(token)
        command = (
            "openssl",
            "ts",
            "-verify",
            "-token_in",
            "-in",
            folder / "token.tst",
            "-CAfile",
            folder / "chain.pem",
        )
        (folder / "covered").write_bytes(covered)
        assert run(*command, "-data", folder / "covered").accepted
        (folder / "covered").write_bytes(flipped(covered, len(covered) // 2))
        assert not run(*command, "-data", folder / "covered").accepted


def canonical_without_signature(document: bytes) -> bytes:
    start, end = document.index(b"<ds:Signature "), document.rindex(b"</ds:Signature>") + len(b"</ds:Signature>")
    return bytes(
        etree.tostring(
            etree.fromstring(document[:start] + document[end:]).getroottree(), method="c14n", with_comments=False
        )
    )


async def test_evidence_is_the_authoritys_own(room: Room, authority: Authority) -> None:
    [document] = await signed(room, detached(Level.B_LT))
    root = etree.fromstring(document)
    certificates = {base64.b64decode(item.text or "") for item in root.iter(f"{XADES}EncapsulatedX509Certificate")}
    assert len(list(root.iter(f"{XADES}EncapsulatedCRLValue"))) == len(authority.crls())
    assert certificates == {authority.signer.der, *authority.chain}
    assert len(list(root.iter(f"{XADES}EncapsulatedOCSPValue"))) == 1


# Several signers


async def test_each_of_several_signers_leaves_the_earlier_signatures_valid(
    room: Room, folder: Path, authority: Authority
) -> None:
    [once] = await signed(room, enveloped(Level.B_LTA), request_id="request-0001")
    [twice] = await signed(room, enveloped(Level.B_B, once), request_id="request-0002")
    [thrice] = await signed(room, enveloped(Level.B_T, twice), request_id="request-0003")
    assert thrice.count(b"<ds:Signature ") == 3
    for number in (1, 2, 3):
        verdict = xmlsec1(folder, thrice, signature=number)
        assert verdict.accepted, verdict.said
        assert not xmlsec1(folder, thrice.replace(b"borrower", b"borrowes"), signature=number).accepted


async def test_signature_that_covers_everything_but_itself_locks_the_document(room: Room) -> None:
    """As many tools sign: a second signature in the document would break the first."""
    [document] = await signed(room, enveloped(Level.B_B))
    start = document.index(b'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116">')
    end = document.index(b"</ds:XPath></ds:Transform>") + len(b"</ds:XPath></ds:Transform>")
    with pytest.raises(XmlLockedError):
        await room.preparing.prepare(
            room.order(enveloped(content=document[:start] + document[end:]), request_id="request-0002")
        )


# What is refused

_BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><a>&b;</a>'
BROKEN = {
    "no XML": b"not XML",
    "cut off": CONTRACT[:-40],
    "two roots": b"<a>1</a><b>2</b>",
    "an empty root": b"<a/>",
    "a DTD": b"<!DOCTYPE a><a>1</a>",
    "entities": _BOMB,
    "an external entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "a parameter entity": b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/x">%x;]><a>1</a>',
    "an unknown entity": b"<a>&x;</a>",
    "another encoding": '<?xml version="1.0" encoding="UTF-16"?><a>1</a>'.encode("utf-16"),
    "a legacy encoding": '<?xml version="1.0" encoding="windows-1251"?><a>Договор</a>'.encode("cp1251"),
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="UTF-88"?><a>1</a>',
    "no UTF-8": b"<a>\xff\xfe</a>",
    "a bare signature": b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">1</ds:Signature>',
    "a relative namespace": b'<a xmlns="../b">1</a>',
    "an undeclared prefix": b"<x:a>1</x:a>",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
async def test_xml_that_cannot_be_shown_to_be_what_is_signed_is_refused(room: Room, content: bytes) -> None:
    with pytest.raises(XmlBrokenError):
        await room.preparing.prepare(room.order(enveloped(content=content)))
    assert room.stored_objects() == []


@pytest.mark.parametrize(
    "content",
    [b"<a>" * 5000 + b"1" + b"</a>" * 5000, b"<a>" + b"<b></b>" * 600_000 + b"</a>"],
    ids=["deep", "wide"],
)
async def test_xml_of_too_many_elements_is_refused(room: Room, content: bytes) -> None:
    with pytest.raises(DocumentTooComplexError):
        await room.preparing.prepare(room.order(enveloped(content=content)))


async def test_detached_signature_is_for_any_bytes(room: Room, folder: Path) -> None:
    for index, content in enumerate((_BOMB, b"\x00\xff", b"<a/>")):
        [document] = await signed(room, detached(Level.B_B, content), request_id=f"request-000{index}")
        assert xmlsec1(folder, document, content=content).accepted


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_xml_is_either_refused_by_type_or_has_a_place_for_a_signature(data: st.DataObject) -> None:
    content = bytearray(CONTRACT)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    try:
        canonical, at = confined.read(bytes(content))
    except FinIdError:
        return
    assert canonical
    assert bytes(content[at : at + 2]) == b"</"
