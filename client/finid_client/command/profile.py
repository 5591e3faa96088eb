"""Where FinID is and as whom to call it: from options, then the environment, then a profile in a file.

The file is TOML, one table for each profile, with the names of `Settings`. The client secret is never in it, and never
on a command line, where other users of the machine could read it: `client_secret_file` names a file of mode 0600.
"""

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from finid_client.client import Client
from finid_client.credentials import Credentials
from finid_client.errors import ConfigurationError

DEFAULT_PROFILE: Final = "default"
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be set.

    `token_address` is where access tokens are, if not at `address`; `application` (applications/{id}) is who signed
    results must be for.
    """

    address: str = ""
    ca_file: str = ""
    token_address: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    redirect_uri: str = ""
    application: str = ""

    def require(self, *names: str) -> None:
        """Raise ConfigurationError naming the first that is not set, and how to set it."""
        for name in names:
            if not getattr(self, name):
                option, variable = f"--{name.replace('_', '-')}", f"FINID_{name.upper()}"
                raise ConfigurationError(f"{name} is not set: {option}, {variable}, or `finid config set {name} …`")

    def client(self) -> Client:
        """Return a client. Raises ConfigurationError."""
        self.require("address", "client_id", "client_secret_file")
        credentials = Credentials.from_file(self.client_id, self.client_secret_file)
        return Client(self.address, credentials, ca_file=self.ca_file or None, token_address=self.token_address or None)


NAMES: Final = tuple(field.name for field in fields(Settings))


def file_of(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where profiles are: FINID_CONFIG, or finid/config.toml in the user's configuration folder."""
    if named := environment.get("FINID_CONFIG"):
        return Path(named)
    folder = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "finid" / "config.toml"


def load(path: Path) -> dict[str, dict[str, str]]:
    """Return all profiles; none when there is no file. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            # Whoever can write it chooses whom this command believes.
            if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(f"{path} can be written by others: chmod 600 {path}")
            found = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    for profile, table in found.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ConfigurationError(f"{path}: [{profile}] must be a table of strings")
        if unknown := sorted(set(table) - set(NAMES)):
            raise ConfigurationError(
                f"{path}: [{profile}] has {', '.join(unknown)}, which is none of {', '.join(NAMES)}"
            )
    return found


def store(path: Path, profile: str, name: str, value: str) -> None:
    """Set one name in one profile; an empty value takes it out. Raises ConfigurationError."""
    if not profile or not set(profile) <= _NAME:
        raise ConfigurationError("a profile's name has lower-case letters, digits, - and _ only")
    profiles = load(path)
    table = {name_: value_ for name_, value_ in profiles.get(profile, {}).items() if name_ != name}
    profiles[profile] = table | ({name: value} if value else {})
    # A JSON string is a TOML basic string, but for DEL, which no setting has.
    lines = [
        line
        for title, settings in sorted(profiles.items())
        for line in (f"[{title}]", *(f"{key} = {json.dumps(text)}" for key, text in sorted(settings.items())), "")
    ]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Found:
    """Settings, and where each came from."""

    settings: Settings
    sources: Mapping[str, str]


def resolve(options: Mapping[str, str | None], profile: str, environment: Mapping[str, str] = os.environ) -> Found:
    """Return what counts. Raises ConfigurationError, also for a profile that was named and is not there."""
    path = file_of(environment)
    profiles = load(path)
    chosen = profile or environment.get("FINID_PROFILE", "") or DEFAULT_PROFILE
    if chosen not in profiles and chosen != DEFAULT_PROFILE:
        raise ConfigurationError(f"{path} has no profile {chosen}")
    table = profiles.get(chosen, {})
    values, sources = {}, {}
    for name in NAMES:
        variable = f"FINID_{name.upper()}"
        for value, source in (
            (options.get(name), f"--{name.replace('_', '-')}"),
            (environment.get(variable), variable),
            (table.get(name), f"{path} [{chosen}]"),
        ):
            if value:
                values[name], sources[name] = value, source
                break
    return Found(Settings(**values), sources)
