"""Moves the registry's rows about people to a newer field key, while the registry is stopped.

Run as `python -m services.registry.rekey` with FINID_ENV, FINID_FIELD_KEY_FILE (the new key),
FINID_EARLIER_FIELD_KEY_FILES (those before it, the oldest first) and FINID_OWNER_DATABASE_URL_FILE. One transaction:
stopped at any point, it has done nothing. Safe to run again. `services.registry.reseal` does the rest.
"""

import argparse

from mesh.rekeying import rekey, run, to_stdout
from mesh.settings import FieldRekeySettings, read_secret
from services.registry.store import PSEUDONYM_TABLES, PeopleMoving


def main() -> None:
    """Move the rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = FieldRekeySettings.load()
    keys = settings.field_keys()
    owner_url = read_secret(settings.owner_database_url_file)
    moving = PeopleMoving(keys, to_stdout)
    run(lambda: rekey(owner_url, "registry", keys, PSEUDONYM_TABLES, moving.move, to_stdout))


if __name__ == "__main__":
    main()
