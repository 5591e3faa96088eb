"""What a folder of pictures is taken for, whatever else lies in it."""

from pathlib import Path

import pytest

from bench.face_images import Pair, Picture, pairs_in, pairs_of, pictures_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "Aigerim_Serikova_0001.jpg",
        "Aigerim_Serikova_0002.JPG",
        "Marat_0001.png",
        "Portrait.jpg",
        ".hidden.jpg",
        "readme.txt",
        "person three/a.jpeg",
        "person three/b.jpg",
        "person three/notes.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_people_are_told_by_folders_and_by_names(folder: Path) -> None:
    pictures, _ = pictures_in(folder)
    assert [(picture.path.name, picture.person) for picture in pictures] == [
        ("Aigerim_Serikova_0001.jpg", "Aigerim_Serikova"),
        ("Aigerim_Serikova_0002.JPG", "Aigerim_Serikova"),
        ("Marat_0001.png", "Marat"),
        ("Portrait.jpg", "Portrait"),
        ("a.jpeg", "person three"),
        ("b.jpg", "person three"),
    ]


def test_everything_else_is_listed(folder: Path) -> None:
    _, left_out = pictures_in(folder)
    assert [line.partition(":")[0] for line in left_out] == ["person three/notes.csv", "readme.txt"]


def test_all_pairs_of_one_person_and_a_sample_of_two(folder: Path) -> None:
    pictures, _ = pictures_in(folder)
    every = pairs_of(pictures, impostors=100, seed=1)
    assert {(pair.one, pair.other) for pair in every if pair.same} == {(0, 1), (4, 5)}
    assert len([pair for pair in every if not pair.same]) == 13
    assert all((pictures[pair.one].person == pictures[pair.other].person) == pair.same for pair in every)


def test_a_sample_is_the_seeds_and_holds_no_pair_twice() -> None:
    pictures = [Picture(Path(f"{number}.jpg"), str(number // 2)) for number in range(200)]
    drawn = pairs_of(pictures, impostors=500, seed=7)
    assert drawn == pairs_of(pictures, impostors=500, seed=7)
    assert drawn != pairs_of(pictures, impostors=500, seed=8)
    assert len(set(drawn)) == len(drawn) == 100 + 500


def test_a_file_of_pairs_names_pictures_by_path_or_name(folder: Path) -> None:
    pictures, _ = pictures_in(folder)
    file = folder / "pairs.csv"
    file.write_text(
        "first,second,same\n"
        "Aigerim_Serikova_0001.jpg,Aigerim_Serikova_0002,1\n"
        "\n"
        "person three/a.jpeg, Marat_0001.png ,0\n"
        "Marat_0001,nobody,0\n"
        "only,two\n"
        "a,b,2\n"
    )
    pairs, left_out = pairs_in(file, pictures, folder)
    assert pairs == [Pair(0, 1, same=True), Pair(4, 2, same=False)]
    assert [line.partition(":")[0] for line in left_out] == [f"pairs.csv line {line}" for line in (5, 6, 7)]


def test_a_name_that_two_pictures_have_means_neither(tmp_path: Path) -> None:
    for person in ("one", "two"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "front.jpg").write_bytes(b"")
    pictures, _ = pictures_in(tmp_path)
    file = tmp_path / "pairs.csv"
    file.write_text("front.jpg,two/front.jpg,0\none/front.jpg,two/front.jpg,0\n")
    pairs, left_out = pairs_in(file, pictures, tmp_path)
    assert (pairs, len(left_out)) == ([Pair(0, 1, same=False)], 1)
