"""How many SMS a text is: what a provider charges for, and what a phone puts together again.

A text within the GSM 7-bit alphabet (3GPP TS 23.038 section 6.2.1) has 160 characters in one SMS and 153 in each of
several, where those of the extension table count twice; any other is UCS-2, 70 and 67 (3GPP TS 23.040 9.2.3.24).
"""

from dataclasses import dataclass

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True, slots=True)
class _Alphabet:
    single: int
    of_several: int


_GSM_7 = _Alphabet(160, 153)
_UCS_2 = _Alphabet(70, 67)


def is_gsm_7(text: str) -> bool:
    """Tell whether a text can be sent in the GSM 7-bit alphabet."""
    return all(character in _BASIC or character in _EXTENSION for character in text)


def count_segments(text: str) -> int:
    """Return how many SMS the text is sent as; an empty text is one, too.

    No character is cut in two: an escape sequence or a surrogate pair that does not fit begins the next SMS.
    """
    alphabet = _GSM_7 if is_gsm_7(text) else _UCS_2
    sizes = [_size(character, alphabet) for character in text]
    if sum(sizes) <= alphabet.single:
        return 1
    segments, room = 1, alphabet.of_several
    for size in sizes:
        if size > room:
            segments, room = segments + 1, alphabet.of_several
        room -= size
    return segments


def _size(character: str, alphabet: _Alphabet) -> int:
    if alphabet is _GSM_7:
        return 2 if character in _EXTENSION else 1
    return len(character.encode("utf-16-be")) // 2
