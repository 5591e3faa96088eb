"""How often facematch errs, on any pictures: `python -m bench.facematch_accuracy --images DIR [--pairs FILE.csv]`.

DIR holds a folder for each person, or files named Person_Name_0001.jpg; lines of FILE.csv are `a,b,same` (1 or 0).
Without it every pair of one person and a seeded sample of pairs of two are compared. Pictures go through the sandboxed
workers of the service itself, by its policy's rule for the photo of a document; what cannot be used is counted as a
failure to enrol, and its pairs are left out. Prints the rates, writes a DET plot and every score. With `--raw`,
OpenCV's own YuNet and SFace (bench/raw_faces.py) compare the same pairs, and their rates stand beside these.
"""

import argparse
import asyncio
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from bench import error_rates, face_images
from bench.det_plot import draw
from bench.error_rates import Compared, OperatingPoint
from bench.face_images import Pair, Picture
from bench.raw_faces import RawFaces
from bench.table import table
from mesh import telemetry
from mesh.worker import WorkerCallFailedError, WorkerLostError
from services.facematch import policies
from services.facematch.compare import similarity_ppm
from services.facematch.pictures import Embedding, FaceRule, Fault, Limits
from services.facematch.policies import Policy
from services.facematch.workers import FaceWorkers, ModelFiles
from tests import samples

FMRS = (1e-2, 1e-3, 1e-4)
POLICIES_FILE = Path(policies.__file__).with_name("policies.toml")
_DECADE = {1e-3, 1e-4}
_MODELS = ("models/face_detection_yunet_2023mar_fused.onnx", "models/face_recognition_sface_2021dec_fused.onnx")
_BATCH = 8
_SHOWN = 20
_PROGRESS_EVERY_S = 2.0
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The embedding of each picture, None for those that could not be used, and how often each reason was given."""

    embeddings: list[Embedding | None]
    faults: Counter[str]


class Progress:
    """Says how far something is, every two seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._began = self._said = time.monotonic()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said >= _PROGRESS_EVERY_S:
            self._said = now
            left_s = (now - self._began) / max(done, 1) * (self._total - done)
            print(f"  {self._what}: {done} of {self._total}, about {left_s:.0f} s left", file=sys.stderr, flush=True)


async def enrol(pictures: Sequence[Picture], rule: FaceRule, workers: int) -> Enrolled:
    """Embed every picture in the service's own workers."""
    folder = samples.assets_folder()
    reader = FaceWorkers.of(
        ModelFiles.at(*(folder / name for name in _MODELS)),
        processes=workers,
        queue_limit=2 * workers,
        call_timeout_s=60.0,
    )
    embeddings: list[Embedding | None] = [None] * len(pictures)
    faults, done = Counter[str](), 0
    progress = Progress("faces", len(pictures))
    waiting = iter(range(0, len(pictures), _BATCH))

    async def read_batches() -> None:
        nonlocal done
        for start in waiting:
            batch = pictures[start : start + _BATCH]
            for index, answer in enumerate(await _read(reader, batch, rule), start):
                if isinstance(answer, str):
                    faults[answer] += 1
                else:
                    embeddings[index] = answer
            done += len(batch)
            progress.at(done)

    async with reader.pool, asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(read_batches())
    return Enrolled(embeddings, faults)


async def _read(reader: FaceWorkers, batch: Sequence[Picture], rule: FaceRule) -> list[Embedding | str]:
    """Answer each picture with its embedding or with why there is none. One that cannot be opened is not sent."""
    contents = [await asyncio.to_thread(_content, picture.path) for picture in batch]
    sent = [content for content in contents if isinstance(content, bytes)]
    answers = iter(await _faces(reader, sent, rule))
    return [content if isinstance(content, str) else next(answers) for content in contents]


def _content(path: Path) -> bytes | str:
    """A file's bytes, or why it is not sent: of what is too large, a batch would not go through the worker's pipe."""
    try:
        with path.open("rb") as file:
            content = file.read(Limits().max_bytes + 1)
    except OSError as error:
        return f"not read ({type(error).__name__})"
    return content if len(content) <= Limits().max_bytes else Fault.TOO_LARGE.value


async def _faces(reader: FaceWorkers, pictures: Sequence[bytes], rule: FaceRule) -> list[Embedding | str]:
    """Answer each; a picture that costs its worker the life is found by asking for each of its batch alone."""
    if not pictures:
        return []
    try:
        answers = await reader.read(pictures, [rule] * len(pictures))
    except (WorkerLostError, WorkerCallFailedError):
        if len(pictures) == 1:
            return ["lost its worker"]
        return [answer for picture in pictures for answer in await _faces(reader, [picture], rule)]
    return [answer.value if isinstance(answer, Fault) else answer.embedding for answer in answers]


