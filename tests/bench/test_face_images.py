"""What a folder of pictures is taken for, whatever else lies in it."""

import os
import unicodedata
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


def test_what_is_no_file_is_listed(folder: Path) -> None:
    os.mkfifo(folder / "pipe_0001.jpg")
    (folder / "dangling_0001.jpg").symlink_to(folder / "nowhere")
    (folder / "linked").symlink_to(folder / "person three")
    (folder / "loop").symlink_to(folder)
    (folder / "folder.jpg").mkdir()
    pictures, left_out = pictures_in(folder)
    assert len(pictures) == 6
    assert [line for line in left_out if "by its name" not in line] == [
        "dangling_0001.jpg: no file",
        "linked: a link to a folder",
        "loop: a link to a folder",
        "pipe_0001.jpg: no file",
    ]


def test_a_folder_that_cannot_be_read_is_listed(folder: Path) -> None:
    """Its path is longer than the kernel takes: not even root may read that."""
    name, at = "n" * 200, os.open(folder, os.O_DIRECTORY)
    for _ in range(25):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    pictures, left_out = pictures_in(folder)
    assert len(pictures) == 6
    assert [line[-25:] for line in left_out if line.startswith(name)] == [": not read (OSError)"[-25:].rjust(25, "n")]


def test_names_are_compared_as_unicode_sees_them_and_may_be_no_text(folder: Path) -> None:
    name = "Әлия Жұмабаева й_0001"
    (folder / unicodedata.normalize("NFD", f"{name}.jpg")).write_bytes(b"")
    (folder / os.fsdecode(b"\xff\xfe_0001.jpg")).write_bytes(b"")
    pictures, _ = pictures_in(folder)
    assert len(pictures) == 8
    file = folder / "pairs.csv"
    file.write_text(f"{unicodedata.normalize('NFC', name)},Marat_0001,0\n")
    pairs, left_out = pairs_in(file, pictures, folder)
    assert (len(pairs), left_out) == (1, [])


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


@pytest.mark.parametrize(
    "line",
    [
        b'"never closed,Marat_0001,1',
        b"\xff\xfe\x00\x00",
        b"Marat_0001,Marat_0001.png,1",
        b"Marat_0001,Portrait",
        b"Marat_0001,Portrait,1,1",
        b"Marat_0001,Portrait,maybe",
        b"Marat_0001;Portrait;1",
        b"Marat_0001,../Portrait.jpg,1",
        b"Marat_0001," + b"x" * 200_000 + b",1",
    ],
)
def test_a_line_that_is_wrong_is_listed_and_spoils_no_other(folder: Path, line: bytes) -> None:
    pictures, _ = pictures_in(folder)
    file = folder / "pairs.csv"
    file.write_bytes(b"a,b,same\n" + line + b"\nMarat_0001,Portrait,0\n")
    pairs, left_out = pairs_in(file, pictures, folder)
    assert pairs == [Pair(2, 3, same=False)]
    assert [left[:17] for left in left_out] == ["pairs.csv line 2:"]
    assert all(len(left) < 300 for left in left_out)


def test_a_name_that_two_pictures_have_means_neither(tmp_path: Path) -> None:
    for person in ("one", "two"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "front.jpg").write_bytes(b"")
    pictures, _ = pictures_in(tmp_path)
    file = tmp_path / "pairs.csv"
    file.write_text("front.jpg,two/front.jpg,0\none/front.jpg,two/front.jpg,0\n")
    pairs, left_out = pairs_in(file, pictures, tmp_path)
    assert (pairs, len(left_out)) == ([Pair(0, 1, same=False)], 1)
