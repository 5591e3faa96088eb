"""What deploy/k8s says is what the services read and listen on. Each rule also catches a seeded mismatch."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.state import CHECKOUT
from tests.k8s.manifests import (
    OVERLAYS,
    ROOM_OF,
    Manifest,
    admin_settings_of,
    environment,
    mounted,
    named,
    objects,
    settings_of,
    workloads,
    writable,
)

# What nothing reads as a setting: the database URL names its root, the token's library its configuration.
READ_BY_OTHERS = {Path("/etc/finid/database/ca.crt"), Path("/etc/finid/token/token.conf")}
# Of the metrics' endpoint: the same for every service.
METRICS = ("FINID_METRICS_ADDRESS", 9464)
# What deploy/images makes, the HSM's module, and Envoy as its makers publish it.
IMAGES = {*(f"finid/{name}" for name in (*ROOM_OF, "migrate", "models", "pkcs11-module")), "envoyproxy/envoy"}
USER = 65532
SCRATCH = "/tmp"  # noqa: S108  the one folder that every image may write to
WITH_POOLS = {"liveness", "facematch", "documents"}


def config_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Keys that a service does not read or lacks, and files that it reads and nobody mounts, or the reverse."""
    running = workloads(manifests)
    for name, room in ROOM_OF.items():
        given = environment(manifests, running[name])
        fields = settings_of(room).model_fields
        read = set(fields).union(*(item.model_fields for item in admin_settings_of(room)))
        known = {f"FINID_{field.upper()}" for field in read} | {"SOFTHSM2_CONF"}
        required = {f"FINID_{field.upper()}" for field, info in fields.items() if info.is_required()}
        yield from (f"{name}: {key} is read by nobody" for key in sorted(given.keys() - known))
        yield from (f"{name}: {key} is required and not given" for key in sorted(required - given.keys()))
        paths = {path for value in given.values() for path in _files_of(value)}
        there = {Path(path) for path in mounted(running[name])}
        own = writable(running[name])
        for path in sorted(paths - there):
            is_own = bool(own & {path, *path.parents})
            holds_files = any(path in file.parents for file in there)
            if not is_own and not holds_files:
                yield f"{name}: {path} is mounted by nobody"
        for path in sorted(there - READ_BY_OTHERS):
            if not paths & {path, *path.parents}:
                yield f"{name}: {path} is mounted and no setting names it"


def port_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Ports that a service listens on and its pod does not name, or the reverse; peers that no Service is."""
    running = workloads(manifests)
    served = {
        (item["metadata"]["name"], port["port"])
        for item in manifests
        if item["kind"] == "Service"
        for port in item["spec"]["ports"]
    }
    for name in ROOM_OF:
        given = environment(manifests, running[name])
        keys = [key for key in given if key.endswith("LISTEN") or key == METRICS[0]]
        listens = {int(given[key].rpartition(":")[2]) for key in keys}
        (container,) = running[name]["spec"]["template"]["spec"]["containers"]
        ports = {port["containerPort"]: port["name"] for port in container["ports"]}
        if listens != ports.keys():
            yield f"{name}: listens on {sorted(listens)}, and its pod says otherwise"
        if ports.get(METRICS[1]) != "metrics":
            yield f"{name}: no port named metrics"
        health = int(given["FINID_HEALTH_LISTEN"].rpartition(":")[2])
        if container["readinessProbe"].get("grpc") != {"port": health}:
            yield f"{name}: readinessProbe asks elsewhere than where health is"
        for probe in ("startupProbe", "livenessProbe"):
            # What a service has lost comes back without its being killed.
            if (container[probe].get("tcpSocket"), ports.get(health)) != ({"port": "health"}, "health"):
                yield f"{name}: {probe} asks more than whether health listens"
        for key, value in given.items():
            host, _, port = value.rpartition(":")
            if key.startswith("FINID_PEER_") and (host, int(port)) not in served:
                yield f"{name}: {key} names {value}, which no Service is"
        if named(manifests, "Service", name)["spec"].get("clusterIP") != "None":
            yield f"{name}: its Service hides its pods, so that callers cannot balance"


def _files_of(value: str) -> list[Path]:
    """The files that a setting's value names: one, or a list of them as JSON."""
    named = json.loads(value) if value.startswith("[") else [value]
    return [Path(item) for item in named if item.startswith("/")]


