"""`python -m bench.facematch_accuracy --images DIR [--pairs FILE.csv]`: how often facematch errs on people of your own.

DIR holds a folder for each person, or files named Person_Name_0001.jpg. FILE has lines `a,b,same` (paths in DIR, 1 or
0); without it all genuine pairs and a seeded sample of impostor pairs are compared. Each picture goes through a
sandboxed worker of the product: the service's own decoding, detection, alignment and embedding. A picture is taken as
of one person, the largest central face; smaller faces count than a shipped policy takes (--min-face-px).
"""

import argparse
import asyncio
import csv
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bench.table import heading, table
from deploy.local.assets import manifest
from deploy.local.assets.prepare import default_folder, prepare
from mesh.errors import FinIdError
from services.facematch import policies
from services.facematch.compare import similarity_ppm
from services.facematch.pictures import Embedding, FaceRule, Fault, Limits
from services.facematch.workers import FaceWorkers, ModelFiles

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4)
_DETECTOR = "models/face_detection_yunet_2023mar_fused.onnx"
_EMBEDDER = "models/face_recognition_sface_2021dec_fused.onnx"
_POLICY = "sandbox-standard"
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_RESAMPLES = 1000
_SHOWN_FAULTS = 20
_CALL_TIMEOUT_S = 60.0

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, by their paths within the directory, and whether they show one person."""

    a: str
    b: str
    same: bool


def person_of(path: str) -> str:
    """Who a picture shows: the folder it is in, or its file's name without the number at the end."""
    relative = Path(path)
    if len(relative.parts) > 1:
        return relative.parts[0]
    name, _, number = relative.stem.rpartition("_")
    return name if name and number.isdigit() else relative.stem


