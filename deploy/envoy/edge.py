"""What the edge needs to know, wherever it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What a client may send and get; a service's own limits are lower where it can say so.
MAX_REQUEST_BYTES = 32 * 1024 * 1024  # a signed document and its content, in base64
MAX_CAPTURE_REQUEST_BYTES = 2 * 1024 * 1024  # 1 MiB of frames, in base64
MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # a signed document
MAX_FORM_BYTES = 16 * 1024  # /oauth2/token, and what SMS providers report
MAX_PKI_REQUEST_BYTES = 16 * 1024  # an OCSP or time stamp request


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service behind the edge: where it listens, and the URI its certificate must have."""

    host: str
    port: int
    uri: str
    server_name: str


@dataclass(frozen=True, slots=True)
class Edge:
    """Addresses, files and limits of one Envoy."""

    host: str
    https_port: int
    pki_port: int
    page_port: int
    """The hosted page: an origin of its own, with nothing else on it."""
    admin_port: int
    """On loopback, wherever Envoy runs."""
    metrics_port: int
    """Where Prometheus scrapes (deploy.envoy.metrics)."""
    descriptors: Path
    """FileDescriptorSet of the public API with google/rpc/error_details.proto."""
    openapi: Path
    """The OpenAPI document of the same API: its paths and their verbs."""
    reference: Path
    """The page made from it."""
    library: Path
    """Folder that `deploy.envoy.library.pack` filled, where Envoy reads it."""
    web_certificate: Path
    web_key: Path
    mesh_certificate: Path
    mesh_key: Path
    mesh_root: Path
    gateway: Upstream
    portal: Upstream
    token_issuer: str
    token_audience: str
    secrets: Path | None = None
    """Folder with what `deploy.envoy.secrets.render` gives, where Envoy reads it; None reads certificates only once."""
    otlp_address: str = ""
    """host:port of an OTLP collector (gRPC); "" exports no traces."""
    trace_ratio: float = 1.0
    """Which part of the traces that begin here is exported; the services go by it."""
    requests_per_second: int = 1000
    token_requests_per_second: int = 20
    report_requests_per_second: int = 200


def typed(type_name: str, **fields: Any) -> Json:
    """A google.protobuf.Any as Envoy reads it."""
    return {"@type": f"type.googleapis.com/{type_name}", **fields}