def pod_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Privileges, limits, probes, images, and time to drain."""
    for name, workload in workloads(manifests).items():
        pod = workload["spec"]["template"]["spec"]
        rights = pod["securityContext"]
        if rights.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: no seccomp profile"
        if not rights.get("runAsNonRoot") or pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: root, or a token of the API server"
        if {rights.get("runAsUser"), rights.get("runAsGroup"), rights.get("fsGroup")} != {USER}:
            yield f"{name}: not the user of the images"
        if not any(mount["mountPath"] == SCRATCH for mount in pod["containers"][0]["volumeMounts"]):
            yield f"{name}: no {SCRATCH} to write to"
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            yield from _container_problems(name, container)
        if workload["kind"] == "Job":
            continue
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in pod["containers"][0]:
                yield f"{name}: no {probe}"
        if name in ROOM_OF:
            before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            default = settings_of(ROOM_OF[name]).model_fields["drain_s"].default
            drain = float(environment(manifests, workload).get("FINID_DRAIN_S", default))
            if pod["terminationGracePeriodSeconds"] < before + drain + 5:
                yield f"{name}: is killed before it has drained"


def _container_problems(name: str, container: Manifest) -> Iterator[str]:
    rights = container["securityContext"]
    if (
        rights.get("allowPrivilegeEscalation") is not False
        or rights.get("readOnlyRootFilesystem") is not True
        or rights.get("capabilities") != {"drop": ["ALL"]}
    ):
        yield f"{name}: {container['name']} has privileges"
    resources = container["resources"]
    if "memory" not in resources.get("limits", {}) or resources.get("requests", {}).keys() != {"cpu", "memory"}:
        yield f"{name}: {container['name']} has no limits"
    image = re.split(r"[:@]", container["image"].removeprefix("registry.example/"))[0]
    if image not in IMAGES:
        yield f"{name}: nobody makes the image {image}"
    if image == container["image"]:
        yield f"{name}: {image} in any version"


def availability_problems(manifests: list[Manifest]) -> Iterator[str]:
    """What keeps a service up while pods and nodes go: budgets, spread, priority."""
    by_kind: dict[str, dict[str, Manifest]] = {}
    for item in manifests:
        by_kind.setdefault(item["kind"], {})[item["metadata"]["name"]] = item
    for name, workload in workloads(manifests).items():
        pod = workload["spec"]["template"]["spec"]
        selector = {"matchLabels": {"app.kubernetes.io/name": name}}
        if by_kind["PodDisruptionBudget"].get(name, {}).get("spec", {}).get("selector") != selector:
            yield f"{name}: no disruption budget"
        spread = {item["topologyKey"] for item in pod["topologySpreadConstraints"] if item["labelSelector"] == selector}
        apart = pod.get("affinity", {}).get("podAntiAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
        if (
            workload["kind"] == "StatefulSet"
        ):  # a slot each, so that a spread, which allows more pods than nodes, is too little
            if {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"} not in (apart or []):
                yield f"{name}: two may stand on one node"
            spread.add("kubernetes.io/hostname")
        if spread != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
            yield f"{name}: may stand on one node, or in one zone"
        if pod.get("priorityClassName") not in by_kind["PriorityClass"]:
            yield f"{name}: no priority"
        account = by_kind["ServiceAccount"].get(pod.get("serviceAccountName", ""), {})
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name}: no account without a token"
        if not workload["metadata"].get("annotations", {}).get("finid/resources-from"):
            yield f"{name}: nobody says where its resources come from"


def _one_a_node(pod: Manifest, selector: Manifest) -> bool:
    rules = pod.get("affinity", {}).get("podAntiAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"} in rules


def scaling_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Who says how many pods there are, and by what."""
    scalers = {item["metadata"]["name"]: item for item in manifests if item["kind"] == "HorizontalPodAutoscaler"}
    for name, workload in workloads(manifests).items():
        scaler = scalers.get(name)
        # A number in the manifest would be at odds with the scaler's at every apply: server-side, a conflict.
        if "replicas" in workload["spec"] and workload["kind"] == "Deployment":
            yield f"{name}: says how many, which is its autoscaler's to say"
        if scaler is None:
            if workload["kind"] == "Deployment":
                yield f"{name}: does not scale"
            elif "replicas" not in workload["spec"]:
                yield f"{name}: nobody says how many"
            continue
        metrics = {
            item.get("resource", item.get("pods", {}).get("metric"))["name"] for item in scaler["spec"]["metrics"]
        }
        if metrics != {"cpu"} | ({"finid_worker_queue_length"} if name in WITH_POOLS else set()):
            yield f"{name}: scales on {sorted(metrics)}"


