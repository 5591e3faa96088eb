"""The page of a validation's report: strict, in three languages, and nothing in it that a certificate could run."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from services.documents import report_words
from services.documents.language import Language
from services.documents.report import (
    ChainCertificate,
    Change,
    ChangeKind,
    EvidenceKind,
    EvidenceSource,
    FoundFormat,
    FoundLevel,
    Indication,
    Report,
    RevocationEvidence,
    SignatureReport,
    TimeStamp,
    TimeStampKind,
)
from services.documents.report_page import page
from tests.documents.authority import NOW

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&"
CHAIN = ChainCertificate(EVIL, EVIL, EVIL, NOW, NOW + timedelta(days=1), b"s" * 32, anchor=True)
REPORT = SignatureReport(
    Indication.TOTAL_FAILED,
    "FORMAT_FAILURE",
    f"because {EVIL}",
    signer_subject=EVIL,
    signer_serial=EVIL,
    claimed_at=NOW,
    stamped_at=NOW,
    format=FoundFormat.PADES,
    level=FoundLevel.B_LTA,
    best_signature_at=NOW,
    chain=(CHAIN, CHAIN),
    revocation=(
        RevocationEvidence(EvidenceKind.CRL, EvidenceSource.DSS, "0a", NOW, None, None),
        RevocationEvidence(EvidenceKind.OCSP, EvidenceSource.GIVEN, "0a", NOW, NOW, NOW),
    ),
    time_stamps=(TimeStamp(TimeStampKind.ARCHIVE, NOW, EVIL, valid=False),),
    changes=(Change(2, ChangeKind.FIELDS_FILLED, (EVIL,)),),
)


def written(*signatures: SignatureReport, language: Language = Language.EN) -> str:
    return page(Report.of(signatures), language, document_sha256=b"d" * 32, document_bytes=12345, validated_at=NOW)


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("language", Language)
def test_names_from_certificates_are_text_and_nothing_else(language: Language) -> None:
    reader = Reader(written(REPORT, language=language))
    assert reader.open == []
    assert reader.tags.isdisjoint({"script", "img", "iframe", "object", "link", "a", "form", "svg", "base"})
    assert {name for name in reader.attributes if name.startswith("on")} == set()
    assert reader.text.count(EVIL) >= 6


def test_policy_of_the_page_lets_only_its_own_style_in() -> None:
    html = written(REPORT)
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert html.count("<style>") == 1
    assert "style=" not in html
    assert re.findall(r"(?:src|href|url)\s*[=(]", html.replace("onerror", "").split("<body>")[0]) == []


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("indication", Indication)
def test_verdict_and_reason_stand_in_every_language(language: Language, indication: Indication) -> None:
    html = written(replace(REPORT, indication=indication, explanation="the reason"), language=language)
    assert report_words.chosen(report_words.INDICATIONS[indication], language) in html
    assert f'<html lang="{language.value}">' in html
    assert f"{indication.value} / FORMAT_FAILURE" in html


def test_every_word_is_there_in_three_languages_and_none_twice() -> None:
    tables = (
        report_words.LABELS,
        report_words.INDICATIONS,
        report_words.FORMATS,
        report_words.SOURCES,
        report_words.TIME_STAMPS,
        report_words.CHANGES,
    )
    for table in tables:
        for words in table.values():
            assert len(words) == len(Language)
            assert all(words)
    for table, kinds in (
        (report_words.INDICATIONS, Indication),
        (report_words.FORMATS, FoundFormat),
        (report_words.SOURCES, EvidenceSource),
        (report_words.TIME_STAMPS, TimeStampKind),
        (report_words.CHANGES, ChangeKind),
    ):
        assert set(table) == set(kinds)


def test_every_explained_sub_indication_has_words_in_kazakh_and_russian() -> None:
    from services.documents.confined import signature  # noqa: PLC0415 - the worker's own list

    assert set(signature._EXPLANATIONS) <= set(report_words.SUB_INDICATIONS)


def test_signature_without_anything_to_tell_makes_a_page() -> None:
    html = written(SignatureReport(Indication.INDETERMINATE, "TRY_LATER", "no evidence"), language=Language.RU)
    assert "не было свежих сведений об отзыве" in html
    assert Reader(html).open == []
