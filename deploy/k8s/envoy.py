"""Envoy's configuration for a cluster, from what makes the local one: `python -m deploy.k8s.envoy OVERLAY`.

Writes ConfigMaps to standard output, for `kubectl apply --server-side -f -`: the configuration, the API's descriptors,
and the packed files of pdf.js. Addresses, files and the issuer differ from the local ones and nothing else does
(tests/k8s/test_envoy.py); the issuer and the collector are what the overlay tells the services. They are made and not
committed: 5,000 lines of JSON that follow from deploy/envoy, gen/ and web/ would only have to be made again with each.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.envoy import library, secrets
from deploy.envoy.bootstrap import bootstrap
from deploy.envoy.edge import Edge, Upstream
from deploy.k8s import overlay
from deploy.k8s.overlay import Manifest
from deploy.local.certificates import uri_of
from deploy.local.envoy import AUDIENCE
from deploy.local.state import CHECKOUT

DESCRIPTORS: Final = CHECKOUT / "gen" / "descriptors.binpb"
_OPENAPI: Final = CHECKOUT / "gen" / "openapi.json"
_REFERENCE: Final = CHECKOUT / "gen" / "reference.html"
CONFIGURATION: Final = Path("/etc/finid/envoy")
LIBRARY: Final = Path("/etc/finid/library")
_WEB, _MESH = Path("/etc/finid/web"), Path("/etc/finid/tls")
# Of all values together, as the API server counts them (core/v1, MaxSecretSize).
MAX_CONFIG_MAP_BYTES: Final = 1024 * 1024


def edge(issuer: str, otlp_address: str = "") -> Edge:
    """Return the edge of a cluster."""
    return Edge(
        host="0.0.0.0",  # noqa: S104  a pod's own address
        https_port=8443,
        page_port=8444,
        pki_port=8080,
        admin_port=9901,
        metrics_port=9464,
        descriptors=DESCRIPTORS,
        openapi=_OPENAPI,
        reference=_REFERENCE,
        library=LIBRARY,
        web_certificate=_WEB / "tls.crt",
        web_key=_WEB / "tls.key",
        mesh_certificate=_MESH / "tls.crt",
        mesh_key=_MESH / "tls.key",
        mesh_root=_MESH / "ca.crt",
        gateway=_upstream("auth_gateway", 8443),
        portal=_upstream("portal", 8444),
        token_issuer=issuer,
        token_audience=AUDIENCE,
        secrets=CONFIGURATION,
        otlp_address=otlp_address,
    )


def configuration(issuer: str, otlp_address: str = "") -> str:
    """Return the configuration as Envoy reads it in its pod."""
    # The descriptors are read while rendering, and stand elsewhere in the pod.
    in_pod = str(CONFIGURATION / DESCRIPTORS.name)
    return json.dumps(bootstrap(edge(issuer, otlp_address)), separators=(",", ":")).replace(str(DESCRIPTORS), in_pod)


def config_maps(folder: Path) -> Manifest:
    """Return the ConfigMaps of Envoy that belong to the overlay in `folder`."""
    manifests = overlay.objects(folder)
    told = overlay.environment(manifests, overlay.workloads(manifests)["auth-gateway"])
    issuer = told["FINID_TOKEN_ISSUER"]
    # What names the certificates' files: cert-manager's new ones are taken up without a restart.
    files = {"envoy.json": configuration(issuer, told.get("FINID_OTLP_ENDPOINT", "")), **secrets.render(edge(issuer))}
    with tempfile.TemporaryDirectory() as scratch:
        packed = {path.name: _binary(path) for path in sorted(library.pack(Path(scratch)).iterdir())}
    place = overlay.namespace(manifests)
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            _config_map(place, "envoy", files, {DESCRIPTORS.name: _binary(DESCRIPTORS)}),
            _config_map(place, "envoy-library", {}, packed),
        ],
    }


def _config_map(place: str, name: str, data: dict[str, str], binary: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": place, "labels": {"app.kubernetes.io/part-of": "finid"}},
        "data": data,
        "binaryData": binary,
    }


def _binary(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _upstream(service: str, port: int) -> Upstream:
    name = service.replace("_", "-")
    return Upstream(name, port, uri_of(service), f"{name}.finid.internal")


def main() -> None:
    """Write the ConfigMaps."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.envoy", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("overlay", type=Path, help="for example deploy/k8s/overlays/dev")
    json.dump(config_maps(parser.parse_args().overlay), sys.stdout)


if __name__ == "__main__":
    main()
