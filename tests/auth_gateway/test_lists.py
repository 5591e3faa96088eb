"""What an application may look back on: only its own, page by page, newest first, never what it has not read."""

import itertools
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign
from finid.signer.v1 import signer_pb2

from mesh.names import new_id
from mesh.transaction import Channel
from services.auth_gateway.authentication import State
from tests.auth_gateway.edge import Edge, Metadata, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION, unavailable
from tests.auth_gateway.room import VERIFIER, ask_of
from tests.auth_gateway.visits import certificate_of, issue, sign, walked

pytestmark = pytest.mark.postgres

_PEOPLE = itertools.count(1)


def own(edge: Edge) -> str:
    """An application that no other test uses: the tables are shared."""
    name = f"applications/{new_id()}"
    edge.room.portal.applications[name] = replace(edge.room.portal.applications[APPLICATION], name=name)
    return name


async def begun(
    edge: Edge, application: str, count: int, channel: Channel = Channel.HOSTED, apart_s: float = 1
) -> list[str]:
    """Names of new authentications, each of another person, newest first."""
    names = []
    for _ in range(count):
        edge.room.clock.pass_by(apart_s)
        ask = ask_of(application=application, iin=f"{next(_PEOPLE):012d}", channel=channel)
        names.append((await edge.room.get(await edge.room.creation.identify(ask, ("name",)))).name)
    return names[::-1]


async def pages(edge: Edge, token: Metadata, **asked: Any) -> list[list[str]]:
    """The names on each page of ListAuthentications."""
    found, page_token = [], ""
    while True:
        request = auth.ListAuthenticationsRequest(page_token=page_token, **asked)
        answer = await edge.finid().ListAuthentications(request, metadata=token)
        found.append([item.name for item in answer.authentications])
        page_token = answer.next_page_token
        if not page_token:
            return found


@pytest.mark.parametrize("page_size", [1, 2, 4, 5, 100, 0])
async def test_authentications_come_newest_first_each_once(edge: Edge, page_size: int) -> None:
    application = own(edge)
    names = await begun(edge, application, 5)
    await begun(edge, own(edge), 1)
    found = await pages(edge, edge.token(application), page_size=page_size)
    assert list(itertools.chain(*found)) == names
    assert {len(page) for page in found[:-1]} <= {page_size}


async def test_those_of_one_moment_come_each_once_too(edge: Edge) -> None:
    application = own(edge)
    names = await begun(edge, application, 5, apart_s=-0.4)  # that much of the clock is spent in creating one
    found = await pages(edge, edge.token(application), page_size=2)
    assert [len(page) for page in found] == [2, 2, 1]
    assert sorted(itertools.chain(*found)) == sorted(names)


async def test_what_comes_meanwhile_moves_no_page(edge: Edge) -> None:
    application = own(edge)
    token, names = edge.token(application), await begun(edge, application, 4)
    first = await edge.finid().ListAuthentications(auth.ListAuthenticationsRequest(page_size=2), metadata=token)
    edge.room.clock.pass_by(1)
    await begun(edge, application, 2)
    rest = auth.ListAuthenticationsRequest(page_size=2, page_token=first.next_page_token)
    second = await edge.finid().ListAuthentications(rest, metadata=token)
    assert [item.name for item in second.authentications] == names[2:]


async def test_a_list_can_be_of_one_state_or_purpose_or_both(edge: Edge) -> None:
    application = own(edge)
    token, names = edge.token(application), await begun(edge, application, 4)
    edge.room.clock.pass_by(1)
    order = await edge.esign().IssueCertificate(issue(), metadata=token)
    for name in (names[0], order.authentication.name):
        await edge.finid().CancelAuthentication(auth.CancelAuthenticationRequest(name=name), metadata=token)
    cancelled, waiting = auth.AUTHENTICATION_STATE_CANCELLED, auth.AUTHENTICATION_STATE_AWAITING_CONSENTS
    assert await pages(edge, token, state=cancelled) == [[order.authentication.name, names[0]]]
    assert await pages(edge, token, state=waiting, page_size=2) == [names[1:3], names[3:]]
    assert await pages(edge, token, purpose=auth.PURPOSE_ISSUE) == [[order.authentication.name]]
    assert await pages(edge, token, purpose=auth.PURPOSE_IDENTIFY, state=cancelled) == [[names[0]]]
    assert await pages(edge, token, purpose=auth.PURPOSE_SIGN) == [[]]


