"""Moves whom the authority's certificates are about to a newer field key, while the authority is stopped.

Run as `python -m services.ca.rekey` with FINID_ENV, FINID_FIELD_KEY_FILE (the new key), FINID_EARLIER_FIELD_KEY_FILES
(those before it, the oldest first) and FINID_OWNER_DATABASE_URL_FILE. One transaction: stopped at any point, it has
done nothing. Safe to run again. The audit gets an entry REKEYED. `services.ca.reseal` does the rest.
"""

import argparse

from mesh.rekeying import rekey, run, to_stdout
from mesh.settings import FieldRekeySettings, read_secret
from services.ca.store import PSEUDONYM_TABLES, SubjectMoving


def main() -> None:
    """Move the rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = FieldRekeySettings.load()
    keys = settings.field_keys()
    owner_url = read_secret(settings.owner_database_url_file)
    moving = SubjectMoving(keys, to_stdout)
    run(lambda: rekey(owner_url, "ca", keys, PSEUDONYM_TABLES, moving.move, to_stdout))


if __name__ == "__main__":
    main()
