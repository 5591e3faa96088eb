"""Starting an authentication: who may ask for what, what the transaction then says, and asking again."""

import asyncio
import datetime
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh.errors import Code, DependencyUnavailableError, FinIdError, InvalidArgumentError
from mesh.names import is_name
from mesh.sealing import derive
from mesh.transaction import Binding, Channel, Purpose, txn_of
from services.auth_gateway import capture
from services.auth_gateway.authentication import (
    Authentication,
    ChannelNotAllowedError,
    Language,
    Receipts,
    State,
    StepRefusedError,
    Verdict,
)
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.creation import (
    ApplicationNotAllowedError,
    ApplicationPolicyUnknownError,
    Ask,
    CertificateNotFoundError,
    CertificateStateError,
    PreparedOtherwiseError,
)
from services.auth_gateway.records import Certificate, RequestIdReusedError, TooManyAuthenticationsError
from tests.auth_gateway.fakes import (
    APPLICATION,
    NOBODYS_IIN,
    PHOTO_JWE,
    refusal,
    unavailable,
)
from tests.auth_gateway.room import DOCUMENTS, PAGE_URI, Room, ask_of
from tests.bundles import IIN, PHONE, POLICY, digest_of

pytestmark = pytest.mark.postgres


async def identify(room: Room, ask: Ask) -> str:
    return await room.creation.identify(ask, ("name",))


async def issue(room: Room, ask: Ask) -> str:
    return await room.creation.issue(ask, "individual-sign")


async def sign(room: Room, ask: Ask) -> str:
    return await room.creation.sign(ask, "certificates/00", DOCUMENTS)


Create = Callable[[Room, Ask], Awaitable[str]]
CREATES: dict[Purpose, Create] = {Purpose.IDENTIFY: identify, Purpose.ISSUE: issue, Purpose.SIGN: sign}


async def test_identify_fixes_a_transaction_that_says_what_was_asked(room: Room) -> None:
    item = await room.identify(ask_of(language=Language.KK), ("name", "birth_date"))
    asked = item.transaction
    assert item.state is State.AWAITING_CONSENTS
    assert (asked.authentication, asked.application, asked.application_title) == (item.name, APPLICATION, "Демо Банк")
    assert (asked.purpose, asked.channel, asked.policy) == (Purpose.IDENTIFY, Channel.HOSTED, POLICY)
    assert asked.scopes == ("name", "birth_date")
    assert (item.openings.iin, item.openings.phone) == (IIN, PHONE)
    assert item.openings.iin_commitment() == asked.iin_commitment
    assert item.openings.phone_commitment() == asked.phone_commitment
    assert item.txn == txn_of(item.transaction_bytes)
    assert asked.consents == tuple(text.commitment() for text in item.consents)
    assert {text.id for text in item.consents} == {"personal-data", "biometric-data"}
    assert "Демо Банк ұйымына" in item.consents[0].text
    assert item.receipts.state_record == "state.record.receipt"
    await room.consent(item)
    assert await room.store.photo(item.name) == PHOTO_JWE


async def test_issue_names_a_new_credential(room: Room) -> None:
    asked = (await room.issuing()).transaction
    assert is_name("credentials", asked.credential)
    assert (asked.purpose, asked.profile, asked.key_algorithm) == (Purpose.ISSUE, "individual-sign", "EC_P256")
    assert "cloud-key" in {consent.id for consent in asked.consents}


async def test_sign_names_the_certificate_and_every_document_in_order(room: Room) -> None:
    certificate, another = await room.certificate(), await room.certificate()
    item = await room.signing(certificate=certificate)
    asked = item.transaction
    assert asked.credential == certificate.credential != another.credential
    assert asked.certificate_sha256 == hashlib.sha256(certificate.issued.certificate_der).digest()
    assert [(document.title, document.content_sha256, document.binding) for document in asked.documents] == [
        ("Несие шарты.txt", hashlib.sha256(b"the contract").digest(), Binding.REBUILT),
        ("Annex.pdf", hashlib.sha256(b"%PDF-the annex").digest(), Binding.DIGEST_ONLY),
    ]
    assert [document.digest_sha256 for document in asked.documents] == [
        hashlib.sha256(b"attributes of " + document.content).digest() for document in DOCUMENTS
    ]
    assert 0 <= asked.signing_time - asked.created_at <= 5
    assert (asked.digest_algorithm, asked.signature_algorithm) == ("SHA256", "ECDSA_P256_SHA256")


