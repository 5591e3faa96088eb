"""Fills the sandbox's state source with made-up people and the photos of the sample people.

Run as `python -m services.registry.sandbox --people FOLDER/people.json` with FINID_ENV, FINID_FIELD_KEY_FILE and
FINID_OWNER_DATABASE_URL_FILE: the registry's own role may only read people. Safe to run again.
"""

import argparse
import asyncio
import hashlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mesh import strict_json
from mesh.errors import FinIdError
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.settings import FieldKeySettings, SecretFile, read_secret
from services.registry import iin as iins
from services.registry.locator import Locator
from services.registry.source import MAX_PHOTO_BYTES
from services.registry.store import FIELD_LABEL, SandboxRegister

PEOPLE_FILE = Path(__file__).with_name("sandbox_people.json")
_MAX_PEOPLE_BYTES = 1024 * 1024
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_JPEG_START = b"\xff\xd8\xff"


class SandboxPeopleError(Exception):
    """The people cannot be used; says whose entry and why. They are made up, so their data may be shown."""


@dataclass(frozen=True, slots=True)
class SandboxPerson:
    """One made-up person. `portrait` names the photo; `phone` is '' for a person without a trusted phone."""

    portrait: str
    iin: str
    family_name: str
    given_name: str
    patronymic: str
    family_name_latin: str
    given_name_latin: str
    birth_date: str
    document_kind: str
    document_number: str
    document_issue_date: str
    document_expiry_date: str
    phone: str
    phone_since: int

    def __post_init__(self) -> None:
        carried = iins.birth_date(self.iin) if iins.is_checksummed(self.iin) else None
        if carried is None or carried.isoformat() != self.birth_date:
            raise SandboxPeopleError(f"{self.portrait}: the IIN's check digit or birth date is wrong")
        if bool(self.phone) != bool(self.phone_since) or (self.phone and not _E164.fullmatch(self.phone)):
            raise SandboxPeopleError(f"{self.portrait}: the phone must be E.164 with the time since when")


@dataclass(frozen=True, slots=True)
class SandboxPeople:
    """The whole file."""

    people: tuple[SandboxPerson, ...]


@dataclass(frozen=True, slots=True)
class Seeding:
    """A person with the photo."""

    person: SandboxPerson
    photo_jpeg: bytes = field(repr=False)


class SandboxSettings(FieldKeySettings):
    """What this command reads from the environment."""

    env: Literal["sandbox"]
    owner_database_url_file: SecretFile


def read_people(path: Path = PEOPLE_FILE) -> tuple[SandboxPerson, ...]:
    """Return the made-up people. Raises SandboxPeopleError, or StrictJsonError for a file of another shape."""
    parsed = strict_json.parse(path.read_bytes(), max_bytes=_MAX_PEOPLE_BYTES)
    return strict_json.read(SandboxPeople, parsed).people


def with_photos(people: tuple[SandboxPerson, ...], index_file: Path) -> tuple[Seeding, ...]:
    """Return each person with the photo that the index of the sample people names. Raises SandboxPeopleError."""
    entries = {entry["person"]: entry for entry in json.loads(index_file.read_text(encoding="utf-8"))["people"]}
    seedings = []
    for person in people:
        if person.portrait not in entries:
            raise SandboxPeopleError(f"{person.portrait}: {index_file.name} has no such portrait")
        entry = entries[person.portrait]
        photo_jpeg = (index_file.parent / entry["photo"]).read_bytes()
        if hashlib.sha256(photo_jpeg).hexdigest() != entry["photo_sha256"]:
            raise SandboxPeopleError(f"{person.portrait}: the photo is not the one that {index_file.name} describes")
        if not photo_jpeg.startswith(_JPEG_START) or len(photo_jpeg) > MAX_PHOTO_BYTES:
            raise SandboxPeopleError(f"{person.portrait}: the photo must be a JPEG of at most {MAX_PHOTO_BYTES} bytes")
        seedings.append(Seeding(person, photo_jpeg))
    return tuple(seedings)


async def seed(settings: SandboxSettings, seedings: tuple[Seeding, ...]) -> None:
    """Put the people into the database, over what was there of them."""
    database = await Database.open(read_secret(settings.owner_database_url_file), service="registry-sandbox")
    try:
        keys = settings.field_keys()
        await require_stamped(database, "registry", keys, waits=False)
        register = SandboxRegister(database, keys.seal(FIELD_LABEL), Locator(*keys.keys))
        for seeding in seedings:
            await register.put(seeding.person.iin, _columns(seeding))
    finally:
        await database.close()


def _columns(seeding: Seeding) -> dict[str, bytes]:
    person = seeding.person
    return {
        "family_name": person.family_name.encode(),
        "given_name": person.given_name.encode(),
        "patronymic": person.patronymic.encode(),
        "family_name_latin": person.family_name_latin.encode(),
        "given_name_latin": person.given_name_latin.encode(),
        "birth_date": person.birth_date.encode(),
        "document_kind": person.document_kind.encode(),
        "document_number": person.document_number.encode(),
        "document_issue_date": person.document_issue_date.encode(),
        "document_expiry_date": person.document_expiry_date.encode(),
        "phone": person.phone.encode(),
        "phone_since": str(person.phone_since).encode() if person.phone else b"",
        "photo_jpeg": seeding.photo_jpeg,
    }


def main() -> None:
    """Fill the sandbox."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=Path, required=True, help="people.json of the sample people's photos")
    index_file: Path = parser.parse_args().people
    try:
        seedings = with_photos(read_people(), index_file)
        asyncio.run(seed(SandboxSettings(), seedings))
    except (SandboxPeopleError, PseudonymKeysError, OSError, ValueError, FinIdError) as error:
        sys.exit(f"the sandbox's people were not put in: {error}")
    sys.stdout.write(
        "SANDBOX: the registry now answers for made-up people. No state source is connected, and nothing that FinID\n"
        "confirms about them is true of anybody.\n"
    )
    for seeding in seedings:
        person = seeding.person
        sys.stdout.write(f"  {person.portrait}: IIN {person.iin}, phone {person.phone or 'none'}\n")


if __name__ == "__main__":
    main()
