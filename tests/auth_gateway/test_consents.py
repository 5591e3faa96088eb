"""Consent documents: every purpose has its texts, in every language, naming who asks; a released text never changes."""

import datetime
import hashlib
import string
from pathlib import Path

import pytest

import services.auth_gateway
from mesh.transaction import Purpose
from services.auth_gateway.authentication import ConsentText, Controller, Language
from services.auth_gateway.consents import Asker, ConsentBook

FOLDER = Path(services.auth_gateway.__file__).parent
BOOK = ConsentBook(FOLDER / "consents.toml")
RELEASED = [
    line for line in (FOLDER / "consents.released.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"
]
TOUCHES_A_KEY = {Purpose.ISSUE, Purpose.REISSUE, Purpose.SIGN}
OF_THE_OPERATOR = TOUCHES_A_KEY - {Purpose.SIGN} | {Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME}
BANK = Asker("applications/" + "a" * 26, "Демо Банк")
THEN = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
NOW = datetime.datetime(2026, 12, 31, tzinfo=datetime.UTC)
ONE_DOCUMENT = """
[operator]
kk = "оператор"
ru = "оператор"
en = "operator"
[[document]]
id = "personal-data"
version = "1"
controller = "APPLICATION"
purposes = ["IDENTIFY"]
kk = "x"
ru = "x"
en = "{title}, 1"
"""
LATER = """
[[document]]
id = "personal-data"
version = "2"
in_force_from = 2026-06-01T00:00:00+05:00
controller = "APPLICATION"
purposes = ["IDENTIFY"]
kk = "x"
ru = "x"
en = "{title}, 2"
"""
OWN = f"""
[[document]]
id = "personal-data"
version = "own-1"
application = "{BANK.name}"
controller = "APPLICATION"
purposes = ["IDENTIFY"]
kk = "x"
ru = "x"
en = "{{title}}, our own"
"""


def shown(
    purpose: Purpose,
    language: Language,
    asker: Asker = BANK,
    scopes: tuple[str, ...] = ("name",),
    at: datetime.datetime = NOW,
) -> tuple[ConsentText, ...]:
    return BOOK.needed(purpose, language, asker, scopes, at)


def book(folder: Path, *parts: str) -> ConsentBook:
    file = folder / "consents.toml"
    file.write_text("".join(parts), encoding="utf-8")
    return ConsentBook(file)


@pytest.mark.parametrize("at", [THEN, NOW])
@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("purpose", Purpose)
def test_what_a_person_agrees_to(purpose: Purpose, language: Language, at: datetime.datetime) -> None:
    texts = shown(purpose, language, at=at)
    expected = ["personal-data", "biometric-data"] + (["cloud-key"] if purpose in TOUCHES_A_KEY else [])
    assert [text.id for text in texts] == expected
    assert "Демо Банк" in texts[0].text
    assert not any("{" in text.text for text in texts)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_text_says_who_answers_for_the_processing(purpose: Purpose) -> None:
    for language in Language:
        data, face, *key = shown(purpose, language)
        operator = {Language.KK: "FinID операторы", Language.RU: "Оператор FinID", Language.EN: "The operator of FinID"}
        by_operator = (Controller.OPERATOR, operator[language])
        expected = by_operator if purpose in OF_THE_OPERATOR else (Controller.APPLICATION, BANK.title)
        assert (data.controller, data.controller_title) == expected
        assert data.controller_title.lower() in data.text.lower()
        assert face.controller_title.lower() in face.text.lower()
        assert {(text.controller, text.controller_title) for text in (face, *key)} == {by_operator}


@pytest.mark.parametrize("purpose", Purpose)
def test_every_language_has_a_text_of_its_own(purpose: Purpose) -> None:
    for texts in zip(*(shown(purpose, language) for language in Language), strict=True):
        assert len({text.text for text in texts}) == len(Language)
        assert len({(text.id, text.version) for text in texts}) == 1


@pytest.mark.parametrize("purpose", Purpose)
def test_kazakh_is_written_in_kazakh(purpose: Purpose) -> None:
    every = ("name", "birth_date", "document")
    for text in shown(purpose, Language.KK, Asker(BANK.name, ""), every):
        assert set(text.text.lower()) & set("әғқңөұүһі")
        assert not set(text.text.replace("FinID", "")) & set(string.ascii_letters)


def test_the_text_lists_the_data_that_is_asked_for_and_no_other() -> None:
    def data(*scopes: str) -> str:
        return shown(Purpose.IDENTIFY, Language.EN, scopes=scopes)[0].text

    assert "individual identification number, and processes" in data()
    assert "family name, given name, patronymic" in data("name")
    assert "date of birth" not in data("name")
    assert "date of birth" in data("birth_date")
    assert "identity document" in data("document")


def test_the_transaction_commits_to_the_text_as_it_is_shown() -> None:
    text = ConsentText("personal-data", "1", "Мен келісемін.")
    assert text.commitment().text_sha256 == hashlib.sha256("Мен келісемін.".encode()).digest()
    one, another = (shown(Purpose.IDENTIFY, Language.EN, Asker(BANK.name, f"{name} Bank"))[0] for name in "AB")
    assert one.commitment() != another.commitment()


@pytest.mark.parametrize("title", ["{title} <b>Bank</b> %s", "{data}", r"\1 \g<0>"])
def test_a_title_is_text_and_nothing_else(title: str) -> None:
    text = shown(Purpose.IDENTIFY, Language.EN, Asker(BANK.name, title), ())[0].text
    assert text.count(title) == 2
    assert text.count("individual identification number") == 1


def test_a_version_is_shown_from_when_it_is_in_force(tmp_path: Path) -> None:
    two = book(tmp_path, ONE_DOCUMENT, LATER)
    begins = datetime.datetime(2026, 5, 31, 19, tzinfo=datetime.UTC)
    for at, version in ((THEN, "1"), (begins - datetime.timedelta(microseconds=1), "1"), (begins, "2"), (NOW, "2")):
        assert [text.version for text in two.needed(Purpose.IDENTIFY, Language.EN, BANK, (), at)] == [version]


def test_an_application_has_a_text_of_its_own_and_the_others_have_everybodys(tmp_path: Path) -> None:
    own = book(tmp_path, ONE_DOCUMENT, OWN, LATER)
    assert [text.text for text in own.needed(Purpose.IDENTIFY, Language.EN, BANK, (), NOW)] == ["Демо Банк, our own"]
    another = Asker("applications/" + "b" * 26, "B")
    assert [text.text for text in own.needed(Purpose.IDENTIFY, Language.EN, another, (), NOW)] == ["B, 2"]


def test_a_released_text_is_neither_changed_nor_removed_and_a_new_one_is_released() -> None:
    """A changed text needs a new version: an entry of its own, and its lines in consents.released.txt."""
    pins = list(BOOK.pins())
    assert [line for line in RELEASED if line not in pins] == [], "released texts were changed or removed"
    assert [line for line in pins if line not in RELEASED] == [], "add these lines to consents.released.txt"
    assert len({line.rsplit(" ", 1)[0] for line in RELEASED}) == len(RELEASED)


def test_a_book_that_differs_from_the_pins_beside_it_is_not_opened(tmp_path: Path) -> None:
    pins = "\n".join(book(tmp_path, ONE_DOCUMENT).pins())
    (tmp_path / "consents.released.txt").write_text(f"# of one version\n{pins}\n", encoding="utf-8")
    book(tmp_path, ONE_DOCUMENT)
    with pytest.raises(ValueError, match="changed or removed"):
        book(tmp_path, ONE_DOCUMENT.replace("{title}, 1", "{title}, one"))
    with pytest.raises(ValueError, match="changed or removed"):
        book(tmp_path, ONE_DOCUMENT.replace('version = "1"', 'version = "2"'))
    with pytest.raises(ValueError, match="add the lines"):
        book(tmp_path, ONE_DOCUMENT, LATER)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('en = "{title}, 1"', 'en = "{title}, 1."'),
        ('version = "1"', 'version = "1.1"'),
        ("APPLICATION", "OPERATOR"),
        ('["IDENTIFY"]', '["IDENTIFY", "SIGN"]'),
    ],
)
def test_whatever_of_a_text_is_changed_it_is_not_the_released_one(tmp_path: Path, before: str, after: str) -> None:
    released = set(book(tmp_path, ONE_DOCUMENT).pins())
    assert released == set(book(tmp_path, ONE_DOCUMENT).pins())
    assert not released <= set(book(tmp_path, ONE_DOCUMENT.replace(before, after)).pins())


