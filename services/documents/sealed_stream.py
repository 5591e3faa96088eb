"""How an object is encrypted at rest: in chunks, so that neither writing nor reading one needs all of it in memory.

Format 2: one octet 02, 32 octets of salt, 7 of nonce prefix, then the chunks. Each chunk is AES-256-GCM over 1 MiB of
content, the last over what is left (nothing, for an empty object), and is 16 octets longer than that. The key is
HKDF-SHA-256 of the caller's key with the salt; the nonce is prefix, number of the chunk (32 bits, from 0) and 01 for
the last one or else 00; the associated data names the object. So a chunk opens only in its object, at its place, and as
the last one only if it is: this is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and
its Nonce-Reuse Misuse-Resistance, 2015), laid out as Tink's AES-GCM-HKDF streaming is.

Format 1 is one value of `mesh.sealing`, as objects were written before; it is still read.
"""

import os
from collections.abc import AsyncIterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.sealing import KEY_BYTES, SealBrokenError

CHUNK_BYTES: Final = 1024 * 1024
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + 16
FORMAT: Final = b"\x02"
_SALT_BYTES: Final = 32
_PREFIX_BYTES: Final = 7
HEADER_BYTES: Final = 1 + _SALT_BYTES + _PREFIX_BYTES
_MAX_CHUNKS: Final = 2**32


class Chunks:
    """The cipher of one object: seals and opens its chunks by their numbers."""

    def __init__(self, key: bytes, name: str, header: bytes) -> None:
        """Raises SealBrokenError when this is no header of the format."""
        if len(header) != HEADER_BYTES or header[:1] != FORMAT:
            raise SealBrokenError
        salt, self._prefix = header[1 : 1 + _SALT_BYTES], header[1 + _SALT_BYTES :]
        self._aead = AESGCM(HKDF(SHA256(), KEY_BYTES, salt=salt, info=b"finid-vault-v2").derive(key))
        self._place = b"finid-vault-v2\0" + name.encode()
        self.header = header

    @classmethod
    def new(cls, key: bytes, name: str) -> "Chunks":
        """The cipher of a new object, with fresh randomness."""
        return cls(key, name, FORMAT + os.urandom(_SALT_BYTES + _PREFIX_BYTES))

    def seal(self, chunk: bytes, number: int, *, last: bool) -> bytes:
        """Encrypt a chunk."""
        return self._aead.encrypt(self._nonce(number, last), chunk, self._place)

    def open(self, sealed: bytes, number: int, *, last: bool) -> bytes:
        """Decrypt a chunk. Raises SealBrokenError when it is not the object's chunk of that number, or not the last."""
        try:
            return self._aead.decrypt(self._nonce(number, last), sealed, self._place)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError from error

    def _nonce(self, number: int, last: bool) -> bytes:
        if number >= _MAX_CHUNKS:
            raise ValueError("an object of more chunks than there are nonces")
        return self._prefix + number.to_bytes(4, "big") + bytes((last,))


def sealed(key: bytes, name: str, content: bytes) -> bytes:
    """Encrypt a whole object."""
    cipher = Chunks.new(key, name)
    starts = range(0, max(len(content), 1), CHUNK_BYTES)
    return cipher.header + b"".join(
        cipher.seal(content[start : start + CHUNK_BYTES], number, last=start == starts[-1])
        for number, start in enumerate(starts)
    )


async def cut(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Cut what comes in pieces of any size into chunks of `size` octets; the last, shorter or empty, is marked."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        # What is left over may be the last chunk: only more of it tells that it is not.
        while len(waiting) > size:
            yield bytes(waiting[:size]), False
            del waiting[:size]
    yield bytes(waiting), True
