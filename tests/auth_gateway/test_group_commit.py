"""What is handed in together is written together, once, and nobody goes on before their own part is written."""

import asyncio
from collections.abc import Sequence

import pytest

from mesh.errors import DependencyUnavailableError
from services.auth_gateway.group_commit import GroupCommit


class Disk:
    """Takes items, one statement at a time, each when it is told to go on, and answers each with its double."""

    def __init__(self) -> None:
        self.statements: list[list[int]] = []
        self.may_go_on = asyncio.Semaphore(0)
        self.is_away = False

    def let(self, statements: int) -> None:
        for _ in range(statements):
            self.may_go_on.release()

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        taken = list(items)
        await self.may_go_on.acquire()
        if self.is_away:
            raise DependencyUnavailableError("away")
        self.statements.append(taken)
        return [2 * item for item in taken]


Journal = GroupCommit[int, int]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(journal: Journal, items: range) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(journal.write(item)) for item in items]
    await turns()
    return tasks


async def test_what_comes_while_one_is_written_goes_in_the_next_statement() -> None:
    disk = Disk()
    journal = Journal(disk.write)
    tasks = await begun(journal, range(1)) + await begun(journal, range(1, 6))
    assert not any(task.done() for task in tasks)
    disk.let(1)
    await turns()
    assert [task.done() for task in tasks] == [True, *[False] * 5]
    disk.let(2)
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert disk.statements == [[0], [1, 2, 3, 4, 5]]
    assert await journal.write(6) == 12
    assert disk.statements[2:] == [[6]]


async def test_a_statement_that_fails_is_told_to_those_whose_it_was_and_to_no_other() -> None:
    disk = Disk()
    journal = Journal(disk.write)
    disk.is_away = True
    tasks = await begun(journal, range(1)) + await begun(journal, range(1, 4))
    disk.let(3)
    assert [type(found) for found in await asyncio.gather(*tasks, return_exceptions=True)] == [
        DependencyUnavailableError
    ] * 4
    disk.is_away = False
    assert await journal.write(4) == 8
    assert disk.statements == [[4]]


@pytest.mark.parametrize("who", [0, 1, 3], ids=["writes for itself", "writes for others", "waits for another"])
async def test_one_who_gives_up_ends_when_what_it_handed_in_is_written_and_keeps_nobody_waiting(who: int) -> None:
    disk = Disk()
    journal = Journal(disk.write)
    tasks = await begun(journal, range(1)) + await begun(journal, range(1, 4))
    if who == 1:
        disk.let(1)
        await turns()
    for _ in range(2):
        tasks[who].cancel()
        await turns()
    assert not tasks[who].done()
    tasks += await begun(journal, range(4, 6))
    disk.let(3)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended.pop(who), asyncio.CancelledError)
    assert ended == [2 * item for item in range(6) if item != who]
    assert sorted(item for taken in disk.statements for item in taken) == [0, 1, 2, 3, 4, 5]


async def test_one_who_gave_up_learns_that_what_it_handed_in_is_not_written() -> None:
    disk = Disk()
    journal = Journal(disk.write)
    disk.is_away = True
    (given_up,) = await begun(journal, range(1))
    given_up.cancel()
    await turns()
    disk.let(1)
    with pytest.raises(DependencyUnavailableError):
        await given_up


async def test_when_the_event_loop_ends_nobody_waits_for_a_statement_that_will_not_be_sent() -> None:
    disk = Disk()
    journal = Journal(disk.write)
    tasks = await begun(journal, range(1)) + await begun(journal, range(1, 4))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), timeout=5)
    assert [type(one) for one in ended] == [asyncio.CancelledError] * 4
    assert disk.statements == []
