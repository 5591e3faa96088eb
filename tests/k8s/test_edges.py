"""Who may reach whom: the policies, the code's own call graph, and the table that a reader sees say the same."""

import ast
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.k8s import envoy
from deploy.local.ports import SERVICES
from deploy.local.state import CHECKOUT
from tests.k8s.manifests import OVERLAYS, README, ROOM_OF, Manifest, environment, named, objects, workloads

Edge = tuple[str, str, int]
"""Who calls, who is called, on which port."""
HUB = "auth-gateway"
DATABASE = "postgres"
NAMES = 53
METRICS = 9464
PUBLIC = {("outside", "envoy", 8443), ("outside", "envoy", 8444), ("outside", "envoy", 8080)}
# What CloudNativePG and its backups need beside the services (deploy/k8s/postgres/edges.yaml names the source).
OF_DATABASE = {
    (DATABASE, DATABASE, 5432),
    (DATABASE, DATABASE, 8000),
    ("cnpg-system", DATABASE, 5432),
    ("cnpg-system", DATABASE, 8000),
    ("monitoring", DATABASE, 9187),
    (DATABASE, "api-server", 443),
    (DATABASE, "api-server", 6443),
    (DATABASE, "object-store", 443),
}
SIDES = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


def opened(manifests: list[Manifest], direction: str) -> set[Edge]:
    """What the policies of one direction open."""
    key, peer = SIDES[direction]
    found: set[Edge] = set()
    for item in manifests:
        if item["kind"] != "NetworkPolicy" or direction not in item["spec"]["policyTypes"]:
            continue
        outside = item["metadata"].get("annotations", {}).get("finid/outside", "outside")
        for rule in item["spec"].get(key, []):
            others = {_peer(other, outside) for other in rule.get(peer, [{}])}
            for port in (port["port"] for port in rule["ports"] if port["port"] != NAMES):
                for selected in _selected(item["spec"]["podSelector"]):
                    found |= {
                        (other, selected, port) if key == "ingress" else (selected, other, port) for other in others
                    }
    return found


def _selected(selector: Manifest) -> list[str]:
    for expression in selector.get("matchExpressions", []):
        assert expression["key"] == "app.kubernetes.io/name"
        if expression["operator"] == "In":
            return list(expression["values"])
    return [_labelled(selector)]


def _labelled(selector: Manifest) -> str:
    labels = selector.get("matchLabels", {})
    if labels == {"finid/database": "postgres"}:
        return DATABASE
    return str(labels.get("app.kubernetes.io/name", "anybody"))


