"""What Twilio reports of an SMS: believed for its signature alone, and only when it is news."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local import database as local
from mesh import postgres
from mesh.names import new_id
from services.otp.reports import Report, ReportRefusedError, Reports
from services.otp.sends import SendState
from services.otp.sms import TwilioReports
from tests.otp.sms import Clock
from tests.otp.test_sends import HELD, NOW, REFERENCE, Room, made, room, row_of

__all__ = ["made", "room"]  # fixtures

TOKEN, ACCOUNT = "the account's auth token", "AC" + "1" * 32
URL = "https://api.finid.example/v1/sms/twilio/status"
CHALLENGE = "a" * 26


def form(status: str = "delivered", **changed: str) -> dict[str, str]:
    """A status callback, as Twilio's documentation shows it."""
    return {
        "SmsSid": REFERENCE,
        "SmsStatus": status,
        "MessageStatus": status,
        "To": "+77010000001",
        "MessageSid": REFERENCE,
        "AccountSid": ACCOUNT,
        "From": "FinID",
        "ApiVersion": "2010-04-01",
    } | changed


def signature_of(fields: dict[str, str], url: str = f"{URL}/{CHALLENGE}", token: str = TOKEN) -> str:
    """HMAC-SHA1 as https://www.twilio.com/docs/usage/webhooks/webhooks-security says, not as the library does it."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), hashlib.sha1)).decode()


def reader(url: str = URL) -> TwilioReports:
    return TwilioReports(name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, status_url=url)


def test_twilios_own_example_verifies() -> None:
    """The worked example of Twilio's documentation: its address, form, token and signature."""
    example = TwilioReports(
        name="twilio", account_sid="", auth_token="12345", status_url="https://example.com/myapp.php?foo=1&bar=2#"
    )
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    address = "https://example.com/myapp.php?foo=1&bar=2"
    assert example._is_signed(address, fields, "L/OH5YylLD5NRKLltdqwSvS0BnU=")
    assert not example._is_signed(address, fields | {"Digits": "1235"}, "L/OH5YylLD5NRKLltdqwSvS0BnU=")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("accepted", None),
        ("queued", None),
        ("sending", None),
        ("sent", SendState.SENT),
        ("delivered", SendState.DELIVERED),
        ("read", SendState.DELIVERED),
        ("undelivered", SendState.UNDELIVERED),
        ("failed", SendState.UNDELIVERED),
        ("canceled", SendState.UNDELIVERED),
        ("something new", None),
    ],
)
def test_what_a_signed_callback_says(status: str, state: SendState | None) -> None:
    fields = form(status)
    read = reader().read(CHALLENGE, signature_of(fields), urlencode(fields).encode())
    assert read == Report("twilio", REFERENCE, state)


@pytest.mark.parametrize("port", ["", ":443"])
def test_the_address_may_be_signed_with_its_port_or_without(port: str) -> None:
    fields = form()
    signed = signature_of(fields, f"https://api.finid.example{port}/v1/sms/twilio/status/{CHALLENGE}")
    assert reader().read(CHALLENGE, signed, urlencode(fields).encode())


