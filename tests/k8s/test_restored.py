"""A restore gives the database that was: everything but what must differ is built from the same files."""

import copy
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.k8s import sandbox
from tests.k8s.manifests import README, Manifest, named, objects

RESTORABLE = ("staging", "prod")
LABEL = {"finid/database": "postgres"}
BEFORE, AFTER = "finid-postgres", "finid-postgres-restored"
PLUGIN = "barman-cloud.cloudnative-pg.io"
# kind and name of the object, and the place in it -> why it cannot be the same.
DIFFERS = {
    ("Cluster", BEFORE, "metadata.name"): "two stand beside each other",
    ("Cluster", BEFORE, "spec.bootstrap.initdb"): "begun empty",
    ("Cluster", BEFORE, "spec.bootstrap.recovery"): "begun from the backups",
    ("Cluster", BEFORE, "spec.externalClusters"): "where those are",
    ("Cluster", BEFORE, "spec.plugins"): "its own folder of the backups",
    ("ScheduledBackup", "finid-nightly", "spec.cluster.name"): "the one that counts is backed up",
    ("Service", "finid-database", "spec.selector.cnpg.io/cluster"): "services ask the one that counts",
}


def _differences(before: Any, after: Any, path: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = before.keys() | after.keys()
        return set().union(
            *(_differences(before.get(key), after.get(key), f"{path}.{key}".lstrip(".")) for key in keys)
        )
    return set() if before == after else {path}


def _by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(item["kind"], item["metadata"]["name"].replace(AFTER, BEFORE)): item for item in manifests}


def _problems(before: list[Manifest], after: list[Manifest]) -> set[tuple[str, str, str]]:
    first, second = _by_name(before), _by_name(after)
    assert first.keys() == second.keys()
    return {(*key, place) for key in first for place in _differences(first[key], second[key])}


@pytest.mark.parametrize("overlay", RESTORABLE)
def test_a_restored_cluster_differs_in_what_must_differ_and_in_nothing_else(overlay: str) -> None:
    before, after = objects(f"overlays/{overlay}/postgres"), objects(f"overlays/{overlay}/restored")
    assert _problems(before, after) == DIFFERS.keys()
    spoiled = copy.deepcopy(after)
    named(spoiled, "Cluster", AFTER)["spec"]["postgresql"]["parameters"]["max_connections"] = "100"
    assert _problems(before, spoiled) - DIFFERS.keys() == {
        ("Cluster", BEFORE, "spec.postgresql.parameters.max_connections")
    }


@pytest.mark.parametrize("overlay", RESTORABLE)
def test_it_is_restored_from_the_backups_of_the_first_and_archives_into_a_folder_of_its_own(overlay: str) -> None:
    after = objects(f"overlays/{overlay}/restored")
    first = named(objects(f"overlays/{overlay}/postgres"), "Cluster", BEFORE)["spec"]
    spec = named(after, "Cluster", AFTER)["spec"]
    store = named(after, "ObjectStore", "finid-backups")["metadata"]["name"]
    (source,) = spec["externalClusters"]
    assert spec["bootstrap"].keys() == {"recovery"}
    assert spec["bootstrap"]["recovery"]["source"] == source["name"]
    for key in ("database", "owner", "secret"):
        assert spec["bootstrap"]["recovery"][key] == first["bootstrap"]["initdb"][key]
    # Without a `serverName` CloudNativePG takes the cluster's name.
    assert "serverName" not in first["plugins"][0]["parameters"]
    assert source["plugin"] == {"name": PLUGIN, "parameters": {"barmanObjectName": store, "serverName": BEFORE}}
    (archiver,) = spec["plugins"]
    assert archiver["isWALArchiver"] is True
    assert archiver["parameters"] == {"barmanObjectName": store, "serverName": AFTER}


@pytest.mark.parametrize("overlay", RESTORABLE)
def test_policies_let_the_pods_of_both_clusters_do_the_same(overlay: str) -> None:
    clusters = [
        named(objects(f"overlays/{overlay}/postgres"), "Cluster", BEFORE),
        named(objects(f"overlays/{overlay}/restored"), "Cluster", AFTER),
    ]
    for cluster in clusters:
        assert cluster["spec"]["inheritedMetadata"]["labels"] == LABEL
    selectors = [
        selector
        for part in (".", "postgres", "restored", "migrate")
        for item in objects(f"overlays/{overlay}/{part}")
        if item["kind"] == "NetworkPolicy"
        for selector in _selectors(item["spec"])
    ]
    assert selectors.count({"matchLabels": LABEL}) > len(("egress", "ingress"))
    assert not [selector for selector in selectors if "cnpg.io/cluster" in str(selector)]


def _selectors(item: Any) -> list[Manifest]:
    if isinstance(item, dict):
        own = [value for key, value in item.items() if key == "podSelector"]
        return own + [found for value in item.values() for found in _selectors(value)]
    return [found for value in item for found in _selectors(value)] if isinstance(item, list) else []


@pytest.mark.parametrize("overlay", ["dev/postgres", "staging/postgres", "prod/postgres", "prod/restored"])
def test_every_cluster_shows_a_certificate_of_the_host_that_urls_name(overlay: str) -> None:
    manifests = objects(f"overlays/{overlay}")
    (cluster,) = [item for item in manifests if item["kind"] == "Cluster"]
    secret = cluster["spec"]["certificates"]["serverTLSSecret"]
    assert cluster["spec"]["certificates"]["serverCASecret"] == secret
    (certificate,) = [
        item for item in manifests if item["kind"] == "Certificate" and item["spec"]["secretName"] == secret
    ]
    service = named(manifests, "Service", "finid-database")
    assert service["spec"]["selector"] == {
        "cnpg.io/cluster": cluster["metadata"]["name"],
        "cnpg.io/instanceRole": "primary",
    }
    told = re.findall(r"`(postgresql://[^`]+)`", README.read_text(encoding="utf-8"))
    hosts = {urlsplit(url).hostname for url in told} | {sandbox.DATABASE_SERVER.partition(":")[0]}
    assert hosts == {service["metadata"]["name"]}
    assert hosts <= set(certificate["spec"]["dnsNames"])
    # CloudNativePG's own names: a Secret of ours that bears one would be taken for its.
    taken = {f"{cluster['metadata']['name']}-{kind}" for kind in ("ca", "server", "replication")}
    assert not taken & {item["spec"]["secretName"] for item in manifests if item["kind"] == "Certificate"}
