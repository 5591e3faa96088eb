"""The transaction: the one fixed text of what a person is asked to do, which every factor then confirms.

The gateway builds it before the first factor; its bytes travel verbatim through every spoke to the consumer. They are
canonical JSON (RFC 8785) and must re-serialise to themselves, so that one transaction has one spelling and one digest.
The person's IIN and phone are in it only as salted commitments; the values travel beside it as `Openings`, so that a
proof outlives their erasure.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from mesh import strict_json
from mesh.errors import FieldViolation, InvalidArgumentError
from mesh.names import is_name
from mesh.strict_json import StrictJsonError

MAX_TRANSACTION_BYTES = 64 * 1024
MAX_LIFETIME_S = 15 * 60
MAX_DOCUMENTS = 100
DIGEST_BYTES = 32
SALT_BYTES = 32

_MAX_CONSENTS = 16
_MAX_SCOPES = 32
_MAX_TITLE_CHARS = 200
_MIN_NONCE_BYTES = 16
_MAX_NONCE_BYTES = 64
# 9999-12-31T23:59:59Z: the last second that X.509 and CMS times can spell (RFC 5280 section 4.1.2.5).
_MAX_UNIX_S = 253_402_300_799
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_ALGORITHM = re.compile(r"[A-Z0-9_]{1,32}")
_SCOPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_IIN = re.compile(r"[0-9]{12}")
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
# RFC 5280 section 5.3.1, without what a person cannot ask for about their own certificate.
_REVOCATION_REASONS = frozenset(
    {"unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"}
)


class Env(StrEnum):
    """Where a transaction and its receipts count; keys and people of one are worth nothing in the other."""

    SANDBOX = "sandbox"
    PRODUCTION = "production"


class Purpose(StrEnum):
    """What the person confirms with both factors."""

    IDENTIFY = "IDENTIFY"
    ISSUE = "ISSUE"
    REISSUE = "REISSUE"
    REVOKE = "REVOKE"
    SIGN = "SIGN"


class Channel(StrEnum):
    """How the person's device is driven: FinID's own page, the participant step by step, or its one stream."""

    HOSTED = "HOSTED"
    STEPS = "STEPS"
    STREAM = "STREAM"


class Binding(StrEnum):
    """Who answers for the signed digest belonging to the shown content.

    REBUILT: every verifier rebuilds it (`mesh.signed_attributes`). DIGEST_ONLY: the documents service vouches for it.
    """

    REBUILT = "REBUILT"
    DIGEST_ONLY = "DIGEST_ONLY"


class TransactionError(InvalidArgumentError):
    """The transaction or its openings break a rule; names each wrong field."""

    reason = "TRANSACTION_INVALID"


@dataclass(frozen=True, slots=True)
class Document:
    """One document to sign: the digest of what the person is shown, and the digest that the HSM signs."""

    title: str
    content_sha256: bytes
    digest_sha256: bytes
    binding: Binding


@dataclass(frozen=True, slots=True)
class Consent:
    """One consent the person gives: its id, version and the digest of the text shown."""

    id: str
    version: str
    text_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What is asked, of whom, by whom and until when; its fields are the JSON's, their rules stand in `_RULES`.

    Digests and commitments are 32 raw bytes, times are Unix seconds. Fields that a purpose does not use stay empty.
    Raises TransactionError when a rule is broken.
    """

    version: int = 1
    env: Env
    authentication: str
    application: str
    application_title: str
    purpose: Purpose
    channel: Channel
    policy: str
    iin_commitment: bytes
    phone_commitment: bytes
    credential: str = ""
    certificate_sha256: bytes = b""
    documents: tuple[Document, ...] = ()
    profile: str = ""
    key_algorithm: str = ""
    superseded: str = ""
    reason: str = ""
    digest_algorithm: str = ""
    signature_algorithm: str = ""
    signing_time: int = 0
    consents: tuple[Consent, ...] = ()
    scopes: tuple[str, ...] = ()
    nonce: bytes
    created_at: int
    expires_at: int

    def __post_init__(self) -> None:
        broken = [FieldViolation(name, rule) for name, rule, holds in _RULES if not holds(self)]
        if broken:
            raise TransactionError("the transaction breaks its rules", violations=broken)

    def encode(self) -> bytes:
        """Return the canonical bytes. Raises TransactionError if they exceed MAX_TRANSACTION_BYTES."""
        encoded = strict_json.canonical(self)
        if len(encoded) > MAX_TRANSACTION_BYTES:
            raise TransactionError(f"the transaction is larger than {MAX_TRANSACTION_BYTES} bytes")
        return encoded


