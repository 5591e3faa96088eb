"""The portal's two paths, as a client of theirs meets them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from mesh.errors import DependencyUnavailableError
from services.portal.access_token import TokenKeys
from services.portal.application import State
from services.portal.client_credentials import Credentials, GrantedToken
from services.portal.web import PortalWeb
from tests.portal.clients import APPLICATION, CLIENT_ID, SECRET, TOKEN_KEY, FakeClients, client_credentials

JWKS = TokenKeys(TOKEN_KEY).jwks()
FORM = {"grant_type": "client_credentials"}
POSTED = {**FORM, "client_id": CLIENT_ID, "client_secret": SECRET}


def client(clients: FakeClients | None = None) -> httpx.AsyncClient:
    app = PortalWeb(client_credentials(clients or FakeClients()), JWKS).app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="https://finid.example")


@pytest.mark.parametrize("basic", [True, False])
async def test_a_client_gets_a_token_that_the_announced_keys_confirm(basic: bool) -> None:
    async with client() as portal:
        if basic:
            answer = await portal.post("/oauth2/token", data=FORM, auth=(CLIENT_ID, SECRET))
        else:
            answer = await portal.post("/oauth2/token", data=POSTED)
        keys = KeySet.import_key_set((await portal.get("/.well-known/jwks.json")).json())
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "finid esign")
    assert jwt.decode(body["access_token"], keys, algorithms=["ES256"]).claims["application"] == APPLICATION.name


@pytest.mark.parametrize(
    ("form", "auth", "status", "error"),
    [
        ({**POSTED, "client_secret": "wrong"}, None, 401, "invalid_client"),
        ({**POSTED, "client_id": "nobody"}, None, 401, "invalid_client"),
        (FORM, (CLIENT_ID, "wrong"), 401, "invalid_client"),
        (FORM, None, 401, "invalid_client"),
        (POSTED, (CLIENT_ID, SECRET), 400, "invalid_request"),
        ({**POSTED, "grant_type": "authorization_code"}, None, 400, "unsupported_grant_type"),
        ({**POSTED, "scope": "admin"}, None, 400, "invalid_scope"),
        ({}, None, 400, "invalid_request"),
    ],
)
async def test_errors_are_those_of_rfc_6749(
    form: dict[str, str], auth: tuple[str, str] | None, status: int, error: str
) -> None:
    async with client() as portal:
        answer = await portal.post("/oauth2/token", data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert SECRET not in answer.text


async def test_who_exists_cannot_be_learnt_from_an_answer() -> None:
    async with client() as portal:
        wrong_secret = await portal.post("/oauth2/token", data={**POSTED, "client_secret": "wrong"})
        nobody = await portal.post("/oauth2/token", data={**POSTED, "client_id": "nobody"})
    assert wrong_secret.content == nobody.content
    assert wrong_secret.headers == nobody.headers


async def test_a_suspended_application_is_told_so() -> None:
    suspended = FakeClients(application=replace(APPLICATION, state=State.SUSPENDED))
    async with client(suspended) as portal:
        answer = await portal.post("/oauth2/token", data=POSTED)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_too_many_failures_from_one_address_have_to_wait() -> None:
    async with client(FakeClients(max_failures=2)) as portal:

        async def attempt(forwarded: str) -> httpx.Response:
            wrong = {**POSTED, "client_secret": "wrong"}
            return await portal.post("/oauth2/token", data=wrong, headers={"x-forwarded-for": forwarded})

        # The last address is Envoy's word; what stands before it is the client's own.
        answers = [await attempt(f"{spoofed}, 198.51.100.9") for spoofed in ("10.0.0.1", "10.0.0.2", "10.0.0.3")]
        elsewhere = await attempt("198.51.100.10")
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[2].headers["retry-after"] == "60"
    assert elsewhere.status_code == 401


async def test_a_body_that_is_too_large_is_refused_before_it_is_all_read() -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * 1024

    async with client() as portal:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await portal.post("/oauth2/token", content=chunks(), headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert read < 20


@dataclass
class Failing:
    error: Exception
    asked: list[Credentials] = field(default_factory=list)

    async def grant(self, credentials: Credentials, scope: str) -> GrantedToken:
        self.asked.append(credentials)
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DependencyUnavailableError("The database does not answer."), 503, "temporarily_unavailable"),
        (RuntimeError(f"a secret: {SECRET}"), 500, "server_error"),
    ],
)
async def test_trouble_inside_is_told_without_its_cause(error: Exception, status: int, told: str) -> None:
    app = PortalWeb(Failing(error), JWKS).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://finid.example") as portal:
        answer = await portal.post("/oauth2/token", data=POSTED)
    assert (answer.status_code, answer.json()["error"]) == (status, told)
    assert str(error) not in answer.text


async def test_keys_may_be_cached_and_asked_for_again_cheaply() -> None:
    async with client() as portal:
        answer = await portal.get("/.well-known/jwks.json")
        again = await portal.get("/.well-known/jwks.json", headers={"if-none-match": answer.headers["etag"]})
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert json.loads(answer.text) == json.loads(JWKS)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda portal: portal.get("/oauth2/token"), 405),
        (lambda portal: portal.post("/.well-known/jwks.json"), 405),
        (lambda portal: portal.get("/"), 404),
        (lambda portal: portal.get("/oauth2/token/"), 404),
    ],
)
async def test_other_paths_and_methods_answer_in_json(
    ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]], status: int
) -> None:
    async with client() as portal:
        answer = await ask(portal)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_description"}
