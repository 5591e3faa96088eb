"""The evaluation's arithmetic and its reading of directories."""

from pathlib import Path

import numpy as np
import pytest

from bench.facematch_accuracy import (
    Pair,
    equal_error_rate,
    make_pairs,
    person_of,
    pictures_in,
    read_pairs,
    threshold_at,
)


@pytest.mark.parametrize(
    ("path", "person"),
    [
        ("Aaron_Peirsol_0001.jpg", "Aaron_Peirsol"),
        ("Aaron_Peirsol/Aaron_Peirsol_0001.jpg", "Aaron_Peirsol"),
        ("somebody/holiday/1.png", "somebody"),
        ("portrait.jpg", "portrait"),
    ],
)
def test_a_picture_is_of_its_folder_or_of_its_name(path: str, person: str) -> None:
    assert person_of(path) == person


def test_lists_what_is_no_picture(tmp_path: Path) -> None:
    for name in ("a/1.JPG", "a/notes.txt", ".hidden/2.jpg", "b_0001.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert pictures_in(tmp_path) == (["a/1.JPG", "b_0001.png"], ["a/notes.txt"])


def test_reads_pairs_and_names_lines_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("a,b,same\nx.jpg,y.jpg,1\nx.jpg, y.jpg ,0\nx.jpg,gone.jpg,1\nx.jpg,y.jpg,maybe\n\nx.jpg\n")
    pairs, bad = read_pairs(file, ["x.jpg", "y.jpg"])
    assert pairs == [Pair("x.jpg", "y.jpg", True), Pair("x.jpg", "y.jpg", False)]
    assert bad == ["line 4", "line 5", "line 7"]


def test_makes_all_genuine_pairs_and_draws_impostors_by_the_seed() -> None:
    pictures = [f"{person}_{number:04}.jpg" for person in "abcdefgh" for number in range(3)]
    pairs = make_pairs(pictures, 50, 1)
    assert sum(pair.same for pair in pairs) == 24
    assert len({(pair.a, pair.b) for pair in pairs if not pair.same}) == 50
    assert all(pair.same == (person_of(pair.a) == person_of(pair.b)) for pair in pairs)
    assert make_pairs(pictures, 50, 1) == pairs != make_pairs(pictures, 50, 2)
    assert sum(not pair.same for pair in make_pairs(pictures, 10_000, 1)) == 24 * 23 // 2 - 24


@pytest.mark.parametrize("rate", [1e-2, 1e-3, 0.0])
def test_no_more_impostors_pass_a_threshold_than_the_rate_allows(rate: float) -> None:
    impostor = np.random.default_rng(3).normal(size=1000)
    passing = int((impostor >= threshold_at(impostor, rate)).sum())
    assert passing == round(rate * 1000)


def test_the_equal_error_rate_is_where_both_rates_meet() -> None:
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.0
    assert equal_error_rate(np.array([0.1, 0.8, 0.9, 0.95]), np.array([0.0, 0.05, 0.2, 0.85])) == 0.25
