"""Resource names and the random identifiers in them."""

import base64
import re
import secrets

_ID_BYTES = 16
_ID = re.compile(r"[a-z2-7]{26}")


def new_id() -> str:
    """Return 128 random bits as 26 characters of lower-case base32 (RFC 4648), for a name, a jti or a key."""
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode("ascii").rstrip("=").lower()


def is_id(value: str) -> bool:
    """Tell whether `value` is an identifier of the shape `new_id` makes."""
    return _ID.fullmatch(value) is not None


def is_name(collection: str, value: str) -> bool:
    """Tell whether `value` is `{collection}/{id}`."""
    head, slash, tail = value.partition("/")
    return head == collection and slash == "/" and is_id(tail)
