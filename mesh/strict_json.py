"""JSON that two parsers cannot understand in two ways, read straight into frozen dataclasses.

`json.loads` lets the last of two equal keys win, takes NaN, and guesses the encoding of bytes. Here anything but UTF-8
text without duplicate keys, floats, constants and nulls is refused, and the annotations of a dataclass say what else
may stand there: exactly its fields, each of its type. The JSON form of

    str, int, bool          is the same (an int within 2^53, RFC 8785 section 3.2.2.3)
    bytes                   is base64url without padding
    a StrEnum               is its value
    tuple[X, ...]           is a list
    dict[K, X]              is an object whose keys are of the StrEnum K
    another dataclass       is an object
"""

import functools
import json
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Never, TypeVar, cast, get_args, get_origin, get_type_hints

import rfc8785

from mesh import base64url

_MAX_INTEGER = 2**53 - 1

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class StrictJsonError(ValueError):
    """The text is not JSON of the expected shape; `field` is the path of what is wrong, '' for the whole."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}" if field else rule)
        self.field = field
        self.rule = rule


def parse(data: bytes, *, max_bytes: int) -> object:
    """Return the value `data` spells, of dict, list, str, int, bool and None.

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


def read(kind: type[T], value: object, at: str = "") -> T:
    """Return the parsed JSON `value` as an instance of `kind`; `at` is its path in error messages.

    Raises StrictJsonError, or whatever the constructor of a dataclass raises for values it refuses.
    """
    return cast("T", _read(kind, value, at))


def write(value: object) -> object:
    """Return the JSON form of a value that `read` can read."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: write(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): write(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [write(item) for item in value]
    if isinstance(value, bytes):
        return base64url.encode(value)
    return value.value if isinstance(value, StrEnum) else value


def canonical(value: object) -> bytes:
    """Return the one canonical spelling (RFC 8785) of a value's JSON form."""
    form: Any = write(value)
    return rfc8785.dumps(form)


def members(value: object, names: frozenset[str], at: str = "") -> dict[str, object]:
    """Return `value` as an object that has exactly the fields `names`."""
    found = _expect(dict, value, at, "an object")
    # Unknown names are counted, not quoted: they are the sender's text.
    if unknown := found.keys() - names:
        raise StrictJsonError(at, f"has {len(unknown)} unknown fields")
    if missing := names - found.keys():
        raise StrictJsonError(at, f"lacks {', '.join(sorted(missing))}")
    return found


def integer(value: object, at: str) -> int:
    """Return `value` as an integer that a double holds exactly."""
    number = _expect(int, value, at, "an integer")
    if abs(number) > _MAX_INTEGER:
        raise StrictJsonError(at, "must be within 2^53")
    return number


def string(value: object, at: str) -> str:
    """Return `value` as a string."""
    return _expect(str, value, at, "a string")


def octets(value: object, at: str) -> bytes:
    """Return the bytes that a base64url string spells."""
    text = string(value, at)
    try:
        return base64url.decode(text)
    except ValueError as error:
        raise StrictJsonError(at, "must be base64url without padding") from error


def member(kind: type[E], value: object, at: str) -> E:
    """Return the member of `kind` that a string names."""
    text = string(value, at)
    try:
        return kind(text)
    except ValueError as error:
        raise StrictJsonError(at, f"must be one of {', '.join(kind)}") from error


def _read(kind: Any, value: object, at: str) -> object:
    if get_origin(kind) is tuple:
        items = _expect(list, value, at, "a list")
        return tuple(_read(get_args(kind)[0], item, f"{at}[{index}]") for index, item in enumerate(items))
    if get_origin(kind) is dict:
        key_kind, item_kind = get_args(kind)
        found = _expect(dict, value, at, "an object")
        return {member(key_kind, key, at): _read(item_kind, item, f"{at}.{key}") for key, item in found.items()}
    if not hasattr(kind, "__dataclass_fields__"):
        return _read_scalar(kind, value, at)
    hints = _field_types(kind)
    found = members(value, frozenset(hints), at)
    prefix = f"{at}." if at else ""
    return kind(**{name: _read(hint, found[name], prefix + name) for name, hint in hints.items()})


def _read_scalar(kind: Any, value: object, at: str) -> object:
    if kind is str:
        return string(value, at)
    if kind is int:
        return integer(value, at)
    if kind is bool:
        return _expect(bool, value, at, "true or false")
    if kind is bytes:
        return octets(value, at)
    named: StrEnum = member(kind, value, at)
    return named


def _expect(kind: type[T], value: object, at: str, description: str) -> T:
    # By exact type: a Python bool is an int, a JSON one is not.
    if type(value) is not kind:
        raise StrictJsonError(at, f"must be {description}")
    return value


@functools.cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise StrictJsonError("", "has a key twice")
        found[key] = value
    return found


def _refuse_number(_: str) -> Never:
    raise StrictJsonError("", "has a number that is no integer")
