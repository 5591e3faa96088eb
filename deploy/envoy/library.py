"""What the hosted page needs of pdf.js: a few files of the pinned npm package, packed once where Envoy finds them.

They are too large for Envoy's configuration, which a Kubernetes ConfigMap must hold; packed they are 0.7 MB, of which a
browser fetches most, and only when there is a PDF to show.
"""

import gzip
from pathlib import Path
from typing import Final

from deploy.envoy import files
from deploy.envoy.edge import Json

# What `make setup` installs from web/package-lock.json, which has its digest.
PACKAGE: Final = Path(__file__).parents[2] / "web" / "node_modules" / "pdfjs-dist"

_SCRIPT: Final = "text/javascript; charset=utf-8"
_FONT: Final = "application/octet-stream"
# The builds for older browsers: views inside apps are as old as the phones they are on. The images' decoders are those
# without WebAssembly, which the policy does not allow. The two fonts have no counterpart among a phone's own: without
# them a tick would be shown as a figure. Left out: the viewer, the sandbox that runs documents' scripts, and tables for
# documents in Chinese, Japanese and Korean that have no fonts of their own; such a document is saved and not shown.
_FILES: Final = {
    "pdf.min.mjs": ("legacy/build/pdf.min.mjs", _SCRIPT),
    "pdf.worker.min.mjs": ("legacy/build/pdf.worker.min.mjs", _SCRIPT),
    "jbig2_nowasm_fallback.js": ("wasm/jbig2_nowasm_fallback.js", _SCRIPT),
    "openjpeg_nowasm_fallback.js": ("wasm/openjpeg_nowasm_fallback.js", _SCRIPT),
    "FoxitSymbol.pfb": ("standard_fonts/FoxitSymbol.pfb", _FONT),
    "FoxitDingbats.pfb": ("standard_fonts/FoxitDingbats.pfb", _FONT),
}
# A worker obeys the policy it was served with, not its page's. What takes hostile documents apart may load its own
# decoders and talk to nobody.
_CSP: Final = "default-src 'none'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'"


def pack(folder: Path, package: Path = PACKAGE) -> Path:
    """Write the packed files into the folder; return it. Raises FileNotFoundError when the package is not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (source, _) in _FILES.items():
        (folder / name).write_bytes(gzip.compress((package / source).read_bytes(), mtime=0))
    return folder


def routes(folder: Path, place: str, cache: str) -> list[Json]:
    """Routes of the files that `pack` wrote, below a path. Every browser takes gzip, so all are given it."""
    headers = files.GUARDED | {"content-encoding": "gzip", "content-security-policy": _CSP, "cache-control": cache}
    return [
        files.stored_route("library", f"{place}/{name}", folder / name, headers | {"content-type": media_type})
        for name, (_, media_type) in _FILES.items()
    ]
