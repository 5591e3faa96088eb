"""The text of the SMS: rendered here from the transaction itself, so that no caller chooses what a person reads.

What the code confirms comes first, then who asks, then the warning, and the code last: a phone's preview shows the
purpose, and nobody can copy the code without the rest before their eyes. Titles come from callers, so whatever could
pass for a link, a number to call or another code is taken out of them.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from mesh.transaction import Document, Env, Purpose, Transaction

MAX_TITLE_CHARACTERS = 40
_ELLIPSIS = "…"
# What a person, or a phone's autofill, could take for the code: five digits or more, or three and three.
_CODE_LIKE = re.compile(r"\d{5,}|(?<!\d)\d{3}[ -]\d{3}(?!\d)")
# A dot within a word makes phones show a link.
_LINK_DOT = re.compile(r"(?<=\S)\.(?=\S)")
# One direction of writing only: letters written from right to left would reorder what stands around them.
_SCRIPTS = ("CYRILLIC ", "LATIN ")
_PLAIN = frozenset("0123456789 .,-()№&+")


class Language(StrEnum):
    """The languages a text can be in."""

    KK = "kk"
    RU = "ru"
    EN = "en"


@dataclass(frozen=True, slots=True)
class _Phrases:
    headlines: dict[Purpose, str]
    quoted: str
    more: str
    fingerprint: str
    asker: str
    warning: str
    code: str
    with_another: str
    object_now: str


# SUSPEND needs no code; who asks for one all the same is told the truth of what it would confirm.
_PHRASES = {
    Language.KK: _Phrases(
        headlines={
            Purpose.IDENTIFY: "ЖЕКЕ БАСТЫ РАСТАУ",
            Purpose.ISSUE: "ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫН АЛУ",
            Purpose.REISSUE: "ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫН АУЫСТЫРУ",
            Purpose.REVOKE: "ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫН КЕРІ ҚАЙТАРУ",
            Purpose.SUSPEND: "ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫН ТОҚТАТА ТҰРУ",
            Purpose.RESUME: "ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫН ҚАЙТА ҚОСУ",
            Purpose.SIGN: "ҚҰЖАТҚА ҚОЛ ҚОЮ",
        },
        quoted="«{title}»",
        more="және тағы {count}",
        fingerprint="бедері {digest}",
        asker="Сұраушы: {title}.",
        warning="Код енгізілсе, бұл әрекет расталады. Кодты ешкімге айтпаңыз.",
        code="Код: {code}",
        with_another="БАСҚА ТЕЛЕФОНМЕН НЕМЕСЕ ФОТОМЕН",
        object_now="Бұл сіз болмасаңыз, сертификатты бүгін тоқтатыңыз немесе кері қайтарыңыз.",
    ),
    Language.RU: _Phrases(
        headlines={
            Purpose.IDENTIFY: "ПОДТВЕРЖДЕНИЕ ЛИЧНОСТИ",
            Purpose.ISSUE: "ВЫПУСК СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ",
            Purpose.REISSUE: "ЗАМЕНА СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ",
            Purpose.REVOKE: "ОТЗЫВ СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ",
            Purpose.SUSPEND: "ПРИОСТАНОВЛЕНИЕ СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ",
            Purpose.RESUME: "ВОЗОБНОВЛЕНИЕ СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ",
            Purpose.SIGN: "ПОДПИСАНИЕ ДОКУМЕНТА",
        },
        quoted="«{title}»",
        more="и ещё {count}",
        fingerprint="отпечаток {digest}",
        asker="Запрос от {title}.",
        warning="Ввод кода подтверждает это действие. Никому не сообщайте код.",
        code="Код: {code}",
        with_another="С ДРУГИМ ТЕЛЕФОНОМ ИЛИ ФОТО",
        object_now="Если это не вы, сегодня же приостановите или отзовите сертификат.",
    ),
    Language.EN: _Phrases(
        headlines={
            Purpose.IDENTIFY: "CONFIRM YOUR IDENTITY",
            Purpose.ISSUE: "ISSUE A SIGNATURE CERTIFICATE",
            Purpose.REISSUE: "REPLACE A SIGNATURE CERTIFICATE",
            Purpose.REVOKE: "REVOKE A SIGNATURE CERTIFICATE",
            Purpose.SUSPEND: "SUSPEND A SIGNATURE CERTIFICATE",
            Purpose.RESUME: "RESUME A SIGNATURE CERTIFICATE",
            Purpose.SIGN: "SIGN A DOCUMENT",
        },
        quoted='"{title}"',
        more="and {count} more",
        fingerprint="fingerprint {digest}",
        asker="Asked by {title}.",
        warning="Entering the code confirms this. Tell it to nobody.",
        code="Code: {code}",
        with_another="WITH ANOTHER PHONE OR PHOTO",
        object_now="If this is not you, suspend or revoke the certificate today.",
    ),
}

NOTICES = frozenset({Purpose.ISSUE, Purpose.REISSUE})
"""Of these a person's earlier phone is told, when they are confirmed with another phone or photo."""


