"""Settings of a service: from the environment, secrets from files, refused by name when wrong.

Each service subclasses `MeshSettings` in its `settings.py`. Names are upper-case with the prefix FINID_; a field
`x_file` is a path, never the secret itself.
"""

import ipaddress
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from mesh.sealing import FieldKeys, read_key, read_keys

_EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state
_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535
_UNPARSED = re.compile(r'field "(\w+)"')
_MAX_SECRET_BYTES = 64 * 1024
_OPEN_TO_OTHERS = 0o037  # group may read (Kubernetes mounts secrets so); nothing more


def _address(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("must be host:port")
    return value


def _readable_file(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"cannot read the file: {error.strerror}") from error


def secret_file(path: Path) -> Path:
    """Return `path` if it is a readable file that is closed to others; ValueError says what is wrong."""
    _readable_file(path)
    status = path.stat()
    if status.st_mode & _OPEN_TO_OTHERS:
        raise ValueError(f"the file's mode {status.st_mode & 0o777:04o} opens a secret to others; make it 0400")
    if status.st_size > _MAX_SECRET_BYTES:
        raise ValueError("the file is larger than 64 KiB")
    return path


def _key_file(path: Path) -> Path:
    read_key(secret_file(path))
    return path


Address = Annotated[str, AfterValidator(_address)]
"""host:port"""
PublicFile = Annotated[Path, AfterValidator(_readable_file)]
"""A file that must be readable."""
SecretFile = Annotated[Path, AfterValidator(secret_file)]
"""A file that must be readable, by nobody but its owner (and group)."""
KeyFile = Annotated[Path, AfterValidator(_key_file)]
"""A secret file with a symmetric key: 32 random bytes as base64url without padding."""


def read_secret(path: Path) -> str:
    """Return the text of a secret file without the newline at its end."""
    return path.read_text(encoding="utf-8").rstrip("\r\n")


def is_loopback(address: str) -> bool:
    """Tell whether a host:port is only reachable from this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class EnvironmentSettings(BaseSettings):
    """Settings from the environment, for services and for ceremonies."""

    model_config = SettingsConfigDict(env_prefix="FINID_", frozen=True, extra="ignore", hide_input_in_errors=True)

    env: Literal["sandbox", "production"]

    @classmethod
    def load(cls) -> Self:
        """Read the environment; on anything wrong, name each setting on stderr and exit with 78 (EX_CONFIG)."""
        try:
            return cls()
        except ValidationError as error:
            _refuse([_describe(cls.model_config["env_prefix"], item["loc"], item["msg"]) for item in error.errors()])
        except SettingsError as error:
            named = _UNPARSED.search(str(error))
            _refuse([_describe(cls.model_config["env_prefix"], named.groups() if named else (), "must be JSON")])


class FieldKeySettings(EnvironmentSettings):
    """The key of what a room seals, and of whom its rows are about by pseudonym (`mesh.sealing`, `mesh.pseudonyms`)."""

    field_key_file: KeyFile
    """Seals personal data in the database; whoever loses it loses the data."""
    earlier_field_key_files: tuple[KeyFile, ...] = ()
    """Those before it, the oldest first: they open what they sealed. docs/sre.md says how keys are replaced."""

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        try:
            self.field_keys()
        except ValueError as error:
            raise ValueError(f"FINID_EARLIER_FIELD_KEY_FILES: {error}") from error
        return self

    def field_keys(self) -> FieldKeys:
        """Return the keys, the newest last."""
        return read_keys(self.field_key_file, self.earlier_field_key_files)


class FieldResealSettings(FieldKeySettings):
    """What the `reseal` command of a room reads: of the service's own settings, no more."""

    database_url_file: SecretFile


class FieldRekeySettings(FieldKeySettings):
    """What the `rekey` command of a room reads: the service's keys, and the owner's way into the database."""

    owner_database_url_file: SecretFile


class MeshSettings(EnvironmentSettings):
    """What every service needs to know."""

    listen: Address
    """mTLS gRPC."""
    health_listen: Address
    """Plain gRPC with grpc.health.v1 only, for probes that have no certificate."""
    tls_certificate_file: PublicFile
    tls_key_file: SecretFile
    tls_ca_file: PublicFile
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str | None = None
    """Where traces go (OTLP over gRPC, host:port); none are exported without it."""
    trace_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Which part of the traces that begin here is exported; who comes with a trace has decided already."""
    metrics_address: Address | None = None
    """Where Prometheus scrapes (plain HTTP, GET /metrics); nothing is served without it."""
    reflection: bool = False
    drain_s: float = 10.0
    """How long running calls may take to end after SIGTERM."""
    reload_every_s: float = Field(default=5.0, gt=0, le=60)
    """How old what is known of certificate, receipt key and pins may be, after their files were replaced."""
    connection_age_s: float = Field(default=300.0, gt=0)
    """After how long peers are asked to connect anew, with the certificate of then and over all replicas there are."""

    @model_validator(mode="after")
    def _refuse_development_in_production(self) -> Self:
        if self.env == "production" and self.reflection:
            raise ValueError("FINID_REFLECTION is for development; production refuses it")
        return self


def _describe(prefix: str, location: Sequence[str | int], message: str) -> str:
    name = prefix + "_".join(str(part) for part in location).upper() if location else "settings"
    return f"{name}: {message.removeprefix('Value error, ')}"


def _refuse(problems: Sequence[str]) -> NoReturn:
    sys.stderr.write("refused to start, settings are wrong:\n" + "".join(f"  {line}\n" for line in problems))
    sys.exit(_EX_CONFIG)
