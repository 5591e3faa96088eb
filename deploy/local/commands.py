"""Commands of the rooms that are run once, not kept running: the ceremonies, and what fills the sandbox."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.assets.prepare import PEOPLE_INDEX
from deploy.local.database import Database
from deploy.local.floors import POLICY
from deploy.local.services import Parts
from deploy.local.state import CHECKOUT, LocalMeshError, State
from deploy.local.tokens import DevelopmentToken, inserted
from services.portal.sandbox import DEFAULT_REDIRECT_URI

_TIMEOUT_S = 120.0


def ca_ceremony(state: State, root: DevelopmentToken, ca: DevelopmentToken, pki_url: str) -> Path:
    """Bring root and issuing CA to what they must be; return the folder of their certificates."""
    folder = state.private("pki")
    environment = {
        **ca.environment,
        "FINID_ENV": "sandbox",
        "FINID_CA_ROOT_TOKEN_LABEL": root.label,
        "FINID_CA_ROOT_TOKEN_PIN_FILE": str(root.pin_file),
        "FINID_CA_PKI_FOLDER": str(folder),
        "FINID_CA_PKI_URL": pki_url,
    }
    with inserted(root, beside=ca):
        _run("services.ca.ceremony", [], environment)
    return folder


def signer_ceremony(signer: DevelopmentToken) -> None:
    """Make the key that wraps subject keys, where the signer's token has none."""
    _run("services.signer.ceremony", [], {**signer.environment, "FINID_ENV": "sandbox"})


def fill_registry(parts: Parts, database: Database) -> None:
    """Put the sandbox's people into the registry."""
    environment = {
        "FINID_ENV": "sandbox",
        "FINID_FIELD_KEY_FILE": parts.key("registry"),
        "FINID_OWNER_DATABASE_URL_FILE": str(_owner_url(parts.state, database)),
    }
    _run("services.registry.sandbox", ["--people", str(parts.assets / PEOPLE_INDEX)], environment)


def client_secret_file(state: State) -> Path:
    """Where the client secret of the sandbox's participant is."""
    return state.private("secrets") / "sandbox-client.secret"


def fill_portal(parts: Parts, database: Database) -> None:
    """Put the sandbox's participant into the portal, with the secret in its file (made when it is missing)."""
    secret = client_secret_file(parts.state)
    environment = {
        "FINID_ENV": "sandbox",
        "FINID_CLIENT_SECRET_KEY_FILE": parts.key("portal"),
        "FINID_OWNER_DATABASE_URL_FILE": str(_owner_url(parts.state, database)),
    }
    redirects = [f"--redirect-uri={uri}" for uri in (DEFAULT_REDIRECT_URI, parts.loopback_redirect_uri)]
    arguments = ["--secret-file", str(secret), "--policy", POLICY, "--webhook-uri", parts.webhook_uri]
    _run("services.portal.sandbox", [*arguments, *redirects], environment)


def _owner_url(state: State, database: Database) -> Path:
    return state.write("secrets/owner.url", database.owner_url)


def _run(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a module in a process of its own and return what it said; raises LocalMeshError with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"} | dict(environment),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        last_words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise LocalMeshError(f"{module} failed:\n{last_words}")
    return done.stdout