@dataclass(frozen=True, slots=True)
class Openings:
    """The values behind a transaction's commitments: personal data, so never in a repr, a log or a receipt.

    `iin` is 12 digits, `phone` is E.164, each salt is 32 random bytes. Raises TransactionError otherwise.
    """

    iin: str = field(repr=False)
    iin_salt: bytes = field(repr=False)
    phone: str = field(repr=False)
    phone_salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        rules = (
            ("iin", "must be 12 digits", _IIN.fullmatch(self.iin) is not None),
            ("phone", "must be an E.164 number", _E164.fullmatch(self.phone) is not None),
            ("iin_salt", f"must be {SALT_BYTES} bytes", len(self.iin_salt) == SALT_BYTES),
            ("phone_salt", f"must be {SALT_BYTES} bytes", len(self.phone_salt) == SALT_BYTES),
        )
        broken = [FieldViolation(name, rule) for name, rule, holds in rules if not holds]
        if broken:
            raise TransactionError("the openings break their rules", violations=broken)

    def iin_commitment(self) -> bytes:
        """Return the 32 bytes that commit to the IIN."""
        return commit_to_iin(self.iin, self.iin_salt)

    def phone_commitment(self) -> bytes:
        """Return the 32 bytes that commit to the phone."""
        return commit_to_phone(self.phone, self.phone_salt)


def commit_to_iin(iin: str, salt: bytes) -> bytes:
    """Return the 32 bytes that commit to an IIN of 12 digits, with a salt of SALT_BYTES."""
    return hashlib.sha256(b"finid-iin-v1\0" + salt + iin.encode("ascii")).digest()


def commit_to_phone(phone: str, salt: bytes) -> bytes:
    """Return the 32 bytes that commit to an E.164 number, with a salt of SALT_BYTES."""
    return hashlib.sha256(b"finid-phone-v1\0" + salt + phone.encode("ascii")).digest()


def txn_of(transaction_bytes: bytes) -> bytes:
    """Return the 32-byte name of a transaction, which every receipt carries."""
    return hashlib.sha256(b"finid-transaction-v1\0" + transaction_bytes).digest()


def parse(transaction_bytes: bytes) -> Transaction:
    """Return the transaction that `transaction_bytes` spell.

    Raises TransactionError unless they are canonical: exactly the known fields, valid, and equal to their own encoding.
    """
    try:
        value = strict_json.parse(transaction_bytes, max_bytes=MAX_TRANSACTION_BYTES)
        transaction = strict_json.read(Transaction, value)
    except StrictJsonError as error:
        raise TransactionError(
            "the transaction cannot be read", violations=[FieldViolation(error.field, error.rule)]
        ) from error
    if transaction.encode() != transaction_bytes:
        raise TransactionError("the transaction is not in canonical form (RFC 8785)")
    return transaction


def is_shown_text(value: str) -> bool:
    """Tell whether `value` may be shown to a person who decides by it.

    NFC; no control, format (which holds the bidirectional overrides), surrogate, private or unassigned character; no
    line or paragraph separator; not blank at its ends.
    """
    return (
        0 < len(value) <= _MAX_TITLE_CHARS
        and value == value.strip()
        and unicodedata.is_normalized("NFC", value)
        and not any(
            unicodedata.category(char)[0] == "C" or unicodedata.category(char) in {"Zl", "Zp"} for char in value
        )
    )


def _is_document(document: Document) -> bool:
    return (
        is_shown_text(document.title)
        and len(document.content_sha256) == DIGEST_BYTES
        and len(document.digest_sha256) == DIGEST_BYTES
    )


def _is_consent(consent: Consent) -> bool:
    return (
        _SLUG.fullmatch(consent.id) is not None
        and _VERSION_TAG.fullmatch(consent.version) is not None
        and len(consent.text_sha256) == DIGEST_BYTES
    )


def _distinct(values: tuple[str, ...]) -> bool:
    return len(set(values)) == len(values)


_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})
_NAMES_CERTIFICATE = frozenset({Purpose.SIGN, Purpose.REVOKE})


def _holds_credential(t: Transaction) -> bool:
    return t.credential == "" if t.purpose is Purpose.IDENTIFY else is_name("credentials", t.credential)


def _holds_superseded(t: Transaction) -> bool:
    if t.purpose is not Purpose.REISSUE:
        return t.superseded == ""
    return is_name("credentials", t.superseded) and t.superseded != t.credential


