"""Secrets and ConfigMaps of the overlay `dev`: `python -m deploy.k8s.sandbox | kubectl apply --server-side -f -`.

Keys, pins, floors, tokens and certificates are made as for the local mesh, once, in a folder of their own; run again it
writes the same. What is asked for is read out of the manifests, so that nothing can be forgotten. Nothing of it is for
production: keys lie in files here, the root beside them, and SoftHSM is no certified device.
"""

import argparse
import base64
import io
import json
import os
import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deploy.k8s import made, overlay
from deploy.k8s.made import WHOLE, Object
from deploy.k8s.overlay import Manifest
from deploy.local import commands, floors, keys, tokens
from deploy.local.assets import prepare as assets
from deploy.local.database import OWNER, PORTAL_ADMIN, random_password, role_of
from deploy.local.services import ROOMS, ROOMS_WITH_DATABASE
from deploy.local.state import State, default_folder
from services.portal.client_secret import new_secret

OVERLAY: Final = overlay.FOLDER / "overlays" / "dev"
PARTS: Final = (".", "migrate", "postgres", "sandbox")
DATABASE_SERVER: Final = "finid-database:5432"
_DATABASE_ROOT: Final = "/etc/finid/database/ca.crt"
# Where the component `softhsm` unpacks a token.
_TOKEN_FOLDER: Final = "/var/lib/finid-token"  # noqa: S105  a path
_TOKENS: Final = ("ca", "signer")
_REPLICAS: Final = 2

Files = Mapping[str, bytes]


def objects(state: State, now: datetime) -> Manifest:
    """Return the namespace, and every object that the overlay mounts and nobody else makes.

    `now` is in UTC. Raises KeyError naming the object and the key that this module cannot make, and LocalMeshError when
    a token or a ceremony fails.
    """
    parts = [overlay.objects(OVERLAY / part) for part in PARTS]
    namespace = next(item for item in parts[0] if item["kind"] == "Namespace")
    authority = overlay.environment(parts[0], overlay.workloads(parts[0])["ca"])
    ready = _made(state, now, authority["FINID_CA_PKI_URL"])
    items = [namespace]
    for (kind, name), asked in made.wanted(*parts).items():
        there = ready[kind, name]
        if missing := asked - there.keys() - {WHOLE}:
            raise KeyError(f"{kind} {name}: nobody makes {', '.join(sorted(missing))}")
        items.append(_object(kind, name, namespace["metadata"]["name"], there, whole=WHOLE in asked, asked=asked))
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _made(state: State, now: datetime, pki_url: str) -> dict[Object, Files]:
    token_of = {name: tokens.ensure_token(state, name) for name in ("root", *_TOKENS)}
    pki = commands.ca_ceremony(state, token_of["root"], token_of["ca"], pki_url)
    commands.signer_ceremony(token_of["signer"])
    receipt_keys = keys.receipt_keys(state)
    photo_private, photo_public = keys.photo_keys(state)
    trust = {
        "pins.json": keys.pins_file(state, receipt_keys, now),
        "orderers.json": keys.orderers_file(state, now),
        "photo.public.jwk": photo_public,
        "issuing.pem": pki / "issuing.pem",
        "root.pem": pki / "root.pem",
        **{f"floors-{consumer}.json": path for consumer, path in floors.floors_files(state).items()},
    }
    own: dict[str, dict[str, Path]] = {
        "auth_gateway": {
            "gateway.key": keys.symmetric_key(state, "auth_gateway"),
            "statement.pem": keys.gateway_key(state, "statement"),
            "webhook.pem": keys.gateway_key(state, "webhook"),
        },
        "liveness": {
            "field.key": keys.symmetric_key(state, "liveness"),
            "scripts.key": keys.symmetric_key(state, "liveness-scripts"),
        },
        "facematch": {"photo.jwk": photo_private},
        "otp": {"otp.key": keys.symmetric_key(state, "otp")},
        "registry": {"field.key": keys.symmetric_key(state, "registry")},
        "documents": {"field.key": keys.symmetric_key(state, "documents")},
        "ca": {"field.key": keys.symmetric_key(state, "ca")},
        "signer": {"subjects.key": keys.symmetric_key(state, "signer")},
        "portal": {
            "client-secrets.key": keys.symmetric_key(state, "portal"),
            "access-token.pem": keys.token_key(state),
        },
    }
    people = (assets.default_folder() / assets.PEOPLE_INDEX).parent
    ready: dict[Object, Files] = {
        ("ConfigMap", "trust"): _read(trust),
        ("ConfigMap", "pki"): _folder(pki, "*.pem") | _folder(pki, "*.crl"),
        ("ConfigMap", "pki-issued"): _folder(pki / "issued", "*.pem"),
        ("ConfigMap", "sandbox-people"): _folder(people, "*"),
        ("Secret", "sandbox-client"): _read({"client.secret": state.secret("secrets/sandbox-client", new_secret)}),
        ("Secret", "migrate"): {"database.url": _database_url(state, OWNER)},
        ("Secret", "finid-owner-database"): _login(state, OWNER),
        ("Secret", "finid-portal-admin-database"): _login(state, PORTAL_ADMIN),
    }
    for room in ROOMS:
        files = dict(_read(own[room]))
        if room in receipt_keys:
            files["receipt.pem"] = receipt_keys[room].read_bytes()
        if room in ROOMS_WITH_DATABASE:
            files["database.url"] = _database_url(state, role_of(room))
            ready["Secret", f"finid-{_dashed(room)}-database"] = _login(state, role_of(room))
        ready["Secret", _dashed(room)] = files
    for name in _TOKENS:
        ready["Secret", f"{name}-token"] = _token(token_of[name])
    return ready