GOOD = form()
FORGERIES: dict[str, tuple[str, str, bytes]] = {
    "no signature": (CHALLENGE, "", urlencode(GOOD).encode()),
    "another account's token": (CHALLENGE, signature_of(GOOD, token="guess"), urlencode(GOOD).encode()),
    "another status under an old signature": (CHALLENGE, signature_of(GOOD), urlencode(form("failed")).encode()),
    "for another sms": ("b" * 26, signature_of(GOOD), urlencode(GOOD).encode()),
    "for another address": (CHALLENGE, signature_of(GOOD, "https://evil.example/x"), urlencode(GOOD).encode()),
    "of another account": (
        CHALLENGE,
        signature_of(form(AccountSid="AC" + "2" * 32)),
        urlencode(form(AccountSid="AC" + "2" * 32)).encode(),
    ),
    "a field twice": (CHALLENGE, signature_of(GOOD), urlencode(GOOD).encode() + b"&MessageStatus=delivered"),
    "a field more": (CHALLENGE, signature_of(GOOD), urlencode(GOOD | {"More": ""}).encode()),
    "no form": (CHALLENGE, signature_of(GOOD), b"\xff\xfe"),
    "too many fields": (CHALLENGE, signature_of(GOOD), urlencode({f"f{n}": "" for n in range(99)}).encode()),
    "a signature of letters outside ascii": (CHALLENGE, "подпись", urlencode(GOOD).encode()),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_callback_says_nothing(forgery: str) -> None:
    challenge, signature, body = FORGERIES[forgery]
    assert reader().read(challenge, signature, body) is None


@given(st.binary(max_size=300), st.text(max_size=60))
def test_no_bytes_and_no_signature_upset_the_reader(body: bytes, signature: str) -> None:
    assert reader().read(CHALLENGE, signature, body) is None


@dataclass
class Reported:
    """An SMS that Twilio took, and the reports of it."""

    room: Room
    made: local.Database
    challenge: str = field(default="")

    async def take(self, status: str, **changed: str) -> str:
        fields = form(status, **changed)
        signed = signature_of(fields, f"{URL}/{self.challenge}")
        reports = Reports(self.room.sends, [reader()], Clock().now)
        await reports.take("twilio", self.challenge, signed, urlencode(fields).encode())
        return str(row_of(self.made, self.challenge)["state"])


@pytest.fixture
async def reported(room: Room, made: local.Database) -> Reported:
    item = await room.record("reported")
    await room.sends.take(item.challenge, NOW, HELD)
    return Reported(room, made, item.challenge)


@pytest.mark.postgres
async def test_reports_in_any_order_and_number_end_where_the_sms_ended(reported: Reported) -> None:
    await reported.room.sends.answer(reported.challenge, SendState.SENT, "twilio", REFERENCE, NOW)
    for status in ("queued", "sent", "delivered", "sent", "delivered", "failed", "undelivered"):
        state = await reported.take(status)
    assert state == SendState.DELIVERED


@pytest.mark.postgres
async def test_a_report_that_overtakes_the_answer_is_kept(reported: Reported) -> None:
    assert await reported.take("delivered") == SendState.DELIVERED
    await reported.room.sends.answer(reported.challenge, SendState.SENT, "twilio", REFERENCE, NOW)
    assert row_of(reported.made, reported.challenge)["state"] == SendState.DELIVERED


@pytest.mark.postgres
async def test_a_report_tells_what_an_answer_that_got_lost_was(reported: Reported) -> None:
    await reported.room.sends.answer(reported.challenge, SendState.UNKNOWN, "twilio", "", NOW)
    assert await reported.take("sent") == SendState.SENT
    assert await reported.take("undelivered") == SendState.UNDELIVERED


@pytest.mark.postgres
async def test_a_signed_report_about_another_message_changes_nothing(reported: Reported) -> None:
    await reported.room.sends.answer(reported.challenge, SendState.SENT, "twilio", REFERENCE, NOW)
    assert await reported.take("failed", MessageSid="SM2") == SendState.SENT


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["twilio", "another"])
async def test_what_no_provider_signed_is_refused_and_changes_nothing(
    room: Room, made: local.Database, kind: str
) -> None:
    item = await room.record("forged")
    before = row_of(made, item.challenge)
    with pytest.raises(ReportRefusedError):
        await Reports(room.sends, [reader()], Clock().now).take(
            kind, item.challenge, signature_of(GOOD) if kind == "another" else "forged", urlencode(GOOD).encode()
        )
    assert row_of(made, item.challenge) == before


@pytest.mark.postgres
async def test_a_report_about_no_sms_of_ours_changes_nothing(
    database: Callable[..., local.Database],
) -> None:
    opened = await postgres.Database.open(database("otp").url("otp"), service="test")
    unknown, fields = new_id(), form()
    await Reports(Room(opened).sends, [reader()], Clock().now).take(
        "twilio", unknown, signature_of(fields, f"{URL}/{unknown}"), urlencode(fields).encode()
    )
    await opened.close()
