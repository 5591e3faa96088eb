"""SMS through an HTTP gateway described by a template, against a real HTTPS server on loopback."""

import asyncio
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.http_gateway import HttpGateway, HttpTemplate
from tests.mtls import Authority
from tests.ports import free_port

PHONE, TEXT = "+77010000001", "FinID: ҚОЛ ҚОЮ {text} & «x». Код: 123456"


@dataclass
class Gateway:
    """A gateway on loopback, and its clients."""

    url: str
    tls: ssl.SSLContext
    answer: Callable[[], Awaitable[web.StreamResponse]]
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        return await self.answer()

    def says(self, text: str, status: int = 200) -> None:
        async def answer() -> web.Response:
            return web.Response(text=text, status=status, headers={"Location": f"{self.url}/elsewhere"})

        self.answer = answer

    def provider(self, timeout_s: float = 20.0, **template: Any) -> HttpGateway:
        told: dict[str, Any] = {
            "url": f"{self.url}/send",
            "fields": {"login": "finid", "psw": "s3cret", "phones": "{phone_digits}", "mes": "{text}", "id": "{name}"},
            "taken": re.compile(r'"id"\s*:'),
            "refused": re.compile(r'"error_code"\s*:\s*[1-69]\b'),
            "unreachable": re.compile(r'"error_code"\s*:\s*[78]\b'),
            "reference": ("id",),
        } | template
        return HttpGateway("smsc_kz", HttpTemplate(**told), self.tls, timeout_s=timeout_s)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("otp")
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate, key)
    client_tls = ssl.create_default_context(cafile=authority.root_file)
    client_tls.check_hostname = False  # the mesh's certificates name no address; who answers is not what is tried here
    port = free_port()
    made = Gateway(f"https://127.0.0.1:{port}", client_tls, web.Response)  # type: ignore[arg-type]
    made.says('{"id": 7001, "cnt": 4}')
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=server_tls).start()
    yield made
    await runner.cleanup()


async def sent(provider: HttpGateway) -> str:
    try:
        return (await provider.send(PHONE, TEXT, 300, "a" * 26)).reference
    finally:
        await provider.close()


async def test_a_form_is_filled_from_the_template(gateway: Gateway) -> None:
    assert await sent(gateway.provider()) == "7001"
    ((method, path, headers, body),) = gateway.requests
    assert (method, path) == ("POST", "/send")
    assert headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    # What is filled in is not read for places again: the text's own braces stay.
    assert parse_qs(body.decode()) == {
        "login": ["finid"],
        "psw": ["s3cret"],
        "phones": ["77010000001"],
        "mes": [TEXT],
        "id": ["a" * 26],
    }


async def test_a_json_body_and_headers(gateway: Gateway) -> None:
    gateway.says('{"data": {"messages": [{"messageId": "m-1"}]}}')
    provider = gateway.provider(
        body="json",
        fields={"recipient": "{phone}", "text": "{text}", "ttl": "{valid_s}"},
        headers={"Authorization": "Bearer t0ken"},
        taken=None,
        reference=("data", "messages", "0", "messageId"),
    )
    assert await sent(provider) == "m-1"
    ((_, _, headers, body),) = gateway.requests
    assert headers["Authorization"] == "Bearer t0ken"
    assert json.loads(body) == {"recipient": PHONE, "text": TEXT, "ttl": "300"}


@pytest.mark.parametrize("body", ['{"id": null}', '{"id": [1]}', '{"id": true}', '"id": no json', '{"cnt": 1, "x-id":'])
async def test_a_name_that_cannot_be_read_is_no_failure(gateway: Gateway, body: str) -> None:
    gateway.says(body)
    assert await sent(gateway.provider(taken=None)) == ""


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, '{"error": "auth", "error_code": 2}', SmsUnavailableError),
        (200, '{"error": "no such number", "error_code": 7}', PhoneUnreachableError),
        (400, '{"error_code": 8}', PhoneUnreachableError),
        (401, "", SmsUnavailableError),
        (429, "", SmsUnavailableError),
        (503, "", SmsUnavailableError),
        (302, "", SmsUnavailableError),
        (307, "", SmsUnavailableError),
        # Nobody knows what these did.
        (200, "<html>", DeliveryUnknownError),
        (200, "", DeliveryUnknownError),
        (500, '{"id": 1}', DeliveryUnknownError),
        (502, "", DeliveryUnknownError),
        (200, "x" * 70_000, DeliveryUnknownError),
    ],
)
async def test_what_a_gateway_did_not_take_is_told_from_what_it_may_have(
    gateway: Gateway, status: int, body: str, error: type[Exception]
) -> None:
    gateway.says(body, status)
    with pytest.raises(error) as refused:
        await sent(gateway.provider())
    assert "7701" not in str(refused.value)
    assert len(gateway.requests) == 1, "redirects are not followed, and nothing is sent again"


async def test_an_answer_that_does_not_come_leaves_delivery_unknown(gateway: Gateway) -> None:
    async def never() -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    gateway.answer = never
    with pytest.raises(DeliveryUnknownError):
        await sent(gateway.provider(timeout_s=2.0))


async def test_a_gateway_that_is_away_or_shows_another_certificate_took_nothing(gateway: Gateway) -> None:
    away = HttpTemplate(url=f"https://127.0.0.1:{free_port()}/send", fields={})
    with pytest.raises(SmsUnavailableError):
        await sent(HttpGateway("away", away, gateway.tls, 5.0))
    stranger = HttpTemplate(url=f"{gateway.url}/send", fields={})
    with pytest.raises(SmsUnavailableError):
        await sent(HttpGateway("stranger", stranger, ssl.create_default_context(), 5.0))
    assert gateway.requests == []


async def test_neither_sms_nor_secret_reaches_a_log_or_a_representation(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    template = HttpTemplate(url=f"{gateway.url}/send", fields={"psw": "s3cret"}, headers={"Authorization": "t0ken"})
    with caplog.at_level(logging.DEBUG):
        await sent(HttpGateway("quiet", template, gateway.tls, 5.0))
    for value in (PHONE, "123456", "s3cret", "t0ken"):
        assert value not in caplog.text
        assert value not in repr(template)


@pytest.mark.parametrize(
    ("url", "fields"),
    [("http://gateway.example/send", {}), ("https://gateway.example/send", {"to": "{phon}"})],
)
def test_a_template_that_cannot_be_is_refused(url: str, fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"https|no such place"):
        HttpTemplate(url=url, fields=fields)
