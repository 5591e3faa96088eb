"""Webhooks of FinID, verified: Standard Webhooks (standardwebhooks.com), signed with Ed25519 (`v1a`).

A webhook says that something has changed, never how it ended: read the result as usual. It may come twice and out of
order; `id` is the same in every delivery of one event, so remember the ids of the last `TOLERANCE_S` seconds and
more, and do nothing twice.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from finid_client.errors import ProofRefusedError
from finid_client.keys import WEBHOOK, KeySet
from mesh import strict_json
from mesh.strict_json import StrictJsonError

TOLERANCE_S: Final = 300
"""How old or new a delivery may be: the recommendation of the specification. Each delivery is signed anew."""
_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_SIGNATURES: Final = 8
_VERSION: Final = "v1a"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event. `state` is the authentication's, `operation` what it is for ('' for an identification)."""

    id: str
    type: str
    sent_at: datetime
    happened_at: datetime
    authentication: str
    state: str
    operation: str


def verify_webhook(
    headers: Mapping[str, str], body: bytes, keys: KeySet, *, now: datetime, tolerance_s: int = TOLERANCE_S
) -> Webhook:
    """Return the event that a request carries. Raises ProofRefusedError.

    `headers` under any spelling of their case, `body` as it came, byte for byte; `now` is the verifier's clock, with a
    time zone.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        identifier, timestamp, signatures = (lowered[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise ProofRefusedError("WEBHOOK_UNSIGNED", f"there is no header {error.args[0]}") from error
    if not timestamp.isascii() or not timestamp.isdecimal() or len(body) > _MAX_BODY_BYTES:
        raise ProofRefusedError("WEBHOOK_MALFORMED", "the timestamp or the size of the body is wrong")
    signed = f"{identifier}.{timestamp}.".encode() + body
    if not _is_signed(signed, signatures, keys):
        raise ProofRefusedError("SIGNATURE_INVALID", "no signature is of a published webhook key")
    # After the signature: what nobody signed is not worth telling how old it is.
    if abs(now.timestamp() - int(timestamp)) > tolerance_s:
        raise ProofRefusedError("WEBHOOK_TOO_OLD", f"it was sent more than {tolerance_s} s from now")
    try:
        return _read(identifier, int(timestamp), body)
    except (StrictJsonError, ValueError) as error:
        raise ProofRefusedError("WEBHOOK_MALFORMED", str(error)) from error


def _is_signed(signed: bytes, signatures: str, keys: KeySet) -> bool:
    """Whether one of the signatures is of one of the keys: while a key is changed, there may be two of each."""
    for item in signatures.split(" ")[:_MAX_SIGNATURES]:
        version, _, encoded = item.partition(",")
        if version != _VERSION:
            continue
        try:
            signature = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        for key in keys.of_use(WEBHOOK):
            try:
                Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, signed)
            except InvalidSignature:
                continue
            return True
    return False


def _read(identifier: str, timestamp: int, body: bytes) -> Webhook:
    value = strict_json.parse(body, max_bytes=_MAX_BODY_BYTES)
    event = value if isinstance(value, dict) else {}
    data = event.get("data")
    if not isinstance(data, dict):
        raise StrictJsonError("data", "must be an object")
    happened_at = datetime.fromisoformat(strict_json.string(event.get("timestamp"), "timestamp"))
    if happened_at.tzinfo is None:
        raise StrictJsonError("timestamp", "must have a time zone")
    return Webhook(
        id=identifier,
        type=strict_json.string(event.get("type"), "type"),
        sent_at=datetime.fromtimestamp(timestamp, UTC),
        happened_at=happened_at,
        authentication=strict_json.string(data.get("authentication"), "data.authentication"),
        state=strict_json.string(data.get("state"), "data.state"),
        operation=strict_json.string(data.get("operation"), "data.operation"),
    )