def enrol_raw(pictures: Sequence[Picture], min_score: float) -> list[Embedding | None]:
    """Embed every picture with OpenCV's own models, in this process."""
    raw, progress = RawFaces(min_score), Progress("faces, raw", len(pictures))
    embeddings: list[Embedding | None] = []
    for picture in pictures:
        content = _content(picture.path)
        embeddings.append(raw.embedding(content) if isinstance(content, bytes) else None)
        progress.at(len(embeddings))
    return embeddings


def compare(
    pictures: Sequence[Picture], embeddings: Sequence[Embedding | None], pairs: Sequence[Pair]
) -> tuple[list[Pair], Compared]:
    """Compare every pair whose two pictures could be used; return those pairs, and what came of them."""
    number_of = {person: number for number, person in enumerate(sorted({picture.person for picture in pictures}))}
    used, scores, people = [], [], []
    progress = Progress("pairs", len(pairs))
    for done, pair in enumerate(pairs):
        one, other = embeddings[pair.one], embeddings[pair.other]
        if one is not None and other is not None:
            used.append(pair)
            scores.append(similarity_ppm(one, other) / _PPM)
            people.append((number_of[pictures[pair.one].person], number_of[pictures[pair.other].person]))
        progress.at(done)
    return used, Compared(
        np.array(scores, dtype=np.float64),
        np.array([pair.same for pair in used], dtype=np.bool_),
        np.array(people, dtype=np.int64).reshape(-1, 2),
    )


def write_scores(path: Path, pictures: Sequence[Picture], pairs: Sequence[Pair], compared: Compared) -> None:
    """Write a line for each pair: the pictures, whether of one person, the similarity."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = csv.writer(file)
        lines.writerow(("a", "b", "same", "similarity"))
        for pair, similarity in zip(pairs, compared.similarities, strict=True):
            lines.writerow(
                (pictures[pair.one].path, pictures[pair.other].path, int(pair.same), f"{float(similarity):.6f}")
            )


def print_rates(compared: Compared, points: Sequence[OperatingPoint], policy: Policy) -> None:
    """Print EER, FNMR at each FMR, and both rates at the policy's own threshold."""
    genuine = compared.genuine
    print(f"\nEER {error_rates.equal_error_rate(compared):.4f}\n")
    table(
        ("FMR", "threshold", "FNMR", "95 % interval", "impostor pairs"),
        [
            (
                f"{point.fmr:g}",
                f"{point.threshold:.3f}",
                f"{point.fnmr.value:.4f}",
                f"{point.fnmr.least:.4f} to {point.fnmr.most:.4f}",
                _supported(point, compared),
            )
            for point in points
        ],
    )
    tail = {point.fmr: point.threshold for point in points if point.supported}
    if tail.keys() >= _DECADE:
        beyond = 2 * tail[1e-4] - tail[1e-3]
        print(
            f"Extrapolated, by the straight line through the logarithms of the last two: FMR 1e-05 at {beyond:.3f},",
            end=" ",
        )
        print(f"FNMR there {float((genuine < beyond).mean()):.4f}")
    print(f"At the threshold of {policy.id}, {policy.threshold_ppm / _PPM:.3f}: {_rates_at(compared, policy)}")


def _supported(point: OperatingPoint, compared: Compared) -> str:
    return "enough" if point.supported else f"too few ({len(compared.impostors)})"


def _rates_at(compared: Compared, policy: Policy) -> str:
    shipped = policy.threshold_ppm / _PPM
    fmr, fnmr = (compared.impostors >= shipped).mean(), (compared.genuine < shipped).mean()
    return f"FMR {float(fmr):.2e}, FNMR {float(fnmr):.4f}"


def print_beside_raw(ours: Compared, raw: Compared, replicates: int, seed: int, policy: Policy) -> None:
    """Print FNMR at each FMR of both, of the same pairs, and by how much facematch's is the greater."""
    points = (error_rates.operating_points(compared, FMRS, replicates, seed) for compared in (ours, raw))
    less = error_rates.differences(ours, raw, FMRS, replicates, seed)
    table(
        ("FMR", "FNMR", "95 % interval", "raw", "95 % interval", "difference", "95 % interval", "impostor pairs"),
        [
            (
                f"{own.fmr:g}",
                f"{own.fnmr.value:.4f}",
                f"{own.fnmr.least:.4f} to {own.fnmr.most:.4f}",
                f"{other.fnmr.value:.4f}",
                f"{other.fnmr.least:.4f} to {other.fnmr.most:.4f}",
                f"{difference.value:+.4f}",
                f"{difference.least:+.4f} to {difference.most:+.4f}",
                _supported(own, ours),
            )
            for own, other, difference in zip(*points, less, strict=True)
        ],
    )
    print(f"At {policy.threshold_ppm / _PPM:.3f}: {_rates_at(ours, policy)}; raw {_rates_at(raw, policy)}")


