"""Receipts: what each spoke confirms about one transaction, as a compact JWS that anyone can verify offline.

EdDSA over Ed25519 only; the header is exactly {alg, kid, typ}, so that no receipt brings its own key (`jku`, `jwk`) or
its own algorithm. The parser is strict: every value has one type, every claim is known, base64url has one spelling.
Sources: RFC 7515, RFC 8037; RFC 8725 for what to refuse.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mesh import base64url, facts, strict_json
from mesh.facts import FACTS_OF, Factor, Facts
from mesh.names import is_id, new_id
from mesh.pins import Pins, key_id
from mesh.refusal import PreconditionError, Refusal, refuse_unless
from mesh.strict_json import StrictJsonError
from mesh.transaction import DIGEST_BYTES, Env

MAX_RECEIPT_CHARS = 8 * 1024
MAX_LIFETIME_S = 10 * 60
# How far another host's clock may be ahead of ours.
MAX_SKEW_S = 5

_ALGORITHM = "EdDSA"
_RESULT = "PASS"
_SIGNATURE_BYTES = 64
_HEADER = frozenset({"alg", "kid", "typ"})
_COMMON = frozenset({"iss", "aud", "env", "factor", "txn", "jti", "iat", "exp", "result", "policy"})
_FACTOR_OF_TYP = {factor.typ: factor for factor in Factor}

F = TypeVar("F", bound=Facts)
F_co = TypeVar("F_co", bound=Facts, covariant=True)


@dataclass(frozen=True, slots=True)
class Receipt(Generic[F_co]):
    """A receipt as read. It proves nothing before `require_pinned`, and nothing now before `require_current`.

    `issued_at` and `expires_at` are Unix seconds, `txn` is 32 bytes.
    """

    kid: str
    env: Env
    txn: bytes
    jti: str
    issued_at: int
    expires_at: int
    policy: str
    facts: F_co
    token: str = field(repr=False)

    @property
    def factor(self) -> Factor:
        """The factor that the header, the claims and the type of the facts agree on."""
        return self.facts.factor


@dataclass(frozen=True, slots=True)
class ReceiptSigner:
    """Signs the receipts of one spoke with its own key."""

    key: Ed25519PrivateKey = field(repr=False)
    env: Env
    make_id: Callable[[], str] = new_id

    @classmethod
    def from_pem(cls, pem: bytes, env: Env) -> "ReceiptSigner":
        """Return the signer of an unencrypted PKCS#8 PEM key. Raises ValueError for anything but Ed25519."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the receipt key is not an Ed25519 key")  # noqa: TRY004  the file is wrong, not a type
        return cls(key, env)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, stated: Facts, *, txn: bytes, policy: str, now: int, ttl_s: int = MAX_LIFETIME_S) -> str:
        """Return the receipt that states `stated` about `txn` from `now` (Unix seconds) for `ttl_s`.

        Raises PreconditionError (RECEIPT_MALFORMED) for facts that no verifier would read.
        """
        claims = facts.to_claims(stated) | {
            "iss": stated.issuer,
            "aud": stated.audience,
            "env": self.env.value,
            "factor": stated.factor.value,
            "txn": base64url.encode(txn),
            "jti": self.make_id(),
            "iat": now,
            "exp": now + ttl_s,
            "result": _RESULT,
            "policy": policy,
        }
        header = {"alg": _ALGORITHM, "kid": key_id(self.public_key), "typ": stated.factor.typ}
        signed = ".".join(base64url.encode(strict_json.canonical(part)) for part in (header, claims))
        token = f"{signed}.{base64url.encode(self.key.sign(signed.encode('ascii')))}"
        parse(token)
        return token


CurrentSigner = Callable[[], ReceiptSigner]
"""The signer whose key holds now."""


def parse(token: str) -> Receipt[Facts]:
    """Return what `token` says, without asking whether it is true.

    Raises PreconditionError (RECEIPT_MALFORMED) unless it has exactly the header, claims and facts of its factor.
    """
    try:
        return _read(token)
    except ValueError as error:
        raise PreconditionError(Refusal.RECEIPT_MALFORMED) from error


