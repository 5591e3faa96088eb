"""The command on a folder that it has never seen, with garbage in it."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench import facematch_accuracy
from bench.error_rates import Compared, operating_points
from mesh.worker import WorkerLostError, WorkerPool
from services.facematch import policies
from services.facematch.pictures import FaceRule
from services.facematch.workers import FaceWorkers
from tests import samples

pytestmark = pytest.mark.model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people, in colour, grey and small; a picture of nobody, a cut one, and what is none."""
    woman, man = samples.clip_frames("woman.mp4"), samples.clip_frames("man.mp4")
    astronaut = cv2.imread(str(samples.assets_folder() / "samples" / "astronaut.png"))
    assert astronaut is not None
    pictures = {
        "Woman_0001.jpg": woman[samples.WOMAN_NEUTRAL],
        "Woman_0002.jpg": cv2.cvtColor(woman[samples.WOMAN_SMILES], cv2.COLOR_BGR2GRAY),
        "Woman_0003.jpg": cv2.resize(woman[samples.WOMAN_TILTS], None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
        "Man_0001.png": man[samples.MAN_NEUTRAL],
        "Man_0002.png": man[samples.MAN_SMILES],
        "Astronaut_0001.png": astronaut,
        "Nobody_0001.jpg": samples.clip_frames("nobody.mp4")[0],
    }
    images = tmp_path / "images"
    images.mkdir()
    for name, picture in pictures.items():
        assert cv2.imwrite(str(images / name), picture)
    (images / "Cut_0001.jpg").write_bytes((images / "Woman_0001.jpg").read_bytes()[:2000])
    (images / "Text_0001.jpg").write_text("no picture")
    (images / "LICENCE").write_text("no picture either")
    return images


async def test_tells_the_rates_of_pictures_that_it_has_never_seen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["--images", str(folder), "--out", str(out), "--workers", "1", "--replicates", "20"]
    assert await facematch_accuracy.main(asked) == 0
    said = capsys.readouterr().out
    assert "9 pictures of 6 people, 2 with several" in said
    assert "Files left out: 1\n  LICENCE" in said
    assert "Failures to enrol: 3 of 9 (33.33%)" in said
    assert "unreadable: 2" in said
    assert "no_face: 1" in said
    assert "EER 0.0000" in said
    assert "too few (11)" in said
    with (out / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == 15
    assert all((float(row["similarity"]) >= 0.425) == (row["same"] == "1") for row in scores)
    assert (out / "det.png").read_bytes().startswith(b"\x89PNG")


async def test_survives_whatever_lies_in_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "Woman_0001.jpg").read_bytes()
    garbage = {
        "empty_0001.jpg": b"",
        "head_0001.jpg": whole[:3],
        "one pixel_0001.png": cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(),
        "bitmap_0001.jpg": cv2.imencode(".bmp", np.zeros((99, 99, 3), np.uint8))[1].tobytes(),
        "Ұлы Әже_0001.jpg": whole,
        "a/b/c/deep.jpg": whole,
        os.fsdecode(b"\xff_0001.jpg"): b"no picture",
        **{f"large_{number:04d}.jpg": bytes(3 << 20) for number in range(9)},
    }
    for name, content in garbage.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    asked = ["--images", str(folder), "--out", str(tmp_path / "out"), "--workers", "1", "--replicates", "5"]
    assert await facematch_accuracy.main(asked) == 0
    said = capsys.readouterr().out
    assert "Failures to enrol: 17 of 25" in said
    assert "  too_large: 9\n  unreadable: 6\n" in said
    assert "  too_small: 1\n" in said


async def test_sets_the_raw_models_on_the_same_pairs_beside(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one pixel_0001.png").write_bytes(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
    (folder / "large_0001.jpg").write_bytes(bytes(3 << 20))
    out = tmp_path / "out"
    asked = ["--images", str(folder), "--out", str(out), "--workers", "1", "--replicates", "20", "--raw"]
    assert await facematch_accuracy.main(asked) == 0
    ours, raw = capsys.readouterr().out.split("\nRaw: ")
    assert "Failures to enrol: 5 of 11" in ours
    assert "Failures to enrol: 5 of 11" in raw
    assert "FNMR over the 15 pairs that both could use" in raw
    assert raw.count("+0.0000   +0.0000 to +0.0000     too few (11)") == len(facematch_accuracy.FMRS)
    assert "At 0.425: FMR 0.00e+00, FNMR 0.0000; raw FMR 0.00e+00, FNMR 0.0000" in raw
    scores, raw_scores = ((out / name).read_text().splitlines() for name in ("scores.csv", "scores_raw.csv"))
    assert [line.rpartition(",")[0] for line in scores] == [line.rpartition(",")[0] for line in raw_scores]
    assert scores != raw_scores


async def test_rates_beside_are_of_pairs_that_both_could_use(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one of them refuses is no advantage to it."""
    asked = ["--images", str(folder), "--out", str(tmp_path / "out"), "--workers", "1", "--replicates", "2", "--raw"]
    assert await facematch_accuracy.main([*asked, "--min-face-px", "100"]) == 0
    ours, raw = capsys.readouterr().out.split("\nRaw: ")
    assert "face_too_small: 2" in ours
    assert "Failures to enrol: 5 of 9" in ours
    assert "Failures to enrol: 3 of 9" in raw
    assert "FNMR over the 6 pairs that both could use" in raw


async def test_a_picture_that_costs_a_worker_its_life_is_a_failure_to_enrol() -> None:
    """Of a batch it takes nobody else along."""

    class Fragile(WorkerPool):
        async def call(
            self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = (), *, continues: bool = False
        ) -> tuple[dict[str, Any], list[bytes]]:
            if b"poison" in blobs:
                raise WorkerLostError("the worker of this call was lost")
            return {"faults": ["no_face"] * len(blobs), "qualities": [[]] * len(blobs), "others": 0}, [b""] * len(blobs)

    reader, rule = FaceWorkers(Fragile("nothing:nowhere")), FaceRule(700_000, 48)
    answers = await facematch_accuracy._faces(reader, [b"one", b"poison", b"two"], rule)
    assert answers == ["no_face", "lost its worker", "no_face"]


def test_says_what_a_decade_further_would_take_and_that_it_is_extrapolated(capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(3)
    similarities = np.concatenate((chance.normal(0.7, 0.1, 2000), chance.normal(0.09, 0.09, 120_000)))
    same = np.arange(122_000) < 2000
    compared = Compared(similarities, same, chance.integers(0, 300, (122_000, 2)))
    points = operating_points(compared, facematch_accuracy.FMRS, 2, 1)
    strict = policies.load(facematch_accuracy.POLICIES_FILE)["sandbox-strict"]
    facematch_accuracy.print_rates(compared, points, strict)
    said = capsys.readouterr().out
    beyond = 2 * points[2].threshold - points[1].threshold
    assert f"FMR 1e-05 at {beyond:.3f}" in said
    assert "Extrapolated" in said
    facematch_accuracy.print_rates(compared, points[:2], strict)
    assert "Extrapolated" not in capsys.readouterr().out


async def test_compares_the_pairs_of_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Woman_0001.jpg,Woman_0002.jpg,1\nWoman_0001,Man_0001,0\nWoman_0001,Cut_0001,1\nnonsense\n")
    asked = ["--images", str(folder), "--pairs", str(pairs), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert await facematch_accuracy.main(asked) == 0
    said = capsys.readouterr().out
    assert "Lines left out: 1\n  pairs.csv line 4" in said
    assert "2 of 3 pairs compared: 1 of one person, 1 of two" in said


async def test_without_pairs_of_both_kinds_there_are_no_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert await facematch_accuracy.main(["--images", str(tmp_path / "empty"), "--workers", "1"]) == 2
    assert "Rates need pairs of one person and pairs of two." in capsys.readouterr().err