def test_a_changed_label_of_the_data_is_a_changed_text(tmp_path: Path) -> None:
    listed = ONE_DOCUMENT.replace('"x"', '"{data}"').replace("{title}, 1", "{data}")
    label = '[document.data.name]\nkk = "a"\nru = "b"\nen = "c"\n'
    relabelled = label.replace('en = "c"', 'en = "d"')
    assert set(book(tmp_path, listed, label).pins()) != set(book(tmp_path, listed, relabelled).pins())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('ru = "x"\nen = "{title}, 1"', 'ru = "x"'),
        ('["IDENTIFY"]', '["SHOP"]'),
        ('["IDENTIFY"]', "[]"),
        ('version = "1"', ""),
        ('"APPLICATION"', '"NOBODY"'),
        ("controller", "controlled_by"),
        ("{title}, 1", "{data}"),
        ('en = "operator"', ""),
        ('version = "1"', 'version = "1"\nin_force_from = 2026-01-01'),
        ('version = "1"', 'version = "1"\nin_force_from = 2026-01-01T00:00:00'),
        ("[[document]]", "[[document]"),
    ],
)
def test_a_book_that_is_not_whole_is_not_opened(tmp_path: Path, before: str, after: str) -> None:
    assert before in ONE_DOCUMENT
    with pytest.raises((KeyError, ValueError)):
        book(tmp_path, ONE_DOCUMENT.replace(before, after))


def test_a_version_stands_in_the_book_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        book(tmp_path, ONE_DOCUMENT, LATER.replace('version = "2"', 'version = "1"'))