RULES: dict[str, Callable[[list[Manifest]], Iterator[str]]] = {
    "config": config_problems,
    "ports": port_problems,
    "pods": pod_problems,
    "availability": availability_problems,
    "scaling": scaling_problems,
}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", RULES)
def test_manifests_say_what_the_code_says(overlay: str, rule: str) -> None:
    problems = list(RULES[rule](objects(f"overlays/{overlay}")))
    if overlay == "dev":  # one pod of each
        problems = [problem for problem in problems if not problem.endswith("does not scale")]
    assert problems == []


def test_every_room_with_a_database_has_a_migration_without_privileges() -> None:
    for overlay in OVERLAYS:
        manifests = objects(f"overlays/{overlay}/migrate")
        assert list(pod_problems(manifests)) == []
        rooms = {path.parent.name for path in (CHECKOUT / "services").glob("*/migrations")}
        jobs = workloads(manifests)
        assert {job["metadata"]["labels"]["finid/room"].replace("-", "_") for job in jobs.values()} == rooms
        for job in jobs.values():
            (container,) = job["spec"]["template"]["spec"]["containers"]
            room = job["metadata"]["labels"]["finid/room"].replace("-", "_")
            assert container["command"] == ["python", "-m", "mesh.migrate", room]
            # So that an upgrade deletes these and no Job that moves rows.
            assert job["metadata"]["labels"]["finid/work"] == "migrate"


def test_the_sandbox_is_filled_without_privileges() -> None:
    assert list(pod_problems(objects("overlays/dev/sandbox"))) == []


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_images_are_pinned_by_digest_where_it_counts(overlay: str) -> None:
    for part in (".", "migrate"):
        for workload in workloads(objects(f"overlays/{overlay}/{part}")).values():
            pod = workload["spec"]["template"]["spec"]
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                assert re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", container["image"]), container["image"]


def test_the_database_takes_as_many_connections_as_all_pods_may_open() -> None:
    manifests = objects("overlays/prod")
    most = 0
    for name, workload in workloads(manifests).items():
        source = CHECKOUT / "services" / ROOM_OF.get(name, "") / "__main__.py"
        opened = re.search(r"Database\.open\([^\n]*", source.read_text()) if source.exists() else None
        if opened is None:
            continue
        given = re.search(r"max_connections=(\d+)", opened[0])
        scaler = [i for i in manifests if i["kind"] == "HorizontalPodAutoscaler" and i["metadata"]["name"] == name]
        pods = scaler[0]["spec"]["maxReplicas"] if scaler else workload["spec"]["replicas"]
        most += pods * (int(given[1]) if given else 8)  # mesh.postgres.Database.open
    cluster = named(objects("overlays/prod/postgres"), "Cluster", "finid-postgres")
    assert most + 64 <= int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])


def _container(manifests: list[Manifest], name: str) -> Manifest:
    (container,) = workloads(manifests)[name]["spec"]["template"]["spec"]["containers"]
    found: Manifest = container
    return found


def _config(manifests: list[Manifest], name: str) -> dict[str, str]:
    source = _container(manifests, name)["envFrom"][1]["configMapRef"]["name"]
    found: dict[str, str] = named(manifests, "ConfigMap", source)["data"]
    return found


