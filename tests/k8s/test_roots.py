"""Whom pods believe is a bundle of its own, so that a root can be replaced while the earlier one is still believed."""

import re
from pathlib import Path

import pytest

from deploy.k8s import envoy
from deploy.k8s.made import OF_ROOTS
from deploy.local.state import CHECKOUT
from mesh.settings import MeshSettings
from tests.k8s.manifests import OVERLAYS, README, ROOM_OF, Manifest, environment, mounted, named, objects, workloads

PAGES = {"sre.md": CHECKOUT / "docs" / "sre.md", "README.md": README}
MESH_ROOTS = ("finid-mesh-roots", "ca.crt")


def _own_files(manifests: list[Manifest], name: str) -> tuple[str, str, str]:
    """Certificate, key and roots, where the process looks for them."""
    if name == "envoy":
        edge = envoy.edge("https://id.example")
        return str(edge.mesh_certificate), str(edge.mesh_key), str(edge.mesh_root)
    given = environment(manifests, workloads(manifests)[name])
    fields = ("tls_certificate_file", "tls_key_file", "tls_ca_file")
    assert set(fields) <= MeshSettings.model_fields.keys()
    certificate, key, roots = (given[f"FINID_{field.upper()}"] for field in fields)
    return certificate, key, roots


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", [*ROOM_OF, "envoy"])
def test_each_shows_its_own_certificate_and_believes_the_roots_that_all_believe(overlay: str, name: str) -> None:
    manifests = objects(f"overlays/{overlay}")
    there = mounted(workloads(manifests)[name])
    own = named(manifests, "Certificate", f"{name}-mtls")["spec"]["secretName"]
    certificate, key, roots = _own_files(manifests, name)
    assert there[certificate] == (own, "tls.crt")
    assert there[key] == (own, "tls.key")
    assert there[roots] == MESH_ROOTS
    # One volume, so that the kubelet swaps the three at once; and no other key of the Secret is there.
    assert {Path(path).parent for path in (certificate, key, roots)} == {Path("/etc/finid/tls")}
    assert {item for item in there.values() if item[0] == own} == {(own, "tls.crt"), (own, "tls.key")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whoever_asks_the_database_believes_its_roots(overlay: str) -> None:
    running = workloads(objects(f"overlays/{overlay}")) | workloads(objects(f"overlays/{overlay}/migrate"))
    asking = {name for name, workload in running.items() if "/etc/finid/database/ca.crt" in mounted(workload)}
    assert {mounted(running[name])["/etc/finid/database/ca.crt"] for name in asking} == {
        ("finid-database-roots", "ca.crt")
    }
    assert asking == running.keys() - {"envoy", "facematch"}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind_and_name", sorted(OF_ROOTS))
def test_the_pages_make_each_bundle_of_a_root_that_the_manifests_make(
    page: str, kind_and_name: tuple[str, str]
) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    _, name = kind_and_name
    (file,) = re.findall(rf"create configmap {name} --from-file=ca\.crt=([\w/.-]+)", text)
    ((secret, key),) = re.findall(rf"get secret/(\S+) -o jsonpath='{{\.data\.(\S+)}}' \| base64 -d > {file}\n", text)
    assert key == r"ca\.crt"
    makers = [item for part in (".", "postgres") for item in objects(f"overlays/prod/{part}")]
    (root,) = (
        item["spec"] for item in makers if item["kind"] == "Certificate" and item["spec"]["secretName"] == secret
    )
    assert root["isCA"] is True


def test_the_next_root_has_another_name_and_key_and_issues_for_all() -> None:
    before, after = objects("overlays/prod"), objects("../../tests/k8s/tried/mesh-root-next")
    old = named(before, "Certificate", "finid-mesh-root")["spec"]
    new = named(after, "Certificate", "finid-mesh-root-2")["spec"]
    assert new | {"commonName": old["commonName"], "secretName": old["secretName"]} == old
    assert new["commonName"] != old["commonName"]
    assert named(before, "Issuer", "finid-mesh")["spec"] == {"ca": {"secretName": old["secretName"]}}
    assert named(after, "Issuer", "finid-mesh")["spec"] == {"ca": {"secretName": new["secretName"]}}
    issued = {
        item["metadata"]["name"]
        for item in after
        if item["kind"] == "Certificate" and item["spec"]["issuerRef"]["name"] == "finid-mesh"
    }
    assert issued == {f"{name}-mtls" for name in (*ROOM_OF, "envoy")}
