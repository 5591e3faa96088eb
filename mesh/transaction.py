"""The transaction: the one fixed text of what a person is asked to do, which every factor then confirms.

The gateway builds it before the first factor; its bytes travel verbatim through every spoke to the consumer. They are
canonical JSON (RFC 8785) and must re-serialise to themselves, so that one transaction has one spelling and one digest.
The person's IIN and phone are in it only as salted commitments; the values travel beside it as `Openings`, so that a
proof outlives their erasure.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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
    """What the person confirms with both factors; SUSPEND with the face alone."""

    IDENTIFY = "IDENTIFY"
    ISSUE = "ISSUE"
    REISSUE = "REISSUE"
    REVOKE = "REVOKE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    SIGN = "SIGN"


class Channel(StrEnum):
    """How the person's device is driven: FinID's own page, the participant step by step, or its one stream."""

    HOSTED = "HOSTED"
    STEPS = "STEPS"
    STREAM = "STREAM"


class Binding(StrEnum):
    """Who answers for the signed digest belonging to the shown content.

    REBUILT: every verifier rebuilds it (`mesh.signed_attributes`). DIGEST_ONLY: the documents service alone vouches for
    it, by its PREPARATION receipt.
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
        broken = tuple(_violations(self))
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


def documents_sha256(documents: tuple[Document, ...]) -> bytes:
    """Return the 32 bytes that stand for documents in their order: titles, both digests and bindings."""
    return hashlib.sha256(b"finid-documents-v1\0" + strict_json.canonical(documents)).digest()


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


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def _is_name_in(collection: str) -> Callable[[str], bool]:
    return lambda value: is_name(collection, value)


def _is_digest(value: bytes) -> bool:
    return len(value) == DIGEST_BYTES


def _is_time(value: int) -> bool:
    return 0 < value <= _MAX_UNIX_S


def _are_documents(documents: tuple[Document, ...]) -> bool:
    return 0 < len(documents) <= MAX_DOCUMENTS and all(
        is_shown_text(item.title) and _is_digest(item.content_sha256) and _is_digest(item.digest_sha256)
        for item in documents
    )


def _are_consents(consents: tuple[Consent, ...]) -> bool:
    each = all(_is_slug(item.id) and _is_version(item.version) and _is_digest(item.text_sha256) for item in consents)
    return each and len(consents) <= _MAX_CONSENTS and len({item.id for item in consents}) == len(consents)


def _are_scopes(scopes: tuple[str, ...]) -> bool:
    return all(map(_is_scope, scopes)) and len(scopes) <= _MAX_SCOPES and len(set(scopes)) == len(scopes)


_is_slug = _matches(r"[a-z0-9][a-z0-9._-]{0,63}")
_is_version = _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_is_scope = _matches(r"[a-z][a-z0-9_]{0,31}")
_is_algorithm = _matches(r"[A-Z0-9_]{1,32}")

_ALL = frozenset(Purpose)
_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})
_SIGN = frozenset({Purpose.SIGN})
_OF_A_CERTIFICATE = frozenset({Purpose.SIGN, Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME})
# A key of either curve signs SHA-256 digests: RFC 5758, 3.2 joins any curve with any hash.
_SIGNATURE_ALGORITHMS = frozenset({"ECDSA_P256_SHA256", "ECDSA_P384_SHA256"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a field must be for the purposes that use it; for the others it must be empty."""

    field: str
    must_be: str
    holds: Callable[[Any], bool]
    used_by: frozenset[Purpose] = _ALL

    def is_kept(self, t: Transaction) -> bool:
        value = getattr(t, self.field)
        return self.holds(value) if t.purpose in self.used_by else not value


_TITLE = f"1 to {_MAX_TITLE_CHARS} characters that can be shown, in NFC"
_RULES = (
    _Rule("version", "1", lambda value: value == 1),
    _Rule("authentication", "authentications/{id}", _is_name_in("authentications")),
    _Rule("application", "applications/{id}", _is_name_in("applications")),
    _Rule("application_title", _TITLE, is_shown_text),
    _Rule("policy", "a policy id", _is_slug),
    _Rule("iin_commitment", "32 bytes", _is_digest),
    _Rule("phone_commitment", "32 bytes", _is_digest),
    _Rule("credential", "credentials/{id}", _is_name_in("credentials"), _ALL - {Purpose.IDENTIFY}),
    _Rule("certificate_sha256", "32 bytes", _is_digest, _OF_A_CERTIFICATE),
    _Rule("documents", f"1 to {MAX_DOCUMENTS}, each with two digests and a title of {_TITLE}", _are_documents, _SIGN),
    _Rule("profile", "a profile id", _is_slug, _MAKES_KEY),
    _Rule("key_algorithm", "a key algorithm", _is_algorithm, _MAKES_KEY),
    _Rule("superseded", "credentials/{id}", _is_name_in("credentials"), frozenset({Purpose.REISSUE})),
    _Rule("reason", "a reason of RFC 5280", _REVOCATION_REASONS.__contains__, frozenset({Purpose.REVOKE})),
    _Rule("digest_algorithm", "SHA256", lambda value: value == "SHA256", _SIGN),
    _Rule("signature_algorithm", " or ".join(sorted(_SIGNATURE_ALGORITHMS)), _SIGNATURE_ALGORITHMS.__contains__, _SIGN),
    _Rule("signing_time", "Unix seconds", _is_time, _SIGN),
    _Rule("consents", f"at most {_MAX_CONSENTS}, each with id, version and digest, each id once", _are_consents),
    _Rule("scopes", f"at most {_MAX_SCOPES} names, each once", _are_scopes),
    _Rule("nonce", "16 to 64 bytes", lambda value: _MIN_NONCE_BYTES <= len(value) <= _MAX_NONCE_BYTES),
    _Rule("created_at", "Unix seconds", _is_time),
    _Rule("expires_at", "Unix seconds", _is_time),
)


def _violations(t: Transaction) -> Iterator[FieldViolation]:
    for rule in _RULES:
        if not rule.is_kept(t):
            used = "" if t.purpose in rule.used_by else f", and empty for {t.purpose.value}"
            yield FieldViolation(rule.field, f"must be {rule.must_be}{used}")
    if t.superseded and t.superseded == t.credential:
        yield FieldViolation("superseded", "must be another credential")
    if not 0 < t.expires_at - t.created_at <= MAX_LIFETIME_S:
        yield FieldViolation("expires_at", f"must be within {MAX_LIFETIME_S} s after created_at")
    # Documents are prepared, and so their signing time chosen, shortly before the transaction that names them is fixed.
    if t.signing_time and not t.created_at - MAX_LIFETIME_S <= t.signing_time <= t.expires_at:
        yield FieldViolation("signing_time", "must be close to created_at")
