"""Signed documents as they are listed and fetched, and the tokens that page through them."""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mesh import base64url
from services.documents.errors import PageTokenError
from services.documents.level import Level
from services.documents.preparation import Format

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURSOR: Final = struct.Struct(">Q26s")
_MAC_BYTES: Final = 16
_MEDIA_TYPES: Final = {
    Format.CADES_DETACHED: "application/pkcs7-signature",
    Format.CADES_ATTACHED: "application/pkcs7-mime",
    Format.PADES: "application/pdf",
    Format.XADES_DETACHED: "application/xml",
    Format.XADES_ENVELOPED: "application/xml",
}


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A signed document without its bytes."""

    id: str
    signature: str
    title: str
    format: Format
    size_bytes: int
    content_sha256: bytes
    created_at: datetime
    level: Level = Level.B_T

    @property
    def media_type(self) -> str:
        """PDF, XML, a detached CMS signature (RFC 8551, .p7s) or one with its content inside (.p7m)."""
        return _MEDIA_TYPES[self.format]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place in a list, newest first, after which a page begins."""

    created_at: datetime
    id: str


class PageTokens:
    """Cursors as opaque text that only this service makes, each good for one list: an application's, or a person's.

    The first key signs; lists that began under an earlier one are read to their end.
    """

    def __init__(self, key: bytes, *earlier: bytes) -> None:
        self._key = key
        self._keys = (key, *earlier)

    def write(self, listed: str, cursor: Cursor) -> str:
        """Return the token of a cursor."""
        packed = _CURSOR.pack((cursor.created_at - _EPOCH) // _MICROSECOND, cursor.id.encode("ascii"))
        return base64url.encode(packed + _mac(self._key, listed, packed))

    def read(self, listed: str, token: str) -> Cursor:
        """Return the cursor of a token. Raises PageTokenError when this service did not make it for this list."""
        try:
            raw = base64url.decode(token)
        except ValueError as error:
            raise PageTokenError("the page token is not one of this list") from error
        packed, mac = raw[: _CURSOR.size], raw[_CURSOR.size :]
        if len(raw) != _CURSOR.size + _MAC_BYTES or not any(
            hmac.compare_digest(mac, _mac(key, listed, packed)) for key in self._keys
        ):
            raise PageTokenError("the page token is not one of this list")
        microseconds, identifier = _CURSOR.unpack(packed)
        return Cursor(_EPOCH + microseconds * _MICROSECOND, identifier.decode("ascii"))


def _mac(key: bytes, listed: str, packed: bytes) -> bytes:
    return hmac.digest(key, listed.encode() + b"\0" + packed, hashlib.sha256)[:_MAC_BYTES]
