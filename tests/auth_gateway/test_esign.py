"""ESignService over the wire: certificates, signatures and documents, told once their result is read."""

from urllib.parse import parse_qs, urlsplit

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page
from finid.esign.v1 import esign_pb2 as esign

from mesh.errors import Code
from mesh.names import new_id
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, NOBODYS_IIN, refusal
from tests.auth_gateway.pki_objects import ISSUING_CRL, ISSUING_DER, ROOT_CRL, ROOT_DER
from tests.auth_gateway.visits import (
    CONTENTS,
    RETURN_TO,
    SUBJECT,
    HostedPage,
    certificate_of,
    issue,
    read,
    revoke,
    sign,
    walked,
)

pytestmark = pytest.mark.postgres


async def test_a_certificate_is_told_once_the_result_is_read(edge: Edge) -> None:
    documents, token = edge.esign(), edge.token()
    order = await documents.IssueCertificate(issue(), metadata=token)
    asked = esign.GetCertificateOrderRequest(name=order.name)
    assert (order.state, order.authentication.purpose) == (esign.OPERATION_STATE_PENDING, auth.PURPOSE_ISSUE)
    code = await walked(edge, order.authentication.capture_uri)
    pending = await documents.GetCertificateOrder(asked, metadata=token)
    assert (pending.state, pending.HasField("certificate")) == (esign.OPERATION_STATE_PENDING, False)
    result = await read(edge, order.authentication.name, code)
    done = await documents.GetCertificateOrder(asked, metadata=token)
    assert (done.state, done.certificate.name) == (esign.OPERATION_STATE_DONE, result.outcome)
    assert list(done.certificate.chain_der) == [ISSUING_DER, ROOT_DER]
    assert not result.HasField("person")
    stranger = edge.token(ANOTHER_APPLICATION)
    error = await refused(documents.GetCertificateOrder(asked, metadata=stranger))
    assert told(error) == ("NOT_FOUND", "OPERATION_NOT_FOUND")


async def test_a_refused_operation_says_why_once_the_result_is_read(edge: Edge) -> None:
    documents, token = edge.esign(), edge.token()
    order = await documents.IssueCertificate(issue(), metadata=token)
    edge.room.signer.fails("generate_key", refusal("signer", Code.FAILED_PRECONDITION, "PHONE_NOT_TRUSTED"))
    code = await walked(edge, order.authentication.capture_uri)
    await read(edge, order.authentication.name, code)
    asked = esign.GetCertificateOrderRequest(name=order.name)
    failed = await documents.GetCertificateOrder(asked, metadata=token)
    assert (failed.state, failed.reason) == (esign.OPERATION_STATE_FAILED, "OPERATION_REFUSED")


@pytest.mark.parametrize("state", ["CANCELLED", "EXPIRED"])
async def test_an_operation_whose_authentication_is_over_has_failed(edge: Edge, state: str) -> None:
    documents, token = edge.esign(), edge.token()
    order = await documents.IssueCertificate(issue(), metadata=token)
    if state == "EXPIRED":
        edge.room.clock.pass_by(901)
        await edge.room.completion.resume_once()
        token = edge.token()
    else:
        asked_to_cancel = auth.CancelAuthenticationRequest(name=order.authentication.name)
        await edge.finid().CancelAuthentication(asked_to_cancel, metadata=token)
    asked = esign.GetCertificateOrderRequest(name=order.name)
    failed = await documents.GetCertificateOrder(asked, metadata=token)
    assert (failed.state, failed.reason) == (esign.OPERATION_STATE_FAILED, state)


async def test_the_person_reads_what_is_signed_and_the_participant_gets_it_once_the_result_is_read(
    edge: Edge,
) -> None:
    documents, token = edge.esign(), edge.token()
    order = await certificate_of(edge)
    signature = await documents.CreateSignature(sign(order.certificate.name), metadata=token)
    assert [item.title for item in signature.authentication.documents] == ["№ 0", "№ 1"]

    opened = HostedPage(edge)
    shown = await opened.open(signature.authentication.capture_uri)
    for index, content in enumerate(CONTENTS):
        body = await opened.call("ViewDocument", page.ViewDocumentRequest(index=index))
        assert (body.data, body.content_type) == (content, "text/plain; charset=utf-8")
    beyond = await refused(opened.call("ViewDocument", page.ViewDocumentRequest(index=2)))
    assert told(beyond) == ("NOT_FOUND", "DOCUMENT_NOT_FOUND")
    code = parse_qs(urlsplit(await opened.walk(shown)).query)["code"][0]

    name = next(iter(edge.room.documents.preparations.values())).signed[0].name
    download, listing = esign.DownloadDocumentRequest(name=name), esign.ListDocumentsRequest()
    assert not (await documents.ListDocuments(listing, metadata=token)).documents
    too_early = await refused(documents.DownloadDocument(download, metadata=token))
    assert told(too_early) == ("FAILED_PRECONDITION", "RESULT_NOT_READ")
    await read(edge, signature.authentication.name, code)

    asked = esign.GetSignatureRequest(name=signature.name)
    done = await documents.GetSignature(asked, metadata=token)
    assert (done.state, [item.title for item in done.documents]) == (esign.OPERATION_STATE_DONE, ["№ 0", "№ 1"])
    assert done.documents[0].level == esign.SIGNATURE_LEVEL_B_T
    assert list((await documents.ListDocuments(listing, metadata=token)).documents) == list(done.documents)
    body = await documents.DownloadDocument(download, metadata=token)
    assert (body.content_type, body.data) == ("application/pdf", "signed № 0".encode())

    stranger = edge.token(ANOTHER_APPLICATION)
    assert not (await documents.ListDocuments(listing, metadata=stranger)).documents
    assert told(await refused(documents.GetSignature(asked, metadata=stranger)))[0] == "NOT_FOUND"
    assert told(await refused(documents.DownloadDocument(download, metadata=stranger)))[0] == "NOT_FOUND"