def render(transaction: Transaction, language: Language, code: str, origin: str | None = None) -> str:
    """Return the text for `code`, or for `code.MASK`: the receipt keeps the digest of the latter.

    With an `origin` (a host name) the last line is in the origin-bound format, so that a browser fills the code in on
    FinID's own page only (draft-wells-origin-bound-one-time-codes-00).
    """
    phrases = _PHRASES[language]
    sentences = [
        f"{_brand(transaction)}: {phrases.headlines[transaction.purpose]}{_named(transaction.documents, phrases)}.",
        phrases.asker.format(title=_quoted(transaction.application_title, phrases)),
        phrases.warning,
        phrases.code.format(code=code),
    ]
    text = " ".join(sentences)
    return f"{text}\n\n@{origin} #{code}" if origin else text


def render_notice(transaction: Transaction, language: Language) -> str:
    """Return what a person's earlier phone is told of a key that is made for another phone or reference photo."""
    phrases = _PHRASES[language]
    sentences = [
        f"{_brand(transaction)}: {phrases.headlines[transaction.purpose]} {phrases.with_another}.",
        phrases.asker.format(title=_quoted(transaction.application_title, phrases)),
        phrases.object_now,
    ]
    return " ".join(sentences)


def fingerprint(documents: tuple[Document, ...]) -> str:
    """Return eight hex digits, in two groups, that a person can compare with the page that shows the documents.

    They begin the SHA-256 of the one document's content; of several, the SHA-256 of those digests in order.
    """
    digests = [document.content_sha256 for document in documents]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    text = digest.hex().upper()
    return f"{text[:4]}-{text[4:8]}"


def printable(title: str) -> str:
    """Return `title` without what could pass for a link, a number to call or a code, within MAX_TITLE_CHARACTERS."""
    kept = "".join(character if _is_plain(character) else " " for character in title)
    kept = _CODE_LIKE.sub(_ELLIPSIS, _LINK_DOT.sub(" ", kept))
    kept = " ".join(kept.split())
    if len(kept) > MAX_TITLE_CHARACTERS:
        kept = kept[: MAX_TITLE_CHARACTERS - 1].rstrip() + _ELLIPSIS
    return kept or _ELLIPSIS


def _brand(transaction: Transaction) -> str:
    return "FinID sandbox" if transaction.env is Env.SANDBOX else "FinID"


def _is_plain(character: str) -> bool:
    return character in _PLAIN or (character.isalpha() and unicodedata.name(character, "").startswith(_SCRIPTS))


def _quoted(title: str, phrases: _Phrases) -> str:
    return phrases.quoted.format(title=printable(title))


def _named(documents: tuple[Document, ...], phrases: _Phrases) -> str:
    if not documents:
        return ""
    parts = [_quoted(documents[0].title, phrases)]
    if len(documents) > 1:
        parts.append(phrases.more.format(count=len(documents) - 1))
    parts.append(f"({phrases.fingerprint.format(digest=fingerprint(documents))})")
    return " " + " ".join(parts)
