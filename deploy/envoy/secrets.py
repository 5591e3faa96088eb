"""Envoy's own certificates, so that it takes up new ones without a restart: small files beside its configuration.

Envoy looks at certificate files again only where a Secret names them and their folder (`watched_directory`): a file
moved into the folder, or Kubernetes' swap of the link `..data`, makes it read them. Open connections stay as they are.
"""

import json
from pathlib import Path
from typing import Final

from deploy.envoy.edge import Edge, Json, typed

WEB: Final = "web"
MESH: Final = "mesh"
MESH_ROOTS: Final = "mesh-roots"


def render(edge: Edge) -> dict[str, str]:
    """Return the files, by their names in `edge.secrets`."""
    each = [
        _secret(WEB, tls_certificate=_certificate(edge.web_certificate, edge.web_key)),
        _secret(MESH, tls_certificate=_certificate(edge.mesh_certificate, edge.mesh_key)),
        _secret(
            MESH_ROOTS,
            validation_context={"trusted_ca": _file(edge.mesh_root), "watched_directory": _folder(edge.mesh_root)},
        ),
    ]
    return {file_name(secret["name"]): json.dumps({"resources": [secret]}) for secret in each}


def reference(edge: Edge, name: str) -> Json:
    """Return what names a secret in the configuration."""
    if edge.secrets is None:
        raise ValueError("this edge reads its certificates once")
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": str(edge.secrets / file_name(name))},
        },
    }


def file_name(name: str) -> str:
    """Return the name of a secret's file."""
    return f"{name}.secret.json"


def _secret(name: str, **kind: Json) -> Json:
    return typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=name, **kind)


def _certificate(chain: Path, key: Path) -> Json:
    return {"certificate_chain": _file(chain), "private_key": _file(key), "watched_directory": _folder(chain)}


def _file(path: Path) -> Json:
    return {"filename": str(path)}


def _folder(path: Path) -> Json:
    return {"path": str(path.parent)}
