"""Strings of the formats that the API's description names, where a pattern does not say enough; loaded by import."""

import schemathesis
from hypothesis import strategies as st

from services.registry.iin import LENGTH, check_digit


def _checked(first_eleven: int) -> str:
    """An IIN; shorter where none is given out."""
    digits = f"{first_eleven:011d}"
    last = check_digit(digits)
    return digits if last is None else f"{digits}{last}"


_IINS = st.integers(0, 10**11 - 1).map(_checked).filter(lambda iin: len(iin) == LENGTH)
schemathesis.openapi.format("iin", _IINS)
schemathesis.openapi.format("uri", st.from_regex(r"https://[a-z]{1,20}\.example/[a-z0-9]{0,20}", fullmatch=True))
