"""Files that are replaced while they are used: the new content counts without a restart, and nothing half done does."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh.mounted import Mounted, UnusableFilesError
from mesh.settings import secret_file

EVERY_S = 5.0


@dataclass
class Place:
    """One file with a number, and a clock that stands still."""

    folder: Path
    now_s: float = 0.0
    reads: int = 0

    @property
    def file(self) -> Path:
        return self.folder / "number"

    def mounted(self, **options: Any) -> Mounted[int]:
        return Mounted("number", [self.file], self._parse, every_s=EVERY_S, monotonic_s=lambda: self.now_s, **options)

    def _parse(self, contents: Sequence[bytes]) -> int:
        (content,) = contents
        self.reads += 1
        if not content.endswith(b"\n"):
            raise UnusableFilesError("LINE_HAS_NO_END", "the line has no end")
        return int(content)

    def later(self) -> None:
        self.now_s += EVERY_S


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.file.write_bytes(b"1\n")
    return made


def test_what_is_replaced_counts_from_the_next_look(place: Place) -> None:
    number = place.mounted()
    place.file.write_bytes(b"2\n")
    place.now_s += EVERY_S - 0.1
    assert number() == 1
    place.now_s += 0.1
    assert number() == 2


def test_the_swap_of_kubernetes_link_is_seen(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name, content in (("..1", b"1\n"), ("..2", b"2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "number").write_bytes(content)
        os.utime(tmp_path / name / "number", (0, 0))  # as equal as files can look without being read
    (tmp_path / "..data").symlink_to("..1")
    place.file.symlink_to("..data/number")
    number = place.mounted()
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    place.later()
    assert number() == 2


def test_a_half_written_file_changes_nothing_is_logged_once_and_counts_when_it_is_whole(place: Place) -> None:
    number = place.mounted()
    place.file.write_bytes(b"23")
    with capture_logs() as logged:
        for _ in range(3):
            place.later()
            assert number() == 1
        assert [(line["log_level"], line["event"], line["reason"]) for line in logged] == [
            ("error", "number not taken up, the earlier stays", "LINE_HAS_NO_END")
        ]
        place.file.write_bytes(b"23\n")
        place.later()
        assert number() == 23
    assert logged[-1]["event"] == "number taken up"


def test_a_file_that_is_gone_or_opened_to_others_changes_nothing(place: Place) -> None:
    place.file.chmod(0o400)
    number = place.mounted(require=secret_file)
    place.file.unlink()
    with capture_logs() as logged:
        place.later()
        assert number() == 1
        place.file.write_bytes(b"2\n")
        place.file.chmod(0o644)
        place.later()
        assert number() == 1
        place.file.chmod(0o400)
        place.later()
        assert number() == 2
    assert [line["log_level"] for line in logged] == ["error", "error", "info"]


def test_a_value_that_may_not_follow_the_earlier_one_does_not(place: Place) -> None:
    def only_larger(earlier: int, later: int) -> None:
        if later < earlier:
            raise UnusableFilesError("SMALLER", "it is smaller")

    number = place.mounted(succeeds=only_larger)
    place.file.write_bytes(b"0\n")
    place.later()
    assert number() == 1


def test_what_is_wrong_at_the_start_is_said_at_the_start(place: Place) -> None:
    place.file.write_bytes(b"no end")
    with pytest.raises(UnusableFilesError):
        place.mounted()


def test_nothing_of_a_content_that_a_parser_quotes_is_logged(place: Place) -> None:
    number = place.mounted()
    place.file.write_bytes(b"the secret\n")
    with capture_logs() as logged:
        place.later()
        assert number() == 1
    assert "the secret" not in str(logged)
    assert logged[0]["reason"] == "UNREADABLE"


def test_files_that_stay_are_parsed_once(place: Place) -> None:
    number = place.mounted()
    for _ in range(5):
        place.later()
        number()
    assert place.reads == 1
