"""What pods mount and no manifest brings is made: by the sandbox's generator, the store of secrets, the ceremony."""

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.k8s import made, overlay, sandbox
from deploy.k8s.made import Object, wanted
from deploy.k8s.overlay import Manifest
from deploy.local.assets import prepare as assets
from deploy.local.state import State
from services.ca import authority
from tests.k8s.manifests import README, ROOM_OF, environment, mounted, objects, settings_of, workloads, writable


def asked_in_production() -> dict[Object, frozenset[str]]:
    return wanted(*(objects(f"overlays/prod/{part}") for part in (".", "migrate", "postgres")))


@pytest.mark.parametrize("overlay_name", ["staging", "prod"])
def test_the_store_of_secrets_brings_every_secret_that_is_mounted(overlay_name: str) -> None:
    brought = {
        ("Secret", item["metadata"]["name"]): frozenset(entry["secretKey"] for entry in item["spec"]["data"])
        for item in objects(f"overlays/{overlay_name}/secrets")
        if item["kind"] == "ExternalSecret"
    }
    asked = {item: keys for item, keys in asked_in_production().items() if item[0] == "Secret"}
    assert brought == asked


def test_the_readme_says_where_every_object_comes_from() -> None:
    rows = re.findall(
        r"^\| (Secret|ConfigMap) `([a-z0-9-]+)` \| ([^|]+) \|", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {(kind, name): frozenset(re.findall(r"`([^`]+)`", keys)) for kind, name, keys in rows}
    asked = {item: keys - {made.WHOLE} for item, keys in asked_in_production().items()}
    assert told == asked


def test_the_authoritys_folder_has_the_files_that_it_reads() -> None:
    folder = environment(objects("overlays/prod"), workloads(objects("overlays/prod"))["ca"])["FINID_CA_PKI_FOLDER"]
    files = {
        Path(path).relative_to(folder).as_posix()
        for path in mounted(workloads(objects("overlays/prod"))["ca"])
        if path.startswith(folder)
    }
    assert files == {
        authority.CHAIN_FILE,
        authority.OCSP_FILE,
        authority.TSA_FILE,
        authority.ROOT_CRL_FILE,
        authority.ISSUED_FOLDER,
    }


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    # A short path: SoftHSM and sockets allow no long ones.
    return sandbox.objects(State.open(tmp_path_factory.mktemp("k") / "s"), datetime.now(UTC))


def _contents(made_objects: Manifest) -> dict[str, dict[str, bytes]]:
    return {
        item["metadata"]["name"]: {
            **{key: base64.b64decode(value) for key, value in item.get("binaryData", {}).items()},
            **{key: _plain(item["kind"], value) for key, value in item.get("data", {}).items()},
        }
        for item in made_objects["items"]
        if item["kind"] in {"Secret", "ConfigMap"}
    }


def _plain(kind: str, value: str) -> bytes:
    return base64.b64decode(value) if kind == "Secret" else value.encode()


def test_texts_of_the_sandbox_are_read_and_patched_as_anywhere(sandboxed: Manifest) -> None:
    """docs/sre.md takes pins out of `data`, where `kubectl create configmap --from-file` has put them."""
    maps = {item["metadata"]["name"]: item for item in sandboxed["items"] if item["kind"] == "ConfigMap"}
    assert json.loads(maps["trust"]["data"]["pins.json"])["pins"]
    assert "binaryData" not in maps["trust"]
    assert maps["sandbox-people"]["binaryData"], "pictures"


def test_the_sandbox_makes_all_that_its_overlay_mounts(sandboxed: Manifest) -> None:
    asked = wanted(*(overlay.objects(sandbox.OVERLAY / part) for part in sandbox.PARTS))
    contents = _contents(sandboxed)
    for (_, name), keys in asked.items():
        assert keys - {made.WHOLE} <= contents[name].keys(), name
        assert contents[name], name


def _laid_out(workload: Manifest, contents: dict[str, dict[str, bytes]], root: Path) -> None:
    """Write what is mounted below a folder, as the kubelet would."""
    for path, (name, key) in mounted(workload).items():
        place = root / path.lstrip("/")
        # Certificates of cert-manager and CloudNativePG, what providers and stores give: settings do not look inside.
        known = contents.get(name, {})
        files = {place: known.get(key, b"not made here")} if key else {place / entry: known[entry] for entry in known}
        for file, content in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o440)
    for folder in writable(workload):
        (root / str(folder).lstrip("/")).mkdir(parents=True, exist_ok=True)


# By the init containers.
MODULE = "etc/finid/pkcs11/module.so"
MODELS = "etc/finid/models"


@pytest.mark.parametrize("env", ["sandbox", "production"])
@pytest.mark.parametrize("name", ROOM_OF)
def test_every_service_takes_the_settings_that_its_pod_would_have(
    name: str, env: str, sandboxed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = objects({"sandbox": "overlays/dev", "production": "overlays/prod"}[env])
    workload = workloads(manifests)[name]
    _laid_out(workload, _contents(sandboxed), tmp_path)
    if (tmp_path / MODELS).is_dir():
        (tmp_path / MODELS).rmdir()
        (tmp_path / MODELS).symlink_to(assets.default_folder() / "models")
    if (tmp_path / MODULE).parent.is_dir():
        (tmp_path / MODULE).touch()
    for key, value in environment(manifests, workload).items():
        monkeypatch.setenv(key, f"{tmp_path}{value}" if value.startswith("/") else value)
    if (name, env) == ("registry", "production"):
        # There is no state source but the sandbox's people yet, and production refuses those.
        with pytest.raises(ValidationError, match="FINID_STATE_SOURCE"):
            settings_of(ROOM_OF[name])()
        assert "FINID_STATE_SOURCE" in README.read_text(encoding="utf-8")
        return
    assert settings_of(ROOM_OF[name])().env == env
