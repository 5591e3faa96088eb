"""Files that Envoy itself answers with: they are few and small, and so no other server is needed.

Their content stands in the configuration, so that wherever the configuration goes (a Kubernetes ConfigMap takes 1 MiB)
the files go with it and nothing else need be mounted. Larger ones stand beside it (deploy.envoy.library).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.envoy.edge import Json
from deploy.envoy.routes import off

MAX_FILE_BYTES: Final = 512 * 1024
# In nobody's frame, and nobody learns where a reader came from.
GUARDED: Final = {
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def route(name: str, path: str, text: str, headers: Mapping[str, str]) -> Json:
    """A route that answers a GET of exactly this path with the text."""
    return _answered(name, path, {"inline_string": text}, headers)


def stored_route(name: str, path: str, file: Path, headers: Mapping[str, str]) -> Json:
    """A route that answers a GET of exactly this path with a file that Envoy reads when it starts."""
    return _answered(name, path, {"filename": str(file)}, headers)


def _answered(name: str, path: str, body: Json, headers: Mapping[str, str]) -> Json:
    return {
        "name": name,
        "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
        "direct_response": {"status": 200, "body": body},
        # It refuses what is no method of the API.
        "typed_per_filter_config": {"envoy.filters.http.grpc_json_transcoder": off()},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }
