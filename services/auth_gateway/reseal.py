"""Seals the gateway's values anew under its newest key, while the gateway runs.

Run as `python -m services.auth_gateway.reseal [--status]` with FINID_ENV, FINID_GATEWAY_KEY_FILE,
FINID_EARLIER_GATEWAY_KEY_FILES and FINID_OWNER_DATABASE_URL_FILE: the gateway's own role may not write what was sealed.
It does nothing before `services.auth_gateway.rekey` has moved the rows to these keys: the gateway would not have them.
Safe to stop at any point and to run again. A row that the gateway is writing just then is left for the next run:
`--status` tells whether there is any.
"""

import argparse

from mesh.postgres import Database
from mesh.pseudonyms import require_stamped
from mesh.rekeying import run, to_stdout
from mesh.resealing import reseal
from mesh.settings import read_secret
from services.auth_gateway.settings import RekeySettings
from services.auth_gateway.store import SEALED_COLUMNS


def main() -> None:
    """Seal anew, or count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status", action="store_true", help="only count how many values each key has sealed")
    only_count: bool = parser.parse_args().status
    settings = RekeySettings.load()
    keys, url = settings.gateway_keys(), read_secret(settings.owner_database_url_file)

    async def work() -> int:
        database = await Database.open(url, service="auth_gateway-reseal", max_connections=1)
        try:
            if not only_count:
                # Nothing is sealed under a key that the gateway, as it may run, does not have.
                await require_stamped(database, "auth_gateway", keys, waits=False)
            return await reseal(database, keys, SEALED_COLUMNS, to_stdout, only_count=only_count)
        finally:
            await database.close()

    run(work)


if __name__ == "__main__":
    main()
