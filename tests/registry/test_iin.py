"""The IIN's check digit and birth date."""

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.registry import iin

_eleven = st.text("0123456789", min_size=11, max_size=11)


@pytest.mark.parametrize("number", ["930514400420", "910208300176", "881119400632"])
def test_numbers_with_their_check_digit_are_checksummed(number: str) -> None:
    assert iin.is_checksummed(number)


@given(_eleven, st.integers(0, 9))
def test_exactly_one_last_digit_is_right(first_eleven: str, digit: int) -> None:
    right = iin.check_digit(first_eleven)
    assume(right is not None)
    assert iin.is_checksummed(f"{first_eleven}{digit}") is (digit == right)


# The eleventh digit has weight 11, which is 0 modulo 11: the rule itself does not check it.
@given(_eleven, st.integers(0, 9), st.integers(1, 9))
def test_the_first_pass_catches_any_single_wrong_digit(first_eleven: str, place: int, added: int) -> None:
    right = iin.check_digit(first_eleven)
    digits = list(first_eleven)
    digits[place] = str((int(digits[place]) + added) % 10)
    sums = [
        sum((index + 1) * int(digit) for index, digit in enumerate(number)) % 11 for number in (first_eleven, digits)
    ]
    assume(10 not in sums)
    assert not iin.is_checksummed(f"{''.join(digits)}{right}")


def test_second_pass_decides_when_the_first_gives_ten() -> None:
    # 1*1 + 9*1 = 10, then 3*1 + 11*1 = 14 = 3 modulo 11.
    assert iin.check_digit("10000000100") == 3


def test_number_whose_both_passes_give_ten_is_never_assigned() -> None:
    never = next(f"{number:011d}" for number in range(10**6) if iin.check_digit(f"{number:011d}") is None)
    assert not any(iin.is_checksummed(f"{never}{digit}") for digit in range(10))


@pytest.mark.parametrize(
    "number",
    ["", "93051440042", "9305144004200", "93051440042a", " 30514400420", "９30514400420", "-93051440042"],
)
def test_anything_but_twelve_ascii_digits_is_not_checksummed(number: str) -> None:
    assert not iin.is_checksummed(number)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("930514400420", date(1993, 5, 14)),
        ("000229600000", date(2000, 2, 29)),
        ("990101100000", date(1899, 1, 1)),
        ("930514000420", None),
        ("930514700420", None),
        ("931314400420", None),
        ("990229400000", None),
    ],
)
def test_birth_date_is_what_the_digits_carry(number: str, expected: date | None) -> None:
    assert iin.birth_date(number) == expected
