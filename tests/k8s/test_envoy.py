"""Envoy in a cluster is the local one but for addresses, files and issuer; and its ConfigMaps fit the API server."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.envoy import secrets
from deploy.envoy.bootstrap import bootstrap
from deploy.envoy.edge import Edge, Upstream
from deploy.k8s import envoy, overlay
from deploy.local.envoy import edge as local_edge
from tests.k8s.manifests import environment, mounted, objects, workloads

MAY_DIFFER = {"address", "port_value", "filename", "path", "issuer", "proto_descriptor"}


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """The keys under which two configurations say something else."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for left, right in zip(one, other, strict=True):
            yield from differences(left, right, at)
    elif one != other:
        yield at


def local() -> Edge:
    """An edge as deploy/local makes it."""
    cluster = envoy.edge("x")
    return Edge(
        host="127.0.0.1",
        https_port=3,
        page_port=6,
        pki_port=4,
        admin_port=5,
        metrics_port=7,
        descriptors=envoy.DESCRIPTORS,
        openapi=cluster.openapi,
        reference=cluster.reference,
        library=Path("/state/library"),
        web_certificate=Path("/state/web.pem"),
        web_key=Path("/state/web.key"),
        mesh_certificate=Path("/state/mesh.pem"),
        mesh_key=Path("/state/mesh.key"),
        mesh_root=Path("/state/root.pem"),
        gateway=Upstream("127.0.0.1", 1, cluster.gateway.uri, cluster.gateway.server_name),
        portal=Upstream("127.0.0.1", 2, cluster.portal.uri, cluster.portal.server_name),
        token_issuer="https://localhost:3",
        token_audience="finid-api",
        secrets=Path("/state/run"),
    )


def test_local_and_cluster_differ_in_addresses_files_and_issuer_only() -> None:
    assert local_edge.__annotations__["return"] is Edge  # both are made of the same
    found = set(differences(bootstrap(local()), json.loads(envoy.configuration("https://id.example"))))
    assert "port_value" in found
    assert found <= MAY_DIFFER


def test_certificates_are_taken_up_anew_from_where_kubernetes_swaps_them() -> None:
    cluster = envoy.edge("https://id.example")
    watched = {
        found["watched_directory"]["path"]
        for text in secrets.render(cluster).values()
        for found in _holders(json.loads(text), "watched_directory")
    }
    assert watched == {str(cluster.web_certificate.parent), str(cluster.mesh_certificate.parent)}
    # None of its own certificates is read once and for all.
    assert '"tls_certificates"' not in envoy.configuration("https://id.example")


def test_what_is_made_for_an_overlay_fits_it() -> None:
    for name in ("dev", "prod"):  # one without a collector, one with
        manifests = objects(f"overlays/{name}")
        running = workloads(manifests)
        made = {
            item["metadata"]["name"]: item for item in envoy.config_maps(overlay.FOLDER / "overlays" / name)["items"]
        }

        # It believes the tokens that the portal issues and the gateway takes.
        issuers = {environment(manifests, running[who])["FINID_TOKEN_ISSUER"] for who in ("portal", "auth-gateway")}
        (issuer,) = issuers
        configuration = made["envoy"]["data"]["envoy.json"]
        assert f'"issuer":"{issuer}"' in configuration, name

        # Its files are where it looks for them, and its ports where the Service sends callers.
        there = mounted(running["envoy"])
        named = [json.loads(text) for text in made["envoy"]["data"].values()]
        files = {path for path in _files(named) if path.startswith("/")}
        packed = {f"{envoy.LIBRARY}/{file}" for file in made["envoy-library"]["binaryData"]}
        assert files == there.keys() - {str(envoy.CONFIGURATION / "envoy.json"), str(envoy.LIBRARY)} | packed
        (container,) = running["envoy"]["spec"]["template"]["spec"]["containers"]
        ports = {port["containerPort"] for port in container["ports"]}
        listeners = json.loads(configuration)["static_resources"]["listeners"]
        assert ports == {item["address"]["socket_address"]["port_value"] for item in listeners}

        for item in made.values():
            size = sum(len(text.encode()) for text in item["data"].values())
            size += sum(len(base64.b64decode(text)) for text in item["binaryData"].values())
            assert size < 0.9 * envoy.MAX_CONFIG_MAP_BYTES, (item["metadata"]["name"], size)


def _holders(node: Any, key: str) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if key in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _holders(item, key)


def _files(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"filename", "proto_descriptor"} and isinstance(value, str):
                yield value
            elif key == "path_config_source":
                yield value["path"]
            yield from _files(value)
    elif isinstance(node, list):
        for item in node:
            yield from _files(item)
