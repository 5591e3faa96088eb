"""Settings of the local mesh, from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import DEFAULT_BASE, HIGHEST_BASE, LOWEST_BASE
from deploy.local.state import LocalMeshError, default_folder


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What a person may choose about the local mesh; everything else is made or derived."""

    state_folder: Path
    port_base: int
    # An existing PostgreSQL server, logged in as a role that may create roles and databases; "" for the embedded one.
    database_url: str
    # Where traces go (OTLP over gRPC); "" for nowhere.
    otlp_endpoint: str
    log_level: str
    # Where the sandbox's application is told of state changes, https on loopback or outside; "" for nowhere.
    webhook_uri: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LocalSettings":
        """Read FINID_STATE, FINID_PORT_BASE, DATABASE_URL, FINID_OTLP_ENDPOINT, FINID_LOG_LEVEL, FINID_WEBHOOK_URI.

        Raises LocalMeshError naming the setting that is wrong.
        """
        base = environment.get("FINID_PORT_BASE", str(DEFAULT_BASE))
        if not base.isdecimal() or not LOWEST_BASE <= int(base) <= HIGHEST_BASE:
            raise LocalMeshError(f"FINID_PORT_BASE must be a number from {LOWEST_BASE} to {HIGHEST_BASE}, not {base!r}")
        return cls(
            state_folder=Path(environment.get("FINID_STATE") or default_folder()),
            port_base=int(base),
            database_url=environment.get("DATABASE_URL", ""),
            otlp_endpoint=environment.get("FINID_OTLP_ENDPOINT", ""),
            log_level=environment.get("FINID_LOG_LEVEL", "info"),
            webhook_uri=environment.get("FINID_WEBHOOK_URI", ""),
        )
