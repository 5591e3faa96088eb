"""Reading token requests: RFC 6749's ways in, and every other way refused."""

import base64
import contextlib
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.portal.client_credentials import GrantRefusedError
from services.portal.token_request import MAX_BODY_BYTES, TokenRequest, parse

FORM = {"content-type": "application/x-www-form-urlencoded"}
GOOD = {"grant_type": "client_credentials", "client_id": "bank", "client_secret": "secret"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    joined = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return FORM | {"authorization": f"Basic {base64.b64encode(joined.encode()).decode()}"}


def test_client_secret_post() -> None:
    assert parse(FORM, urlencode(GOOD | {"scope": "finid esign"}).encode()) == TokenRequest(
        "bank", "secret", "finid esign"
    )


def test_client_secret_basic() -> None:
    assert parse(basic("bank", "secret"), b"grant_type=client_credentials") == TokenRequest("bank", "secret", "")


_visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


@given(_visible, _visible)
def test_both_ways_carry_whatever_a_credential_may_be(client_id: str, secret: str) -> None:
    expected = TokenRequest(client_id, secret, "")
    body = urlencode({"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret})
    assert parse(FORM, body.encode()) == expected
    assert parse(basic(client_id, secret), b"grant_type=client_credentials") == expected


@pytest.mark.parametrize(
    "headers",
    [
        FORM | {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"},
        FORM | {"content-type": "Application/X-WWW-Form-URLEncoded"},
    ],
)
def test_the_media_type_may_have_parameters_and_any_case(headers: dict[str, str]) -> None:
    assert parse(headers, urlencode(GOOD).encode()).client_id == "bank"


REFUSED: list[tuple[dict[str, str], bytes, str]] = [
    ({}, urlencode(GOOD).encode(), "invalid_request"),
    ({"content-type": "application/json"}, b'{"grant_type":"client_credentials"}', "invalid_request"),
    (FORM, b"", "invalid_request"),
    (FORM, b"grant_type", "invalid_request"),
    (FORM, b"\xff\xfe", "invalid_request"),
    (FORM, b"grant_type=client_credentials&client_id=%ff&client_secret=s", "invalid_request"),
    (FORM, urlencode({**GOOD, "grant_type": ""}).encode(), "invalid_request"),
    (FORM, b"client_id=bank&client_secret=secret", "invalid_request"),
    (FORM, urlencode({**GOOD, "grant_type": "password"}).encode(), "unsupported_grant_type"),
    (FORM, urlencode({**GOOD, "grant_type": "Client_Credentials"}).encode(), "unsupported_grant_type"),
    (FORM, urlencode(GOOD).encode() + b"&client_id=other", "invalid_request"),
    (FORM, urlencode(GOOD).encode() + b"&scope=finid&scope=esign", "invalid_request"),
    (FORM, urlencode(GOOD).encode() + b"".join(b"&x%d=1" % n for n in range(20)), "invalid_request"),
    (FORM, b"grant_type=client_credentials", "invalid_client"),
    (FORM, urlencode({**GOOD, "client_secret": ""}).encode(), "invalid_client"),
    (FORM, urlencode({**GOOD, "client_secret": "s" * 257}).encode(), "invalid_client"),
    (FORM, urlencode({**GOOD, "client_id": "банк"}).encode(), "invalid_client"),
    (FORM, urlencode({**GOOD, "client_id": "bank\0"}).encode(), "invalid_client"),
    (basic("bank\n", "secret"), b"grant_type=client_credentials", "invalid_client"),
    (basic("bank", "secret"), urlencode(GOOD).encode(), "invalid_request"),
    (basic("bank", "secret"), b"grant_type=client_credentials&client_id=other", "invalid_request"),
    (FORM | {"authorization": "Bearer token"}, b"grant_type=client_credentials", "invalid_client"),
    (FORM | {"authorization": "Basic"}, b"grant_type=client_credentials", "invalid_client"),
    (FORM | {"authorization": "Basic !!!!"}, b"grant_type=client_credentials", "invalid_client"),
    (FORM | {"authorization": "Basic YmFuaw=="}, b"grant_type=client_credentials", "invalid_client"),
    (FORM | {"authorization": "Basic /////w=="}, b"grant_type=client_credentials", "invalid_client"),
]


@pytest.mark.parametrize(("headers", "body", "error"), REFUSED)
def test_a_request_is_refused(headers: dict[str, str], body: bytes, error: str) -> None:
    with pytest.raises(GrantRefusedError) as refused:
        parse(headers, body)
    assert refused.value.error == error
    assert "secret" not in str(refused.value)


@given(st.binary(max_size=MAX_BODY_BYTES // 16), st.text(max_size=60))
def test_nothing_but_a_refusal_comes_of_noise(body: bytes, authorization: str) -> None:
    for headers in (FORM, FORM | {"authorization": f"Basic {authorization}"}):
        with contextlib.suppress(GrantRefusedError):
            parse(headers, body)


def test_repr_shows_no_secret() -> None:
    assert "secret'" not in repr(parse(FORM, urlencode(GOOD).encode()))
