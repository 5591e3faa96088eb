"""The hosted page's files, which Envoy itself answers with: they are few and small, and so no other server is needed.

Their content stands in the configuration, so that wherever the configuration goes (a Kubernetes ConfigMap takes 1 MiB)
the page goes with it and nothing else need be mounted. Files beside the page are found under the digest of them all:
they may be kept for ever, and no page meets the files of another version.
"""

import hashlib
from pathlib import Path
from typing import Final

from deploy.envoy.edge import Json
from deploy.envoy.routes import capture_routes, not_found, off

MAX_FILE_BYTES: Final = 64 * 1024
_FOLDER: Final = Path(__file__).parents[2] / "web" / "capture"
_PATH: Final = "/capture"
_MEDIA_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_PLACE: Final = "ASSETS"
_FOR_EVER: Final = "public, max-age=31536000, immutable"

# Nothing inline, nothing of others, in nobody's frame. `data:` is for the empty icon: browsers ask for one otherwise.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _CSP,
    "permissions-policy": "camera=(self), otp-credentials=(self), microphone=(), geolocation=(), display-capture=(), "
    "payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def routes() -> list[Json]:
    """Routes of the page's listener: the page, its files, and the calls that it makes."""
    files = {path.relative_to(_FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in _sources()}
    version = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in files.items()).encode()).hexdigest()[:16]
    html = (_FOLDER / "index.html").read_text(encoding="utf-8").replace(_PLACE, version)
    return [
        _file(_PATH, html, "text/html; charset=utf-8", "no-store"),
        *(
            _file(f"{_PATH}/{version}/{name}", text, _MEDIA_TYPES[Path(name).suffix], _FOR_EVER)
            for name, text in files.items()
        ),
        *capture_routes(),
        not_found(),
    ]


def _sources() -> list[Path]:
    return sorted(path for pattern in ("*.js", "*.css", "texts/*.js") for path in _FOLDER.glob(pattern))


def _file(path: str, text: str, media_type: str, cache: str) -> Json:
    headers = _HEADERS | {"content-type": media_type, "cache-control": cache}
    return {
        "name": "page",
        "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
        "direct_response": {"status": 200, "body": {"inline_string": text}},
        # It refuses what is no method of the API.
        "typed_per_filter_config": {"envoy.filters.http.grpc_json_transcoder": off()},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }
