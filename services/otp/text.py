"""The text of the SMS: rendered here from the transaction itself, so that no caller chooses what a person reads.

What the code confirms comes first, then who asks, then the warning, and the code last: a phone's preview shows the
purpose, and nobody can copy the code without the rest before their eyes. Titles come from callers, so whatever could
pass for a link, a number to call or another code is taken out of them.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
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
# All of Kazakhstan, since 1 March 2024 (tz database, release 2024a).
_LOCAL_TIME = timezone(timedelta(hours=5))
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
    signed: str
    if_not_you: str
    ends: str
    certificate: str
    replace_it: str


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
        signed="ҚҰЖАТҚА ҚОЛ ҚОЙЫЛДЫ",
        if_not_you="Бұл сіз болмасаңыз, сертификатты дереу тоқтатыңыз.",
        ends="ЭЛЕКТРОНДЫҚ ҚОЛТАҢБА СЕРТИФИКАТЫҢЫЗДЫҢ МЕРЗІМІ {date} АЯҚТАЛАДЫ",
        certificate="Сертификат {serial}.",
        replace_it="Қол қоюды жалғастыру үшін оны осы күнге дейін ауыстырыңыз. FinID бұл туралы сілтеме жібермейді.",
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
        signed="ДОКУМЕНТ ПОДПИСАН",
        if_not_you="Если это не вы, сразу приостановите сертификат.",
        ends="СРОК ВАШЕГО СЕРТИФИКАТА ЭЛЕКТРОННОЙ ПОДПИСИ ЗАКАНЧИВАЕТСЯ {date}",
        certificate="Сертификат {serial}.",
        replace_it="Чтобы подписывать и дальше, замените его до этого дня. FinID не присылает об этом ссылок.",
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
        signed="DOCUMENT SIGNED",
        if_not_you="If this was not you, suspend the certificate at once.",
        ends="YOUR SIGNATURE CERTIFICATE ENDS ON {date}",
        certificate="Certificate {serial}.",
        replace_it="To go on signing, replace it before that day. FinID sends no links about this.",
    ),
}

WARNINGS = frozenset({Purpose.ISSUE, Purpose.REISSUE})
"""Of these a person's earlier phone is told, when they are confirmed with another phone or photo."""
NOTICES = WARNINGS | {Purpose.SIGN}
"""Of these a phone is told without a code; of SIGN it is the phone that confirmed it, once it is done."""


def render(transaction: Transaction, language: Language, code: str, origin: str | None = None) -> str:
    """Return the text for `code`, or for `code.MASK`: the receipt keeps the digest of the latter.

    With an `origin` (a host name) the last line is in the origin-bound format, so that a browser fills the code in on
    FinID's own page only (draft-wells-origin-bound-one-time-codes-00).
    """
    phrases = _PHRASES[language]
    sentences = [
        f"{_brand(transaction.env)}: {phrases.headlines[transaction.purpose]}{_named(transaction.documents, phrases)}.",
        phrases.asker.format(title=_quoted(transaction.application_title, phrases)),
        phrases.warning,
        phrases.code.format(code=code),
    ]
    text = " ".join(sentences)
    return f"{text}\n\n@{origin} #{code}" if origin else text


def render_notice(transaction: Transaction, language: Language) -> str:
    """Return what a phone is told of a transaction in NOTICES.

    A person's earlier phone: that a key is made for another phone or reference photo. The phone that confirmed SIGN:
    what was signed, and when.
    """
    phrases = _PHRASES[language]
    if transaction.purpose is Purpose.SIGN:
        return " ".join(_signed(transaction, phrases))
    sentences = [
        f"{_brand(transaction.env)}: {phrases.headlines[transaction.purpose]} {phrases.with_another}.",
        phrases.asker.format(title=_quoted(transaction.application_title, phrases)),
        phrases.object_now,
    ]
    return " ".join(sentences)


def _signed(transaction: Transaction, phrases: _Phrases) -> list[str]:
    signed_at = datetime.fromtimestamp(transaction.signing_time, UTC).astimezone(_LOCAL_TIME)
    return [
        f"{_brand(transaction.env)}: {phrases.signed}{_named(transaction.documents, phrases)}.",
        f"{signed_at:%d.%m.%Y %H:%M}.",
        phrases.asker.format(title=_quoted(transaction.application_title, phrases)),
        phrases.if_not_you,
    ]


def render_expiry(env: Env, language: Language, serial: str, not_after: datetime) -> str:
    """Return what a person is told of a certificate of theirs that ends soon; `serial` is hex.

    It says what nobody can turn into a trap: a day, the last eight digits of the serial, no link, no number to call.
    """
    phrases = _PHRASES[language]
    shown = serial[-8:].upper()
    sentences = [
        f"{_brand(env)}: {phrases.ends.format(date=f'{not_after.astimezone(_LOCAL_TIME):%d.%m.%Y}')}.",
        phrases.certificate.format(serial=f"{shown[:4]}-{shown[4:]}"),
        phrases.replace_it,
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


def _brand(env: Env) -> str:
    return "FinID sandbox" if env is Env.SANDBOX else "FinID"


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
