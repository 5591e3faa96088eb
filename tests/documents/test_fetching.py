"""Documents whose evidence is elsewhere: judged by what they carry, or, where that is allowed, by what is fetched."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.egress import Egress, Rule
from mesh.worker.pool import WorkerPool
from services.documents.fetching import MAX_FETCHES, Fetching
from services.documents.inspector import InspectionFailedError, Inspector
from services.documents.preparation import Format, NewDocument
from services.documents.report import EvidenceKind, EvidenceSource, Indication, Report
from services.documents.wanted import MAX_WANTED, Kind, Wanted
from tests.documents import gathering
from tests.documents.authority import NOW, Authority, Revoked, issue, revocation_list, rsa_key
from tests.documents.room import Room, contract_pdf

CONTENT = "Шарт".encode()
NAMED = "http://pki.example"


class Elsewhere:
    """An authority's server on the loopback: what is at which path."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.port = 0

    async def __aenter__(self) -> "Elsewhere":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.asked.append(path)
        body = self.found.get(path)
        status = "404 Not Found" if body is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        await writer.drain()
        writer.close()

    def url(self, path: str) -> str:
        return f"http://pki.example:{self.port}{path}"


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    async with Elsewhere() as server:
        yield server


async def _loopback(_host: str, _port: int) -> Sequence[str]:
    return ("127.0.0.1",)


def says(
    elsewhere: Elsewhere, *, crl: str = "", issuer: str = "", responder: str = ""
) -> tuple[x509.ExtensionType, ...]:
    """What a certificate says of where its revocation and its issuer are."""
    pairs = ((Access.OCSP, responder), (Access.CA_ISSUERS, issuer))
    found: list[x509.ExtensionType] = []
    access = [
        x509.AccessDescription(kind, x509.UniformResourceIdentifier(elsewhere.url(path)))
        for kind, path in pairs
        if path
    ]
    if access:
        found.append(x509.AuthorityInformationAccess(access))
    if crl:
        name = x509.UniformResourceIdentifier(elsewhere.url(crl))
        found.append(x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None)]))
    return tuple(found)


def theirs(elsewhere: Elsewhere) -> Authority:
    """An authority whose certificates say where everything is."""
    root = issue("Root", None, ca=True, valid=timedelta(days=3650))
    issuing = issue("Issuing", root, ca=True, says=says(elsewhere, crl="/root.crl", issuer="/root.cer"))
    below = says(elsewhere, crl="/issuing.crl", issuer="/issuing.cer")
    tsa = issue("TSA", issuing, eku=(ExtendedKeyUsageOID.TIME_STAMPING,), key=rsa_key(), says=below)
    return Authority(root, issuing, issue("Signer", issuing, says=below), tsa)


def publish(elsewhere: Elsewhere, authority: Authority, revoked: Revoked = ()) -> None:
    elsewhere.found |= {
        "/root.crl": revocation_list(authority.root),
        "/issuing.crl": revocation_list(authority.issuing, revoked=revoked),
        "/issuing.cer": authority.issuing.der,
    }


def room_of(authority: Authority, *, opened: bool = True) -> Room:
    room = Room(authority)
    if opened:
        room.archive._egress = Egress(Rule(None, (ip_network("127.0.0.0/8"),)), resolve=_loopback)
    return room


DOCUMENTS = {
    "CMS": NewDocument("Шарт", CONTENT, Format.CADES_DETACHED),
    "PDF": NewDocument("Шарт", contract_pdf(), Format.PADES),
    "XML": NewDocument("Шарт", CONTENT, Format.XADES_DETACHED),
}


