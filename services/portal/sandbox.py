"""Makes the sandbox's one participant and its application.

Run as `python -m services.portal.sandbox --secret-file FILE` with FINID_ENV, FINID_CLIENT_SECRET_KEY_FILE and
FINID_OWNER_DATABASE_URL_FILE: the portal's own role may only read applications. Safe to run again: the file decides.
It is made (mode 0400) when it is missing, and the secret in it becomes the application's only one.
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from mesh.errors import FinIdError
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.settings import SecretFile, read_secret
from mesh.transaction import Channel, Purpose
from services.portal.application import Application, State
from services.portal.client_secret import SecretHash, ensure_secret
from services.portal.settings import ClientSecretKeySettings
from services.portal.store import SandboxRegister

PARTICIPANT = "participants/sandboxparticipantaaaaaaaa"
PARTICIPANT_TITLE = "Demo Bank JSC"
APPLICATION = "applications/sandboxapplicationaaaaaaaa"
APPLICATION_TITLE = "Demo Bank"
CLIENT_ID = "sandbox-demo-bank"
DEFAULT_REDIRECT_URI = "https://demo-bank.example/finid/return"
DEFAULT_POLICY = "sandbox-standard"
POLICIES = (DEFAULT_POLICY, "sandbox-strict")
"""What liveness and facematch judge by, and consumers accept."""


class SandboxSettings(ClientSecretKeySettings):
    """What this command reads from the environment."""

    env: Literal["sandbox"]
    owner_database_url_file: SecretFile


async def seed(
    settings: SandboxSettings, secret: str, redirect_uris: tuple[str, ...], policy: str, webhook_uri: str
) -> None:
    """Put participant, application and secret into the database."""
    application = Application(
        name=APPLICATION,
        client_id=CLIENT_ID,
        title=APPLICATION_TITLE,
        state=State.ACTIVE,
        channels=tuple(Channel),
        purposes=tuple(Purpose),
        scopes=("name", "birth_date", "document"),
        redirect_uris=redirect_uris,
        policy=policy,
        webhook_uri=webhook_uri,
    )
    keys = settings.client_secret_keys()
    secret_hmac = SecretHash(*keys.keys).of(CLIENT_ID, secret)
    database = await Database.open(read_secret(settings.owner_database_url_file), service="portal-sandbox")
    try:
        await require_stamped(database, "portal", keys, waits=False)
        register = SandboxRegister(database)
        await register.put(PARTICIPANT, PARTICIPANT_TITLE, application, secret_hmac, datetime.now(UTC))
    finally:
        await database.close()


def _webhook_uri(text: str) -> str:
    if text and not text.startswith("https://"):
        raise argparse.ArgumentTypeError("must be https")
    return text


def main() -> None:
    """Make the sandbox's participant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secret-file", type=Path, required=True, help="where the client secret is, or is to be")
    parser.add_argument("--redirect-uri", action="append", help=f"may be repeated; {DEFAULT_REDIRECT_URI} by default")
    parser.add_argument(
        "--policy", default=DEFAULT_POLICY, choices=POLICIES, help="the biometric policy of its authentications"
    )
    parser.add_argument(
        "--webhook-uri", default="", type=_webhook_uri, help="https; is told of state changes, nobody is without it"
    )
    arguments = parser.parse_args()
    redirect_uris = tuple(arguments.redirect_uri or (DEFAULT_REDIRECT_URI,))
    try:
        settings = SandboxSettings()
        asyncio.run(
            seed(settings, ensure_secret(arguments.secret_file), redirect_uris, arguments.policy, arguments.webhook_uri)
        )
    except (OSError, ValueError, FinIdError, PseudonymKeysError) as error:
        sys.exit(f"the sandbox's participant was not made: {error}")
    sys.stdout.write(
        f"SANDBOX: {PARTICIPANT_TITLE} may use every service. Client id {CLIENT_ID}, {APPLICATION};\n"
        f"  the client secret is in {arguments.secret_file}\n"
    )


if __name__ == "__main__":
    main()
