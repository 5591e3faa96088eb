"""Two devices: who starts a session on one and has a victim finish it on another gains nothing without the number."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page

from mesh import base64url
from mesh.errors import Code
from mesh.status import PeerError
from services.auth_gateway.authentication import State
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import CODE, refusal
from tests.auth_gateway.room import VERIFIER, Room, ask_of
from tests.auth_gateway.visits import (
    HostedPage,
    Stream,
    certificate_of,
    consents,
    create,
    issue,
    read,
    sign,
)

pytestmark = pytest.mark.postgres


async def begun(edge: Edge) -> auth.Authentication:
    """What the bank's server gets for somebody who wants to go on on the phone."""
    created: auth.Authentication = await edge.finid().CreateAuthentication(
        create(cross_device=True), metadata=edge.token()
    )
    return created


def other_than(number: str) -> str:
    return f"{(int(number) + 1) % 100:02}"


async def confirm(opened: HostedPage, number: str) -> auth.Authentication:
    shown: auth.Authentication = await opened.call("ConfirmMatch", page.ConfirmMatchRequest(number=number))
    return shown


async def test_the_whole_way_over_two_devices_is_marked_in_result_and_statement(edge: Edge) -> None:
    created = await begun(edge)
    assert created.cross_device
    assert len(created.match_number) == 2
    phone = HostedPage(edge)
    first = await phone.open(created.capture_uri)
    assert (first.cross_device, first.application_title != "") == (True, True)
    assert not first.consents  # nothing but the question
    confirmed = await confirm(phone, created.match_number)
    assert not confirmed.cross_device
    assert confirmed.consents == created.consents
    code = parse_qs(urlsplit(await phone.walk(confirmed)).query)["code"][0]
    result = await read(edge, created.name, code)
    assert (result.verdict, result.cross_device) == (auth.VERDICT_SUCCESS, True)
    item = await edge.room.get(created.name)
    assert item.cross_device
    assert '"cross_device":"true"' in base64url.decode(result.result_jws.split(".")[1]).decode()


