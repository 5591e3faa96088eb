"""Run the kill rounds, print their counts; exit 1 on a finding: `python -m tests.kills [--rounds 200] [--seed 1]`."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from mesh import telemetry
from tests.kills import rounds
from tests.softhsm import softhsm_of_this_process


async def _run(count: int, seed: int) -> rounds.Outcome:
    with (
        tempfile.TemporaryDirectory(prefix="finid-kills-") as folder,
        softhsm_of_this_process(Path(folder)) as softhsm,
    ):
        return await rounds.hold(Path(folder), softhsm, count, seed)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    telemetry.start("kills", log_level="error", otlp_endpoint=None)
    outcome = asyncio.run(_run(chosen.rounds, chosen.seed))
    print(f"{chosen.rounds} rounds, seed {chosen.seed}\n{outcome}")
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