async def test_a_document_that_was_changed_is_not_shown(edge: Edge) -> None:
    order = await certificate_of(edge)
    signature = await edge.esign().CreateSignature(sign(order.certificate.name), metadata=edge.token())
    preparation = next(iter(edge.room.documents.preparations.values()))
    preparation.documents = tuple(reversed(preparation.documents))
    opened = HostedPage(edge)
    await opened.open(signature.authentication.capture_uri)
    error = await refused(opened.call("ViewDocument", page.ViewDocumentRequest(index=0)))
    assert told(error) == ("INTERNAL", "DOCUMENT_CHANGED")


async def test_a_repeated_operation_is_one(edge: Edge) -> None:
    documents, token, asked = edge.esign(), edge.token(), issue()
    first = await documents.IssueCertificate(asked, metadata=token)
    assert await documents.IssueCertificate(asked, metadata=token) == first
    changed = issue(request_id=asked.request_id, language=auth.LANGUAGE_KK)
    error = await refused(documents.IssueCertificate(changed, metadata=token))
    assert told(error) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_a_certificate_is_reissued(edge: Edge) -> None:
    documents, token = edge.esign(), edge.token()
    replaced = (await certificate_of(edge)).certificate
    asked = esign.ReissueCertificateRequest(
        request_id="reissue-1",
        certificate=replaced.name,
        subject=SUBJECT,
        profile="individual-sign",
        return_to=RETURN_TO,
    )
    order = await documents.ReissueCertificate(asked, metadata=token)
    assert await documents.ReissueCertificate(asked, metadata=token) == order
    assert order.authentication.purpose == auth.PURPOSE_REISSUE
    await read(edge, order.authentication.name, await walked(edge, order.authentication.capture_uri))
    done = await documents.GetCertificateOrder(esign.GetCertificateOrderRequest(name=order.name), metadata=token)
    assert done.state == esign.OPERATION_STATE_DONE
    assert done.certificate.credential != replaced.credential


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (esign.REVOCATION_REASON_UNSPECIFIED, "unspecified"),
        (esign.REVOCATION_REASON_KEY_COMPROMISE, "keyCompromise"),
        (esign.REVOCATION_REASON_AFFILIATION_CHANGED, "affiliationChanged"),
        (esign.REVOCATION_REASON_SUPERSEDED, "superseded"),
        (esign.REVOCATION_REASON_CESSATION_OF_OPERATION, "cessationOfOperation"),
    ],
)
async def test_a_certificate_is_revoked_for_the_persons_reason(
    edge: Edge, reason: esign.RevocationReason, said: str
) -> None:
    documents, token = edge.esign(), edge.token()
    certificate = (await certificate_of(edge)).certificate.name
    change = await documents.RevokeCertificate(revoke(certificate, reason=reason), metadata=token)
    asked = esign.GetCertificateChangeRequest(name=change.name)
    assert (change.state, change.certificate) == (esign.OPERATION_STATE_PENDING, "")
    assert change.authentication.purpose == auth.PURPOSE_REVOKE
    code = await walked(edge, change.authentication.capture_uri)
    assert (await documents.GetCertificateChange(asked, metadata=token)).state == esign.OPERATION_STATE_PENDING
    await read(edge, change.authentication.name, code)
    done = await documents.GetCertificateChange(asked, metadata=token)
    assert (done.state, done.certificate) == (esign.OPERATION_STATE_DONE, certificate)
    assert (await edge.room.get(change.authentication.name)).transaction.reason == said
    stranger = edge.token(ANOTHER_APPLICATION)
    assert told(await refused(documents.GetCertificateChange(asked, metadata=stranger)))[0] == "NOT_FOUND"


async def test_nobody_changes_anothers_certificate(edge: Edge) -> None:
    documents, token = edge.esign(), edge.token()
    certificate = (await certificate_of(edge)).certificate.name
    another = auth.Subject(iin=NOBODYS_IIN, phone=SUBJECT.phone)
    reissued = esign.ReissueCertificateRequest(
        request_id=new_id(),
        certificate=certificate,
        subject=another,
        profile="individual-sign",
        return_to=RETURN_TO,
    )
    for call in (
        documents.RevokeCertificate(revoke(certificate, subject=another), metadata=token),
        documents.RevokeCertificate(revoke("certificates/00"), metadata=token),
        documents.ReissueCertificate(reissued, metadata=token),
    ):
        assert told(await refused(call)) == ("NOT_FOUND", "CERTIFICATE_NOT_FOUND")


async def test_a_document_is_verified_with_the_authoritys_own_lists(edge: Edge) -> None:
    asked = esign.VerifyDocumentRequest(signed=b"a signature", content=b"a document")
    answer = await edge.esign().VerifyDocument(asked, metadata=edge.token())
    assert answer.indication == esign.INDICATION_TOTAL_FAILED
    report = answer.signatures[0]
    assert (report.sub_indication, report.explanation) == ("HASH_FAILURE", "changed after signing")
    assert report.HasField("stamped_time")
    assert not report.HasField("claimed_time")
    assert (report.found_level, answer.report_html) == ("B-T", "")
    assert edge.room.documents.crls == [ISSUING_CRL, ROOT_CRL]


async def test_a_verified_document_comes_with_a_page_in_the_language_asked_for(edge: Edge) -> None:
    asked = esign.VerifyDocumentRequest(signed=b"a signature", report_language=auth.LANGUAGE_KK)
    answer = await edge.esign().VerifyDocument(asked, metadata=edge.token())
    assert answer.report_html == "<html lang=kk>"