async def test_an_authentication_lives_a_quarter_of_an_hour_and_begins_within_every_clocks_error(room: Room) -> None:
    item = await room.identify()
    assert item.transaction.expires_at - item.transaction.created_at == 900
    assert (item.created_at, item.expires_at) == (
        datetime.datetime.fromtimestamp(item.transaction.created_at, datetime.UTC),
        datetime.datetime.fromtimestamp(item.transaction.expires_at, datetime.UTC),
    )
    assert item.created_at < room.clock.now()


async def test_two_authentications_of_a_person_have_nothing_in_common_but_the_pseudonym(room: Room) -> None:
    first, second = await room.identify(), await room.identify()
    assert first.subject == second.subject
    assert IIN not in first.subject
    assert first.transaction.iin_commitment != second.transaction.iin_commitment
    assert first.transaction.nonce != second.transaction.nonce
    assert (await room.identify(ask_of(iin=NOBODYS_IIN))).subject != first.subject


@pytest.mark.parametrize(
    ("change", "ask", "error"),
    [
        ({"active": False}, {}, ApplicationNotAllowedError),
        ({"purposes": frozenset()}, {}, ApplicationNotAllowedError),
        ({"channels": frozenset({Channel.STEPS})}, {}, ChannelNotAllowedError),
        ({"policy": "sandbox-lenient"}, {}, ApplicationPolicyUnknownError),
        ({"policy": ""}, {}, ApplicationPolicyUnknownError),
        ({"channels": frozenset({Channel.HOSTED})}, {"channel": Channel.STEPS}, ChannelNotAllowedError),
        ({}, {"redirect_uri": "https://bank.example/return"}, InvalidArgumentError),
        ({}, {"redirect_uri": ""}, InvalidArgumentError),
        ({}, {"code_challenge": ""}, InvalidArgumentError),
    ],
)
@pytest.mark.parametrize("create", CREATES.values(), ids=CREATES.keys())
async def test_an_application_gets_only_what_it_was_granted(
    room: Room, create: Create, change: dict[str, Any], ask: dict[str, Any], error: type[FinIdError]
) -> None:
    room.portal.becomes(**change)
    with pytest.raises(error):
        await create(room, ask_of(**ask))
    assert room.registry.calls == []
    assert room.documents.calls == []


async def test_a_scope_that_was_not_granted_is_refused(room: Room) -> None:
    with pytest.raises(ApplicationNotAllowedError):
        await room.creation.identify(ask_of(), ("name", "document"))
    assert room.registry.calls == []


async def test_both_wrong_fields_of_the_return_are_named(room: Room) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await identify(room, ask_of(redirect_uri="https://elsewhere.example", code_challenge=""))
    assert [item.field for item in refused.value.violations] == ["return_to.redirect_uri", "return_to.code_challenge"]


async def test_other_channels_need_no_return(room: Room) -> None:
    await room.identify(ask_of(channel=Channel.STREAM, redirect_uri="", code_challenge=""))


async def test_a_profile_that_nobody_offers_is_refused_before_the_person_is_asked(room: Room) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await room.creation.issue(ask_of(), "legal-entity-sign")
    assert [item.field for item in refused.value.violations] == ["profile"]
    assert room.registry.calls == []


@pytest.mark.parametrize("create", CREATES.values(), ids=CREATES.keys())
async def test_a_portal_that_is_away_starts_nothing(room: Room, create: Create) -> None:
    room.portal.fails("application", unavailable("portal"))
    with pytest.raises(FinIdError) as refused:
        await create(room, ask_of())
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")