def _token(token: tokens.DevelopmentToken) -> Files:
    """Return the token's files, and PIN and configuration for each replica, all on copies of one token."""
    name = token.label.removeprefix("finid-")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(token.store, arcname="store")
    configuration = f"directories.tokendir = {_TOKEN_FOLDER}/store\nobjectstore.backend = file\nlog.level = ERROR\n"
    files = {"store.tar": archive.getvalue()}
    for ordinal in range(_REPLICAS):
        files[f"{name}-{ordinal}-pin"] = token.pin_file.read_bytes()
        files[f"{name}-{ordinal}-token.conf"] = configuration.encode()
    return files


def _login(state: State, role: str) -> Files:
    return {"username": role.encode(), "password": _password(state, role).encode()}


def _database_url(state: State, role: str) -> bytes:
    login = f"{role}:{quote(_password(state, role), safe='')}"
    verified = f"sslmode=verify-full&sslrootcert={_DATABASE_ROOT}"
    return f"postgresql://{login}@{DATABASE_SERVER}/finid?{verified}".encode()


def _password(state: State, role: str) -> str:
    return state.secret(f"secrets/{role}.password", random_password).read_text()


def _read(files: Mapping[str, Path]) -> Files:
    return {name: path.read_bytes() for name, path in files.items()}


def _folder(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def _dashed(room: str) -> str:
    return room.replace("_", "-")


def _object(kind: str, name: str, place: str, files: Files, *, whole: bool, asked: frozenset[str]) -> Manifest:
    wanted = {key: value for key, value in files.items() if whole or key in asked}
    metadata = {"name": name, "namespace": place, "labels": {"app.kubernetes.io/part-of": "finid"}}
    if kind == "ConfigMap":
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **_read_by_people(wanted)}
    content = {key: base64.b64encode(value).decode() for key, value in wanted.items()}
    if content.keys() == {"username", "password"}:
        # CloudNativePG takes logins of this type, and a changed one at once where it bears this label.
        metadata["labels"]["cnpg.io/reload"] = "true"  # type: ignore[index]
        return {
            "apiVersion": "v1",
            "kind": kind,
            "type": "kubernetes.io/basic-auth",
            "metadata": metadata,
            "data": content,
        }
    return {"apiVersion": "v1", "kind": kind, "type": "Opaque", "metadata": metadata, "data": content}


def _read_by_people(files: Files) -> dict[str, dict[str, str]]:
    """A ConfigMap's files as `kubectl create configmap --from-file` puts them: texts as they are, the rest base64."""
    made: dict[str, dict[str, str]] = {}
    for key, value in files.items():
        try:
            made.setdefault("data", {})[key] = value.decode()
        except UnicodeDecodeError:
            made.setdefault("binaryData", {})[key] = base64.b64encode(value).decode()
    return made


def main() -> None:
    """Write the objects."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.sandbox", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--state", type=Path, default=Path(f"{default_folder()}-k8s"), help="where keys are kept")
    state = State.open(parser.parse_args().state)
    if os.isatty(sys.stdout.fileno()):
        sys.exit("this would show secrets on the terminal: send it into `kubectl apply --server-side -f -`")
    with state.locked():
        json.dump(objects(state, datetime.now(UTC)), sys.stdout)


if __name__ == "__main__":
    main()
