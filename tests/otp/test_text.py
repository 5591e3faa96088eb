"""The text of the SMS: what the person reads before entering the code."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.transaction import Env, Purpose, Transaction
from services.otp.code import MASK
from services.otp.text import MAX_TITLE_CHARACTERS, Language, fingerprint, printable, render
from tests.bundles import document, transaction_of

CODE = "123456"
# A concatenated SMS in UCS-2 has 67 characters a segment (3GPP TS 23.040).
SEGMENT_CHARACTERS = 67
MAX_SEGMENTS = 4

HEADLINES = {
    (Language.KK, Purpose.IDENTIFY): "ЖЕКЕ БАСТЫ РАСТАУ",
    (Language.RU, Purpose.IDENTIFY): "ПОДТВЕРЖДЕНИЕ ЛИЧНОСТИ",
    (Language.EN, Purpose.IDENTIFY): "CONFIRM YOUR IDENTITY",
    (Language.RU, Purpose.SIGN): "ПОДПИСАНИЕ ДОКУМЕНТА",
    (Language.KK, Purpose.SIGN): "ҚҰЖАТҚА ҚОЛ ҚОЮ",
    (Language.EN, Purpose.ISSUE): "ISSUE A SIGNATURE CERTIFICATE",
    (Language.RU, Purpose.REISSUE): "ЗАМЕНА СЕРТИФИКАТА",
    (Language.KK, Purpose.REVOKE): "КЕРІ ҚАЙТАРУ",
    (Language.KK, Purpose.RESUME): "ҚАЙТА ҚОСУ",
    (Language.RU, Purpose.RESUME): "ВОЗОБНОВЛЕНИЕ СЕРТИФИКАТА",
    (Language.EN, Purpose.SUSPEND): "SUSPEND A SIGNATURE CERTIFICATE",
}
WARNINGS = {Language.KK: "ешкімге айтпаңыз", Language.RU: "Никому не сообщайте", Language.EN: "Tell it to nobody"}


def text_for(purpose: Purpose, language: Language = Language.EN, **changed: object) -> str:
    return render(replace(transaction_of(purpose), **changed), language, CODE)  # type: ignore[arg-type]


@pytest.mark.parametrize(("language", "purpose"), list(HEADLINES))
def test_the_purpose_comes_first(language: Language, purpose: Purpose) -> None:
    assert text_for(purpose, language).startswith("FinID sandbox: ")
    assert HEADLINES[language, purpose] in text_for(purpose, language).partition(".")[0]


def test_every_purpose_reads_differently_in_every_language() -> None:
    texts = {text_for(purpose, language) for purpose in Purpose for language in Language}
    assert len(texts) == len(Purpose) * len(Language)


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("language", list(Language))
def test_who_asks_the_warning_and_last_of_all_the_code(language: Language, purpose: Purpose) -> None:
    text = text_for(purpose, language)
    places = [text.index("Демо Банк"), text.index(WARNINGS[language]), text.index(CODE)]
    assert places == sorted(places)
    assert text.endswith(CODE)
    assert text.count(CODE) == 1


def test_production_does_not_say_sandbox() -> None:
    assert text_for(Purpose.IDENTIFY, env=Env.PRODUCTION).startswith("FinID: CONFIRM")


def test_one_document_is_named_with_its_own_digests_beginning() -> None:
    text = text_for(Purpose.SIGN, documents=(document("Loan agreement"),))
    begins = hashlib.sha256(b"Loan agreement").hexdigest().upper()
    assert f'SIGN A DOCUMENT "Loan agreement" (fingerprint {begins[:4]}-{begins[4:8]}).' in text


def test_of_several_documents_the_first_is_named_the_others_counted_all_digested() -> None:
    documents = (document("Loan agreement"), document("Annex"), document("Insurance"))
    text = text_for(Purpose.SIGN, documents=documents)
    assert f'"Loan agreement" and 2 more (fingerprint {fingerprint(documents)})' in text
    assert fingerprint(documents) != fingerprint(documents[:2])
    assert fingerprint(documents) != fingerprint((documents[1], documents[0], documents[2]))


def test_with_an_origin_the_last_line_binds_the_code_to_it() -> None:
    text = render(transaction_of(Purpose.IDENTIFY), Language.RU, CODE, "id.example.kz")
    assert text.endswith(f"Код: {CODE}\n\n@id.example.kz #{CODE}")


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("language", list(Language))
def test_the_masked_text_differs_from_the_sent_one_in_the_code_alone(language: Language, purpose: Purpose) -> None:
    transaction = transaction_of(purpose)
    sent = render(transaction, language, CODE, "id.example.kz")
    assert render(transaction, language, MASK, "id.example.kz") == sent.replace(CODE, MASK)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Договор займа", "Договор займа"),
        ("Несие шарты № 2026-0173.pdf", "Несие шарты № 2026-0173 pdf"),
        ("call +77011234567 now", "call +… now"),
        ("your code 654321", "your code …"),
        ("your code 654 321", "your code …"),
        ("654-321", "…"),
        ("open evil.example/login", "open evil example login"),
        ("https://evil.example", "https evil example"),
        ("mail me@evil.example", "mail me evil example"),
        ('closed" (fingerprint 0000-0000). Code: 1', "closed (fingerprint 0000-0000). Code 1"),
        ("«»\"'<>{}[]", "…"),
        ("שלום מסמך", "…"),
        ("договор ١٢٣٤٥٦", "договор"),
        ("x" * 41, "x" * 39 + "…"),
        ("x" * 40, "x" * 40),
    ],
)
def test_titles_lose_what_could_mislead(title: str, shown: str) -> None:
    assert printable(title) == shown


@given(st.text(max_size=200))
def test_no_title_can_look_like_a_code_a_link_or_another_line(title: str) -> None:
    shown = printable(title)
    assert 1 <= len(shown) <= MAX_TITLE_CHARACTERS
    assert not any(character in shown for character in "\n\r\t«»\"'@:/\\#<>*%{}")
    digits = 0
    for character in shown:
        digits = digits + 1 if character.isdigit() else 0
        assert digits < 5


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=200))
def test_whatever_the_titles_the_frame_of_the_text_stays(title: str) -> None:
    transaction: Transaction = transaction_of(Purpose.SIGN)
    object.__setattr__(transaction, "application_title", title)
    object.__setattr__(transaction, "documents", (replace(transaction.documents[0], title=title),))
    text = render(transaction, Language.RU, CODE)
    assert text.count("«") == text.count("»") == 2
    assert text.count("Код:") == 1
    assert text.endswith(f"Никому не сообщайте код. Код: {CODE}")


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("language", list(Language))
def test_the_longest_titles_still_fit(language: Language, purpose: Purpose) -> None:
    transaction = replace(transaction_of(purpose), application_title="Ж" * 60)
    if purpose is Purpose.SIGN:
        transaction = replace(transaction, documents=tuple(document("Ж" * 60) for _ in range(100)))
    assert len(render(transaction, language, CODE)) <= MAX_SEGMENTS * SEGMENT_CHARACTERS