async def test_nobody_signs_with_anothers_certificate(room: Room) -> None:
    certificate = await room.certificate()
    for iin, name in ((NOBODYS_IIN, certificate.name), (IIN, "certificates/00")):
        with pytest.raises(CertificateNotFoundError):
            await room.creation.sign(ask_of(iin=iin), name, DOCUMENTS)
    assert room.documents.calls == []


@pytest.mark.parametrize(
    "lie",
    [
        {"title": "Another title"},
        {"content_sha256": digest_of("another content")},
        {"binding": Binding.DIGEST_ONLY},
        {"binding": Binding.REBUILT},
    ],
)
async def test_what_documents_prepared_is_not_believed(room: Room, lie: dict[str, Any]) -> None:
    certificate = await room.certificate()
    room.documents.lies = lie
    attested = room.registry.calls.count("attest")
    with pytest.raises(PreparedOtherwiseError):
        await room.creation.sign(ask_of(), certificate.name, DOCUMENTS)
    assert room.registry.calls.count("attest") == attested


async def test_documents_vouches_for_the_transaction_before_it_is_stored(room: Room) -> None:
    item = await room.signing()
    operation = await room.store.operation_of(item.name)
    assert operation is not None
    assert room.documents.vouched == {operation.preparation: item.transaction_bytes}
    assert item.receipts == Receipts(preparation="preparation.receipt", state_record="state.record.receipt")


async def test_what_documents_does_not_vouch_for_is_not_started(room: Room) -> None:
    certificate = await room.certificate()
    room.documents.fails("vouch", refusal("documents", Code.PERMISSION_DENIED, "TRANSACTION_OF_OTHER_DOCUMENTS"))
    attested = room.registry.calls.count("attest")
    with pytest.raises(DependencyUnavailableError):  # a part is hostile or broken: which one is not the bank's to know
        await room.creation.sign(ask_of(), certificate.name, DOCUMENTS)
    assert room.registry.calls.count("attest") == attested


async def test_a_refusal_of_documents_leaves_with_its_reason_and_fields(room: Room) -> None:
    certificate = await room.certificate()
    room.documents.fails("prepare", refusal("documents", Code.INVALID_ARGUMENT, "PDF_ENCRYPTED", "It is encrypted."))
    with pytest.raises(StepRefusedError) as refused:
        await room.creation.sign(ask_of(), certificate.name, DOCUMENTS)
    assert (refused.value.code, refused.value.reason, refused.value.message) == (
        Code.INVALID_ARGUMENT,
        "PDF_ENCRYPTED",
        "It is encrypted.",
    )


@pytest.mark.parametrize("create", [identify, issue], ids=["identify", "issue"])
async def test_a_repeat_returns_the_first_and_makes_nothing(room: Room, create: Create) -> None:
    ask = ask_of()
    first = await create(room, ask)
    attested = len(room.registry.calls)
    room.portal.becomes(active=False)
    assert await create(room, ask) == first
    assert len(room.registry.calls) == attested


async def test_a_suspended_application_starts_nothing_and_what_it_started_before_goes_on_until_its_own_end(
    room: Room,
) -> None:
    certificate = await room.certificate()
    signing, left = await room.signing(certificate=certificate), await room.identify()
    room.portal.becomes(active=False)
    for start in (
        room.creation.identify(ask_of(), ()),
        room.creation.issue(ask_of(), "individual-sign"),
        room.creation.sign(ask_of(), certificate.name, DOCUMENTS),
        room.creation.revoke(ask_of(), certificate.name, "keyCompromise"),
    ):
        with pytest.raises(ApplicationNotAllowedError):
            await start
    assert (await room.walk(signing, State.FINISHED)).verdict is Verdict.SUCCESS
    room.clock.pass_by(15 * 60)
    await room.completion.resume_once()
    assert (await room.get(left.name)).state is State.EXPIRED


