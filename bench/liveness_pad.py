"""How often liveness errs, on any recordings: `python -m bench.liveness_pad --bona-fide DIR --attack SPECIES=DIR …`.

Each DIR holds clips (mp4, avi, mov, mjpeg) or folders of frames; what is neither is listed and counted. Frames go
through the sandboxed workers of the service itself, at ten a second, and the clip is decided as the service decides it,
by each shipped policy. Prints APCER of each species and BPCER (ISO/IEC 30107-3), by clips; writes each clip's scores
(CSV) and their distributions (PNG).

--script-free leaves the prompts out. Without it each clip is played, round and round, to one fresh script. --both does
both on the same frames.
"""

import argparse
import asyncio
import csv
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import clips, pad_plot
from bench.clips import ClipUnreadableError, Unusable
from bench.intervals import Rate
from bench.liveness_clip import SIGNALS, Outcome, frame_workers, judge, shipped_policies
from bench.table import table
from deploy.local.assets.prepare import default_folder
from mesh.errors import FinIdError
from services.liveness.analyser import FrameWorkers

BONA_FIDE = "bona fide"
_COLUMNS = (
    "species",
    "clip",
    "policy",
    "script_free",
    "passed",
    "why",
    "frames",
    "faces",
    "unreadable",
    "score",
    *SIGNALS,
)
_PROGRESS_EVERY_S = 5.0
_SHOWN = 20
_SCRIPTED = """Each clip was played to a fresh script. A recording cannot know what is asked: BPCER says here how rarely
a recording's own movements fit, and next to nothing of people who read the prompts."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording of a species."""

    species: str
    path: Path


@dataclass(frozen=True, slots=True)
class Scored:
    """A clip, and what one policy says of it."""

    clip: Clip
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """All that was scored, and what could not be."""

    scored: Sequence[Scored]
    unusable: Sequence[Unusable]


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    described = argparse.ArgumentParser(prog="python -m bench.liveness_pad", description="Measure liveness's errors.")
    described.add_argument("--bona-fide", type=Path, required=True, metavar="DIR")
    described.add_argument("--attack", type=_species, action="append", default=[], metavar="SPECIES=DIR")
    described.add_argument("--script-free", action="store_true", help="all signals except the prompts")
    described.add_argument("--both", action="store_true", help="without the prompts, and against fresh scripts")
    described.add_argument("--out", type=Path, default=Path("var/liveness_pad"), metavar="DIR")
    described.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    described.add_argument("--seed", type=int, default=1, help="of the frames that models are asked about, and scripts")
    described.add_argument("--models", type=Path, default=default_folder() / "models", metavar="DIR")
    return described