def _peer(peer: Manifest, outside: str) -> str:
    if "namespaceSelector" in peer:
        return str(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
    return _labelled(peer["podSelector"]) if "podSelector" in peer else outside


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def callers_by_code() -> set[tuple[str, str]]:
    """(who may call, whom), as the services' allow-lists say."""
    found = set()
    for room in SERVICES:
        for node in ast.walk(_tree(CHECKOUT / "services" / room / "__main__.py")):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "callers":
                for caller in node.args[1:]:
                    assert isinstance(caller, ast.Constant)
                    found.add((_dashed(str(caller.value)), _dashed(room)))
    return found


def calls_by_code() -> set[tuple[str, str]]:
    """(who calls, whom), as the imports of other rooms' client stubs say."""
    found = set()
    for room in SERVICES:
        for path in (CHECKOUT / "services" / room).rglob("*.py"):
            modules: dict[str, str] = {}
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("finid."):
                    modules |= {alias.asname or alias.name: str(node.module).split(".")[1] for alias in node.names}
                if isinstance(node, ast.Attribute) and node.attr.endswith("Stub") and isinstance(node.value, ast.Name):
                    found.add((_dashed(room), _dashed(modules[node.value.id])))
    return found


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def called(manifests: list[Manifest]) -> set[Edge]:
    """Who calls whom, by the code and by what the services are told."""
    running = workloads(manifests)
    told = {name: environment(manifests, running[name]) for name in ROOM_OF}
    edge = envoy.edge("https://id.example")
    found: set[Edge] = {("envoy", upstream.host, upstream.port) for upstream in (edge.gateway, edge.portal)}
    found.add(("monitoring", "envoy", edge.metrics_port))
    for name, given in told.items():
        found.add(("monitoring", name, METRICS))
        for key, value in given.items():
            if key.startswith("FINID_PEER_"):
                host, _, port = value.rpartition(":")
                found.add((name, host, int(port)))
        if "FINID_DATABASE_URL_FILE" in given:
            found.add((name, DATABASE, 5432))
        if "FINID_OTLP_ENDPOINT" in given:
            found |= {
                (who, "monitoring", int(given["FINID_OTLP_ENDPOINT"].rpartition(":")[2])) for who in (name, "envoy")
            }
        if "FINID_WEBHOOK_KEY_FILE" in given:
            found.add((name, "webhooks", 443))
        if given.get("FINID_OTP_PROVIDER") == "twilio":
            found.add((name, "sms", 443))
        if "FINID_DOCUMENTS_URL" in given:
            found.add((name, "object-store", urlsplit(given["FINID_DOCUMENTS_S3_ENDPOINT"]).port or 443))
        if given.get("FINID_DOCUMENTS_FETCH_HOSTS"):
            found |= {(name, "authorities", port) for port in (80, 443)}
        if "FINID_PKCS11_MODULE" in given and "SOFTHSM2_CONF" not in given:
            found.add((name, "hsm", 1792))
    return found


def problems(manifests: list[Manifest]) -> Iterator[str]:
    """Edges that no code takes, edges that code takes and no policy opens, on either side."""
    wanted = called(manifests)
    outgoing, incoming = opened(manifests, "Egress"), opened(manifests, "Ingress")
    takes_calls = {*ROOM_OF, "envoy"}
    inside = {edge for edge in wanted if edge[1] in takes_calls} | PUBLIC
    ours = {edge for edge in wanted if edge[0] != "monitoring"}
    yield from (f"{edge}: opened for nobody" for edge in sorted(outgoing - ours))
    yield from (f"{edge}: not opened" for edge in sorted(ours - outgoing))
    yield from (f"{edge}: let in, and nobody calls" for edge in sorted(incoming - inside))
    yield from (f"{edge}: not let in" for edge in sorted(inside - incoming))
    denied = [
        item
        for item in manifests
        if item["kind"] == "NetworkPolicy" and item["spec"].keys() == {"podSelector", "policyTypes"}
    ]
    if not any(
        item["spec"]["podSelector"] == {} and set(item["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        for item in denied
    ):
        yield "nothing is denied by default"


def test_only_the_hub_calls_spokes_and_a_spoke_calls_nobody() -> None:
    spokes = {name for name in ROOM_OF if name != HUB}
    # `finid.factor` and others are no rooms; the gateway's own API has no client here.
    calls = {(caller, peer) for caller, peer in calls_by_code() if peer in ROOM_OF}
    assert calls == {(HUB, spoke) for spoke in spokes}
    assert callers_by_code() - {("envoy", HUB)} == calls
    told = {
        (caller, peer) for caller, peer, _ in called(objects("overlays/prod")) if caller in ROOM_OF and peer in ROOM_OF
    }
    assert told == calls


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_policies_open_what_the_code_calls_and_nothing_else(overlay: str) -> None:
    assert list(problems(objects(f"overlays/{overlay}"))) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_databases_pods_are_reached_by_who_has_a_database_and_by_what_runs_them(overlay: str) -> None:
    manifests = objects(f"overlays/{overlay}/postgres")
    wanted = OF_DATABASE | {edge for edge in called(objects(f"overlays/{overlay}")) if edge[1] == DATABASE}
    wanted.add(("migrate", DATABASE, 5432))
    if overlay == "dev":  # nothing is backed up
        wanted.discard((DATABASE, "object-store", 443))
    leaving = {edge for edge in wanted if edge[0] == DATABASE}
    assert opened(manifests, "Ingress") == {edge for edge in wanted if edge[1] == DATABASE}
    assert opened(manifests, "Egress") == leaving
    assert opened(objects(f"overlays/{overlay}/migrate"), "Egress") == {("migrate", DATABASE, 5432)}


def test_faces_leave_by_no_way_but_the_database() -> None:
    for overlay in OVERLAYS:
        manifests = objects(f"overlays/{overlay}")
        leaving = {edge for edge in opened(manifests, "Egress") if edge[0] in {"liveness", "facematch"}}
        assert leaving == {("liveness", DATABASE, 5432)}
        # Not even names: facematch asks for none.
        (expression,) = named(manifests, "NetworkPolicy", "names")["spec"]["podSelector"]["matchExpressions"]
        assert expression == {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["facematch"]}


def test_optional_parts_open_what_they_need() -> None:
    fetching = objects("../../tests/k8s/tried/fetch-revocation")
    assert list(problems(fetching)) == []
    managed = objects("../../tests/k8s/tried/managed-postgres")
    assert {edge for edge in opened(managed, "Egress") if edge[1] == DATABASE} == set()
    behind = objects("../../tests/k8s/tried/gateway-api")
    services = {item["metadata"]["name"]: item["spec"] for item in behind if item["kind"] == "Service"}
    assert services["envoy"]["type"] == services["envoy-page"]["type"] == "ClusterIP"
    for route in (item for item in behind if item["kind"] in {"TLSRoute", "HTTPRoute"}):
        for backend in (backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]):
            assert backend["port"] in {port["port"] for port in services[backend["name"]]["ports"]}


def test_the_table_in_the_readme_names_every_edge() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `([a-z-]+)` \| ([0-9, ]+) \|", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {(caller, peer, int(port)) for caller, peer, ports in rows for port in ports.split(",")}
    in_force: set[Edge] = set()
    for part in (".", "postgres", "migrate"):
        manifests = objects(f"overlays/prod/{part}")
        in_force |= opened(manifests, "Egress") | opened(manifests, "Ingress")
    optional = {("documents", "authorities", port) for port in (80, 443)}
    assert told == in_force | optional
    assert told == called(objects("overlays/prod")) | PUBLIC | OF_DATABASE | optional | {("migrate", DATABASE, 5432)}


def test_a_pod_that_is_relabelled_as_the_runbook_says_is_cut_off() -> None:
    """Kept for evidence: it runs on, and nothing calls it, is called by it, or scrapes it."""
    page = (CHECKOUT / "docs" / "runbooks" / "FinIdKeyUnwrapWithoutIntent.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"kubectl -n finid label pod signer-0 (.+) --overwrite", page)
    manifests = objects("overlays/prod")
    labels = dict(workloads(manifests)["signer"]["spec"]["template"]["metadata"]["labels"])
    for change in command.split():
        key, _, value = change.partition("=")
        labels = {**labels, key: value} if value else {k: v for k, v in labels.items() if k != key.removesuffix("-")}
    policies = {item["metadata"]["name"]: item["spec"] for item in manifests if item["kind"] == "NetworkPolicy"}
    assert {name for name, spec in policies.items() if _selects(spec["podSelector"], labels)} == {
        "default-deny",
        "names",
    }
    peers = [peer for spec in policies.values() for peer in _peers(spec) if "podSelector" in peer]
    assert not [peer for peer in peers if "namespaceSelector" not in peer and _selects(peer["podSelector"], labels)]
    assert not _selects(named(manifests, "PodMonitor", "finid")["spec"]["selector"], labels)
    assert not _selects(workloads(manifests)["signer"]["spec"]["selector"], labels)
    services = [item["spec"]["selector"] for item in manifests if item["kind"] == "Service"]
    assert not [selector for selector in services if selector.items() <= labels.items()]


def _peers(spec: Manifest) -> list[Manifest]:
    ways = (("ingress", "from"), ("egress", "to"))
    return [peer for way, whom in ways for rule in spec.get(way, []) for peer in rule.get(whom, [])]


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """As the API server reads a selector, of the operators that are used here."""
    for rule in selector.get("matchExpressions", []):
        among = labels.get(rule["key"]) in rule["values"]
        assert rule["operator"] in {"In", "NotIn"}
        if among is not (rule["operator"] == "In"):
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _policy(manifests: list[Manifest], name: str) -> Manifest:
    found: Manifest = named(manifests, "NetworkPolicy", name)["spec"]
    return found


SEEDED: dict[str, tuple[Callable[[list[Manifest]], object], str]] = {
    "a spoke that may call another": (
        lambda m: _policy(m, "otp-to-postgres")["egress"][0]["to"].append(
            {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "signer"}}}
        ),
        "('otp', 'signer', 5432): opened for nobody",
    ),
    "a spoke that lets in another caller": (
        lambda m: _policy(m, "signer-from-auth-gateway")["ingress"][0]["from"].append(
            {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "portal"}}}
        ),
        "('portal', 'signer', 8443): let in, and nobody calls",
    ),
    "a service that nobody lets anybody reach": (
        lambda m: m.remove(named(m, "NetworkPolicy", "registry-from-auth-gateway")),
        "('auth-gateway', 'registry', 8443): not let in",
    ),
    "metrics for everybody": (
        lambda m: _policy(m, "metrics-from-monitoring")["ingress"][0].pop("from"),
        "('outside', 'signer', 9464): let in, and nobody calls",
    ),
    "another port of the HSM": (
        lambda m: _policy(m, "ca-to-hsm")["egress"][0]["ports"][0].update(port=22),
        "('ca', 'hsm', 22): opened for nobody",
    ),
    "no default": (
        lambda m: _policy(m, "default-deny").update(policyTypes=["Ingress"]),
        "nothing is denied by default",
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_edge_is_caught(name: str) -> None:
    spoil, told = SEEDED[name]
    manifests = copy.deepcopy(objects("overlays/staging"))
    spoil(manifests)
    assert told in list(problems(manifests))
