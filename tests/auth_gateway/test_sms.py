"""SmsReportService over the wire: what a provider reports goes to otp as it came, and nothing is believed here."""

import pytest
from finid.sms.v1 import sms_pb2 as pb
from google.api.httpbody_pb2 import HttpBody

from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import unavailable

pytestmark = pytest.mark.postgres

FORM = "application/x-www-form-urlencoded"
CHALLENGE, BODY = "a" * 26, b"MessageStatus=delivered"
SIGNED = (("x-twilio-signature", "c2lnbmVk"),)


def report(data: bytes = BODY, media_type: str = FORM, challenge: str = CHALLENGE) -> pb.ReportTwilioStatusRequest:
    return pb.ReportTwilioStatusRequest(challenge=challenge, form=HttpBody(content_type=media_type, data=data))


async def test_a_report_needs_no_token_and_goes_on_as_it_came(edge: Edge) -> None:
    answer = await edge.sms().ReportTwilioStatus(report(media_type=f"{FORM}; charset=UTF-8"), metadata=SIGNED)
    assert answer.data == b""
    assert edge.room.otp.reports == [("twilio", CHALLENGE, "c2lnbmVk", BODY)]


@pytest.mark.parametrize(
    ("request_", "metadata", "reason"),
    [
        (report(), (), "SMS_REPORT_INVALID"),
        (report(b""), SIGNED, "SMS_REPORT_INVALID"),
        (report(b"x" * 16385), SIGNED, "SMS_REPORT_INVALID"),
        (report(media_type="application/json"), SIGNED, "SMS_REPORT_INVALID"),
        (report(challenge="x"), SIGNED, "INVALID_REQUEST"),
        (report(), (("x-twilio-signature", "forged"),), "SMS_REPORT_REFUSED"),
    ],
)
async def test_what_is_no_report_is_refused(
    edge: Edge, request_: pb.ReportTwilioStatusRequest, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    assert told(await refused(edge.sms().ReportTwilioStatus(request_, metadata=metadata)))[1] == reason
    assert edge.room.otp.reports == []


async def test_an_otp_that_is_away_is_told_as_unavailable(edge: Edge) -> None:
    edge.room.otp.fails("report", unavailable("otp"))
    error = await refused(edge.sms().ReportTwilioStatus(report(), metadata=SIGNED))
    assert told(error) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