def _holds_documents(t: Transaction) -> bool:
    if t.purpose is not Purpose.SIGN:
        return t.documents == ()
    return 1 <= len(t.documents) <= MAX_DOCUMENTS and all(map(_is_document, t.documents))


def _holds_signing_time(t: Transaction) -> bool:
    # Documents are prepared, and so their signing time chosen, shortly before the transaction that names them is fixed.
    if t.purpose is not Purpose.SIGN:
        return t.signing_time == 0
    return t.created_at - MAX_LIFETIME_S <= t.signing_time <= t.expires_at


_RULES: tuple[tuple[str, str, Callable[[Transaction], bool]], ...] = (
    ("version", "must be 1", lambda t: t.version == 1),
    ("authentication", "must be authentications/{id}", lambda t: is_name("authentications", t.authentication)),
    ("application", "must be applications/{id}", lambda t: is_name("applications", t.application)),
    (
        "application_title",
        f"must be 1 to {_MAX_TITLE_CHARS} printable characters in NFC",
        lambda t: is_shown_text(t.application_title),
    ),
    ("policy", "must be a policy id", lambda t: _SLUG.fullmatch(t.policy) is not None),
    ("iin_commitment", "must be 32 bytes", lambda t: len(t.iin_commitment) == DIGEST_BYTES),
    ("phone_commitment", "must be 32 bytes", lambda t: len(t.phone_commitment) == DIGEST_BYTES),
    ("credential", "must be credentials/{id}, and empty for IDENTIFY", _holds_credential),
    (
        "certificate_sha256",
        "must be 32 bytes for SIGN and REVOKE, else empty",
        lambda t: len(t.certificate_sha256) == (DIGEST_BYTES if t.purpose in _NAMES_CERTIFICATE else 0),
    ),
    ("documents", f"must be 1 to {MAX_DOCUMENTS} documents for SIGN, else none", _holds_documents),
    (
        "profile",
        "must be a profile id for ISSUE and REISSUE, else empty",
        lambda t: _SLUG.fullmatch(t.profile) is not None if t.purpose in _MAKES_KEY else t.profile == "",
    ),
    (
        "key_algorithm",
        "must be an algorithm for ISSUE and REISSUE, else empty",
        lambda t: (
            _ALGORITHM.fullmatch(t.key_algorithm) is not None if t.purpose in _MAKES_KEY else t.key_algorithm == ""
        ),
    ),
    ("superseded", "must be another credential's name for REISSUE, else empty", _holds_superseded),
    (
        "reason",
        "must be an RFC 5280 reason for REVOKE, else empty",
        lambda t: t.reason in _REVOCATION_REASONS if t.purpose is Purpose.REVOKE else t.reason == "",
    ),
    (
        "digest_algorithm",
        "must be SHA256 for SIGN, else empty",
        lambda t: t.digest_algorithm == ("SHA256" if t.purpose is Purpose.SIGN else ""),
    ),
    (
        "signature_algorithm",
        "must be ECDSA_P256_SHA256 for SIGN, else empty",
        lambda t: t.signature_algorithm == ("ECDSA_P256_SHA256" if t.purpose is Purpose.SIGN else ""),
    ),
    ("signing_time", "must be close to created_at for SIGN, else 0", _holds_signing_time),
    (
        "consents",
        f"must be at most {_MAX_CONSENTS}, each with id, version and digest, each id once",
        lambda t: (
            len(t.consents) <= _MAX_CONSENTS
            and all(map(_is_consent, t.consents))
            and _distinct(tuple(consent.id for consent in t.consents))
        ),
    ),
    (
        "scopes",
        f"must be at most {_MAX_SCOPES} scope names, each once",
        lambda t: (
            len(t.scopes) <= _MAX_SCOPES
            and all(_SCOPE.fullmatch(scope) is not None for scope in t.scopes)
            and _distinct(t.scopes)
        ),
    ),
    (
        "nonce",
        f"must be {_MIN_NONCE_BYTES} to {_MAX_NONCE_BYTES} bytes",
        lambda t: _MIN_NONCE_BYTES <= len(t.nonce) <= _MAX_NONCE_BYTES,
    ),
    ("created_at", "must be Unix seconds", lambda t: 0 < t.created_at <= _MAX_UNIX_S),
    (
        "expires_at",
        f"must be within {MAX_LIFETIME_S} s after created_at",
        lambda t: t.created_at < t.expires_at <= min(t.created_at + MAX_LIFETIME_S, _MAX_UNIX_S),
    ),
)
