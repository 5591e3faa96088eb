"""Keys of the local mesh that are files: receipts, orders, access tokens, the reference photo, fields at rest; pins.

Every key is made once. The pins are what verifiers believe of receipt keys, made here and never by a service; they are
made anew when a key is, or when they run out.
"""

import json
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from deploy.local.state import State
from mesh import base64url
from mesh.facts import FACTS_OF
from mesh.pins import key_id
from mesh.transaction import Env

_PINS_LIFETIME = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=30)


def symmetric_key(state: State, name: str) -> Path:
    """Return a file with 32 random bytes as base64url."""
    return state.secret(f"keys/{name}.key", lambda: base64url.encode(secrets.token_bytes(32)))


def token_key(state: State) -> Path:
    """Return the P-256 key (PKCS#8 PEM) that signs access tokens."""
    return state.secret("keys/access-token.pem", lambda: _pem(ec.generate_private_key(ec.SECP256R1())))


def photo_keys(state: State) -> tuple[Path, Path]:
    """Return facematch's private JWK and its public half: the reference photo is encrypted to it."""
    private = state.secret("keys/photo.jwk", _new_p256_jwk)
    public = {name: value for name, value in json.loads(private.read_text()).items() if name != "d"}
    return private, state.write("keys/photo.public.jwk", json.dumps(public), mode=0o444)


def receipt_keys(state: State) -> dict[str, Path]:
    """Return each spoke's Ed25519 key (PKCS#8 PEM) by the spoke's name."""
    issuers = sorted({facts.issuer for facts in FACTS_OF.values()})
    return {issuer: state.secret(f"keys/receipts-{issuer}.pem", _new_ed25519_pem) for issuer in issuers}


def gateway_key(state: State, use: str) -> Path:
    """Return the Ed25519 key (PKCS#8 PEM) that the gateway signs with for one use. No pin names it."""
    return state.secret(f"keys/gateway-{use}.pem", _new_ed25519_pem)


def pins_file(state: State, keys: dict[str, Path], now: datetime) -> Path:
    """Return the pins of these keys, made anew when one is missing or runs out soon; those of earlier keys stay."""
    path = state.private("keys") / "pins.json"
    wanted = _pins(keys, now)
    if path.exists():
        found = json.loads(path.read_text())["pins"]
        # A key counts from when it was first pinned: what it signed then, such as key attestations, stays valid.
        began = {_identity(pin): pin["not_before"] for pin in found}
        wanted = [pin | {"not_before": began.get(_identity(pin), pin["not_before"])} for pin in wanted]
        soon = int((now + _RENEW_BEFORE).timestamp())
        of_now = {_identity(pin) for pin in wanted}
        if of_now <= began.keys() and all(pin["not_after"] > soon for pin in found if _identity(pin) in of_now):
            return path
        # What an earlier key signed while it was believed stays verified.
        wanted += [pin for pin in found if _identity(pin) not in of_now]
    return state.write("keys/pins.json", json.dumps({"pins": wanted}, indent=2), mode=0o444)


def orderers_file(state: State, now: datetime) -> Path:
    """Return the public halves of the keys that order revocations for the Operator and the CA, made anew each start."""
    return state.write("keys/orderers.json", json.dumps({"orderers": _orderers(state, now)}, indent=2), mode=0o444)


def orderer_key(state: State, actor: str) -> Path:
    """Return the Ed25519 key (PKCS#8 PEM) of the development Operator or CA. In production a person's card holds it."""
    return state.secret(f"keys/orders-{actor.lower()}.pem", _new_ed25519_pem)


def _orderers(state: State, now: datetime) -> list[dict[str, str | int]]:
    return [
        {
            "kid": key_id(public_key),
            "actor": actor,
            "env": Env.SANDBOX.value,
            "public_key": base64url.encode(public_key),
            "not_before": int((now - _PINS_LIFETIME).timestamp()),
            "not_after": int((now + _PINS_LIFETIME).timestamp()),
        }
        for actor in ("OPERATOR", "CA")
        for public_key in [_public_key(orderer_key(state, actor))]
    ]


def _pins(keys: dict[str, Path], now: datetime) -> list[dict[str, str | int]]:
    return [
        {
            "kid": key_id(public_key),
            "factor": factor.value,
            "issuer": facts.issuer,
            "env": Env.SANDBOX.value,
            "public_key": base64url.encode(public_key),
            "not_before": int((now - timedelta(minutes=5)).timestamp()),
            "not_after": int((now + _PINS_LIFETIME).timestamp()),
        }
        for factor, facts in FACTS_OF.items()
        for public_key in [_public_key(keys[facts.issuer])]
    ]


def _identity(pin: dict[str, str | int]) -> tuple[str | int, ...]:
    return pin["kid"], pin["factor"], pin["issuer"], pin["env"]


def _public_key(path: Path) -> bytes:
    key = load_pem_private_key(path.read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _new_ed25519_pem() -> str:
    return _pem(Ed25519PrivateKey.generate())


def _pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _new_p256_jwk() -> str:
    """A private JWK (RFC 7518, 6.2)."""
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = numbers.public_numbers
    coordinates = {"x": point.x, "y": point.y, "d": numbers.private_value}
    encoded = {name: base64url.encode(value.to_bytes(32, "big")) for name, value in coordinates.items()}
    return json.dumps({"kty": "EC", "crv": "P-256", "use": "enc", "alg": "ECDH-ES", **encoded})