async def test_a_repeat_has_the_same_link(room: Room) -> None:
    item = await room.identify()
    uri = room.links.uri(item.name)
    other_process = CaptureLinks(derive(room.key, "capture-link"), PAGE_URI)
    assert other_process.uri(item.name) == uri
    token = uri.removeprefix(f"{PAGE_URI}#")
    assert await room.results.open_capture(token, capture.new_secret()) == item.name


@pytest.mark.parametrize("create", [identify, issue], ids=["identify", "issue"])
async def test_another_body_under_the_same_request_id_is_refused(room: Room, create: Create) -> None:
    ask = ask_of()
    await create(room, ask)
    changed = replace(ask, request=replace(ask.request, digest=digest_of("another body")))
    with pytest.raises(RequestIdReusedError):
        await create(room, changed)


async def test_repeats_that_come_at_once_make_one(room: Room) -> None:
    ask = ask_of()
    names = await asyncio.gather(*(identify(room, ask) for _ in range(5)))
    assert len(set(names)) == 1


async def test_a_person_has_five_open_authentications_at_most_over_all_applications(room: Room) -> None:
    items = [await room.identify() for _ in range(4)]
    items.append(await room.issuing())
    for create in (identify, issue):
        with pytest.raises(TooManyAuthenticationsError):
            await create(room, ask_of(application="applications/" + "b" * 26))
    await room.identify(ask_of(iin=NOBODYS_IIN))
    await room.flow.cancel(items[0])
    await room.identify()


async def test_what_has_run_out_is_not_open(room: Room) -> None:
    for _ in range(5):
        await room.identify()
    room.clock.pass_by(901)
    await room.identify()


async def test_too_many_inquiries_about_somebody_are_said_so(room: Room) -> None:
    for iin in (IIN, NOBODYS_IIN):
        room.registry.fails("attest", refusal("registry", Code.RESOURCE_EXHAUSTED, "INQUIRY_LIMIT", retry_after_s=60))
        with pytest.raises(StepRefusedError) as refused:
            await identify(room, ask_of(iin=iin))
        assert (refused.value.code, refused.value.reason) == (Code.RESOURCE_EXHAUSTED, "INQUIRY_LIMIT")
        assert refused.value.retry_after_s == 60


STARTED: dict[str, tuple[frozenset[str], Callable[[Room, Certificate], Awaitable[Authentication]]]] = {
    "SIGN": (frozenset({"ACTIVE"}), lambda room, certificate: room.signing(certificate=certificate)),
    "REISSUE": (frozenset({"ACTIVE"}), lambda room, certificate: room.reissuing(certificate)),
    "SUSPEND": (frozenset({"ACTIVE", "SUSPENDED"}), lambda room, certificate: room.suspending(certificate)),
    "REVOKE": (frozenset({"ACTIVE", "SUSPENDED", "REVOKED"}), lambda room, certificate: room.revoking(certificate)),
}


@pytest.mark.parametrize("state", ["ACTIVE", "SUSPENDED", "REVOKED"])
@pytest.mark.parametrize("purpose", STARTED)
async def test_nobody_shows_their_face_for_what_the_certificates_state_forbids(
    room: Room, purpose: str, state: str
) -> None:
    allowed, start = STARTED[purpose]
    certificate = await room.certificate()
    room.signer.states[certificate.credential] = state
    if state in allowed:
        assert (await start(room, certificate)).purpose.value == purpose
        return
    with pytest.raises(CertificateStateError) as refused:
        await start(room, certificate)
    assert refused.value.metadata == {"state": state}


@pytest.mark.parametrize("state", ["ACTIVE", "REVOKED"])
async def test_only_a_suspended_certificate_is_resumed(room: Room, state: str) -> None:
    certificate = await room.certificate()
    room.signer.states[certificate.credential] = state
    with pytest.raises(CertificateStateError):
        await room.creation.resume(ask_of(), certificate.name)
    assert (await room.resuming(certificate)).purpose.value == "RESUME"
