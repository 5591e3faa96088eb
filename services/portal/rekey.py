"""Moves what is kept of client secrets to a newer key, while the portal is stopped.

Run as `python -m services.portal.rekey` with FINID_ENV, FINID_CLIENT_SECRET_KEY_FILE (the new key),
FINID_EARLIER_CLIENT_SECRET_KEY_FILES (those before it, the oldest first) and FINID_OWNER_DATABASE_URL_FILE. Every
secret stays valid. One transaction: stopped at any point, it has done nothing. Safe to run again. Counted attempts to
log in are forgotten with it.
"""

import argparse

from mesh.rekeying import rekey, run, to_stdout
from mesh.settings import read_secret
from services.portal.settings import RekeySettings
from services.portal.store import KEYED_TABLES, SecretsMoving


def main() -> None:
    """Move the rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = RekeySettings.load()
    keys = settings.client_secret_keys()
    owner_url = read_secret(settings.owner_database_url_file)
    moving = SecretsMoving(keys, to_stdout)
    run(lambda: rekey(owner_url, "portal", keys, KEYED_TABLES, moving.move, to_stdout))


if __name__ == "__main__":
    main()