def _species(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not folder or name == BONA_FIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is not SPECIES=DIR")
    return name, Path(folder)


def find_all(folders: Iterable[tuple[str, Path]]) -> tuple[list[Clip], list[Unusable]]:
    """Return the clips of each species' folder, and what is none."""
    found: list[Clip] = []
    unusable: list[Unusable] = []
    for species, folder in folders:
        inside, others = clips.find(folder)
        found += [Clip(species, path) for path in inside]
        unusable += others
    return found, unusable


async def score(found: Sequence[Clip], models: Path, workers: int, *, seed: int, script_free: Sequence[bool]) -> Result:
    """Score clips, as many at once as there are workers; a clip that cannot be read or analysed stops nothing."""
    analyser = frame_workers(models, workers)
    scored: list[Scored] = []
    unusable: list[Unusable] = []
    waiting = iter(found)
    began = said = time.monotonic()

    async def some() -> None:
        nonlocal said
        for clip in waiting:
            scored.extend(await _one(analyser, clip, unusable, seed=seed, script_free=script_free))
            done, now = len({one.clip for one in scored}) + len(unusable), time.monotonic()
            if now - said >= _PROGRESS_EVERY_S or done == len(found):
                said = now
                left_s = (now - began) / done * (len(found) - done)
                print(f"  {done} of {len(found)} clips, about {left_s:.0f} s left", file=sys.stderr, flush=True)

    async with analyser.pool, asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(some())
    return Result(sorted(scored, key=lambda one: (one.clip.species, str(one.clip.path))), unusable)


async def _one(
    analyser: FrameWorkers, clip: Clip, unusable: list[Unusable], *, seed: int, script_free: Sequence[bool]
) -> list[Scored]:
    try:
        outcomes = await judge(analyser, clip.path, shipped_policies(), seed=seed, script_free=script_free)
    except (ClipUnreadableError, FinIdError) as error:
        unusable.append(Unusable(clip.path, str(error)))
        return []
    return [Scored(clip, outcome) for outcome in outcomes]


def rates(scored: Iterable[Scored], policy: str, *, script_free: bool) -> Mapping[str, Rate]:
    """Return APCER of each species (clips that passed) and BPCER (genuine clips that did not) at a policy."""
    of: dict[str, list[bool]] = {}
    for one in scored:
        if (one.outcome.policy, one.outcome.script_free) == (policy, script_free):
            of.setdefault(one.clip.species, []).append(one.outcome.passed)
    return {
        species: Rate(passed.count(species != BONA_FIDE), len(passed))
        for species, passed in sorted(of.items(), key=lambda item: (item[0] == BONA_FIDE, item[0]))
    }


def report(result: Result, script_free: Sequence[bool]) -> None:
    """Print the rates at each policy, and what could not be used."""
    for without in script_free:
        _report_rates(result, script_free=without)
    if False in script_free:
        print(f"\n{_SCRIPTED}")
    print("\nIntervals are Clopper and Pearson's, for clips that are independent of one another.")
    print("A clip without a face is one that is refused. The face match is no part of this.")
    if result.unusable:
        print(f"\n{len(result.unusable)} files or folders could not be used:")
        for other in result.unusable[:_SHOWN]:
            print(f"  {other.path}: {other.why}")
        if len(result.unusable) > _SHOWN:
            print(f"  and {len(result.unusable) - _SHOWN} more, in unusable.csv")


def _report_rates(result: Result, *, script_free: bool) -> None:
    for policy in shipped_policies():
        print(f"\nPolicy {policy.id}, {'all signals except the prompts' if script_free else 'against fresh scripts'}\n")
        of = rates(result.scored, policy.id, script_free=script_free)
        rows = []
        for species, rate in of.items():
            faceless = sum(
                not one.outcome.faces
                for one in result.scored
                if one.clip.species == species
                and (one.outcome.policy, one.outcome.script_free) == (policy.id, script_free)
            )
            least, most = rate.interval()
            kind = "BPCER" if species == BONA_FIDE else "APCER"
            share = f"{rate.value:.3f}"
            rows.append([species, kind, str(rate.of), str(rate.count), share, f"{least:.3f}-{most:.3f}", str(faceless)])
        if rows:
            table(["species", "rate", "clips", "errors", "share", "95 % interval", "without a face"], rows)
        apcers = [rate.value for species, rate in of.items() if species != BONA_FIDE]
        if apcers and BONA_FIDE in of:
            acer = (max(apcers) + of[BONA_FIDE].value) / 2
            print(f"Side note: ACER {acer:.3f}, of the worst species; it hides which of the two errors is made.")


def write(result: Result, out: Path) -> None:
    """Write scores.csv, unusable.csv and a plot of each policy's scores."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for one in result.scored:
            said = one.outcome
            row = {
                "species": one.clip.species,
                "clip": str(one.clip.path),
                "policy": said.policy,
                "script_free": int(said.script_free),
                "passed": int(said.passed),
                "why": said.why,
                "frames": said.frames,
                "faces": said.faces,
                "unreadable": said.unreadable,
                "score": f"{said.score:.6f}",
            }
            writer.writerow(row | {name: f"{value:.6f}" for name, value in said.signals.items()})
    with (out / "unusable.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "why"), *((str(one.path), one.why) for one in result.unusable)])
    without_prompts = any(one.outcome.script_free for one in result.scored)
    for policy in shipped_policies():
        of: dict[str, list[Mapping[str, float]]] = {}
        # From the bottom up: people, then what is not.
        for one in sorted(result.scored, key=lambda one: one.clip.species != BONA_FIDE):
            # What was gathered of a whole clip, when there is both.
            if one.outcome.policy == policy.id and (one.outcome.script_free or not without_prompts):
                values = {"score": one.outcome.score, **one.outcome.signals}
                of.setdefault(one.clip.species, []).append(values)
        if of:
            least = {"score": policy.passive_threshold_ppm / 1e6}
            least |= {signal.value: ppm / 1e6 for signal, ppm in policy.signals.items()}
            pad_plot.draw(out / f"{policy.id}.png", of, ("score", *SIGNALS), least)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 2 when there was nothing to score."""
    given = parser().parse_args(arguments)
    found, unusable = find_all([(BONA_FIDE, given.bona_fide), *given.attack])
    script_free = (True, False) if given.both else (given.script_free,)
    result = asyncio.run(score(found, given.models, given.workers, seed=given.seed, script_free=script_free))
    result = Result(result.scored, [*unusable, *result.unusable])
    write(result, given.out)
    report(result, script_free)
    print(f"\nScores of each clip and plots are in {given.out}")
    return 0 if result.scored else 2


if __name__ == "__main__":
    sys.exit(main())
