"""Orders: what the Operator, or the authority itself, wants done to a certificate, in writing and signed.

A compact JWS (EdDSA) by a key that the ceremony pinned for one of the two. Whoever carries an order cannot make one. It
names one certificate by its digest, lives a day at most, and acts once: its own digest is the act's name wherever it
acts, which keeps the order as evidence. Two places act on it, each for itself: the signer, where the certificate's key
is, and the authority. `services.ca.admin` signs orders; it and `services.signer.admin` apply them from a command line.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh import base64url, strict_json
from mesh.errors import Code, FinIdError
from mesh.names import is_id
from mesh.pins import key_id
from mesh.strict_json import StrictJsonError
from mesh.transaction import DIGEST_BYTES, Env


class Kind(StrEnum):
    """What is done to a certificate."""

    REVOKE = "REVOKE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"


class Actor(StrEnum):
    """On whose word."""

    PERSON = "PERSON"
    OPERATOR = "OPERATOR"
    CA = "CA"


# RFC 5280 section 5.3.1: the reason of a suspension, and of nothing else.
ON_HOLD = "certificateHold"
MAX_ORDER_CHARS = 4096
MAX_LIFETIME_S = 24 * 60 * 60
_MAX_SKEW_S = 5
_MAX_GROUNDS_CHARS = 200
_MAX_FILE_BYTES = 64 * 1024
_ALGORITHM, _TYP = "EdDSA", "finid-order+jwt"
# RFC 5280 section 5.3.1, for each kind of order.
REASONS = {
    Kind.REVOKE: frozenset(
        {
            "unspecified",
            "keyCompromise",
            "cACompromise",
            "affiliationChanged",
            "superseded",
            "cessationOfOperation",
            "privilegeWithdrawn",
        }
    ),
    Kind.SUSPEND: frozenset({ON_HOLD}),
    Kind.RESUME: frozenset({""}),
}


class OrderRefusedError(FinIdError):
    """The order does not parse, is of no pinned key, of another environment, or not current; says which."""

    code = Code.PERMISSION_DENIED
    reason = "ORDER_REFUSED"


class OrderersError(ValueError):
    """The file of pinned keys cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Orderer:
    """An Ed25519 key that may give orders for one actor in one environment, while it is valid (Unix seconds)."""

    kid: str
    actor: Actor
    env: Env
    public_key: bytes
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        try:
            expected = key_id(self.public_key)
        except ValueError as error:
            raise OrderersError(f"orderer {self.kid!r}: public_key is not an Ed25519 key") from error
        if self.kid != expected or self.actor is Actor.PERSON or self.not_before > self.not_after:
            raise OrderersError(f"orderer {self.kid!r}: kid, actor or validity is wrong")


@dataclass(frozen=True, slots=True)
class _File:
    orderers: tuple[Orderer, ...]


@dataclass(frozen=True, slots=True)
class _Header:
    alg: str
    kid: str
    typ: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What an order says. `grounds` is for people, and names nobody; times are Unix seconds."""

    id: str
    env: Env
    kind: Kind
    certificate_sha256: bytes
    reason: str
    grounds: str
    iat: int
    exp: int

    def __post_init__(self) -> None:
        if not is_id(self.id) or len(self.certificate_sha256) != DIGEST_BYTES:
            raise StrictJsonError("id", "or certificate_sha256 is out of bounds")
        if self.reason not in REASONS[self.kind]:
            raise StrictJsonError("reason", f"is none of {self.kind}")
        if not 0 < len(self.grounds) <= _MAX_GROUNDS_CHARS or not self.grounds.isprintable():
            raise StrictJsonError("grounds", f"must be 1 to {_MAX_GROUNDS_CHARS} printable characters")
        if not 0 < self.exp - self.iat <= MAX_LIFETIME_S:
            raise StrictJsonError("exp", f"must be at most {MAX_LIFETIME_S} s after iat")


@dataclass(frozen=True, slots=True)
class Order:
    """A genuine order: what it says, on whose word, and the digest (32 bytes) that names it."""

    claims: Claims
    actor: Actor
    token: str
    sha256: bytes


class Orders:
    """Reads orders of pinned keys."""

    def __init__(self, orderers: tuple[Orderer, ...], env: Env) -> None:
        self._orderers = {orderer.kid: orderer for orderer in orderers if orderer.env is env}
        self._env = env

    @classmethod
    def parse(cls, data: bytes, env: Env) -> "Orders":
        """Take the keys of a file's bytes: {"orderers": [...]}, fields as in `Orderer`. Raises OrderersError."""
        try:
            found = strict_json.read(_File, strict_json.parse(data, max_bytes=_MAX_FILE_BYTES)).orderers
        except StrictJsonError as error:
            raise OrderersError(f"orderers file: {error}") from error
        if len({(orderer.kid, orderer.env) for orderer in found}) != len(found):
            raise OrderersError("orderers file: a key is pinned twice for one environment")
        return cls(found, env)

    def read(self, token: str) -> Order:
        """Return a genuine order, current or not. Raises OrderRefusedError."""
        try:
            header, claims, signature = _read(token)
        except ValueError as error:
            raise OrderRefusedError("the order does not parse") from error
        orderer = self._orderers.get(header.kid)
        if orderer is None or claims.env is not self._env:
            raise OrderRefusedError("the order is of no key that is pinned here")
        if not orderer.not_before <= claims.iat <= orderer.not_after:
            raise OrderRefusedError("the order's key was not valid then")
        try:
            Ed25519PublicKey.from_public_bytes(orderer.public_key).verify(
                signature, token.rpartition(".")[0].encode("ascii")
            )
        except InvalidSignature as error:
            raise OrderRefusedError("the order's signature is wrong") from error
        return Order(claims, orderer.actor, token, hashlib.sha256(token.encode("ascii")).digest())

    def require_current(self, order: Order, now: datetime) -> None:
        """Raise OrderRefusedError for an order of the future or one that ran out."""
        if not order.claims.iat - _MAX_SKEW_S <= now.timestamp() < order.claims.exp:
            raise OrderRefusedError("the order is not current")


def sign(claims: Claims, key: Ed25519PrivateKey) -> str:
    """Return the order as a compact JWS."""
    kid = key_id(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    parts = (_Header(_ALGORITHM, kid, _TYP), claims)
    signed = ".".join(base64url.encode(strict_json.canonical(part)) for part in parts)
    return f"{signed}.{base64url.encode(key.sign(signed.encode('ascii')))}"


def _read(token: str) -> tuple[_Header, Claims, bytes]:
    """Raises ValueError for anything but one spelling of a header and claims, so that one order has one digest."""
    if len(token) > MAX_ORDER_CHARS or not token.isascii():
        raise StrictJsonError("", "is too long, or not ASCII")
    header_text, claims_text, signature_text = token.split(".")
    read = [
        strict_json.read(kind, strict_json.parse(base64url.decode(text), max_bytes=MAX_ORDER_CHARS))
        for kind, text in ((_Header, header_text), (Claims, claims_text))
    ]
    header, claims = read
    if not isinstance(header, _Header) or not isinstance(claims, Claims):
        raise TypeError("strict_json reads what it is asked for")
    for part, text in ((header, header_text), (claims, claims_text)):
        if base64url.encode(strict_json.canonical(part)) != text:
            raise StrictJsonError("", "is not in canonical form")
    if (header.alg, header.typ) != (_ALGORITHM, _TYP):
        raise StrictJsonError("alg", f"or typ is not {_ALGORITHM}, {_TYP}")
    return header, claims, base64url.decode(signature_text)
