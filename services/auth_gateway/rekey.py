"""Moves the gateway's names of persons to a newer key, while the gateway is stopped.

Run as `python -m services.auth_gateway.rekey` with FINID_ENV, FINID_GATEWAY_KEY_FILE (the new key),
FINID_EARLIER_GATEWAY_KEY_FILES (those before it, the oldest first) and FINID_OWNER_DATABASE_URL_FILE. One transaction:
stopped at any point, it has done nothing. Safe to run again. `services.auth_gateway.reseal` does the rest.
"""

import argparse

from mesh.rekeying import rekey, run, to_stdout
from mesh.settings import read_secret
from services.auth_gateway.settings import RekeySettings
from services.auth_gateway.store import PSEUDONYM_TABLES, SubjectsMoving
from services.auth_gateway.subjects import SUBJECT_LABEL, Subjects


def main() -> None:
    """Move the rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = RekeySettings.load()
    keys = settings.gateway_keys()
    owner_url = read_secret(settings.owner_database_url_file)
    moving = SubjectsMoving(Subjects(keys.derived(SUBJECT_LABEL)), to_stdout)
    run(lambda: rekey(owner_url, "auth_gateway", keys, PSEUDONYM_TABLES, moving.move, to_stdout))


if __name__ == "__main__":
    main()
