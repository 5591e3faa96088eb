"""SMS through Twilio's own library, against a server that answers as Twilio's API does.

Requests and answers follow the Message resource (https://www.twilio.com/docs/messaging/api/message-resource) and its
errors (https://www.twilio.com/docs/api/errors).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import encode_basic_auth, web

from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.sms import TwilioSms
from tests.ports import free_port

ACCOUNT, KEY, SECRET, SERVICE = "AC" + "1" * 32, "SK" + "2" * 32, "a secret of the api key", "MG" + "3" * 32
PHONE, TEXT = "+77010000001", "FinID: ПОДТВЕРЖДЕНИЕ ЛИЧНОСТИ. Код: 123456"
CREATED = {
    "account_sid": ACCOUNT,
    "api_version": "2010-04-01",
    "body": TEXT,
    "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
    "date_sent": None,
    "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
    "direction": "outbound-api",
    "error_code": None,
    "error_message": None,
    "from": None,
    "messaging_service_sid": SERVICE,
    "num_media": "0",
    "num_segments": "1",
    "price": None,
    "price_unit": None,
    "sid": "SM" + "4" * 32,
    "status": "accepted",
    "subresource_uris": {"media": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM{'4' * 32}/Media.json"},
    "to": PHONE,
    "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM{'4' * 32}.json",
}


@dataclass
class Request:
    method: str
    path: str
    authorization: str
    media_type: str
    form: dict[str, str]


@dataclass
class FakeTwilio:
    """The Message resource on loopback."""

    url: str
    answer: Callable[[], Awaitable[web.StreamResponse]]
    requests: list[Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append(
            Request(request.method, request.path, request.headers["Authorization"], request.content_type, form)
        )
        return await self.answer()

    def fails(self, status: int, code: int) -> None:
        """Answer with an error as Twilio's API spells it."""

        async def answer() -> web.Response:
            body = {
                "code": code,
                "message": f"The 'To' number {PHONE} is wrong",
                "more_info": f"https://www.twilio.com/docs/errors/{code}",
                "status": status,
            }
            return web.json_response(body, status=status)

        self.answer = answer


@pytest.fixture
async def twilio() -> AsyncIterator[FakeTwilio]:
    async def created() -> web.Response:
        return web.json_response(CREATED, status=201)

    port = free_port()
    fake = FakeTwilio(f"http://127.0.0.1:{port}", created)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield fake
    await runner.cleanup()


@pytest.fixture
async def sms(twilio: FakeTwilio) -> AsyncIterator[TwilioSms]:
    provider = provider_at(twilio.url)
    yield provider
    await provider.close()


def provider_at(url: str, timeout_s: float = 30.0) -> TwilioSms:
    return TwilioSms(
        account_sid=ACCOUNT,
        api_key_sid=KEY,
        api_key_secret=SECRET,
        messaging_service_sid=SERVICE,
        base_url=url,
        timeout_s=timeout_s,
    )


async def test_one_message_is_created_with_the_accounts_key(twilio: FakeTwilio, sms: TwilioSms) -> None:
    accepted = await sms.send(PHONE, TEXT, valid_s=300)
    assert accepted.reference == CREATED["sid"]
    (request,) = twilio.requests
    assert (request.method, request.path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
    assert request.authorization == encode_basic_auth(KEY, SECRET)
    assert request.media_type == "application/x-www-form-urlencoded"
    assert request.form == {
        "To": PHONE,
        "Body": TEXT,
        "MessagingServiceSid": SERVICE,
        "ValidityPeriod": "300",
    }


async def test_reports_are_asked_for_under_the_name_of_the_sms(twilio: FakeTwilio) -> None:
    url = "https://api.example.kz/v1/sms/twilio/status"
    provider = TwilioSms(
        account_sid=ACCOUNT,
        api_key_sid=KEY,
        api_key_secret=SECRET,
        messaging_service_sid=SERVICE,
        base_url=twilio.url,
        status_url=url,
    )
    await provider.send(PHONE, TEXT, 300, "a" * 26)
    await provider.send(PHONE, TEXT, 300)
    await provider.close()
    assert [request.form.get("StatusCallback") for request in twilio.requests] == [f"{url}/{'a' * 26}", None]


@pytest.mark.parametrize("code", [21211, 21408, 21610, 21612, 21614])
async def test_a_number_that_takes_no_sms_is_unreachable(twilio: FakeTwilio, sms: TwilioSms, code: int) -> None:
    twilio.fails(400, code)
    with pytest.raises(PhoneUnreachableError) as refused:
        await sms.send(PHONE, TEXT, 300)
    assert PHONE not in str(refused.value)
    assert refused.value.__cause__ is None  # the library's error quotes the phone


@pytest.mark.parametrize(("status", "code"), [(401, 20003), (403, 20005), (429, 20429), (503, 20503), (400, 21606)])
async def test_a_refusal_that_is_not_the_phones_is_told_as_unavailable(
    twilio: FakeTwilio, sms: TwilioSms, status: int, code: int
) -> None:
    twilio.fails(status, code)
    with pytest.raises(SmsUnavailableError):
        await sms.send(PHONE, TEXT, 300)


@pytest.mark.parametrize(("status", "code"), [(500, 20500), (502, 502), (504, 504)])
async def test_after_a_server_error_the_sms_may_be_on_its_way(
    twilio: FakeTwilio, sms: TwilioSms, status: int, code: int
) -> None:
    twilio.fails(status, code)
    with pytest.raises(DeliveryUnknownError):
        await sms.send(PHONE, TEXT, 300)


async def test_an_answer_that_does_not_come_leaves_delivery_unknown(twilio: FakeTwilio) -> None:
    async def never() -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    twilio.answer = never
    sms = provider_at(twilio.url, timeout_s=2.0)
    with pytest.raises(DeliveryUnknownError):
        await sms.send(PHONE, TEXT, 300)
    await sms.close()


@pytest.mark.parametrize("body", ["", "<html>", "{}", "[]", '{"sid": null}'])
async def test_an_answer_nobody_understands_leaves_delivery_unknown(
    twilio: FakeTwilio, sms: TwilioSms, body: str
) -> None:
    async def odd() -> web.Response:
        return web.Response(text=body, status=201)

    twilio.answer = odd
    with pytest.raises(DeliveryUnknownError):
        await sms.send(PHONE, TEXT, 300)


async def test_redirects_are_not_followed(twilio: FakeTwilio, sms: TwilioSms) -> None:
    async def elsewhere() -> web.Response:
        return web.Response(status=307, headers={"Location": f"{twilio.url}/elsewhere"})

    twilio.answer = elsewhere
    with pytest.raises(SmsUnavailableError):
        await sms.send(PHONE, TEXT, 300)
    assert len(twilio.requests) == 1


async def test_a_provider_that_is_away_took_nothing() -> None:
    provider = provider_at(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SmsUnavailableError):
        await provider.send(PHONE, TEXT, 300)
    await provider.close()


async def test_phone_text_and_secret_reach_no_log_and_do_not_stay_in_memory(
    twilio: FakeTwilio, sms: TwilioSms, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await sms.send(PHONE, TEXT, 300)
    assert not any(value in caplog.text for value in (PHONE, "123456", SECRET, ACCOUNT))
    kept = repr(vars(sms._http))
    assert PHONE not in kept
    assert "123456" not in kept
