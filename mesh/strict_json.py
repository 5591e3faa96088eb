"""Reading JSON that two parsers cannot understand in two ways.

`json.loads` lets the last of two equal keys win, takes NaN, and guesses the encoding of bytes. Here anything but UTF-8
text without duplicate keys, floats and constants is refused, and every field is read by a function that names its type
(none of them takes a null).
"""

import json
from collections.abc import Iterable, Sequence
from typing import Never

from mesh import base64url

# RFC 8785 section 3.2.2.3: integers that a double holds exactly.
_MAX_INTEGER = 2**53 - 1
DIGEST_BYTES = 32


class StrictJsonError(ValueError):
    """The text is not JSON of the expected shape; `field` is the path of what is wrong, '' for the whole."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}" if field else rule)
        self.field = field
        self.rule = rule


def parse(data: bytes, *, max_bytes: int) -> object:
    """Return the value `data` spells: str, int, bool, list or dict, nested.

    Raises StrictJsonError for anything larger than `max_bytes`, not UTF-8, or holding a duplicate key, a float or a
    number JSON does not have.
    """
    if len(data) > max_bytes:
        raise StrictJsonError("", f"is larger than {max_bytes} bytes")
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except StrictJsonError:
        raise
    # RecursionError: brackets nested deeper than the interpreter's stack.
    except (ValueError, RecursionError) as error:
        raise StrictJsonError("", "is not JSON") from error
    return value


def members(value: object, keys: Iterable[str], field: str = "") -> dict[str, object]:
    """Return `value` as an object that has exactly `keys`."""
    if not isinstance(value, dict):
        raise StrictJsonError(field, "must be an object")
    expected = set(keys)
    if unknown := sorted(value.keys() - expected):
        raise StrictJsonError(field, f"has {len(unknown)} unknown fields")
    if missing := sorted(expected - value.keys()):
        raise StrictJsonError(field, f"lacks {', '.join(missing)}")
    return value


def items(value: object, field: str, *, max_items: int) -> Sequence[object]:
    """Return `value` as a list of at most `max_items`."""
    if not isinstance(value, list):
        raise StrictJsonError(field, "must be a list")
    if len(value) > max_items:
        raise StrictJsonError(field, f"must have at most {max_items} items")
    return value


def text(value: object, field: str) -> str:
    """Return `value` as a string."""
    if not isinstance(value, str):
        raise StrictJsonError(field, "must be a string")
    return value


def integer(value: object, field: str) -> int:
    """Return `value` as an integer that a double holds exactly. A boolean is none, though Python says so."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise StrictJsonError(field, "must be an integer")
    if abs(value) > _MAX_INTEGER:
        raise StrictJsonError(field, "must be within 2^53")
    return value


def boolean(value: object, field: str) -> bool:
    """Return `value` as true or false."""
    if not isinstance(value, bool):
        raise StrictJsonError(field, "must be true or false")
    return value


def octets(value: object, field: str) -> bytes:
    """Return the bytes that a base64url string spells."""
    spelling = text(value, field)
    try:
        return base64url.decode(spelling)
    except ValueError as error:
        raise StrictJsonError(field, "must be base64url without padding") from error


def digest(value: object, field: str) -> bytes:
    """Return the 32 bytes that a base64url string spells."""
    data = octets(value, field)
    if len(data) != DIGEST_BYTES:
        raise StrictJsonError(field, f"must be {DIGEST_BYTES} bytes")
    return data


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise StrictJsonError("", "has a key twice")
        found[key] = value
    return found


def _refuse_number(_: str) -> Never:
    raise StrictJsonError("", "has a number that is no integer")
