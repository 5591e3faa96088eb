"""The public keys a consumer believes, from a file made at the ceremony and never from the gateway.

{"pins": [{"kid", "factor", "issuer", "env", "public_key": base64url of 32 bytes, "not_before", "not_after"}]}
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mesh import base64url, strict_json
from mesh.facts import Factor
from mesh.strict_json import StrictJsonError
from mesh.transaction import Env

MAX_PINS_BYTES = 256 * 1024


class PinsError(ValueError):
    """The pins file cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One Ed25519 key that may confirm one factor for one service in one environment, while it is valid."""

    kid: str
    factor: Factor
    issuer: str
    env: Env
    public_key: bytes
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        try:
            expected = key_id(self.public_key)
        except ValueError as error:
            raise PinsError(f"pin {self.kid!r}: public_key is not an Ed25519 key") from error
        if self.kid != expected:
            raise PinsError(f"pin {self.kid!r}: kid is not the RFC 7638 thumbprint of its key")
        if self.not_before > self.not_after:
            raise PinsError(f"pin {self.kid!r}: not_before is after not_after")

    def confirms(self, signature: bytes, signed: bytes) -> bool:
        """Tell whether `signature` over `signed` is of this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, signed)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Pins:
    """The pinned keys, and the environment this consumer serves."""

    env: Env
    pins: tuple[Pin, ...]

    def find(self, kid: str, factor: Factor) -> Pin | None:
        """Return the pin of `kid` for `factor` in this environment, or None."""
        return next((pin for pin in self.pins if (pin.kid, pin.factor, pin.env) == (kid, factor, self.env)), None)


CurrentPins = Callable[[], Pins]
"""The pins that hold now; a consumer asks once for each decision."""


@dataclass(frozen=True, slots=True)
class _PinsFile:
    pins: tuple[Pin, ...]


def parse(data: bytes, env: Env) -> Pins:
    """Return the pins of a file's bytes, for a consumer in `env`. Raises PinsError."""
    try:
        pins = strict_json.read(_PinsFile, strict_json.parse(data, max_bytes=MAX_PINS_BYTES)).pins
    except StrictJsonError as error:
        raise PinsError(f"pins file: {error}") from error
    if len({(pin.kid, pin.factor, pin.env) for pin in pins}) != len(pins):
        raise PinsError("pins file: a key is pinned twice for one factor and environment")
    return Pins(env, pins)


def key_id(public_key: bytes) -> str:
    """Return the key id of a raw Ed25519 public key: its JWK thumbprint (RFC 7638, RFC 8037 appendix A.3).

    Raises ValueError if `public_key` is not 32 bytes.
    """
    Ed25519PublicKey.from_public_bytes(public_key)
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(public_key)}
    return base64url.encode(hashlib.sha256(rfc8785.dumps(jwk)).digest())
