"""The public keys that proofs are verified with, from FinID's JWK Set (`/pki/receipt-keys.json`).

What was fetched from FinID at the moment of verifying proves no more than that FinID says so. Keep a copy: keys that
were pinned beforehand, or compared with what the Operator published elsewhere, prove it against FinID itself.
"""

from dataclasses import dataclass
from typing import Final

from finid_client.errors import ProofRefusedError
from mesh import pins, strict_json
from mesh.pins import Pin, Pins
from mesh.strict_json import StrictJsonError
from mesh.transaction import Env

_MAX_BYTES: Final = 1024 * 1024
_RECEIPT_MEMBERS: Final = {"kid": "kid", "finid_factor": "factor", "finid_issuer": "issuer", "finid_env": "env"}
STATEMENT: Final = "statement"
WEBHOOK: Final = "webhook"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key of the gateway's: what it signs, and its 32 raw bytes."""

    kid: str
    use: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a JWK Set of FinID holds: keys of receipts, by factor; and those of results and of webhooks."""

    receipt_pins: tuple[Pin, ...]
    others: tuple[PublicKey, ...]

    @classmethod
    def parse(cls, jwks: bytes | str) -> "KeySet":
        """Return the keys of a JWK Set's text. Keys for something unknown are left out.

        Raises ProofRefusedError (KEYS_MALFORMED), also for a key whose id is not its thumbprint (RFC 7638).
        """
        try:
            ed25519 = _ed25519_keys(jwks.encode() if isinstance(jwks, str) else jwks)
            return cls(
                receipt_pins=tuple(_pin(key) for key in ed25519 if "finid_factor" in key),
                others=tuple(_other(key) for key in ed25519 if key.get("finid_use") in {STATEMENT, WEBHOOK}),
            )
        except ValueError as error:  # StrictJsonError, PinsError, and of a key that is no key
            raise ProofRefusedError("KEYS_MALFORMED", str(error)) from error

    def pins(self, env: Env) -> Pins:
        """Return the receipts' keys, for a verifier in `env`."""
        return Pins(env, self.receipt_pins)

    def of_use(self, use: str) -> tuple[PublicKey, ...]:
        """Return the keys that sign STATEMENT or WEBHOOK."""
        return tuple(key for key in self.others if key.use == use)


def _ed25519_keys(jwks: bytes) -> list[dict[str, object]]:
    value = strict_json.parse(jwks, max_bytes=_MAX_BYTES)
    found = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(key, dict) for key in found):
        raise StrictJsonError("keys", "must be a list of objects")
    return [key for key in found if (key.get("kty"), key.get("crv")) == ("OKP", "Ed25519")]


def _pin(key: dict[str, object]) -> Pin:
    members = {ours: key.get(theirs) for theirs, ours in _RECEIPT_MEMBERS.items()}
    return strict_json.read(
        Pin, members | {"public_key": key.get("x"), "not_before": key.get("nbf"), "not_after": key.get("exp")}
    )


def _other(key: dict[str, object]) -> PublicKey:
    kid, raw = strict_json.string(key.get("kid"), "kid"), strict_json.octets(key.get("x"), "x")
    if pins.key_id(raw) != kid:
        raise StrictJsonError("kid", "must be the thumbprint of its key")
    return PublicKey(kid, strict_json.string(key["finid_use"], "finid_use"), raw)