async def test_a_list_shows_what_get_shows_but_texts_and_documents_and_never_a_verdict(edge: Edge) -> None:
    application = own(edge)
    token, (name,) = edge.token(application), await begun(edge, application, 1, Channel.STEPS)
    got = await edge.finid().GetAuthentication(auth.GetAuthenticationRequest(name=name), metadata=token)
    assert got.consents
    assert got.language == auth.LANGUAGE_RU
    got.ClearField("consents")
    got.ClearField("documents")
    answer = await edge.finid().ListAuthentications(auth.ListAuthenticationsRequest(), metadata=token)
    assert list(answer.authentications) == [got]


@pytest.mark.parametrize(
    "changed",
    [{"state": auth.AUTHENTICATION_STATE_FINISHED}, {"purpose": auth.PURPOSE_SIGN}, {"page_token": "AAAA"}],
    ids=lambda changed: str(*changed),
)
async def test_a_page_token_of_another_filter_or_of_nobody_is_refused(edge: Edge, changed: dict[str, Any]) -> None:
    application = own(edge)
    await begun(edge, application, 2)
    token = edge.token(application)
    first = await edge.finid().ListAuthentications(auth.ListAuthenticationsRequest(page_size=1), metadata=token)
    request = auth.ListAuthenticationsRequest(**{"page_token": first.next_page_token} | changed)
    error = await refused(edge.finid().ListAuthentications(request, metadata=token))
    assert told(error) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert [violation.field for violation in error.violations] == ["page_token"]


async def test_a_page_token_serves_no_other_application_and_no_other_list(edge: Edge) -> None:
    application, stranger = own(edge), own(edge)
    await begun(edge, application, 2)
    request = auth.ListAuthenticationsRequest(page_size=1)
    first = await edge.finid().ListAuthentications(request, metadata=edge.token(application))
    taken, esigns = first.next_page_token, edge.esign()
    own_token = edge.token(application)
    calls: list[Awaitable[object]] = [
        edge.finid().ListAuthentications(
            auth.ListAuthenticationsRequest(page_token=taken), metadata=edge.token(stranger)
        ),
        esigns.ListSignatures(esign.ListSignaturesRequest(page_token=taken), metadata=own_token),
        esigns.ListCertificates(esign.ListCertificatesRequest(page_token=taken), metadata=own_token),
        esigns.ListDocuments(esign.ListDocumentsRequest(page_token=taken), metadata=own_token),
    ]
    for call in calls:
        assert told(await refused(call)) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_certificates_are_listed_to_whom_they_were_got_through_once_the_result_is_read(edge: Edge) -> None:
    application = own(edge)
    token, esigns = edge.token(application), edge.esign()
    asked = esign.ListCertificatesRequest()
    order = await esigns.IssueCertificate(issue(), metadata=token)
    code = await walked(edge, order.authentication.capture_uri)
    assert not (await esigns.ListCertificates(asked, metadata=token)).certificates
    name = await _read(edge, token, order.authentication.name, code)
    (listed,) = (await esigns.ListCertificates(asked, metadata=token)).certificates
    assert (listed.name, listed.state) == (name, esign.CERTIFICATE_STATE_ACTIVE)
    assert listed.HasField("create_time")
    got = esign.GetCertificateRequest(name=name)
    assert await esigns.GetCertificate(got, metadata=token) == listed
    done = await esigns.GetCertificateOrder(esign.GetCertificateOrderRequest(name=order.name), metadata=token)
    assert done.certificate == listed
    stranger = edge.token(own(edge))
    assert told(await refused(esigns.GetCertificate(got, metadata=stranger))) == ("NOT_FOUND", "CERTIFICATE_NOT_FOUND")
    assert not (await esigns.ListCertificates(asked, metadata=stranger)).certificates


STATES = {
    "ACTIVE": esign.CERTIFICATE_STATE_ACTIVE,
    "PENDING": esign.CERTIFICATE_STATE_WAITING,
    "SUSPENDED": esign.CERTIFICATE_STATE_SUSPENDED,
    "REVOKED": esign.CERTIFICATE_STATE_REVOKED,
    "DISABLED": esign.CERTIFICATE_STATE_REVOKED,
    "EXPIRED": esign.CERTIFICATE_STATE_EXPIRED,
    "DESTROYED": esign.CERTIFICATE_STATE_REVOKED,
}


async def state_of(edge: Edge, certificate: esign.Certificate) -> str:
    got = esign.GetCertificateRequest(name=certificate.name)
    found = await edge.esign().GetCertificate(got, metadata=edge.token())
    return esign.CertificateState.Name(found.state)


async def test_a_certificates_state_is_its_keys(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    told_of = {}
    for of_key in STATES:
        edge.room.signer.states[certificate.credential] = of_key
        told_of[of_key] = esign.CertificateState.Value(await state_of(edge, certificate))
    assert told_of == STATES


def test_every_state_of_a_key_is_one_of_a_certificate() -> None:
    names = {name.removeprefix("CREDENTIAL_STATE_") for name in signer_pb2.CredentialState.keys()}  # noqa: SIM118  an enum wrapper
    assert names - {"UNSPECIFIED"} == STATES.keys()


async def test_a_replaced_certificate_is_replaced_whatever_its_key_says(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    stored = await edge.room.store.certificate(certificate.name)
    await edge.room.walk(await edge.room.reissuing(stored), State.FINISHED)
    assert await state_of(edge, certificate) == "CERTIFICATE_STATE_REPLACED"


async def test_without_the_signer_no_state_is_invented(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    edge.room.signer.fails("state", unavailable("signer"))
    call = edge.esign().GetCertificate(esign.GetCertificateRequest(name=certificate.name), metadata=edge.token())
    assert told(await refused(call)) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")


async def test_signatures_are_listed_with_how_far_they_are_and_nothing_of_what_is_signed(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    application = own(edge)
    token, esigns = edge.token(application), edge.esign()
    await begun(edge, application, 1)
    made = []
    for _ in range(3):
        made.append(await esigns.CreateSignature(sign(certificate.name), metadata=token))
        edge.room.clock.pass_by(1)
    code = await walked(edge, made[0].authentication.capture_uri)
    await _read(edge, token, made[0].authentication.name, code)
    first = await esigns.ListSignatures(esign.ListSignaturesRequest(page_size=2), metadata=token)
    rest = esign.ListSignaturesRequest(page_size=2, page_token=first.next_page_token)
    second = await esigns.ListSignatures(rest, metadata=token)
    listed = [*first.signatures, *second.signatures]
    assert [item.name for item in listed] == [item.name for item in made[::-1]]
    assert not second.next_page_token
    pending, done = esign.OPERATION_STATE_PENDING, esign.OPERATION_STATE_DONE
    assert [item.state for item in listed] == [pending, pending, done]
    assert not any(item.documents or item.authentication.documents for item in listed)


async def test_documents_are_paged_by_tokens_that_are_sealed_over_those_of_documents(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    token, esigns = edge.token(own(edge)), edge.esign()
    created = await esigns.CreateSignature(sign(certificate.name), metadata=token)
    code = await walked(edge, created.authentication.capture_uri)
    await _read(edge, token, created.authentication.name, code)
    titles: list[str] = []
    page_token = ""
    while True:
        request = esign.ListDocumentsRequest(page_size=1, page_token=page_token)
        answer = await esigns.ListDocuments(request, metadata=token)
        titles.extend(document.title for document in answer.documents)
        page_token = answer.next_page_token
        if not page_token:
            break
        assert page_token != "1"
    assert sorted(titles) == ["№ 0", "№ 1"]
    bare = esigns.ListDocuments(esign.ListDocumentsRequest(page_token="1"), metadata=token)
    assert told(await refused(bare)) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_a_document_is_shown_to_its_application_once_the_result_is_read(edge: Edge) -> None:
    certificate = (await certificate_of(edge)).certificate
    token, esigns = edge.token(), edge.esign()
    created = await esigns.CreateSignature(sign(certificate.name), metadata=token)
    code = await walked(edge, created.authentication.capture_uri)
    document = edge.room.documents._signed_of(APPLICATION)[-1]
    asked = esign.GetDocumentRequest(name=document.name)
    assert told(await refused(esigns.GetDocument(asked, metadata=token))) == ("FAILED_PRECONDITION", "RESULT_NOT_READ")
    await _read(edge, token, created.authentication.name, code)
    listed = (await esigns.ListDocuments(esign.ListDocumentsRequest(page_size=100), metadata=token)).documents
    assert await esigns.GetDocument(asked, metadata=token) in list(listed)
    stranger = esigns.GetDocument(asked, metadata=edge.token(ANOTHER_APPLICATION))
    assert told(await refused(stranger)) == ("NOT_FOUND", "DOCUMENT_NOT_FOUND")


async def _read(edge: Edge, token: Metadata, name: str, code: str) -> str:
    """Read the result as the application; return what was made."""
    asked = auth.ReadResultRequest(name=name, result_code=code, code_verifier=VERIFIER)
    return str((await edge.finid().ReadResult(asked, metadata=token)).outcome)
