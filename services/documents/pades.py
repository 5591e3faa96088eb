"""The place for a signature in a PDF, and filling it (ETSI EN 319 142-1, ISO 32000-2 12.8).

A prepared PDF is the uploaded bytes, unaltered, and one incremental update after them; the update holds an empty
signature dictionary. All that is needed to fill it later, after a restart or on another replica, is in `ReservedPdf`.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

# What the CMS of a signature takes besides certificates and time stamp: signed attributes, signature, names, lengths.
CMS_FRAME_BYTES: Final = 2048
TIME_STAMP_MAX_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class Place:
    """Where the signature goes: [start, end) is `<`, zeros in hex, `>`; everything outside is the /ByteRange."""

    start: int
    end: int


def reserve_bytes(certificates_der: tuple[bytes, ...]) -> int:
    """How many bytes a CMS with these certificates and the largest time stamp may take. Depends on nothing else."""
    return CMS_FRAME_BYTES + TIME_STAMP_MAX_BYTES + sum(map(len, certificates_der))


def range_sha256(document: bytes, place: Place) -> bytes:
    """Return the digest over the document without the place, which is what a PDF signature covers.

    Raises ValueError when the place is not an empty hexadecimal string within the document.
    """
    inside = document[place.start + 1 : place.end - 1]
    in_bounds = 0 < place.start < place.end < len(document)
    if not in_bounds or document[place.start : place.start + 1] != b"<" or document[place.end - 1 : place.end] != b">":
        raise ValueError("no place for a signature there")
    if len(inside) % 2 or inside.strip(b"0"):
        raise ValueError("the place is not empty")
    view = memoryview(document)
    digest = hashlib.sha256(view[: place.start])
    digest.update(view[place.end :])
    return digest.digest()


def fill(document: bytes, place: Place, cms_der: bytes) -> bytes:
    """Return the signed PDF.

    Raises ValueError when the CMS does not fit its place.
    """
    room = place.end - place.start - 2
    if 2 * len(cms_der) > room:
        raise ValueError("the signature does not fit its place")
    padded = cms_der.hex().upper().encode("ascii").ljust(room, b"0")
    return b"".join((document[: place.start + 1], padded, document[place.end - 1 :]))
