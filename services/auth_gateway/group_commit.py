"""Calls whose statement is to be on disk before they are answered, written together.

While one statement is on its way, whatever comes waits for the next, which takes all of it: as many commits as the disk
can do, whatever the number of calls. Nobody is answered before the statement with their own part is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

# Turns of the event loop. A call takes about five from its arrival to here.
_IDLE_TURNS = 10

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Batch(Generic[_Item, _Answer]):
    """What goes in one statement, and what came of it once it is over."""

    items: list[_Item] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answers: Sequence[_Answer] = ()
    error: BaseException | None = None


class GroupCommit(Generic[_Item, _Answer]):
    """Writes items; `write` of the constructor takes several, all of them or none, and answers each in its place."""

    def __init__(self, write: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer]]]) -> None:
        self._write = write
        self._next = _Batch[_Item, _Answer]()
        self._sending: asyncio.Task[None] | None = None

    async def write(self, item: _Item) -> _Answer:
        """Return the item's answer when it is written; raise what its statement raised.

        One that is cancelled still waits for its statement, which ends within the store's own time: what was handed in
        is written, and once. When it is not, that is what is raised: to be cancelled means that it was.
        """
        batch = self._next
        place = len(batch.items)
        batch.items.append(item)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        cancelled: asyncio.CancelledError | None = None
        while not batch.over.is_set():
            try:
                await batch.over.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if batch.error is not None:
            raise batch.error
        if cancelled is not None:
            raise cancelled
        return batch.answers[place]

    async def _send(self) -> None:
        """Write what waits, one batch after the other, until nothing does."""
        try:
            await self._send_one()
            while self._next.items:
                await self._gather()
                await self._send_one()
        except BaseException as error:  # the event loop ends: nobody waits for a statement that will not be sent
            waiting, self._next = self._next, _Batch()
            waiting.error = error
            waiting.over.set()
            raise
        finally:
            self._sending = None

    async def _gather(self) -> None:
        """Let in whoever is about to come: calls that run already, and would be written one by one."""
        seen, idle_turns = 0, 0
        while idle_turns < _IDLE_TURNS:
            await asyncio.sleep(0)
            idle_turns = idle_turns + 1 if len(self._next.items) == seen else 0
            seen = len(self._next.items)

    async def _send_one(self) -> None:
        batch, self._next = self._next, _Batch()
        try:
            batch.answers = await self._write(batch.items)
        except Exception as error:  # noqa: BLE001  told to all whose statement it was
            batch.error = error
        except BaseException as error:
            batch.error = error
            raise
        finally:
            batch.over.set()
