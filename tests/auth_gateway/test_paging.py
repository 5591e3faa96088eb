"""Page tokens: opaque, of one list only, and nobody else's work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import base64url
from mesh.sealing import Seal
from services.auth_gateway.paging import PageTokenInvalidError, PageTokens
from tests.bundles import digest_of

TOKENS = PageTokens(Seal(digest_of("page tokens")))
LIST = ("authentications", "applications/a", "FINISHED", "")
PLACE = "1767605400000000 authentications/abc"


def test_a_token_leads_back_to_its_place_and_shows_nothing_of_it() -> None:
    token = TOKENS.write(PLACE, *LIST)
    assert TOKENS.read(token, *LIST) == PLACE
    assert b"authentications" not in base64url.decode(token)
    assert TOKENS.write(PLACE, *LIST) != token
    assert len(TOKENS.write("x" * 256, *LIST)) <= 512


def test_the_beginning_and_the_end_are_empty() -> None:
    assert (TOKENS.write("", *LIST), TOKENS.read("", *LIST)) == ("", "")


OTHERS = {
    "another method": ("signatures", *LIST[1:]),
    "another application": (LIST[0], "applications/b", *LIST[2:]),
    "another filter": (*LIST[:2], "CANCELLED", ""),
    "the filter in another field": (*LIST[:2], "", "FINISHED"),
    "no filter": (*LIST[:2], "", ""),
}


@pytest.mark.parametrize("of", OTHERS.values(), ids=OTHERS)
def test_a_token_opens_no_other_list(of: tuple[str, ...]) -> None:
    with pytest.raises(PageTokenInvalidError) as refused:
        TOKENS.read(TOKENS.write(PLACE, *LIST), *of)
    assert [violation.field for violation in refused.value.violations] == ["page_token"]


def test_another_key_makes_no_token_of_ours() -> None:
    with pytest.raises(PageTokenInvalidError):
        TOKENS.read(PageTokens(Seal(digest_of("another key"))).write(PLACE, *LIST), *LIST)


@given(st.data())
def test_no_changed_token_is_taken(data: st.DataObject) -> None:
    raw = bytearray(base64url.decode(TOKENS.write(PLACE, *LIST)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PageTokenInvalidError):
        TOKENS.read(base64url.encode(bytes(raw)), *LIST)


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=512))
def test_nothing_invented_is_a_token(text: str) -> None:
    with pytest.raises(PageTokenInvalidError):
        TOKENS.read(text, *LIST)
