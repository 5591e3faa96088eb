"""405 for a path of the API under another verb than its own, with the verbs it has (RFC 9110 section 15.5.6).

The transcoder would say that there is no such path. Paths and verbs are those of the generated OpenAPI document.
"""

import json
import re
from pathlib import Path
from typing import Final

from deploy.envoy.edge import Json
from deploy.envoy.routes import off

_VARIABLE: Final = re.compile(r"\{[^}]*\}")
# A colon begins a custom verb. The one path that takes slashes is no other's beginning.
_SEGMENT: Final = "[^/:]+"
_REST: Final = {"{request}": ".+"}


def routes(openapi: Path, prefix: str = "/") -> list[Json]:
    """Routes for every path that begins so; they belong before those that serve it."""
    paths = json.loads(openapi.read_text(encoding="utf-8"))["paths"]
    return [_route(path, sorted(verbs)) for path, verbs in paths.items() if path.startswith(prefix)]


def _route(path: str, verbs: list[str]) -> Json:
    allowed = [verb.upper() for verb in verbs]
    other = {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(allowed)}}, "invert_match": True}
    return {
        "name": "method",
        "match": {"safe_regex": {"regex": _pattern(path)}, "headers": [other]},
        "direct_response": {"status": 405},
        "typed_per_filter_config": {"envoy.filters.http.grpc_json_transcoder": off()},
        "response_headers_to_add": [{"header": {"key": "allow", "value": ", ".join(allowed)}}],
    }


def _pattern(path: str) -> str:
    parts, at = [], 0
    for variable in _VARIABLE.finditer(path):
        parts += [re.escape(path[at : variable.start()]), _REST.get(variable[0], _SEGMENT)]
        at = variable.end()
    return "".join([*parts, re.escape(path[at:])])
