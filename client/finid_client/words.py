"""The API's enums as plain words, so that callers need no generated code to name a language or a format."""

from typing import Final, Literal

from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign

Language = Literal["kk", "ru", "en"]
Scope = Literal["name", "birth_date", "document"]
Format = Literal["pades", "cades-detached", "cades-attached", "xades-detached", "xades-enveloped"]
Level = Literal["b-b", "b-t", "b-lt", "b-lta"]
RevocationReason = Literal[
    "unspecified", "key-compromise", "affiliation-changed", "superseded", "cessation-of-operation"
]

LANGUAGES: Final[dict[Language, "auth.Language.ValueType"]] = {
    "kk": auth.LANGUAGE_KK,
    "ru": auth.LANGUAGE_RU,
    "en": auth.LANGUAGE_EN,
}
SCOPES: Final[dict[Scope, "auth.Scope.ValueType"]] = {
    "name": auth.SCOPE_NAME,
    "birth_date": auth.SCOPE_BIRTH_DATE,
    "document": auth.SCOPE_DOCUMENT,
}
FORMATS: Final[dict[Format, "esign.SignatureFormat.ValueType"]] = {
    "pades": esign.SIGNATURE_FORMAT_PADES,
    "cades-detached": esign.SIGNATURE_FORMAT_CADES_DETACHED,
    "cades-attached": esign.SIGNATURE_FORMAT_CADES_ATTACHED,
    "xades-detached": esign.SIGNATURE_FORMAT_XADES_DETACHED,
    "xades-enveloped": esign.SIGNATURE_FORMAT_XADES_ENVELOPED,
}
LEVELS: Final[dict[Level, "esign.SignatureLevel.ValueType"]] = {
    "b-b": esign.SIGNATURE_LEVEL_B_B,
    "b-t": esign.SIGNATURE_LEVEL_B_T,
    "b-lt": esign.SIGNATURE_LEVEL_B_LT,
    "b-lta": esign.SIGNATURE_LEVEL_B_LTA,
}
REVOCATION_REASONS: Final[dict[RevocationReason, "esign.RevocationReason.ValueType"]] = {
    "unspecified": esign.REVOCATION_REASON_UNSPECIFIED,
    "key-compromise": esign.REVOCATION_REASON_KEY_COMPROMISE,
    "affiliation-changed": esign.REVOCATION_REASON_AFFILIATION_CHANGED,
    "superseded": esign.REVOCATION_REASON_SUPERSEDED,
    "cessation-of-operation": esign.REVOCATION_REASON_CESSATION_OF_OPERATION,
}


def language_of(word: Language | None) -> "auth.Language.ValueType":
    """Return the API's value; None leaves it to FinID."""
    return auth.LANGUAGE_UNSPECIFIED if word is None else LANGUAGES[word]


def document(
    title: str,
    content: bytes,
    *,
    format: Format = "pades",  # noqa: A002 - the API's word
    level: Level = "b-t",
) -> esign.NewDocument:
    """Return a document to sign, at most 10 MiB: `title` is what the person sees, and reads in the SMS."""
    return esign.NewDocument(title=title, content=content, format=FORMATS[format], level=LEVELS[level])
