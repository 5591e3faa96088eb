"""How many SMS a text is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.transaction import Purpose
from services.otp.segments import count_segments, is_gsm_7
from services.otp.text import Language, render, render_notice
from tests.bundles import document, transaction_of

# Limits of 3GPP TS 23.038 and 23.040.
CASES = [
    ("", 1),
    ("a" * 160, 1),
    ("a" * 161, 2),
    ("a" * 306, 2),
    ("a" * 307, 3),
    ("€" * 80, 1),
    ("€" * 81, 2),
    # 153 septets: an escape sequence does not begin in one SMS and end in the next.
    ("a" * 152 + "€" * 77, 3),
    ("a" * 153 + "€" * 76, 2),
    ("ж" * 70, 1),
    ("ж" * 71, 2),
    ("ж" * 134, 2),
    ("ж" * 135, 3),
    # One letter outside the alphabet, and all are UCS-2.
    ("a" * 70 + "ж", 2),
    ("ç" * 70, 1),
    ("ç" * 71, 2),
    ("Ç" * 160, 1),
    ("😀" * 35, 1),
    ("😀" * 36, 2),
    ("😀" * 67, 3),
]


@pytest.mark.parametrize(("text", "segments"), CASES)
def test_segments(text: str, segments: int) -> None:
    assert count_segments(text) == segments


@given(st.text(max_size=400), st.text(max_size=20))
def test_more_text_is_never_fewer_segments_of_the_same_alphabet(text: str, more: str) -> None:
    if is_gsm_7(text) == is_gsm_7(text + more):
        assert count_segments(text) <= count_segments(text + more)


@given(st.text(st.sampled_from("ab€^\n"), max_size=400))
def test_a_gsm_text_has_room_for_its_septets(text: str) -> None:
    septets = len(text) + sum(text.count(character) for character in "€^")
    segments = count_segments(text)
    assert septets <= (160 if segments == 1 else 153 * segments)
    assert segments == 1 or septets > 160


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("purpose", Purpose)
def test_the_longest_text_with_the_longest_usual_origin_is_five_sms(language: Language, purpose: Purpose) -> None:
    transaction = transaction_of(purpose)
    object.__setattr__(transaction, "application_title", "Ж" * 60)
    if purpose is Purpose.SIGN:
        object.__setattr__(transaction, "documents", tuple(document("Ж" * 60) for _ in range(100)))
    assert count_segments(render(transaction, language, "123456", "o" * 40 + ".example.kz")) <= 5
    assert count_segments(render_notice(transaction, language)) <= 5
