"""The objects of this room, encrypted: a folder by default, S3 where settings name a bucket.

Objects are written before the row that names them, under names never used before. A crash in between leaves an object
without a row: harmless, since nothing can open it (its key was to be in the row), and told from others by that.
"""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from mesh.errors import DependencyUnavailableError
from mesh.sealing import Seal, SealBrokenError
from services.documents import sealed_stream
from services.documents.errors import ContentUnreadableError
from services.documents.sealed_stream import CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES, Chunks

# Parts of an upload that are on their way at once, 5 MiB each: more only costs memory.
_UPLOADS_AT_ONCE: Final = 2


class Vault:
    """Puts and gets objects under a key of the caller's; the name is bound to the ciphertext."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, name: str, content: bytes, *, key: bytes) -> None:
        """Store an object for good: it survives a crash of this process and of the machine.

        Raises DependencyUnavailableError.
        """
        sealed = await asyncio.to_thread(sealed_stream.sealed, key, name, content)
        with _answering():
            await self._store.put_async(name, sealed)
            await self._settle(name)

    async def put_pieces(self, name: str, pieces: AsyncIterator[bytes], *, key: bytes) -> None:
        """Store an object as it comes in, without ever holding all of it; what `pieces` raises leaves no object.

        Raises DependencyUnavailableError.
        """
        cipher = Chunks.new(key, name)

        async def sealed() -> AsyncIterator[bytes]:
            yield cipher.header
            number = 0
            async for chunk, last in sealed_stream.cut(pieces, CHUNK_BYTES):
                yield await asyncio.to_thread(cipher.seal, chunk, number, last=last)
                number += 1

        with _answering():
            await self._store.put_async(name, sealed(), max_concurrency=_UPLOADS_AT_ONCE)
            await self._settle(name)

    async def get(self, name: str, *, key: bytes) -> bytes:
        """Return an object. Raises ContentUnreadableError, DependencyUnavailableError."""
        return b"".join([piece async for piece in self.pieces(name, key=key)])

    async def pieces(self, name: str, *, key: bytes, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield an object piece by piece, from octet `start` up to `end`, or to its end.

        Each piece is authentic, and without `end` the last one is the object's last.
        Raises ContentUnreadableError, DependencyUnavailableError.
        """
        with _answering(), _found_unbroken():
            answer = await self._store.get_async(name)
            stream = _as_bytes(answer.stream(min_chunk_size=SEALED_CHUNK_BYTES))
            first = await anext(stream, b"")
            if first[:1] != sealed_stream.FORMAT:
                yield (await self._of_format_1(name, first, stream, key))[start:end]
                return
            cipher = Chunks(key, name, first[:HEADER_BYTES])
            # The chunk of the octet before: there is one even when `start` is the end of the object.
            number = max(start - 1, 0) // CHUNK_BYTES
            skipped = start - number * CHUNK_BYTES
            if number:
                offset = HEADER_BYTES + number * SEALED_CHUNK_BYTES
                if offset >= answer.meta["size"]:
                    raise SealBrokenError
                later = await self._store.get_async(name, options={"range": {"offset": offset}})
                rest = _as_bytes(later.stream(min_chunk_size=SEALED_CHUNK_BYTES))
            else:
                rest = _behind(first[HEADER_BYTES:], stream)
            async for sealed, last in sealed_stream.cut(rest, SEALED_CHUNK_BYTES):
                chunk = await asyncio.to_thread(cipher.open, sealed, number, last=last)
                kept = len(chunk) if end is None else min(len(chunk), end - number * CHUNK_BYTES)
                if skipped > kept or (last and end is not None and kept < end - number * CHUNK_BYTES):
                    raise SealBrokenError
                yield chunk[skipped:kept]
                if end is not None and end <= (number + 1) * CHUNK_BYTES:
                    return
                number, skipped = number + 1, 0

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there. Raises DependencyUnavailableError."""
        with _answering(), suppress(FileNotFoundError):
            await self._store.delete_async(name)

    async def _of_format_1(self, name: str, first: bytes, rest: AsyncIterator[bytes], key: bytes) -> bytes:
        sealed = b"".join([first, *[piece async for piece in rest]])
        return await asyncio.to_thread(Seal(key).open, sealed, column="object", row=name)

    async def _settle(self, name: str) -> None:
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            await asyncio.to_thread(_settle, Path(self._store.prefix), name)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise DependencyUnavailableError("the object store does not answer") from error


@contextmanager
def _found_unbroken() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ContentUnreadableError("a stored document is missing") from error
    except SealBrokenError as error:
        raise ContentUnreadableError("a stored document was altered, or is sealed under another key") from error


async def _as_bytes(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(piece)


async def _behind(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _settle(folder: Path, name: str) -> None:
    """Make a file that was just written, and its name, survive a loss of power."""
    file = folder / name
    for part in (file, file.parent, folder):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
