"""Consent documents: every purpose has its texts, in every language, naming who asks."""

import hashlib
import string
from pathlib import Path

import pytest

import services.auth_gateway
from mesh.transaction import Purpose
from services.auth_gateway.authentication import ConsentText, Language
from services.auth_gateway.consents import ConsentBook

BOOK = ConsentBook(Path(services.auth_gateway.__file__).with_name("consents.toml"))
TOUCHES_A_KEY = {Purpose.ISSUE, Purpose.REISSUE, Purpose.SIGN}


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("purpose", Purpose)
def test_what_a_person_agrees_to(purpose: Purpose, language: Language) -> None:
    texts = BOOK.needed(purpose, language, "Демо Банк")
    expected = ["personal-data", "biometric-data"] + (["cloud-key"] if purpose in TOUCHES_A_KEY else [])
    assert [text.id for text in texts] == expected
    assert "Демо Банк" in texts[0].text
    assert not any("{" in text.text for text in texts)


@pytest.mark.parametrize("purpose", Purpose)
def test_every_language_has_a_text_of_its_own(purpose: Purpose) -> None:
    shown = [BOOK.needed(purpose, language, "Bank") for language in Language]
    for texts in zip(*shown, strict=True):
        assert len({text.text for text in texts}) == len(Language)
        assert len({(text.id, text.version) for text in texts}) == 1


def test_kazakh_is_written_in_kazakh() -> None:
    for text in BOOK.needed(Purpose.SIGN, Language.KK, ""):
        assert set(text.text.lower()) & set("әғқңөұүһі")
        assert not set(text.text.replace("FinID", "")) & set(string.ascii_letters)


def test_the_transaction_commits_to_the_text_as_it_is_shown() -> None:
    text = ConsentText("personal-data", "1", "Мен келісемін.")
    assert text.commitment().text_sha256 == hashlib.sha256("Мен келісемін.".encode()).digest()
    first, second = (BOOK.needed(Purpose.IDENTIFY, Language.EN, title)[0] for title in ("One Bank", "Another Bank"))
    assert first.commitment() != second.commitment()


def test_a_title_is_text_and_nothing_else() -> None:
    title = "{title} <b>Bank</b> %s"
    assert title in BOOK.needed(Purpose.IDENTIFY, Language.EN, title)[0].text


@pytest.mark.parametrize(
    "broken",
    [
        "[personal-data]\nversion = '1'\npurposes = ['IDENTIFY']\nkk = 'x'\nru = 'x'",
        "[personal-data]\nversion = '1'\npurposes = ['SHOP']\nkk = 'x'\nru = 'x'\nen = 'x'",
        "[personal-data]\npurposes = ['IDENTIFY']\nkk = 'x'\nru = 'x'\nen = 'x'",
        "no toml",
    ],
)
def test_a_book_that_is_not_whole_is_not_opened(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "consents.toml"
    file.write_text(broken)
    with pytest.raises((KeyError, ValueError)):
        ConsentBook(file)
