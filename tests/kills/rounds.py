"""The rounds: kill one at a random moment while everybody is at work, bring it back, see that work goes on, again."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from cryptography import x509

from services.ca.authority import CHAIN_FILE
from tests.kills import judge
from tests.kills.people import People
from tests.kills.processes import Processes, Target, running
from tests.kills.told import Client, Told
from tests.softhsm import SoftHsm

PEOPLE_AT_ONCE = 6
_TARGETS = (Target.SIGNER, Target.CA, Target.POSTMASTER, Target.CHILD)
# After everything serves again: from at once to when all are well at work.
_KILLED_AFTER_S = (0.0, 0.8)
_WORK_AFTER, _WORKS_WITHIN_S = 5, 60.0
_SETTLED_WITHIN_S = 60.0
# Both leases (30 s, 60 s) are let run out at the end by having begun that much earlier.
_AGE_INTENTS = """
    UPDATE signer.signatures SET lease_ends_at = lease_ends_at - interval '2 minutes' WHERE state = 'INTENT';
    UPDATE ca.certificates SET intended_at = intended_at - interval '2 minutes' WHERE state = 'INTENDED'"""
_OPEN_INTENTS = """
    SELECT (SELECT count(*) FROM signer.signatures WHERE state = 'INTENT')
         + (SELECT count(*) FROM ca.certificates WHERE state = 'INTENDED')"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What did not hold ([] when all did), how often each was killed, and what there was."""

    findings: list[str]
    killed: Counter[str]
    counts: Counter[str]

    def __str__(self) -> str:
        lines = [f"{count:7} times killed: {name}" for name, count in self.killed.items()]
        lines += [f"{count:7} {name}" for name, count in self.counts.items()]
        lines += [f"{count:7} FOUND: {finding}" for finding, count in Counter(self.findings).items()]
        return "\n".join([*lines, f"{len(self.findings):7} things that may not be"])


async def hold(folder: Path, softhsm: SoftHsm, rounds: int, seed: int) -> Outcome:
    """Start everything, kill so many times, and judge what is left; `folder` takes the files.

    The seed decides whom, when and what everybody does; how the processes interleave it does not.
    """
    async with running(folder, softhsm) as processes:
        outcome = await _run(processes, rounds, seed)
    return replace(outcome, findings=[*outcome.findings, *judge.of_logs(processes)])


async def _run(processes: Processes, rounds: int, seed: int) -> Outcome:
    chance = random.Random(seed)
    (issuing, _) = x509.load_pem_x509_certificates((processes.pki_folder / CHAIN_FILE).read_bytes())
    objects_before = processes.token_objects()
    client = Client(processes, Told())
    people = People(client, processes.world, issuing, seed)
    async with asyncio.TaskGroup() as group:
        for number in range(PEOPLE_AT_ONCE):
            group.create_task(people.lives(number))
        group.create_task(people.read())
        group.create_task(people.ask_for_parked())
        # The first of each kind of target come in turn, so that few rounds meet all.
        for round_number in range(rounds):
            target = _TARGETS[round_number] if round_number < len(_TARGETS) else chance.choice(_TARGETS)
            await asyncio.sleep(chance.uniform(*_KILLED_AFTER_S))
            await processes.kill(target, chance)
            await _work_goes_on(people)
        people.over = True
    await _settle(people, processes)
    found, counts = await judge.findings(processes, client, objects_before)
    return Outcome(found, Counter({target.value: count for target, count in processes.killed.items()}), counts)


async def _work_goes_on(people: People) -> None:
    enough = people.done + _WORK_AFTER
    async with asyncio.timeout(_WORKS_WITHIN_S):
        while people.done < enough:  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.02)


async def _settle(people: People, processes: Processes) -> None:
    """Ask for everything until it is answered for good, and wait until no intent is open."""
    async with asyncio.timeout(_SETTLED_WITHIN_S):
        with psycopg.connect(processes.database.owner_url, autocommit=True) as database:
            database.execute(_AGE_INTENTS)
            while people.parked or database.execute(_OPEN_INTENTS).fetchone() != (0,):
                await people.settle()
                await people.client.revocation_list()
                await asyncio.sleep(0.2)
