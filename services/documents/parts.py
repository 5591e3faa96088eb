"""The contents of documents that are too large for one message, as they come in: part after part, in order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mesh.errors import FieldViolation, InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the content of the document at `index` of the request."""

    index: int
    data: bytes = field(repr=False)


class Contents:
    """Tells the documents' contents apart. Together they may be `max_bytes` long."""

    def __init__(self, parts: AsyncIterator[Part], *, max_bytes: int) -> None:
        self._parts = parts
        self._max_bytes = max_bytes
        self._taken_bytes = 0
        self._ahead: Part | None = None

    async def of(self, index: int) -> AsyncIterator[bytes]:
        """Yield the content of the next document. Raises InvalidArgumentError when there is none, or too much."""
        empty = True
        while (part := await self._next()) is not None and part.index == index:
            self._ahead = None
            self._taken_bytes += len(part.data)
            if self._taken_bytes > self._max_bytes:
                raise _broken(index, f"must be at most {self._max_bytes} bytes together")
            empty = empty and not part.data
            yield part.data
        if empty:
            raise _broken(index, "has no content; contents come one after another, in the order of the documents")

    async def end(self) -> None:
        """Check that nothing is left. Raises InvalidArgumentError."""
        part = await self._next()
        if part is not None:
            raise _broken(part.index, "contents come one after another, in the order of the documents")

    async def _next(self) -> Part | None:
        if self._ahead is None:
            self._ahead = await anext(self._parts, None)
        return self._ahead


def _broken(index: int, rule: str) -> InvalidArgumentError:
    violations = [FieldViolation(f"documents[{index}].content", rule)]
    return InvalidArgumentError("the contents cannot be taken as they came", violations=violations)
