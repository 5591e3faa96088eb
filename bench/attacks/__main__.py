"""Makes attack clips: `python -m bench.attacks --genuine DIR_OR_FILES --out DIR [--species …] [--count N] [--seed S]`.

Clips go to OUT/<species>/<number>.avi (JPEG frames), what they were made of and with to OUT/attacks.csv; a clip that
could not be made stands there without frames. The person of a file is its name up to the first underscore; --person
makes attacks of one person, with the others as victims.
"""

import argparse
import asyncio
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import clips
from bench.attacks.landmarks import Landmarks
from bench.attacks.material import MaterialError, Materials, Source, sources_in
from bench.attacks.species import SPECIES, make
from deploy.local.assets.prepare import default_folder

_COLUMNS = ("clip", "species", "person", "sources", "frames", "fps", "parameters")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made. `persons` are made attacks of, each `count` clips of each species."""

    sources: Sequence[Source]
    persons: Sequence[str]
    species: Sequence[str]
    count: int
    seed: int
    seconds: tuple[float, float] = (2.0, 3.5)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    described = argparse.ArgumentParser(prog="python -m bench.attacks", description="Make attack clips.")
    described.add_argument("--genuine", nargs="+", type=Path, required=True, metavar="PATH", help="clips and photos")
    described.add_argument("--out", type=Path, required=True, metavar="DIR")
    described.add_argument("--species", nargs="+", choices=list(SPECIES), default=list(SPECIES), metavar="NAME")
    described.add_argument("--count", type=int, default=30, help="clips of each species and person (30)")
    described.add_argument("--seed", type=int, default=1)
    described.add_argument("--person", nargs="+", metavar="NAME", help="only attacks by these (all with a clip)")
    described.add_argument("--seconds", nargs=2, type=float, default=(2.0, 3.5), metavar=("LEAST", "MOST"))
    described.add_argument("--workers", type=int, default=2)
    described.add_argument(
        "--landmarker", type=Path, default=default_folder() / "models" / "face_landmarker.task", metavar="FILE"
    )
    return described


async def make_all(order: Order, out: Path, landmarker: Path, workers: int) -> int:
    """Make what is ordered; return how many clips could not be made."""
    jobs = [
        (person, species, number)
        for person in order.persons
        for species in order.species
        for number in range(order.count)
    ]
    landmarks = Landmarks(landmarker, workers)
    at_once, failed, began = asyncio.Semaphore(workers), 0, time.monotonic()
    rows: list[Sequence[object]] = []

    async def one(person: str, species: str, number: int) -> None:
        nonlocal failed
        async with at_once:
            materials = Materials(
                own=[source for source in order.sources if source.person == person],
                others=[source for source in order.sources if source.person != person],
                points=landmarks,
                seconds=order.seconds,
            )
            clip = out / species / f"{person}_{number:03d}.avi"
            clip.parent.mkdir(parents=True, exist_ok=True)
            try:
                rows.append(await asyncio.to_thread(_make_one, clip, species, number, order.seed, materials))
            except MaterialError as error:
                failed += 1
                rows.append(
                    (f"{species}/{clip.name}", species, person, "", 0, "", json.dumps({"rejected": str(error)}))
                )
                print(f"{species} of {person}: {error}", file=sys.stderr)
        done = len(rows)
        if done % 10 == 0 or done == len(jobs):
            print(f"{done} of {len(jobs)} clips, {time.monotonic() - began:.0f} s", flush=True)

    async with landmarks.pool, asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(one(*job))
    with (out / "attacks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(sorted(rows, key=str))
    return failed


def _make_one(clip: Path, species: str, number: int, seed: int, materials: Materials) -> Sequence[object]:
    made = make(species, number, seed, materials)
    count = clips.write(clip, made.frames_bgr, made.fps)
    person = clip.stem.partition("_")[0]
    parameters = json.dumps(made.parameters, default=float)
    return f"{species}/{clip.name}", species, person, " ".join(made.sources), count, f"{made.fps:.2f}", parameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = parser().parse_args(arguments)
    sources, unusable = sources_in(given.genuine)
    for other in unusable:
        print(f"left out: {other.path}: {other.why}", file=sys.stderr)
    persons = given.person or sorted({source.person for source in sources if source.fps})
    if not persons:
        print("no genuine clip was found", file=sys.stderr)
        return 2
    order = Order(sources, persons, given.species, given.count, given.seed, tuple(given.seconds))
    failed = asyncio.run(make_all(order, given.out, given.landmarker, given.workers))
    print(
        f"{len(persons) * len(given.species) * given.count - failed} clips in {given.out}, {failed} could not be made"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