def pictures_in(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of pictures, and of files that are none by their names; hidden files are neither."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    pictures = [path for path in files if Path(path).suffix.lower() in _SUFFIXES]
    return pictures, sorted(set(files) - set(pictures))


def read_pairs(file: Path, known: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """The pairs of a file, and the lines that are none or name a picture that is not there."""
    pairs, bad, there = [], [], set(known)
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(csv.reader(lines), 1):
            fields = [field.strip() for field in line]
            if len(fields) == 3 and fields[2] in {"0", "1"} and {fields[0], fields[1]} <= there:
                pairs.append(Pair(fields[0], fields[1], fields[2] == "1"))
            elif fields and [field.lower() for field in fields] != ["a", "b", "same"]:
                bad.append(f"line {number}")
    return pairs, bad


def make_pairs(pictures: Sequence[str], impostors: int, seed: int) -> list[Pair]:
    """All pairs of one person, and `impostors` different pairs of two people, drawn with `seed`."""
    people: dict[str, list[str]] = {}
    for path in pictures:
        people.setdefault(person_of(path), []).append(path)
    genuine = [Pair(a, b, True) for paths in people.values() for a, b in combinations(paths, 2)]
    total = len(pictures) * (len(pictures) - 1) // 2 - len(genuine)
    if total <= impostors:
        drawn = [(a, b) for a, b in combinations(pictures, 2) if person_of(a) != person_of(b)]
    else:
        source, chosen = random.Random(seed), dict[tuple[str, str], None]()
        while len(chosen) < impostors:
            a, b = sorted(source.sample(range(len(pictures)), 2))
            if person_of(pictures[a]) != person_of(pictures[b]):
                chosen[pictures[a], pictures[b]] = None
        drawn = list(chosen)
    return genuine + [Pair(a, b, False) for a, b in drawn]


def threshold_at(impostor: Scores, rate: float) -> float:
    """The lowest threshold at which at most `rate` of the impostors pass; a score passes at the threshold."""
    allowed = int(rate * len(impostor) + 1e-9)
    worst_first = np.sort(impostor)[::-1]
    return float(np.nextafter(worst_first[allowed], np.inf)) if allowed < len(impostor) else float(worst_first[-1])


def equal_error_rate(genuine: Scores, impostor: Scores) -> float:
    """The mean of both error rates where they are closest to each other."""
    thresholds = np.unique(np.concatenate((genuine, impostor)))
    missed = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    passed = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    closest = int(np.argmin(np.abs(missed - passed)))
    return float(missed[closest] + passed[closest]) / 2


def measures(genuine: Scores, impostor: Scores) -> list[float]:
    """EER, then FNMR at each of FALSE_MATCH_RATES."""
    missed = [float((genuine < threshold_at(impostor, rate)).mean()) for rate in FALSE_MATCH_RATES]
    return [equal_error_rate(genuine, impostor), *missed]


def intervals(pairs: Sequence[Pair], scores: Scores, seed: int) -> list[tuple[float, float]]:
    """95 % bootstrap intervals of `measures`: people are drawn, since the pairs of one person hang together.

    A pair counts as often as the people in it were drawn: once for each draw of its person, or of both multiplied.
    """
    people = sorted({person_of(path) for pair in pairs for path in (pair.a, pair.b)})
    place = {person: index for index, person in enumerate(people)}
    first = np.array([place[person_of(pair.a)] for pair in pairs])
    second = np.array([place[person_of(pair.b)] for pair in pairs])
    same = np.array([pair.same for pair in pairs])
    source, drawn = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES if len(pairs) < 50_000 else _RESAMPLES // 5):
        times = np.bincount(source.integers(0, len(people), len(people)), minlength=len(people))
        weights = np.where(same & (first == second), times[first], times[first] * times[second])
        again = np.repeat(scores, weights), np.repeat(same, weights)
        genuine, impostor = again[0][again[1]], again[0][~again[1]]
        if len(genuine) and len(impostor):
            drawn.append(measures(genuine, impostor))
    if not drawn:
        return [(0.0, 1.0)] * (1 + len(FALSE_MATCH_RATES))
    low, high = np.percentile(np.array(drawn), (2.5, 97.5), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


async def embed(folder: Path, paths: Sequence[str], processes: int, min_face_px: int) -> dict[str, Embedding | Fault]:
    """Each picture's face, or why there is none, out of the service's own sandboxed workers."""
    assets = default_folder()
    prepare(manifest.load(), assets, print)
    models = ModelFiles.at(assets / _DETECTOR, assets / _EMBEDDER)
    shipped = policies.load(Path(policies.__file__).with_name("policies.toml"))[_POLICY]
    rule = FaceRule(shipped.min_score_ppm, min_face_px)
    workers = FaceWorkers.of(models, processes=processes, queue_limit=64, call_timeout_s=_CALL_TIMEOUT_S)
    answers: dict[str, Embedding | Fault] = {}
    waiting = list(reversed(paths))

    async def work() -> None:
        while waiting:
            path = waiting.pop()
            answers[path] = await _embed_one(workers, folder / path, rule)
            if len(answers) % 50 == 0 or len(answers) == len(paths):
                print(f"\r  {len(answers)} of {len(paths)} pictures", end="", file=sys.stderr, flush=True)

    async with workers.pool, asyncio.TaskGroup() as tasks:
        for _ in range(processes + 1):
            tasks.create_task(work())
    print(file=sys.stderr)
    return answers


async def _embed_one(workers: FaceWorkers, file: Path, rule: FaceRule) -> Embedding | Fault:
    try:
        picture = await asyncio.to_thread(_read_bounded, file)
        if len(picture) > Limits().max_bytes:
            return Fault.TOO_LARGE
        (answer,) = await workers.read_portraits([picture], rule)
    except (OSError, FinIdError):  # a picture that kills its worker is one failure, not the end of the run
        return Fault.UNREADABLE
    return answer


def _read_bounded(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(Limits().max_bytes + 1)


def det_plot(file: Path, genuine: Scores, impostor: Scores) -> None:
    """False non-match rate over false match rate, both logarithmic, 1e-5 to 1, a grid line each decade."""
    side, margin, decades = 600, 70, 5
    picture = np.full((side + 2 * margin, side + 2 * margin, 3), 255, np.uint8)

    def at(rate: float) -> int:
        return round((float(np.log10(max(rate, 10.0**-decades))) + decades) / decades * side)

    font = cv2.FONT_HERSHEY_SIMPLEX
    for decade in range(decades + 1):
        step = margin + round(decade / decades * side)
        cv2.line(picture, (step, margin), (step, margin + side), (210, 210, 210), 1)
        cv2.line(picture, (margin, step), (margin + side, step), (210, 210, 210), 1)
        cv2.putText(picture, f"1e-{decades - decade}", (step - 15, margin + side + 20), font, 0.4, (0, 0, 0), 1)
        cv2.putText(picture, f"1e-{decade}", (margin - 45, step + 4), font, 0.4, (0, 0, 0), 1)
    thresholds = np.unique(np.concatenate((genuine, impostor)))
    missed = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    passed = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    line = [(margin + at(p), margin + side - at(m)) for p, m in zip(passed, missed, strict=True)]
    cv2.polylines(picture, [np.array(line, np.int32)], False, (160, 60, 0), 2, cv2.LINE_AA)
    cv2.putText(picture, "false match rate", (margin + side // 2 - 60, side + 2 * margin - 20), font, 0.5, (0, 0, 0), 1)
    title = f"false non-match rate; {len(genuine)} genuine, {len(impostor)} impostor pairs"
    cv2.putText(picture, title, (margin, margin - 25), font, 0.5, (0, 0, 0), 1)
    file.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the error rates and write the plot and the scores; 1 when there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="bench.facematch_accuracy", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder per person, or Person_Name_0001.jpg files")
    parser.add_argument("--pairs", type=Path, help="lines a,b,same; paths within --images")
    parser.add_argument("--out", type=Path, default=Path("var/facematch_accuracy"), help="for det.png and scores.csv")
    parser.add_argument("--impostors", type=int, default=200_000, help="how many impostor pairs are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--min-face-px", type=int, default=32, help="the smallest face taken; policies ask for more")
    chosen = parser.parse_args(arguments)
    if not chosen.images.is_dir() or (chosen.pairs and not chosen.pairs.is_file()):
        print("--images must be a directory, and --pairs a file", file=sys.stderr)
        return 1

    pictures, others = pictures_in(chosen.images)
    pairs, bad_lines = read_pairs(chosen.pairs, pictures) if chosen.pairs else ([], [])
    wanted = sorted({path for pair in pairs for path in (pair.a, pair.b)}) if chosen.pairs else pictures
    answers = asyncio.run(embed(chosen.images, wanted, chosen.workers, chosen.min_face_px))
    faces = {path: answer for path, answer in answers.items() if not isinstance(answer, Fault)}
    faults = {path: answer for path, answer in sorted(answers.items()) if isinstance(answer, Fault)}

    heading(f"Face match on {len(wanted)} pictures of {len({person_of(path) for path in wanted})} people")
    _list("files that are no JPEG or PNG by their names", others)
    _list("lines of the pairs file that cannot be used", bad_lines)
    _list("failures to enrol", [f"{path}: {fault.value}" for path, fault in faults.items()])
    share = len(faults) / len(wanted) if wanted else 0.0
    print(f"failure to enrol: {len(faults)} of {len(wanted)} ({share:.2%})  {dict(Counter(faults.values())) or ''}")
    if not chosen.pairs:
        pairs = make_pairs(sorted(faces), chosen.impostors, chosen.seed)
    pairs = [pair for pair in pairs if pair.a in faces and pair.b in faces]
    scores = np.array([similarity_ppm(faces[pair.a], faces[pair.b]) / 1e6 for pair in pairs])
    same = np.array([pair.same for pair in pairs], bool)
    genuine, impostor = scores[same], scores[~same]
    if not len(genuine) or not len(impostor):
        print(f"nothing to measure: {len(genuine)} genuine and {len(impostor)} impostor pairs", file=sys.stderr)
        return 1
    _report(pairs, scores, genuine, impostor, chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    det_plot(chosen.out / "det.png", genuine, impostor)
    with (chosen.out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "same", "similarity"])
        writer.writerows([p.a, p.b, int(p.same), f"{score:.6f}"] for p, score in zip(pairs, scores, strict=True))
    print(f"written: {chosen.out / 'det.png'}, {chosen.out / 'scores.csv'}")
    return 0


def _report(pairs: Sequence[Pair], scores: Scores, genuine: Scores, impostor: Scores, seed: int) -> None:
    rows = []
    names = ["EER", *(f"FNMR at FMR {rate:.0e}" for rate in FALSE_MATCH_RATES)]
    limits = ["", *(f"{threshold_at(impostor, rate):.4f}" for rate in FALSE_MATCH_RATES)]
    found, around = measures(genuine, impostor), intervals(pairs, scores, seed)
    for name, value, (low, high), limit in zip(names, found, around, limits, strict=True):
        rows.append([name, f"{value:.4f}", f"{low:.4f} to {high:.4f}", limit])
    print(f"{len(genuine)} genuine pairs, {len(impostor)} impostor pairs\n")
    table(["measure", "value", "95 % interval", "threshold"], rows)
    for rate in FALSE_MATCH_RATES:
        if rate * len(impostor) < 10:
            print(f"FMR {rate:.0e} is carried by fewer than 10 of these impostor pairs: take it as a hint only.")


def _list(what: str, items: Sequence[str]) -> None:
    if items:
        print(f"{what}: {len(items)}")
        for item in items[:_SHOWN_FAULTS]:
            print(f"  {item}")
        if len(items) > _SHOWN_FAULTS:
            print(f"  and {len(items) - _SHOWN_FAULTS} more")


if __name__ == "__main__":
    sys.exit(main())
