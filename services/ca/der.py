"""DER, the little that OCSP and RFC 3161 need: writing fixed structures fast, reading requests strictly (X.690).

Requests come from anybody. The reader takes definite, minimal lengths and one-octet tags only, never looks past what it
was given, and does not recurse: the depth is the caller's.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, ENUMERATED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A
UTF8_STRING, GENERALIZED_TIME, SEQUENCE, SET = 0x0C, 0x18, 0x30, 0x31
_LONG_FORM = 0x80
_MORE_OCTETS = 0x80
_MAX_OID_OCTETS = 64


def context(number: int, *, constructed: bool = True) -> int:
    """The tag [number]."""
    return (0xA0 if constructed else 0x80) | number


class MalformedError(ValueError):
    """The bytes are not the DER that was expected."""


# Writing


def tlv(tag: int, *parts: bytes) -> bytes:
    """Tag, length and the parts one after another."""
    content = b"".join(parts)
    if len(content) < _LONG_FORM:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, _LONG_FORM | len(size))) + size + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE."""
    return tlv(SEQUENCE, *parts)


def set_of(parts: Iterable[bytes], tag: int = SET) -> bytes:
    """SET OF, its elements ascending by their encodings (X.690 section 11.6)."""
    return tlv(tag, *sorted(parts))


def integer(value: int, tag: int = INTEGER) -> bytes:
    """INTEGER of a value that is not negative, or ENUMERATED by its tag."""
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    return tlv(OID, *map(_base_128, (40 * first + second, *others)))


def generalized_time(at: datetime) -> bytes:
    """GeneralizedTime in UTC, whole seconds."""
    return tlv(GENERALIZED_TIME, at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def bit_string(value: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\0", value)


def named_bit(number: int) -> bytes:
    """BIT STRING in which the one bit is set; trailing zero bits are left out (X.690 section 11.2.2)."""
    octets = bytearray(number // 8 + 1)
    octets[-1] = 0x80 >> number % 8
    return tlv(BIT_STRING, bytes([7 - number % 8]), bytes(octets))


def _base_128(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(value & 0x7F | _MORE_OCTETS)
    return bytes(reversed(octets))


# Reading


class Reader:
    """Reads the elements of one constructed value in their order. Every method raises MalformedError."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._content)

    def element(self, tag: int) -> tuple[bytes, bytes]:
        """The next element, which must have this tag: its whole encoding and its content."""
        start = self._at
        if start + 2 > len(self._content) or self._content[start] != tag:
            raise MalformedError(f"an element with tag {tag:#04x} is missing")
        size, body = self._content[start + 1], start + 2
        if size >= _LONG_FORM:
            octets = self._content[body : body + size - _LONG_FORM]
            body += len(octets)
            size = int.from_bytes(octets)
            if not octets or octets[0] == 0 or size < _LONG_FORM:
                raise MalformedError("a length is indefinite or not minimal")
        if body + size > len(self._content):
            raise MalformedError("an element ends beyond its container")
        self._at = body + size
        return self._content[start : self._at], self._content[body : self._at]

    def content(self, tag: int) -> bytes:
        """The content of the next element, which must have this tag."""
        return self.element(tag)[1]

    def inside(self, tag: int) -> "Reader":
        """A reader of the content of the next element, which must have this tag."""
        return Reader(self.content(tag))

    def is_next(self, tag: int) -> bool:
        """Whether the next element has this tag."""
        return self.more and self._content[self._at] == tag

    def integer(self) -> int:
        """INTEGER, in its shortest form."""
        content = self.content(INTEGER)
        padded = len(content) > 1 and (content[0], content[1] >> 7) in {(0x00, 0), (0xFF, 1)}
        if not content or padded:
            raise MalformedError("an INTEGER is not in its shortest form")
        return int.from_bytes(content, signed=True)

    def oid(self) -> str:
        """OBJECT IDENTIFIER, dotted."""
        return _dotted(self.content(OID))

    def boolean(self) -> bool:
        """BOOLEAN, 0x00 or 0xFF."""
        content = self.content(BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise MalformedError("a BOOLEAN is neither 0x00 nor 0xFF")
        return content == b"\xff"

    def end(self) -> None:
        """Require that nothing is left."""
        if self.more:
            raise MalformedError("there is something after the last element")


def _dotted(content: bytes) -> str:
    if len(content) > _MAX_OID_OCTETS:
        raise MalformedError("an OBJECT IDENTIFIER is too long")
    arcs = [0]
    starts = True
    for octet in content:
        if starts and octet == _MORE_OCTETS:
            raise MalformedError("an arc of an OBJECT IDENTIFIER is not in its shortest form")
        arcs[-1] = arcs[-1] << 7 | octet & 0x7F
        starts = octet < _MORE_OCTETS
        if starts:
            arcs.append(0)
    if not content or not starts:
        raise MalformedError("an OBJECT IDENTIFIER is cut off")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:-1])))
