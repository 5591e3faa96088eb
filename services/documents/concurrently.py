"""Running the same step for each document of a request side by side."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from mesh.errors import FinIdError

_T = TypeVar("_T")


async def each(steps: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run the step of every document and return the results in order.

    The first failure cancels the others and leaves as itself; a FinIdError says in its metadata which document it was.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_numbered(index, step)) for index, step in enumerate(steps)]
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


async def _numbered(index: int, step: Coroutine[Any, Any, _T]) -> _T:
    try:
        return await step
    except FinIdError as error:
        error.metadata["index"] = str(index)
        raise