SEEDED: dict[str, tuple[str, Callable[[list[Manifest]], object], str]] = {
    "a key nobody reads": (
        "config",
        lambda m: _config(m, "otp").update(FINID_OTP_TTL="300"),
        "otp: FINID_OTP_TTL is read by nobody",
    ),
    "a required key left out": (
        "config",
        lambda m: _config(m, "signer").pop("FINID_TOKEN_LABEL"),
        "signer: FINID_TOKEN_LABEL is required and not given",
    ),
    "a secret file that is not mounted": (
        "config",
        lambda m: _config(m, "ca").update(FINID_FIELD_KEY_FILE="/etc/finid/secrets/fields.key"),
        "ca: /etc/finid/secrets/fields.key is mounted by nobody",
    ),
    "a secret that no setting names": (
        "config",
        lambda m: _config(m, "liveness").pop("FINID_SCRIPT_KEY_FILE"),
        "liveness: /etc/finid/secrets/scripts.key is mounted and no setting names it",
    ),
    "another port": (
        "ports",
        lambda m: _config(m, "portal").update(FINID_PORTAL_HTTP_LISTEN="0.0.0.0:8445"),
        "portal: listens on [8081, 8443, 8445, 9464], and its pod says otherwise",
    ),
    "a peer that is not there": (
        "ports",
        lambda m: _config(m, "auth-gateway").update(FINID_PEER_CA="authority:8443"),
        "auth-gateway: FINID_PEER_CA names authority:8443, which no Service is",
    ),
    "a probe of another port": (
        "ports",
        lambda m: _container(m, "otp")["readinessProbe"].update(grpc={"port": 8443}),
        "otp: readinessProbe asks elsewhere than where health is",
    ),
    "a start that waits for the database": (
        "ports",
        lambda m: _container(m, "otp").update(startupProbe={"grpc": {"port": 8081}}),
        "otp: startupProbe asks more than whether health listens",
    ),
    "a restart for a lost database": (
        "ports",
        lambda m: _container(m, "otp").update(livenessProbe={"grpc": {"port": 8081}}),
        "otp: livenessProbe asks more than whether health listens",
    ),
    "a Service with an address of its own": (
        "ports",
        lambda m: named(m, "Service", "signer")["spec"].pop("clusterIP"),
        "signer: its Service hides its pods, so that callers cannot balance",
    ),
    "no limit": (
        "pods",
        lambda m: _container(m, "facematch")["resources"].pop("limits"),
        "facematch: service has no limits",
    ),
    "a privilege": (
        "pods",
        lambda m: _container(m, "signer")["securityContext"].update(allowPrivilegeEscalation=True),
        "signer: service has privileges",
    ),
    "no probe": ("pods", lambda m: _container(m, "otp").pop("livenessProbe"), "otp: no livenessProbe"),
    "an image that nobody makes": (
        "pods",
        lambda m: _container(m, "otp").update(image="registry.example/finid/otps:1"),
        "otp: nobody makes the image finid/otps",
    ),
    "killed while it drains": (
        "pods",
        lambda m: workloads(m)["auth-gateway"]["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=30),
        "auth-gateway: is killed before it has drained",
    ),
    "no disruption budget": (
        "availability",
        lambda m: named(m, "PodDisruptionBudget", "ca")["spec"].update(selector={"matchLabels": {"app": "ca"}}),
        "ca: no disruption budget",
    ),
    "one node for all": (
        "availability",
        lambda m: workloads(m)["otp"]["spec"]["template"]["spec"]["topologySpreadConstraints"].pop(),
        "otp: may stand on one node, or in one zone",
    ),
    "two slots on one node": (
        "availability",
        lambda m: workloads(m)["signer"]["spec"]["template"]["spec"]["affinity"].pop("podAntiAffinity"),
        "signer: two may stand on one node",
    ),
    "a number beside the autoscaler's": (
        "scaling",
        lambda m: workloads(m)["otp"]["spec"].update(replicas=2),
        "otp: says how many, which is its autoscaler's to say",
    ),
    "a set without a number": (
        "scaling",
        lambda m: workloads(m)["signer"]["spec"].pop("replicas"),
        "signer: nobody says how many",
    ),
    "a model pool that scales on processors alone": (
        "scaling",
        lambda m: named(m, "HorizontalPodAutoscaler", "liveness")["spec"]["metrics"].pop(),
        "liveness: scales on ['cpu']",
    ),
}


@pytest.mark.parametrize("overlay", ["staging", "prod"])
@pytest.mark.parametrize("name", ["ca", "signer"])
def test_what_needs_the_hsm_stands_on_nodes_that_have_it_one_a_node(overlay: str, name: str) -> None:
    affinity = workloads(objects(f"overlays/{overlay}"))[name]["spec"]["template"]["spec"]["affinity"]
    assert affinity.keys() == {"nodeAffinity", "podAntiAffinity"}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_mismatch_is_caught(name: str) -> None:
    rule, spoil, told = SEEDED[name]
    manifests = copy.deepcopy(objects("overlays/staging"))
    spoil(manifests)
    assert told in list(RULES[rule](manifests))