async def test_on_one_device_no_number_is_made_asked_for_or_marked(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    assert (created.cross_device, created.match_number) == (False, "")
    opened = HostedPage(edge)
    shown = await opened.open(created.capture_uri)
    assert not shown.cross_device
    code = parse_qs(urlsplit(await opened.walk(shown)).query)["code"][0]
    assert not (await read(edge, created.name, code)).cross_device


async def test_the_number_is_in_the_answer_to_the_create_call_and_in_no_other(edge: Edge) -> None:
    asked = create(cross_device=True)
    created = await edge.finid().CreateAuthentication(asked, metadata=edge.token())
    again = await edge.finid().CreateAuthentication(asked, metadata=edge.token())
    assert again.match_number == created.match_number
    polled = await edge.finid().GetAuthentication(
        auth.GetAuthenticationRequest(name=created.name), metadata=edge.token()
    )
    opened = HostedPage(edge)
    views = [polled, await opened.open(created.capture_uri), await opened.call("GetCapture", page.GetCaptureRequest())]
    views.append(await confirm(opened, created.match_number))
    assert [view.match_number for view in views] == [""] * 4


async def test_a_link_says_nothing_of_its_number(room: Room) -> None:
    names = [f"authentications/{letter * 26}" for letter in "abcdefghijklmnopqrstuvwxyz234567"]
    numbers = [room.links.match_number(name) for name in names]
    assert len(set(numbers)) > 20  # of 32; they are drawn from a hundred
    assert all(len(number) == 2 and number.isdigit() for number in numbers)


async def test_a_victim_without_the_attackers_screen_gets_nowhere_and_one_guess_ends_it(edge: Edge) -> None:
    """The attacker began at the bank in the victim's name and sent her the link."""
    created = await begun(edge)
    victim = HostedPage(edge)
    shown = await victim.open(created.capture_uri)
    given = page.GiveConsentsRequest(consents=consents(created))
    for method, request in (
        ("GiveConsents", given),
        ("StartLiveness", page.StartLivenessRequest()),
        ("SendCode", page.SendCodeRequest()),
        ("VerifyCode", page.VerifyCodeRequest(code=CODE)),
        ("FinishCapture", page.FinishCaptureRequest()),
    ):
        error = await refused(victim.call(method, request))
        assert told(error)[0] == "FAILED_PRECONDITION"
    assert told(await refused(victim.call("GiveConsents", given))) == ("FAILED_PRECONDITION", "NUMBER_DUE")
    assert shown.match_number == ""
    assert edge.room.liveness.calls == []
    assert told(await refused(confirm(victim, other_than(created.match_number)))) == (
        "FAILED_PRECONDITION",
        "NUMBER_WRONG",
    )
    error = await refused(confirm(victim, created.match_number))  # the right one comes too late
    assert (told(error), error.metadata) == (("FAILED_PRECONDITION", "WRONG_STATE"), {"state": "FINISHED"})
    finished = await victim.call("FinishCapture", page.FinishCaptureRequest())
    code = parse_qs(urlsplit(finished.redirect_uri).query)["code"][0]
    result = await read(edge, created.name, code)
    assert (result.verdict, result.reason) == (auth.VERDICT_FAILURE, "NUMBER_NOT_MATCHED")
    assert not result.HasField("person")


async def test_a_hundred_guesses_at_once_are_worth_one(room: Room) -> None:
    item = await room.identify(ask_of(cross_device=True))
    shown = room.links.match_number(item.name)
    guesses = [f"{number:02}" for number in range(100)]
    answers = await asyncio.gather(
        *(room.flow.confirm_match(item, guess, shown) for guess in guesses), return_exceptions=True
    )
    accepted = [answer for answer in answers if not isinstance(answer, Exception)]
    state = (await room.get(item.name)).state
    assert (len(accepted), state) in {(0, State.FINISHED), (1, State.AWAITING_CONSENTS)}


async def test_the_right_number_may_be_sent_again_when_its_answer_was_lost(edge: Edge) -> None:
    created = await begun(edge)
    phone = HostedPage(edge)
    await phone.open(created.capture_uri)
    assert await confirm(phone, created.match_number) == await confirm(phone, created.match_number)


async def test_what_is_no_number_is_refused_and_costs_nothing(edge: Edge) -> None:
    created = await begun(edge)
    phone = HostedPage(edge)
    await phone.open(created.capture_uri)
    for number in ("", "1", "123", "ab", "1 ", "\u0661\u0662"):
        assert told(await refused(confirm(phone, number))) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert (await edge.room.get(created.name)).state is State.AWAITING_CONSENTS


async def test_a_number_after_the_end_of_its_time_is_refused(room: Room) -> None:
    item = await room.identify(ask_of(cross_device=True))
    room.clock.now_is = item.expires_at
    with pytest.raises(Exception, match="time for this authentication is over"):
        await room.flow.confirm_match(item, room.links.match_number(item.name), room.links.match_number(item.name))


async def test_without_a_page_there_are_no_two_devices(edge: Edge) -> None:
    def violated(error: PeerError) -> tuple[str, str]:
        return error.reason, error.violations[0].field

    steps = create(auth.CHANNEL_STEPS, cross_device=True)
    error = await refused(edge.finid().CreateAuthentication(steps, metadata=edge.token()))
    assert violated(error) == ("INVALID_REQUEST", "cross_device")
    error = await Stream(edge).refused(create=create(auth.CHANNEL_STREAM, cross_device=True))
    assert violated(error) == ("INVALID_REQUEST", "cross_device")


async def test_certificates_and_signatures_may_be_begun_on_another_device_too(edge: Edge) -> None:
    order = await edge.esign().IssueCertificate(issue(cross_device=True), metadata=edge.token())
    assert order.authentication.match_number
    certificate = (await certificate_of(edge)).certificate.name
    signature = await edge.esign().CreateSignature(sign(certificate, cross_device=True), metadata=edge.token())
    phone = HostedPage(edge)
    first = await phone.open(signature.authentication.capture_uri)
    assert (list(first.documents), list(first.consents)) == ([], [])
    error = await refused(phone.call("ViewDocument", page.ViewDocumentRequest(index=0)))
    assert told(error) == ("FAILED_PRECONDITION", "NUMBER_DUE")
    confirmed = await confirm(phone, signature.authentication.match_number)
    assert len(confirmed.documents) == 2
    assert (await phone.call("ViewDocument", page.ViewDocumentRequest(index=0))).data == b"the contract"


async def test_polling_shows_a_success_and_a_failure_alike_and_reading_takes_the_persons_code(edge: Edge) -> None:
    """On one device: the attacker began, the victim finished. He has name and link, and even the bank's token."""
    finid, token, looks = edge.finid(), edge.token(), []
    for succeeds in (True, False):
        created = await finid.CreateAuthentication(create(), metadata=token)
        if not succeeds:
            edge.room.registry.fails("release", refusal("registry", Code.PERMISSION_DENIED, "FACTOR_MISSING"))
        victim = HostedPage(edge)
        await victim.walk(await victim.open(created.capture_uri))
        asked = auth.GetAuthenticationRequest(name=created.name)
        polled = await finid.GetAuthentication(asked, metadata=token)
        for name in ("name", "create_time", "expire_time"):
            polled.ClearField(name)
        looks.append(polled)
        for code, verifier in (("", VERIFIER), ("c" * 43, VERIFIER), ("c" * 43, "v" * 43), ("", "")):
            reading = auth.ReadResultRequest(name=created.name, result_code=code, code_verifier=verifier)
            assert told(await refused(finid.ReadResult(reading, metadata=token))) == (
                "PERMISSION_DENIED",
                "RESULT_CODE_INVALID",
            )
        evidence = auth.GetEvidenceRequest(name=created.name)
        assert told(await refused(finid.GetEvidence(evidence, metadata=token)))[1] == "RESULT_NOT_READ"
    assert looks[0] == looks[1]
    assert looks[0].state == auth.AUTHENTICATION_STATE_FINISHED
