"""Brings the schema of a room up to date: numbered SQL files, run by Alembic under the owner's role.

Run as `python -m mesh.migrate ROOM …` with FINID_OWNER_DATABASE_URL_FILE. Safe to run twice, and from several places at
once: an advisory lock lets one in, and each migration commits whole or not at all.
"""

import argparse
import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

_ROOT = Path(__file__).resolve().parent.parent
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('finid-migrate-' || :room, 0))")


def versions_of(room: str) -> Path:
    """Return the folder of a room's migrations; ValueError when the room has none."""
    versions = _ROOT / "services" / room / "migrations" / "versions"
    if not versions.is_dir():
        raise ValueError(f"{room} has no migrations")
    return versions


def migrate(room: str, owner_url: str) -> None:
    """Run what is missing of a room's migrations. `owner_url` is postgresql://…; the schema `room` must exist."""
    config = Config()
    config.set_main_option("script_location", str(_ROOT / "mesh" / "migrations"))
    config.set_main_option("version_locations", str(versions_of(room)))
    config.set_main_option("path_separator", "newline")
    engine = create_engine(owner_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.begin() as connection:
            connection.execute(_LOCK, {"room": room})
            config.attributes.update(connection=connection, schema=room)
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def main() -> None:
    """Migrate the rooms named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="+", metavar="ROOM")
    arguments = parser.parse_args()
    url_file = os.environ.get("FINID_OWNER_DATABASE_URL_FILE")
    if not url_file:
        sys.exit("FINID_OWNER_DATABASE_URL_FILE: must name the file with the owner's database URL")
    for room in arguments.rooms:
        try:
            migrate(room, Path(url_file).read_text(encoding="utf-8").strip())
        except (OSError, ValueError) as error:
            sys.exit(f"{room}: {error}")
        sys.stdout.write(f"{room}: up to date\n")


if __name__ == "__main__":
    main()
