"""How many SMS a text is: what a provider charges for, and what a phone puts together again.

A text within the GSM 7-bit alphabet (3GPP TS 23.038 section 6.2.1) has 160 characters in one SMS and 153 in each of
several, where those of the extension table count twice; any other is UCS-2, 70 and 67 (3GPP TS 23.040 9.2.3.24).
"""

from dataclasses import dataclass
from typing import Final

# In the order of their codes; 0x1B begins an escape sequence.
_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE: Final = 0x1B
_EXTENSION: Final = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}
_GSM_7: Final = {character: bytes([code]) for code, character in enumerate(_BASIC) if code != _ESCAPE} | {
    character: bytes([_ESCAPE, code]) for character, code in _EXTENSION.items()
}


@dataclass(frozen=True, slots=True)
class _Room:
    single: int
    of_several: int


_SEPTETS: Final = _Room(160, 153)
_OCTETS: Final = _Room(140, 134)


def is_gsm_7(text: str) -> bool:
    """Tell whether a text can be sent in the GSM 7-bit alphabet."""
    return all(character in _GSM_7 for character in text)


def segments_of(text: str) -> list[bytes]:
    """Return what each SMS of a text holds: GSM 7-bit, a septet in each byte, or else UCS-2.

    No character is cut in two: an escape sequence or a surrogate pair that does not fit begins the next SMS. An empty
    text is one SMS, too.
    """
    room = _SEPTETS if is_gsm_7(text) else _OCTETS
    characters = [_GSM_7[each] if room is _SEPTETS else each.encode("utf-16-be", "replace") for each in text]
    if sum(map(len, characters)) <= room.single:
        return [b"".join(characters)]
    segments = [b""]
    for character in characters:
        if len(segments[-1]) + len(character) > room.of_several:
            segments.append(b"")
        segments[-1] += character
    return segments


def count_segments(text: str) -> int:
    """Return how many SMS the text is sent as."""
    return len(segments_of(text))
