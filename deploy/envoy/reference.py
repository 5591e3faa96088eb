"""What an integrator reads: the API's OpenAPI document, and a page made from it."""

import base64
import hashlib
from typing import Final

from deploy.envoy import files
from deploy.envoy.edge import Edge, Json
from deploy.envoy.routes import OPENAPI, REFERENCE

_CACHED: Final = "public, max-age=300"


def routes(edge: Edge) -> list[Json]:
    """Routes of both, open to everybody."""
    document = edge.openapi.read_text(encoding="utf-8")
    page = edge.reference.read_text(encoding="utf-8")
    headers = files.GUARDED | {"cache-control": _CACHED}
    as_json = headers | {"content-type": "application/json"}
    as_page = headers | {"content-type": "text/html; charset=utf-8", "content-security-policy": _policy(page)}
    return [
        files.route("openapi", OPENAPI["path"], document, as_json),
        files.route("reference", REFERENCE["path"], page, as_page),
    ]


def _policy(page: str) -> str:
    """Nothing but the page's one style element, by its digest."""
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
