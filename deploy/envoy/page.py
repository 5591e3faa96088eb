"""The hosted page. Files beside it are found under the digest of them all: they may be kept for ever, and no page meets
the files of another version.
"""

import hashlib
from pathlib import Path
from typing import Final

from deploy.envoy import files, library
from deploy.envoy.edge import Json
from deploy.envoy.routes import capture_routes, not_found

_FOLDER: Final = Path(__file__).parents[2] / "web" / "capture"
_LOCK: Final = _FOLDER.parent / "package-lock.json"
_PATH: Final = "/capture"
_MEDIA_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_PLACE: Final = "ASSETS"
_FOR_EVER: Final = "public, max-age=31536000, immutable"

# Nothing inline, nothing of others, in nobody's frame. `data:` is for the empty icon: browsers ask for one otherwise. A
# policy of Trusted Types names the worker that reads PDFs, and can name nothing else (web/capture/pdf.js).
_CSP: Final = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types finid-pdf"
)
_HEADERS: Final = files.GUARDED | {
    "content-security-policy": _CSP,
    "permissions-policy": "camera=(self), otp-credentials=(self), microphone=(), geolocation=(), display-capture=(), "
    "payment=(), usb=()",
}


def routes(packed: Path) -> list[Json]:
    """Routes of the page's listener: the page, its files, those of `library.pack`, and the calls that it makes."""
    sources = {path.relative_to(_FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in _sources()}
    versioned = sources | {_LOCK.name: _LOCK.read_text(encoding="utf-8")}
    version = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in versioned.items()).encode()).hexdigest()[:16]
    html = (_FOLDER / "index.html").read_text(encoding="utf-8").replace(_PLACE, version)
    return [
        _file(_PATH, html, "text/html; charset=utf-8", "no-store"),
        *(
            _file(f"{_PATH}/{version}/{name}", text, _MEDIA_TYPES[Path(name).suffix], _FOR_EVER)
            for name, text in sources.items()
        ),
        *library.routes(packed, f"{_PATH}/{version}/pdfjs", _FOR_EVER),
        *capture_routes(),
        not_found(),
    ]


def _sources() -> list[Path]:
    return sorted(path for pattern in ("*.js", "*.css", "texts/*.js") for path in _FOLDER.glob(pattern))


def _file(path: str, text: str, media_type: str, cache: str) -> Json:
    return files.route("page", path, text, _HEADERS | {"content-type": media_type, "cache-control": cache})
