"""A portal that lies, or an Envoy that keeps what it sees: the attacker has access tokens for any application."""

from collections.abc import AsyncIterator, Callable

import pytest
from finid.auth.v1 import auth_pb2
from finid.esign.v1 import esign_pb2

from deploy.local.database import Database as Provisioned
from mesh.errors import FinIdError
from mesh.postgres import Database
from services.auth_gateway.authentication import Authentication, State
from services.otp.text import Language, render
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION
from tests.auth_gateway.room import DOCUMENTS, VERIFIER, Room, ask_of, store_over
from tests.security.public_api import PublicApi

pytestmark = pytest.mark.postgres


@pytest.fixture
async def api(database: Callable[..., Provisioned]) -> AsyncIterator[PublicApi]:
    opened = await Database.open(database("auth_gateway").url("auth_gateway"), service="test")
    yield PublicApi(Room(store_over(opened)))
    await opened.close()


async def finished(api: PublicApi) -> Authentication:
    return await api.room.walk(await api.room.identify(), State.FINISHED)


async def refusal_of(call: object) -> str:
    with pytest.raises(FinIdError) as refused:
        await call  # type: ignore[misc]
    return str(refused.value.reason)


async def test_a_token_for_one_application_reads_nothing_of_another(api: PublicApi) -> None:
    current = await finished(api)
    stranger = api.as_application(ANOTHER_APPLICATION)
    calls = (
        api.finid.GetAuthentication(auth_pb2.GetAuthenticationRequest(name=current.name), stranger),
        api.finid.ReadResult(auth_pb2.ReadResultRequest(name=current.name, code_verifier=VERIFIER), stranger),
        api.finid.GetEvidence(auth_pb2.GetEvidenceRequest(name=current.name), stranger),
        api.finid.CancelAuthentication(auth_pb2.CancelAuthenticationRequest(name=current.name), stranger),
    )
    assert [await refusal_of(call) for call in calls] == ["AUTHENTICATION_NOT_FOUND"] * 4


async def test_a_forged_token_reads_no_result_without_the_persons_code_and_the_verifier(api: PublicApi) -> None:
    """The code comes back with the person, the verifier never left the bank."""
    current = await finished(api)
    code = (await api.room.results.redirect(current)).partition("code=")[2].partition("&")[0]
    forged = api.as_application(APPLICATION)
    for result_code, verifier in (("", ""), (code, ""), (code, "m" * 43), ("m" * 43, VERIFIER)):
        request = auth_pb2.ReadResultRequest(name=current.name, result_code=result_code, code_verifier=verifier)
        assert await refusal_of(api.finid.ReadResult(request, forged)) == "RESULT_CODE_INVALID"
    evidence = auth_pb2.GetEvidenceRequest(name=current.name)
    assert await refusal_of(api.finid.GetEvidence(evidence, forged)) == "RESULT_NOT_READ"
    request = auth_pb2.ReadResultRequest(name=current.name, result_code=code, code_verifier=VERIFIER)
    assert (await api.finid.ReadResult(request, forged)).person.iin


async def test_a_forged_token_starts_a_signature_that_the_person_alone_can_finish(api: PublicApi) -> None:
    """It may ask in any bank's name. The person's phone says so, and without both factors no consumer is even asked."""
    certificate = await api.room.certificate()
    name = await api.room.creation.sign(ask_of(application=ANOTHER_APPLICATION), certificate.name, DOCUMENTS)
    operation = await api.room.store.operation(name)
    assert operation is not None
    current = await api.room.get(operation.authentication)
    await api.room.completion.complete(current.name)
    await api.room.completion.resume_once()
    assert "sign_digests" not in api.room.signer.calls
    text = render(current.transaction, Language.EN, "123456")
    assert text.startswith('FinID sandbox: SIGN A DOCUMENT "')
    assert 'Asked by "Another Bank"' in text


async def test_a_forged_token_acts_as_its_application_towards_what_needs_no_person(api: PublicApi) -> None:
    """A gain: signed documents, and evidence of results that were read, are their application's to fetch."""
    current = await api.room.walk(await api.room.signing(), State.FINISHED)
    await api.room.store.read_result(current.name, api.room.clock.now())
    forged = api.as_application(APPLICATION)
    listed = await api.esign.ListDocuments(esign_pb2.ListDocumentsRequest(page_size=10), forged)
    assert [document.signature for document in listed.documents] == [current.outcome] * 2
    wanted = esign_pb2.DownloadDocumentRequest(name=listed.documents[0].name)
    assert (await api.esign.DownloadDocument(wanted, forged)).data
    evidence = await api.finid.GetEvidence(auth_pb2.GetEvidenceRequest(name=current.name), forged)
    assert evidence.bundle.openings.iin == current.openings.iin