def _share(embeddings: Sequence[Embedding | None]) -> str:
    failed = sum(embedding is None for embedding in embeddings)
    return f"{failed} of {len(embeddings)} ({failed / len(embeddings) if embeddings else 0.0:.2%})"


def _say_left_out(left_out: Sequence[str], what: str) -> None:
    if left_out:
        print(f"\n{what} left out: {len(left_out)}")
        for line in left_out[:_SHOWN]:
            # A file's name may be no text at all.
            print(f"  {line.encode(errors='backslashreplace').decode()}")
        if len(left_out) > _SHOWN:
            print(f"  and {len(left_out) - _SHOWN} more")


async def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0, or 2 when there is nothing to compare."""
    asked = _asked(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    telemetry.start("bench", log_level="error", otlp_endpoint=None)
    policy = policies.load(POLICIES_FILE)[asked.policy]
    rule = policy.document_rule
    if asked.min_face_px is not None:
        rule = replace(rule, min_face_px=asked.min_face_px)

    pictures, left_out = face_images.pictures_in(asked.images)
    people = Counter(picture.person for picture in pictures)
    print(f"{len(pictures)} pictures of {len(people)} people, {sum(n > 1 for n in people.values())} with several")
    _say_left_out(left_out, "Files")
    if asked.pairs is None:
        pairs = face_images.pairs_of(pictures, asked.impostors, asked.seed)
    else:
        pairs, unread = face_images.pairs_in(asked.pairs, pictures, asked.images)
        _say_left_out(unread, "Lines")

    enrolled = await enrol(pictures, rule, asked.workers)
    print(f"\nFailures to enrol: {_share(enrolled.embeddings)}")
    for reason, count in enrolled.faults.most_common():
        print(f"  {reason}: {count}")

    used, compared = compare(pictures, enrolled.embeddings, pairs)
    print(f"\n{len(used)} of {len(pairs)} pairs compared: {int(compared.same.sum())} of one person,", end=" ")
    print(f"{int((~compared.same).sum())} of two (seed {asked.seed})")
    if not len(compared.genuine) or not len(compared.impostors):
        print("Rates need pairs of one person and pairs of two.", file=sys.stderr)
        return 2
    points = error_rates.operating_points(compared, FMRS, asked.replicates, asked.seed)
    print_rates(compared, points, policy)

    if asked.raw:
        embeddings = await asyncio.to_thread(enrol_raw, pictures, rule.min_score_ppm / _PPM)
        shared, raw = compare(pictures, embeddings, used)
        _, ours = compare(pictures, enrolled.embeddings, shared)
        print(f"\nRaw: OpenCV {cv2.__version__}'s own YuNet and SFace,", end=" ")
        print("the largest central face, no gate of size or quality")
        print(f"Failures to enrol: {_share(embeddings)}")
        print(f"FNMR over the {len(shared)} pairs that both could use, each at a threshold of its own:\n")
        if len(raw.genuine) and len(raw.impostors):
            print_beside_raw(ours, raw, asked.replicates, asked.seed, policy)
        write_scores(asked.out / "scores_raw.csv", pictures, shared, raw)

    write_scores(asked.out / "scores.csv", pictures, used, compared)
    draw(asked.out / "det.png", compared, points)
    print(f"Written: {asked.out / 'scores.csv'}, {asked.out / 'det.png'}")
    return 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.facematch_accuracy", description="Error rates of facematch")
    parser.add_argument("--images", type=_folder, required=True, help="a folder per person, or Person_Name_0001.jpg")
    parser.add_argument("--pairs", type=_file, help="lines a,b,same (1 or 0)")
    parser.add_argument("--out", type=Path, default=Path("var/facematch_accuracy"), help="where plot and scores go")
    parser.add_argument("--policy", default="sandbox-standard", choices=sorted(policies.load(POLICIES_FILE)))
    parser.add_argument("--min-face-px", type=int, help="in place of the policy's; says what smaller faces would do")
    parser.add_argument("--raw", action="store_true", help="OpenCV's own models on the same pairs, beside")
    parser.add_argument("--impostors", type=int, default=500_000, help="at most so many pairs of two people")
    parser.add_argument("--replicates", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(arguments)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no file")
    return path


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
