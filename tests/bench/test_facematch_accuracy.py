"""The command on a folder that it has never seen, with garbage in it."""

import csv
from pathlib import Path

import cv2
import pytest

from bench import facematch_accuracy
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
