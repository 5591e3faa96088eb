"""Which port of loopback is whose. All follow from one base, so that two checkouts run side by side."""

import secrets
import socket
from collections.abc import Mapping

from deploy.local.state import LocalMeshError

HOST = "127.0.0.1"
DEFAULT_BASE = 18440
LOWEST_BASE = 1024
SPAN = 40
# Below Linux's ephemeral ports (32768 and up), which any outgoing connection may take.
HIGHEST_BASE = 32768 - SPAN

SERVICES = ("auth_gateway", "liveness", "facematch", "otp", "registry", "documents", "ca", "signer", "portal")


def numbers(base: int) -> dict[str, int]:
    """Every port of a mesh by what listens there."""
    return {
        "envoy https": base + 3,
        "envoy pki": base + 4,
        "envoy admin": base + 5,
        "postgresql": base + 6,
        "envoy page": base + 7,
        "envoy metrics": base + 8,
        "portal https": base + 29,
        **{service: base + 10 + index for index, service in enumerate(SERVICES)},
        # Where Prometheus scrapes.
        **{f"{service} metrics": base + 20 + index for index, service in enumerate(SERVICES)},
        **{f"{service} health": base + 30 + index for index, service in enumerate(SERVICES)},
        # Nobody's until the command `finid` waits there for a person to come back.
        "client return": base + 39,
    }


def require_free(ports: Mapping[str, int]) -> None:
    """Raise LocalMeshError naming the first port that another process listens on, and the setting that moves it."""
    for purpose, port in ports.items():
        if not _is_free(port):
            raise LocalMeshError(
                f"port {port} ({purpose}) is taken by another process: stop it, or set another FINID_PORT_BASE"
            )


def free_base() -> int:
    """A base whose ports are all free now."""
    candidates = range(20000, HIGHEST_BASE, SPAN)
    for _ in range(100):
        base = secrets.choice(candidates)
        if all(map(_is_free, numbers(base).values())):
            return base
    raise LocalMeshError(f"found no {SPAN} free ports between {candidates.start} and {candidates.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