async def validated(room: Room, signed: bytes, document: NewDocument, crls: Sequence[bytes] = ()) -> Report:
    content = b"" if document.format is Format.PADES else CONTENT
    return await room.archive.validate(signed, content, tuple(crls))


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_revocation_is_fetched_where_that_is_allowed_and_else_missing(
    elsewhere: Elsewhere, document: NewDocument
) -> None:
    authority = theirs(elsewhere)
    publish(elsewhere, authority)
    [signed] = await gathering.signed(room_of(authority), document)
    closed = await validated(room_of(authority, opened=False), signed, document)
    assert (closed.indication, closed.signatures[0].sub_indication) == (Indication.INDETERMINATE, "TRY_LATER")
    assert closed.signatures[0].explanation.endswith("; revocation was not fetched")
    assert elsewhere.asked == []

    report = await validated(room_of(authority), signed, document)
    [found] = report.signatures
    assert found.indication is Indication.TOTAL_PASSED, found
    assert {item.source for item in found.revocation} == {EvidenceSource.FETCHED}
    assert sorted(elsewhere.asked) == ["/issuing.crl", "/root.crl"]
    assert all(stamp.valid for stamp in found.time_stamps)


async def test_revoked_by_what_was_fetched_fails_what_else_would_wait(elsewhere: Elsewhere) -> None:
    authority = theirs(elsewhere)
    publish(elsewhere, authority, ((authority.signer.certificate, NOW - timedelta(minutes=5)),))
    document = DOCUMENTS["CMS"]
    [signed] = await room_of(authority).signed(document)
    report = await validated(room_of(authority), signed, document)
    assert report.indication is not Indication.TOTAL_PASSED
    assert any(item.revoked_at for item in report.signatures[0].revocation)


async def test_nothing_is_fetched_when_nothing_is_missing(elsewhere: Elsewhere, authority: Authority) -> None:
    own = theirs(elsewhere)
    publish(elsewhere, own)
    document = DOCUMENTS["CMS"]
    [signed] = await room_of(own).signed(document)
    crls = (revocation_list(own.issuing), revocation_list(own.root))
    assert (await validated(room_of(own), signed, document, crls)).indication is Indication.TOTAL_PASSED
    broken = await validated(room_of(own), signed.replace(hashlib.sha256(CONTENT).digest(), bytes(32)), document)
    assert broken.indication is Indication.TOTAL_FAILED
    assert elsewhere.asked == []


def _without_issuing(signed: bytes, authority: Authority) -> bytes:
    envelope = asn1_cms.ContentInfo.load(signed)
    content = envelope["content"]
    content["certificates"] = [item for item in content["certificates"] if item.chosen.dump() != authority.issuing.der]
    return bytes(envelope.dump(force=True))


@pytest.mark.parametrize("packed", [False, True], ids=["a certificate", "certs-only CMS"])
async def test_issuer_that_a_document_does_not_carry_is_found_by_its_address(
    elsewhere: Elsewhere, packed: bool
) -> None:
    authority = theirs(elsewhere)
    publish(elsewhere, authority)
    if packed:
        elsewhere.found["/issuing.cer"] = pkcs7.serialize_certificates(
            [authority.issuing.certificate], serialization.Encoding.DER
        )
    plain = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(CONTENT)
        .add_signer(authority.signer.certificate, authority.signer.key, hashes.SHA256())
        .sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
    )
    document = DOCUMENTS["CMS"]
    closed = await validated(room_of(authority, opened=False), plain, document)
    assert closed.signatures[0].sub_indication == "NO_CERTIFICATE_CHAIN_FOUND"
    report = await validated(room_of(authority), plain, document)
    assert report.indication is Indication.TOTAL_PASSED, report.signatures
    assert sorted(elsewhere.asked) == ["/issuing.cer", "/issuing.crl", "/root.crl"]


