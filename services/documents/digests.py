"""Digests of contents, whole or as they come in pieces, away from the event loop."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Final

EVERY: Final = ("sha256", "sha384", "sha512")
"""What other people's signatures may be over."""


class Digesting:
    """Digests of what comes in pieces, by the names of their algorithms."""

    def __init__(self, algorithms: Sequence[str]) -> None:
        self._hashes = {name: hashlib.new(name) for name in algorithms}
        self.size_bytes = 0

    async def update(self, piece: bytes) -> None:
        """Take a piece."""
        self.size_bytes += len(piece)
        for found in self._hashes.values():
            await asyncio.to_thread(found.update, piece)

    def digests_then(self, behind: bytes) -> Mapping[str, bytes]:
        """The digests of all pieces so far and of something behind them, which does not become one of them."""
        copies = {name: found.copy() for name, found in self._hashes.items()}
        for found in copies.values():
            found.update(behind)
        return {name: found.digest() for name, found in copies.items()}

    def digests(self) -> Mapping[str, bytes]:
        """The digests of all pieces so far."""
        return {name: found.digest() for name, found in self._hashes.items()}


async def of(content: bytes, algorithms: Sequence[str] = EVERY) -> Mapping[str, bytes]:
    """Digests of a content, by name."""
    digesting = Digesting(algorithms)
    await digesting.update(content)
    return digesting.digests()


async def of_pieces(pieces: AsyncIterable[bytes], algorithms: Sequence[str] = EVERY) -> Mapping[str, bytes]:
    """Digests of a content that comes in pieces, by name."""
    digesting = Digesting(algorithms)
    async for piece in pieces:
        await digesting.update(piece)
    return digesting.digests()
