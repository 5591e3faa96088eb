"""The sandbox's people: made up, consistent, put in by a command that says what they are."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.database import Database
from mesh import base64url
from services.registry.sandbox import SandboxPeopleError, read_people, with_photos
from tests.bundles import digest_of

PHOTO = b"\xff\xd8\xff\xe0 somebody"


def index_of(folder: Path, portraits: tuple[str, ...] = ("woman", "man", "astronaut"), photo: bytes = PHOTO) -> Path:
    """An index of photos as deploy/local/assets writes it."""
    entries = []
    for portrait in portraits:
        (folder / f"{portrait}.jpg").write_bytes(photo)
        entries.append(
            {"person": portrait, "photo": f"{portrait}.jpg", "photo_sha256": hashlib.sha256(photo).hexdigest()}
        )
    index = folder / "people.json"
    index.write_text(json.dumps({"people": entries}))
    return index


def test_people_are_consistent_and_one_has_no_trusted_phone() -> None:
    people = read_people()
    assert [person.portrait for person in people] == ["woman", "man", "astronaut"]
    assert len({person.iin for person in people}) == len(people)
    assert [bool(person.phone) for person in people] == [True, True, False]


def test_names_come_in_kazakh_and_russian_cyrillic_and_in_latin() -> None:
    kazakh, russian, _ = read_people()
    assert set("әғқңөұүһі") & set(f"{kazakh.family_name}{kazakh.patronymic}".lower())
    assert russian.patronymic == "Сергеевич"
    assert all(person.family_name_latin.isascii() for person in read_people())


@pytest.mark.parametrize(
    "change",
    [
        {"iin": "930514400421"},
        {"birth_date": "1993-05-15"},
        {"iin": "930514700420"},
        {"phone": "87000000001"},
        {"phone": ""},
        {"phone_since": 0},
    ],
)
def test_inconsistent_people_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SandboxPeopleError):
        replace(read_people()[0], **change)


def test_each_person_gets_the_photo_of_the_portrait(tmp_path: Path) -> None:
    seedings = with_photos(read_people(), index_of(tmp_path))
    assert [seeding.photo_jpeg for seeding in seedings] == [PHOTO] * 3


def test_a_missing_a_changed_and_a_foreign_photo_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxPeopleError, match="no such portrait"):
        with_photos(read_people(), index_of(tmp_path, ("woman",)))
    index = index_of(tmp_path)
    (tmp_path / "man.jpg").write_bytes(PHOTO + b"!")
    with pytest.raises(SandboxPeopleError, match="not the one"):
        with_photos(read_people(), index)
    with pytest.raises(SandboxPeopleError, match="must be a JPEG"):
        with_photos(read_people(), index_of(tmp_path, photo=b"GIF89a"))


def run(folder: Path, database: Database, **changed: str) -> subprocess.CompletedProcess[str]:
    for name, content in (("key", base64url.encode(digest_of("field key"))), ("url", database.owner_url)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(content)
        (folder / name).chmod(0o400)
    environment = {
        "PATH": os.environ["PATH"],
        "FINID_ENV": "sandbox",
        "FINID_FIELD_KEY_FILE": str(folder / "key"),
        "FINID_OWNER_DATABASE_URL_FILE": str(folder / "url"),
        **changed,
    }
    command = [sys.executable, "-m", "services.registry.sandbox", "--people", str(index_of(folder))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.postgres
def test_the_command_puts_the_people_in_and_may_run_again(database: Callable[..., Database], tmp_path: Path) -> None:
    made = database("registry")
    for _ in range(2):
        done = run(tmp_path, made)
        assert done.returncode == 0, done.stderr
        assert "SANDBOX" in done.stdout
        assert "No state source is connected" in done.stdout
        assert all(person.iin in done.stdout for person in read_people())
    with psycopg.connect(made.owner_url) as owner:
        counted = owner.execute("SELECT count(*) FROM registry.people").fetchone()
    assert counted == (len(read_people()),)


def test_production_refuses_the_command(tmp_path: Path) -> None:
    done = run(tmp_path, Database("postgresql://x@127.0.0.1:1/x", "x", {"finid_owner": "x"}), FINID_ENV="production")
    assert done.returncode != 0
    assert "env" in done.stderr
