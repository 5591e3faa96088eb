"""The hosted page's credentials: link, cookie, redirect, PKCE."""

import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import base64url
from services.auth_gateway import capture
from services.auth_gateway.capture import COOKIE, CaptureLinks, CaptureSessionInvalidError
from tests.bundles import digest_of

NAME = "authentications/" + "a" * 26
SECRET = "s" * 43
OURS = f"{COOKIE}={'a' * 26}.{SECRET}"
LINKS = CaptureLinks(digest_of("key"), "https://id.example/capture")


def test_a_link_has_its_token_in_the_fragment_and_no_name() -> None:
    parts = urlsplit(LINKS.uri(NAME))
    assert (parts.scheme, parts.netloc, parts.path, parts.query) == ("https", "id.example", "/capture", "")
    assert parts.fragment == LINKS.token(NAME)
    assert len(base64url.decode(parts.fragment)) == 32
    assert "a" * 26 not in parts.fragment


def test_a_token_follows_from_key_and_name_alone() -> None:
    assert LINKS.token(NAME) == CaptureLinks(digest_of("key"), "https://elsewhere.example").token(NAME)
    assert LINKS.token(NAME) != LINKS.token("authentications/" + "b" * 26)
    assert LINKS.token(NAME) != CaptureLinks(digest_of("another key"), "https://id.example/capture").token(NAME)


def test_only_the_digest_of_a_secret_is_for_the_store() -> None:
    assert capture.token_sha256(SECRET) == capture.secret_sha256(SECRET) == hashlib.sha256(SECRET.encode()).digest()


def test_secrets_have_256_bits_and_none_is_like_another() -> None:
    made = {capture.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64url.decode(secret)) for secret in made} == {32}


def test_the_cookie_goes_to_this_host_over_tls_and_to_no_script_or_other_site() -> None:
    value, *attributes = capture.set_cookie(NAME, SECRET, 900).split("; ")
    assert value == OURS
    assert COOKIE.startswith("__Host-")  # browsers then demand Secure, Path=/ and no Domain (RFC 6265bis, 4.1.3.2)
    assert set(attributes) == {"Path=/", "Max-Age=900", "Secure", "HttpOnly", "SameSite=Strict"}


@pytest.mark.parametrize(
    "header",
    [
        OURS,
        f"theme=dark; {OURS}",
        f"{OURS}; theme=dark",
        f"json=[{{'a'; {OURS}; x=\"",
        f"={OURS[:5]}; ;; {OURS};",
        f"a{OURS}; {OURS}",
        f"  {OURS}  ",
    ],
)
def test_our_cookie_is_read_whatever_stands_beside_it(header: str) -> None:
    assert capture.read_cookie(header) == (NAME, SECRET)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "theme=dark",
        COOKIE,
        f"{COOKIE}=",
        OURS[:-1],
        f"{OURS}x",
        f'{COOKIE}="{"a" * 26}.{SECRET}"',
        OURS.replace("a" * 26, "A" * 26),
        OURS.replace("a" * 26, "../" + "a" * 23),
        OURS.replace(".", ""),
        f"{OURS}\u0000",
        f"{OURS}; {OURS}",
        f"{OURS}; {COOKIE}=another",
        OURS.upper(),
        "x=" + "y" * 9000 + f"; {OURS}",
    ],
)
def test_anything_else_is_no_session(header: str) -> None:
    with pytest.raises(CaptureSessionInvalidError):
        capture.read_cookie(header)


@given(st.text(max_size=200))
def test_no_header_breaks_the_reader(header: str) -> None:
    try:
        name, secret = capture.read_cookie(header)
    except CaptureSessionInvalidError:
        return
    assert name.startswith("authentications/")
    assert len(secret) == 43


@pytest.mark.parametrize(
    ("uri", "state", "expected"),
    [
        ("https://bank.example/return", "", "https://bank.example/return?code=C"),
        ("https://bank.example/return", "s", "https://bank.example/return?code=C&state=s"),
        ("https://bank.example/return?x=1", "s", "https://bank.example/return?x=1&code=C&state=s"),
        ("https://bank.example/return#part", "", "https://bank.example/return?code=C#part"),
        ("kz.bank.app:/return", "s", "kz.bank.app:/return?code=C&state=s"),
        (
            "https://bank.example/return",
            "a&code=evil#x =",
            "https://bank.example/return?code=C&state=a%26code%3Devil%23x+%3D",
        ),
    ],
)
def test_the_redirect_adds_code_and_state_to_the_query(uri: str, state: str, expected: str) -> None:
    assert capture.redirect(uri, "C", state) == expected


@given(st.text(max_size=100))
def test_a_state_comes_back_untouched(state: str) -> None:
    query = parse_qs(urlsplit(capture.redirect("https://bank.example/r", "C", state)).query, keep_blank_values=True)
    assert query["code"] == ["C"]
    assert query.get("state", [""]) == [state]


def test_pkce_holds_for_the_vector_of_rfc_7636_appendix_b() -> None:
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert capture.pkce_holds("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", challenge)
    for wrong in ("", challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"):
        assert not capture.pkce_holds(wrong, challenge)
    assert not capture.pkce_holds("", "")