async def test_responder_is_asked_about_the_certificate_with_its_issuer(elsewhere: Elsewhere) -> None:
    base = theirs(elsewhere)
    signer = issue("Signer", base.issuing, says=says(elsewhere, responder="/ocsp"))
    authority = replace(base, signer=signer)
    publish(elsewhere, authority)
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=signer.certificate,
        issuer=base.issuing.certificate,
        algorithm=hashes.SHA1(),  # noqa: S303
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=NOW,
        next_update=NOW + timedelta(hours=1),
        revocation_time=None,
        revocation_reason=None,
    )
    responder = issue("Responder", base.issuing, eku=(ExtendedKeyUsageOID.OCSP_SIGNING,))
    answer = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    answer = answer.certificates([responder.certificate])
    elsewhere.found["/ocsp"] = answer.sign(responder.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    document = DOCUMENTS["CMS"]
    [signed] = await room_of(authority).signed(document)
    report = await validated(room_of(authority), signed, document)
    kinds = {item.kind for item in report.signatures[0].revocation}
    assert kinds == {EvidenceKind.OCSP, EvidenceKind.CRL}
    assert "/ocsp" in elsewhere.asked


@pytest.mark.parametrize(
    "answer",
    [b"", b"no CRL", b"\x30\x80" * 1000, b"another's"],
    ids=["nothing", "no CRL", "a bomb", "another authority's"],
)
async def test_answer_that_proves_nothing_changes_nothing(
    elsewhere: Elsewhere, authority: Authority, answer: bytes
) -> None:
    own = theirs(elsewhere)
    publish(elsewhere, own)
    elsewhere.found["/issuing.crl"] = revocation_list(authority.issuing) if answer == b"another's" else answer
    document = DOCUMENTS["CMS"]
    [signed] = await room_of(own).signed(document)
    report = await validated(room_of(own), signed, document)
    assert (report.indication, report.signatures[0].sub_indication) == (Indication.INDETERMINATE, "TRY_LATER")
    assert "not fetched" not in report.signatures[0].explanation


async def test_fetches_of_one_document_are_few(elsewhere: Elsewhere) -> None:
    fetching = Fetching(Egress(Rule(None, (ip_network("127.0.0.0/8"),)), resolve=_loopback))
    wanted = [Wanted(Kind.CRL, elsewhere.url(f"/{number}")) for number in range(3 * MAX_FETCHES)]
    elsewhere.found["/0"] = b"CRL"
    assert await fetching.more(wanted[:MAX_WANTED] * 2)
    assert not await fetching.more(wanted[:MAX_WANTED])
    for start in range(0, len(wanted), MAX_WANTED):
        await fetching.more(wanted[start : start + MAX_WANTED])
    assert len(elsewhere.asked) == len(set(elsewhere.asked)) == MAX_FETCHES
    assert fetching.found().crls == (b"CRL",)


class _Saying:
    """A hijacked worker's answer."""

    def __init__(self, wanted: Any, requests: list[bytes]) -> None:
        self._answer = ({"signatures": [], "wanted": wanted}, requests)

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        return self._answer


@pytest.mark.parametrize(
    ("wanted", "requests"),
    [
        ("everything", []),
        ([{"kind": "CRL", "url": NAMED}] * (MAX_WANTED + 1), [b""] * (MAX_WANTED + 1)),
        ([{"kind": "SECRET", "url": NAMED}], [b""]),
        ([{"kind": "CRL", "url": 7}], [b""]),
        ([{"kind": "CRL", "url": NAMED + "a" * 3000}], [b""]),
        ([{"kind": "CRL", "url": NAMED}], []),
        ([{"kind": "CRL"}], [b""]),
    ],
)
async def test_worker_that_wants_what_none_wants_is_not_believed(wanted: Any, requests: list[bytes]) -> None:
    with pytest.raises(InspectionFailedError):
        await Inspector(_Saying(wanted, requests)).validate(b"", {}, (), now=NOW, asks=True)


async def test_real_worker_says_what_it_lacks_and_takes_what_was_fetched(elsewhere: Elsewhere) -> None:
    authority = theirs(elsewhere)
    publish(elsewhere, authority)
    document = DOCUMENTS["CMS"]
    room = room_of(authority)
    [signed] = await room.signed(document)
    async with WorkerPool(
        "services.documents.confined.worker:serve",
        arguments={"trust_anchors_pem": authority.anchors_pem.decode(), "cpu_budget_s": 5.0},
        call_timeout_s=20.0,
        max_address_space_bytes=1024**3,
    ) as pool:
        room.archive._inspector = Inspector(pool)
        report = await validated(room, signed, document)
    assert report.indication is Indication.TOTAL_PASSED, report
    assert sorted(elsewhere.asked) == ["/issuing.crl", "/root.crl"]
