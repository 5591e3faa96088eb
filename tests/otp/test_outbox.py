"""The development outbox: whole files, for their owner only."""

import asyncio
import json
import stat
from pathlib import Path

import pytest

from services.otp.delivery import SmsUnavailableError
from services.otp.outbox import Outbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outbox"
    made.mkdir(mode=0o700)
    return made


def test_each_sms_is_a_file_for_its_owner_only(folder: Path) -> None:
    outbox = Outbox(folder)
    first = asyncio.run(outbox.send("+77010000001", "Код: 123456", 300))
    second = asyncio.run(outbox.send("+77010000001", "Код: 654321", 300))
    files = sorted(folder.iterdir())
    assert [file.name.partition("-")[2] for file in files] == [f"{first.reference}.json", f"{second.reference}.json"]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert json.loads(files[1].read_text()) == {"to": "+77010000001", "text": "Код: 654321", "valid_s": 300}


def test_a_folder_that_went_away_is_a_provider_that_took_nothing(folder: Path) -> None:
    outbox = Outbox(folder)
    folder.rmdir()
    with pytest.raises(SmsUnavailableError):
        asyncio.run(outbox.send("+77010000001", "Код: 123456", 300))


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770])
def test_a_folder_open_to_others_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(ValueError, match="0700"):
        Outbox(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a folder"):
        Outbox(tmp_path / "nothing")
