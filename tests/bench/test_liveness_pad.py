import csv
import shutil
from pathlib import Path

import pytest

from bench import liveness_pad
from bench.evaluation import FailedCommand, Row, page_of
from bench.liveness_clip import Outcome, shipped_policies
from bench.liveness_pad import BONA_FIDE, Clip, Scored, rates
from tests.samples import assets_folder

POLICIES = [policy.id for policy in shipped_policies()]


def scored(species: str, *, passed: bool) -> Scored:
    return Scored(Clip(species, Path("clip.avi")), Outcome("policy", True, passed, "", 0.5, {}, 20, 20, 0))


def test_errors_are_attacks_that_pass_and_people_who_do_not() -> None:
    said = [scored("print", passed=True), *[scored("print", passed=False)] * 3]
    said += [scored(BONA_FIDE, passed=False), *[scored(BONA_FIDE, passed=True)] * 4]
    of = rates(said, "policy", script_free=True)
    assert {species: (rate.count, rate.of) for species, rate in of.items()} == {"print": (1, 4), BONA_FIDE: (1, 5)}
    assert not rates(said, "another policy", script_free=True)
    assert not rates(said, "policy", script_free=False)


@pytest.mark.parametrize("attack", ["print", "=folder", "print=", f"{BONA_FIDE}=folder"])
def test_an_attack_has_a_name_and_a_folder(attack: str) -> None:
    with pytest.raises(SystemExit):
        liveness_pad.parser().parse_args(["--bona-fide", "folder", "--attack", attack])


@pytest.mark.parametrize("script_free", [True, False])
def test_the_command_scores_clips_it_has_never_seen_and_survives_garbage(
    script_free: bool, genuine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people, films = tmp_path / "people", tmp_path / "films"
    people.mkdir()
    films.mkdir()
    shutil.copy(genuine / "woman_small.avi", people)
    shutil.copy(genuine / "man_small.avi", films)
    (people / "broken.mp4").write_bytes(b"no film")
    (people / "notes.txt").write_text("notes")
    arguments = ["--bona-fide", str(people), "--attack", f"film={films}", "--out", str(tmp_path / "out")]
    arguments += ["--workers", "1", "--models", str(assets_folder() / "models")]
    assert liveness_pad.main([*arguments, *(["--script-free"] if script_free else [])]) == 0

    printed = capsys.readouterr().out
    assert "2 files or folders could not be used" in printed
    assert "APCER" in printed
    assert "BPCER" in printed
    assert ("cannot know what is asked" in printed) is not script_free
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted((line["species"], line["policy"]) for line in lines) == sorted(
        (species, policy) for species in (BONA_FIDE, "film") for policy in POLICIES
    )
    assert all(float(line["MODEL_A"]) > 0 for line in lines if script_free)
    if not script_free:
        # A second of film answers no script.
        assert {line["passed"] for line in lines} == {"0"}
    assert all((tmp_path / "out" / f"{policy}.png").stat().st_size > 0 for policy in POLICIES)


def test_with_nothing_to_score_the_command_says_so(tmp_path: Path) -> None:
    arguments = ["--bona-fide", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert liveness_pad.main([*arguments, "--models", str(assets_folder() / "models")]) == 2


def test_the_page_splits_by_person_and_names_what_failed() -> None:
    rows = [
        Row("print", "woman", "woman_000.avi", "policy", script_free=True, passed=True, why="", frames=20),
        Row("print", "man", "man_000.avi", "policy", script_free=True, passed=False, why="GRID", frames=21),
        Row(BONA_FIDE, "man", "man_dark.avi", "policy", script_free=True, passed=False, why="MODEL_B", frames=22),
        Row("print", "woman", "woman_000.avi", "policy", script_free=False, passed=False, why="TIMEOUT", frames=20),
        Row("print", "man", "man_000.avi", "policy", script_free=False, passed=False, why="TIMEOUT", frames=21),
        Row(BONA_FIDE, "man", "man_dark.avi", "policy", script_free=False, passed=False, why="TIMEOUT", frames=22),
    ]
    page = page_of(rows, {"face-swap/man_001.avi": "no face to swap"}, FailedCommand("no model"))
    assert "| print | APCER | 1 of 1 | 0 of 1 | 1 of 2 | 1.3% to 98.7% |" in page
    assert "| bona fide | BPCER | 0 of 0 | 1 of 1 | 1 of 1 |" in page
    assert "not reached by print. The genuine windows do not keep to a BPCER of 5%." in page
    assert "- print: woman_000.avi" in page
    assert "- bona fide: man_dark.avi (MODEL_B)" in page
    assert "face-swap/man_001.avi: no face to swap" in page
    assert "It was not run for this page: the command failed (no model)." in page
    whole = page.partition("against fresh scripts")[2]
    assert "| print | APCER | 0 of 1 | 0 of 1 | 0 of 2 |" in whole
    assert "all reach it" in whole
    assert BONA_FIDE not in whole


def test_the_page_says_nothing_of_the_machine_it_was_written_on() -> None:
    row = Row(BONA_FIDE, "man", "man_000.avi", "policy", script_free=True, passed=True, why="", frames=20)
    page = page_of([row], {}, "EER 0.0000\nWritten: /somewhere/scores.csv\n")
    assert "EER 0.0000" in page
    assert "/somewhere" not in page