def require_pinned(receipt: Receipt[Facts], pins: Pins) -> None:
    """Refuse a receipt that is not signed by a key pinned for its factor and environment, valid when it was issued."""
    pin = pins.find(receipt.kid, receipt.factor)
    if pin is None or pin.issuer != receipt.facts.issuer:
        raise PreconditionError(Refusal.KEY_NOT_PINNED)
    refuse_unless(pin.not_before <= receipt.issued_at <= pin.not_after, Refusal.KEY_NOT_VALID_THEN)
    signed, _, signature = receipt.token.rpartition(".")
    genuine = pin.confirms(base64url.decode(signature), signed.encode("ascii"))
    refuse_unless(genuine, Refusal.SIGNATURE_INVALID)


def require_current(receipt: Receipt[Facts], now: int) -> None:
    """Refuse a receipt that has expired, or that is dated more than MAX_SKEW_S after `now`."""
    refuse_unless(receipt.issued_at <= now + MAX_SKEW_S, Refusal.RECEIPT_NOT_YET_VALID)
    refuse_unless(now < receipt.expires_at, Refusal.RECEIPT_EXPIRED)


def verify(token: str, kind: type[F], pins: Pins, *, txn: bytes | None, now: int | None) -> Receipt[F]:
    """Return the receipt of facts `kind` that `token` proves, outside of `precondition.authorize`.

    `txn` is the transaction it must confirm and `now` the time at which it must be current; None asks neither, for a
    receipt kept as a record. Raises PreconditionError with what is wrong.
    """
    read = parse(token)
    refuse_unless(isinstance(read.facts, kind), Refusal.FACTOR_UNEXPECTED)
    refuse_unless(read.env is pins.env, Refusal.ENV_MISMATCH)
    require_pinned(read, pins)
    refuse_unless(txn is None or read.txn == txn, Refusal.RECEIPT_OF_ANOTHER_TRANSACTION)
    if now is not None:
        require_current(read, now)
    return cast("Receipt[F]", read)


def _read(token: str) -> Receipt[Facts]:
    if len(token) > MAX_RECEIPT_CHARS:
        raise StrictJsonError("", "is too long")
    # Raises ValueError unless there are exactly three parts.
    header_text, claims_text, signature_text = token.split(".")
    if len(base64url.decode(signature_text)) != _SIGNATURE_BYTES:
        raise StrictJsonError("signature", f"must be {_SIGNATURE_BYTES} bytes")

    header = strict_json.members(_json(header_text), _HEADER, "header")
    _must_be(header["alg"], _ALGORITHM, "alg")
    kid = strict_json.string(header["kid"], "kid")
    factor = _FACTOR_OF_TYP.get(strict_json.string(header["typ"], "typ"))
    if factor is None:
        raise StrictJsonError("typ", "must be of a factor")
    kind = FACTS_OF[factor]

    claims = strict_json.members(_json(claims_text), _COMMON | facts.claim_names(kind), "claims")
    _must_be(claims["iss"], kind.issuer, "iss")
    _must_be(claims["aud"], kind.audience, "aud")
    _must_be(claims["factor"], factor.value, "factor")
    _must_be(claims["result"], _RESULT, "result")
    txn = strict_json.octets(claims["txn"], "txn")
    jti = strict_json.string(claims["jti"], "jti")
    issued_at = strict_json.integer(claims["iat"], "iat")
    expires_at = strict_json.integer(claims["exp"], "exp")
    if len(txn) != DIGEST_BYTES or not is_id(jti) or not 0 < expires_at - issued_at <= MAX_LIFETIME_S:
        raise StrictJsonError("claims", "txn, jti, iat or exp is out of bounds")
    return Receipt(
        kid=kid,
        env=strict_json.member(Env, claims["env"], "env"),
        txn=txn,
        jti=jti,
        issued_at=issued_at,
        expires_at=expires_at,
        policy=strict_json.string(claims["policy"], "policy"),
        facts=facts.from_claims(kind, claims),
        token=token,
    )


def _json(part: str) -> object:
    return strict_json.parse(base64url.decode(part), max_bytes=MAX_RECEIPT_CHARS)


def _must_be(value: object, expected: str, name: str) -> None:
    if value != expected:
        raise StrictJsonError(name, f"must be {expected}")
