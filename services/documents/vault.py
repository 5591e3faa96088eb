"""The objects of this room, encrypted: a folder by default, S3 where settings name a bucket.

Objects are written before the row that names them, under names never used before. A crash in between leaves an object
without a row: harmless, since nothing can open it (its key was to be in the row), and told from others by that.
"""

import asyncio
import os
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from mesh.errors import DependencyUnavailableError
from mesh.sealing import Seal, SealBrokenError
from services.documents.errors import ContentUnreadableError


class Vault:
    """Puts and gets objects under a key of the caller's; the name is bound to the ciphertext."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, name: str, content: bytes, *, key: bytes) -> None:
        """Store an object for good: it survives a crash of this process and of the machine.

        Raises DependencyUnavailableError.
        """
        sealed = await asyncio.to_thread(Seal(key).seal, content, column="object", row=name)
        try:
            await self._store.put_async(name, sealed)
            if isinstance(self._store, LocalStore) and self._store.prefix is not None:
                await asyncio.to_thread(_settle, Path(self._store.prefix), name)
        except (BaseError, OSError) as error:
            raise DependencyUnavailableError("the object store does not answer") from error

    async def get(self, name: str, *, key: bytes) -> bytes:
        """Return an object. Raises ContentUnreadableError, DependencyUnavailableError."""
        try:
            answer = await self._store.get_async(name)
            sealed = bytes(await answer.bytes_async())
        except FileNotFoundError as error:
            raise ContentUnreadableError("a stored document is missing") from error
        except (BaseError, OSError) as error:
            raise DependencyUnavailableError("the object store does not answer") from error
        try:
            return await asyncio.to_thread(Seal(key).open, sealed, column="object", row=name)
        except SealBrokenError as error:
            raise ContentUnreadableError("a stored document was altered, or is sealed under another key") from error

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there. Raises DependencyUnavailableError."""
        try:
            await self._store.delete_async(name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise DependencyUnavailableError("the object store does not answer") from error


def _settle(folder: Path, name: str) -> None:
    """Make a file that was just written, and its name, survive a loss of power."""
    file = folder / name
    for part in (file, file.parent, folder):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
