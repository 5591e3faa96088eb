"""Writing DER (X.690), the little that CMS signatures need: fixed structures around bytes encoded elsewhere."""

from collections.abc import Iterable
from typing import Final

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OID: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
_LONG_FORM: Final = 0x80


def context(number: int) -> int:
    """The constructed tag [number]."""
    return 0xA0 | number


def tlv(tag: int, *parts: bytes) -> bytes:
    """Tag, length and the parts one after another."""
    size = sum(map(len, parts))
    if size < _LONG_FORM:
        return b"".join((bytes((tag, size)), *parts))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return b"".join((bytes((tag, _LONG_FORM | len(length))), length, *parts))


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE."""
    return tlv(SEQUENCE, *parts)


def set_of(parts: Iterable[bytes], tag: int = SET) -> bytes:
    """SET OF, its elements ascending by their encodings (X.690 section 11.6)."""
    return tlv(tag, *sorted(parts))


def integer(value: int) -> bytes:
    """INTEGER of a value that is not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, value)


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    return tlv(OID, *map(_base_128, (40 * first + second, *others)))


def _base_128(value: int) -> bytes:
    octets_ = [value & 0x7F]
    while value := value >> 7:
        octets_.append(0x80 | (value & 0x7F))
    return bytes(reversed(octets_))
