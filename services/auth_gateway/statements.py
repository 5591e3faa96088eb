"""What the gateway itself signs: results and consents, so that a participant can keep them, and the keys to check them.

A statement is the gateway's word. It shows that this gateway said so and that nobody changed it since; that the factors
were passed is shown by the spokes' receipts alone (docs/security-model.md). Its key is pinned for no factor, so that no
consumer takes a statement for a receipt.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mesh import base64url, strict_json
from mesh.pins import key_id
from mesh.transaction import Env
from services.auth_gateway.authentication import Authentication, Verdict

ISSUER = "auth_gateway"
RESULT_TYP = "finid-result+jwt"
_ALGORITHM = "EdDSA"
_MAX_EARLIER_BYTES = 64 * 1024

Claims = Mapping[str, str | int]


class KeyUse(StrEnum):
    """What a key of the gateway's signs, as `finid_use` in the published JWK Set says."""

    STATEMENT = "statement"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key of the gateway's."""

    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Return the key of an unencrypted PKCS#8 PEM. Raises ValueError for anything but Ed25519."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key is not an Ed25519 key")  # noqa: TRY004  the file is wrong, not a type
        return cls(key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def kid(self) -> str:
        """The JWK thumbprint (RFC 7638), as receipts name their keys."""
        return key_id(self.public_key)


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """The public half of a key of the gateway's, now or earlier: everybody may fetch it."""

    use: KeyUse
    public_key: bytes

    @property
    def kid(self) -> str:
        """As `SigningKey.kid`."""
        return key_id(self.public_key)


@dataclass(frozen=True, slots=True)
class _EarlierKey:
    kty: str
    crv: str
    x: bytes
    kid: str
    use: str
    alg: str
    finid_use: KeyUse
    finid_issuer: str
    finid_env: Env


@dataclass(frozen=True, slots=True)
class _EarlierKeys:
    keys: tuple[_EarlierKey, ...]


def earlier_keys(data: bytes, env: Env) -> tuple[PublishedKey, ...]:
    """Return the keys of a JWK Set, each as it was published in `env`: what they signed can still be verified.

    Raises ValueError for anything else, a private key above all.
    """
    found = strict_json.read(_EarlierKeys, strict_json.parse(data, max_bytes=_MAX_EARLIER_BYTES)).keys
    keys = tuple(PublishedKey(key.finid_use, key.x) for key in found)
    if any(key.kid != as_published.kid for key, as_published in zip(keys, found, strict=True)):
        raise ValueError("a kid is not the RFC 7638 thumbprint of its key")
    if any(key.finid_env is not env for key in found):
        raise ValueError("a key is of another environment")
    return keys


class StatementKey(SigningKey):
    """Signs statements."""

    def sign(self, typ: str, claims: Claims) -> str:
        """Return a compact JWS over `claims` with the header {alg, kid, typ}; the same bytes for the same claims.

        Claims are strings and integers. Raises StrictJsonError for others.
        """
        header = {"alg": _ALGORITHM, "kid": self.kid, "typ": typ}
        signed = ".".join(base64url.encode(strict_json.canonical(dict(part))) for part in (header, claims))
        return f"{signed}.{base64url.encode(self.key.sign(signed.encode('ascii')))}"


CurrentStatementKey = Callable[[], StatementKey]
"""The statement key that holds now."""


def result_claims(finished: Authentication) -> Claims:
    """Return what the statement of a result says: the same whenever it is read.

    Times are Unix seconds; `iat` is when the verdict was reached. The person is there by digest alone.
    """
    if finished.verdict is None or finished.finished_at is None:
        raise ValueError("there is no verdict yet")
    transaction = finished.transaction
    released = finished.person if finished.verdict is Verdict.SUCCESS else {}
    finished_at = int(finished.finished_at.timestamp())
    return {
        "iss": ISSUER,
        "env": transaction.env.value,
        "aud": finished.application,
        "sub": finished.name,
        "txn": finished.txn.hex(),
        "purpose": transaction.purpose.value,
        "channel": transaction.channel.value,
        "verdict": finished.verdict.value,
        "reason": finished.reason,
        "outcome": finished.outcome,
        "cross_device": "true" if finished.cross_device else "false",
        "created_at": int(finished.created_at.timestamp()),
        "finished_at": finished_at,
        "iat": finished_at,
        "jti": finished.name.removeprefix("authentications/"),
        "person_sha256": person_sha256(released),
    }


def person_sha256(person: Mapping[str, str]) -> str:
    """Return the hex SHA-256 of the canonical JSON (RFC 8785) of a person's data, "" for none.

    The data are the fields that are not empty, by their names in the proto.
    """
    named = {name: value for name, value in person.items() if value}
    return hashlib.sha256(strict_json.canonical(named)).hexdigest() if named else ""
