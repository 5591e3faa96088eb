"""A documents service that lies about what it prepared, or shows something else than what will be signed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from finid.capture.v1 import capture_pb2

from deploy.local.database import Database as Provisioned
from mesh.errors import FinIdError
from mesh.postgres import Database
from mesh.transaction import Binding, Document, Purpose
from services.auth_gateway import capture
from services.signer.subject_keys import all_verify
from tests.auth_gateway.room import DOCUMENTS, Room, ask_of, store_over
from tests.bundles import digest_of, document
from tests.security.public_api import Context, PublicApi
from tests.security.scene import VICTIM, Scene

CADES = DOCUMENTS[:1]


@pytest.fixture
async def api(database: Callable[..., Provisioned]) -> AsyncIterator[PublicApi]:
    opened = await Database.open(database("auth_gateway").url("auth_gateway"), service="test")
    yield PublicApi(Room(store_over(opened)))
    await opened.close()


LIES: dict[str, dict[str, object]] = {
    "another content": {"content_sha256": digest_of("another contract")},
    "another title": {"title": "Another title"},
    "vouched for instead of rebuilt": {"binding": Binding.DIGEST_ONLY},
}


@pytest.mark.postgres
@pytest.mark.parametrize("lie", list(LIES.values()), ids=list(LIES))
async def test_what_was_not_uploaded_is_not_put_before_the_person(api: PublicApi, lie: dict[str, object]) -> None:
    """The gateway knows what came in: it compares before there is a transaction."""
    certificate = await api.room.certificate()
    api.room.documents.lies = lie
    with pytest.raises(FinIdError) as refused:
        await api.room.creation.sign(ask_of(), certificate.name, CADES)
    assert refused.value.reason == "PREPARED_OTHERWISE"


@pytest.mark.postgres
async def test_what_is_not_in_the_transaction_is_not_shown(api: PublicApi) -> None:
    current = await api.room.signing()
    assert await api.room.store.open_capture(
        capture.token_sha256(api.room.links.token(current.name)), capture.secret_sha256("s" * 43), api.room.clock.now()
    )
    cookie = f"{capture.COOKIE}={current.name.removeprefix('authentications/')}.{'s' * 43}"
    page = Context((("cookie", cookie),))
    request = capture_pb2.ViewDocumentRequest(index=0)
    assert (await api.capture.ViewDocument(request, page)).data == CADES[0].content

    (preparation,) = api.room.documents.preparations.values()
    preparation.documents = (replace(CADES[0], content=b"a harmless text"), *preparation.documents[1:])
    with pytest.raises(FinIdError) as refused:
        await api.capture.ViewDocument(request, page)
    assert refused.value.reason == "DOCUMENT_CHANGED"


async def signed_by_the_person(scene: Scene, lie: Document) -> tuple[bytes, ...]:
    """The person confirms a transaction that holds what documents says it prepared, and vouches for."""
    asked = replace(scene.asked(Purpose.SIGN), documents=(lie,))
    return await scene.room.sign(scene.bundle(asked, VICTIM, await scene.confirmed_by(asked)))


async def test_a_digest_that_does_not_follow_from_the_content_is_not_signed() -> None:
    """CAdES: the digest of another contract, of another certificate, of another time; the signer rebuilds it."""
    scene = await Scene.create()
    asked = scene.asked(Purpose.SIGN)
    honest = asked.documents[0]
    others = (
        digest_of("anything"),
        honest.content_sha256,
        document("another", signing_time=asked.signing_time, certificate_sha256=asked.certificate_sha256).digest_sha256,
        document(honest.title, signing_time=asked.signing_time + 1).digest_sha256,
    )
    for other in others:
        with pytest.raises(FinIdError) as refused:
            await signed_by_the_person(scene, replace(honest, digest_sha256=other))
        assert refused.value.reason == "DIGEST_NOT_REBUILT"
    assert scene.room.fake_keys.calls == []


async def test_a_digest_of_a_pdf_is_documents_own_word() -> None:
    """A gain, for PAdES: nobody else relates the uploaded PDF and the digest; one for each document signed."""
    scene = await Scene.create()
    assert scene.credential is not None
    other = digest_of("attributes over another contract")
    shown = scene.asked(Purpose.SIGN).documents[0]
    signatures = await signed_by_the_person(scene, replace(shown, digest_sha256=other, binding=Binding.DIGEST_ONLY))
    assert all_verify(scene.credential.public_key_der, [other], signatures)
