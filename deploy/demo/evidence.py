"""The evidence of an authentication, as files: anybody can verify it offline with jwks.json."""

import base64
import json
from pathlib import Path
from typing import Any

from mesh import base64url


def receipt_claims(token: str) -> dict[str, Any]:
    """Return a receipt's claims, for showing; verifying is `mesh.receipts`' work."""
    claims: dict[str, Any] = json.loads(base64url.decode(token.split(".")[1]))
    return claims


def write_evidence(folder: Path, evidence: dict[str, Any]) -> None:
    """Write transaction.json (the canonical bytes), openings.json and receipts/<factor>.jws."""
    bundle = evidence["bundle"]
    receipts = folder / "receipts"
    receipts.mkdir(parents=True, exist_ok=True)
    (folder / "transaction.json").write_bytes(base64.b64decode(bundle["transaction"]))
    (folder / "openings.json").write_text(json.dumps(bundle["openings"], indent=2) + "\n", encoding="utf-8")
    for token in bundle["receipts"]:
        name = receipt_claims(token)["factor"].lower()
        (receipts / f"{name}.jws").write_text(token, encoding="ascii")
