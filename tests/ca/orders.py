"""Orders of an Operator and an authority whose keys are pinned, current unless a test wants otherwise."""

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh import base64url
from mesh.names import new_id
from mesh.order import ON_HOLD, Actor, Claims, Kind, Orders
from mesh.pins import key_id
from mesh.transaction import Env
from tests.ca.requests import unix_now

KEYS = {actor: Ed25519PrivateKey.generate() for actor in (Actor.OPERATOR, Actor.CA)}
_REASON = {Kind.REVOKE: "keyCompromise", Kind.SUSPEND: ON_HOLD, Kind.RESUME: ""}


def orderers_json(around: int | None = None) -> bytes:
    """The file of the pinned keys, valid around a time (now)."""
    around = around or unix_now()
    pinned = []
    for actor, key in KEYS.items():
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        pinned.append(
            {
                "kid": key_id(public),
                "actor": actor.value,
                "env": "sandbox",
                "public_key": base64url.encode(public),
                "not_before": around - 86_400,
                "not_after": around + 86_400,
            }
        )
    return json.dumps({"orderers": pinned}).encode()


def orders(around: int | None = None) -> Orders:
    """What signer and authority accept."""
    return Orders.parse(orderers_json(around), Env.SANDBOX)


def claims(certificate_der: bytes, kind: Kind, *, now: int | None = None, **changed: Any) -> Claims:
    """An order about a certificate, given now."""
    now = now or unix_now()
    fields: dict[str, Any] = {
        "id": new_id(),
        "env": Env.SANDBOX,
        "kind": kind,
        "certificate_sha256": hashlib.sha256(certificate_der).digest(),
        "reason": _REASON[kind],
        "grounds": "order 2-118 of the Operator's supervisor",
        "iat": now,
        "exp": now + 3600,
    }
    return Claims(**{**fields, **changed})
