"""The individual identification number (IIN) of Kazakhstan: 12 digits, the last of which checks the others.

Source: rules for forming identification numbers, Government decree N 406 of 22 May 2007. Under them digits 1-6 are the
birth date (YYMMDD), digit 7 the century and sex (1, 2: the 1800s; 3, 4: the 1900s; 5, 6: the 2000s; odd: male), digits
8-11 a serial number. Decree N 853 of 26 August 2013 freed new numbers from the birth date, so a real number may carry
another date or none: only the check digit tells a wrong number, never the date.
"""

from datetime import date

LENGTH = 12
# The check digit is a weighted sum modulo 11. When the first pass gives 10, a second one runs with shifted weights; a
# number for which that gives 10 too is never assigned.
_FIRST_PASS_WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
_SECOND_PASS_WEIGHTS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)
_MODULUS = 11
_NO_CHECK_DIGIT = 10
_CENTURY_BY_DIGIT = {1: 1800, 2: 1800, 3: 1900, 4: 1900, 5: 2000, 6: 2000}


def check_digit(first_eleven: str) -> int | None:
    """Return the check digit of the first eleven digits, or None when no number with them is ever assigned."""
    digits = [int(digit) for digit in first_eleven]
    for weights in (_FIRST_PASS_WEIGHTS, _SECOND_PASS_WEIGHTS):
        remainder = sum(weight * digit for weight, digit in zip(weights, digits, strict=True)) % _MODULUS
        if remainder != _NO_CHECK_DIGIT:
            return remainder
    return None


def is_checksummed(iin: str) -> bool:
    """Tell whether `iin` is 12 ASCII digits with a right check digit. Says nothing of who exists."""
    if len(iin) != LENGTH or not iin.isascii() or not iin.isdigit():
        return False
    return check_digit(iin[:-1]) == int(iin[-1])


def birth_date(iin: str) -> date | None:
    """Return the birth date that the 12 digits of `iin` carry, or None when they carry none."""
    century = _CENTURY_BY_DIGIT.get(int(iin[6]))
    if century is None:
        return None
    try:
        return date(century + int(iin[0:2]), int(iin[2:4]), int(iin[4:6]))
    except ValueError:
        return None
