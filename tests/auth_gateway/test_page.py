"""CaptureService over the wire: a link once, a cookie, and nothing without it."""

from datetime import UTC

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page

from mesh.transaction import Channel
from services.auth_gateway.capture import COOKIE
from tests.auth_gateway.edge import Edge, Metadata, refused, told
from tests.auth_gateway.fakes import CODE
from tests.auth_gateway.room import PAGE_URI, ask_of
from tests.auth_gateway.visits import (
    FRAMES,
    HostedPage,
    create,
)

pytestmark = pytest.mark.postgres

NO_SESSION = ("UNAUTHENTICATED", "CAPTURE_SESSION_INVALID")
NO_LINK = ("UNAUTHENTICATED", "CAPTURE_TOKEN_INVALID")
PAGE_CALLS = {
    "GetCapture": page.GetCaptureRequest(),
    "ViewDocument": page.ViewDocumentRequest(index=0),
    "GiveConsents": page.GiveConsentsRequest(consents=[auth.Consent(id="personal-data", version="1")]),
    "StartLiveness": page.StartLivenessRequest(),
    "SubmitFrames": page.SubmitFramesRequest(frames=FRAMES),
    "SendCode": page.SendCodeRequest(),
    "VerifyCode": page.VerifyCodeRequest(code=CODE),
    "FinishCapture": page.FinishCaptureRequest(),
}


async def test_a_link_opens_the_page_once(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    assert opened.set_cookie.startswith(f"{COOKIE}=")
    assert opened.set_cookie.endswith("; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict")
    assert told(await refused(HostedPage(edge).open(created.capture_uri))) == NO_LINK
    assert told(await refused(HostedPage(edge).open(f"{PAGE_URI}#{'x' * 43}"))) == NO_LINK
    assert await opened.call("GetCapture", page.GetCaptureRequest())


async def test_a_link_of_another_channel_opens_nothing(edge: Edge) -> None:
    item = await edge.room.identify(ask_of(channel=Channel.STEPS))
    assert told(await refused(HostedPage(edge).open(edge.room.links.uri(item.name)))) == NO_LINK


@pytest.mark.parametrize("method", PAGE_CALLS)
async def test_without_its_own_session_the_page_gets_nothing(edge: Edge, method: str) -> None:
    mine, other = HostedPage(edge), HostedPage(edge)
    for opened in (mine, other):
        created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
        await opened.open(created.capture_uri)
    my_id, others_secret = mine.cookie[0][1].partition(".")[0], other.cookie[0][1].partition(".")[2]
    cookies: list[Metadata] = [
        (),
        (("cookie", "theme=dark"),),
        (("cookie", f"{my_id}.{others_secret}"),),
        (("cookie", f"{mine.cookie[0][1]}; {other.cookie[0][1]}"),),
        edge.token(),
        (("set-cookie", mine.cookie[0][1]),),
    ]
    before = {name: await edge.room.get(name) for name in (f"authentications/{my_id.partition('=')[2]}",)}
    for cookie in cookies:
        mine.cookie = cookie
        assert told(await refused(mine.call(method, PAGE_CALLS[method]))) == NO_SESSION
    for name, item in before.items():
        assert await edge.room.get(name) == item


CALLS_AT_THE_END = PAGE_CALLS | {
    "ListMyConsents": page.ListMyConsentsRequest(),
    "ConfirmMatch": page.ConfirmMatchRequest(number="00"),
    "WithdrawConsent": page.WithdrawConsentRequest(name="consents/" + "a" * 26 + "-personal-data"),
}


async def test_a_cookie_that_was_kept_is_worth_nothing_a_quarter_of_an_hour_after_the_end(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.walk(await opened.open(created.capture_uri))
    edge.room.clock.pass_by(15 * 60 - 1)
    # Until then the person sees how it ended, goes back, and withdraws what she agreed to.
    assert (await opened.call("GetCapture", page.GetCaptureRequest())).state == auth.AUTHENTICATION_STATE_FINISHED
    assert (await opened.call("FinishCapture", page.FinishCaptureRequest())).redirect_uri
    listed = await opened.call("ListMyConsents", page.ListMyConsentsRequest())
    assert await opened.call("WithdrawConsent", page.WithdrawConsentRequest(name=listed.consents[0].name))
    edge.room.clock.pass_by(1)
    for method, request in CALLS_AT_THE_END.items():
        assert told(await refused(opened.call(method, request))) == NO_SESSION, method


async def test_a_session_that_nobody_finished_is_over_a_quarter_of_an_hour_after_its_time(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    left_s = created.expire_time.ToDatetime(UTC) - edge.room.clock.now()
    edge.room.clock.pass_by(left_s.total_seconds() + 15 * 60 - 1)
    assert await opened.call("GetCapture", page.GetCaptureRequest())
    edge.room.clock.pass_by(1)
    for method, request in CALLS_AT_THE_END.items():
        assert told(await refused(opened.call(method, request))) == NO_SESSION, method


async def test_a_cookie_that_came_in_parts_is_one(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    opened.cookie = (("cookie", "theme=dark"), *opened.cookie, ("cookie", "a=b"))
    assert (await opened.call("GetCapture", page.GetCaptureRequest())).name == created.name


async def test_a_participants_token_does_not_reach_the_page_and_a_session_not_the_participants_calls(
    edge: Edge,
) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    asked = auth.GetAuthenticationRequest(name=created.name)
    assert told(await refused(edge.finid().GetAuthentication(asked, metadata=opened.cookie)))[0] == "UNAUTHENTICATED"


async def test_nobody_is_sent_back_before_there_is_a_verdict(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    error = await refused(opened.call("FinishCapture", page.FinishCaptureRequest()))
    assert told(error) == ("FAILED_PRECONDITION", "WRONG_STATE")
