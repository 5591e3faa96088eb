"""A validation's report as a page that a person can read, keep and print.

It stands alone: no script, no link, no image, nothing fetched, and a policy that would refuse them. Every text goes
through `escape`; names in certificates are anybody's.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Final

from services.documents.language import Language
from services.documents.report import (
    ChainCertificate,
    Change,
    FoundLevel,
    Indication,
    Report,
    RevocationEvidence,
    SignatureReport,
    TimeStamp,
)
from services.documents.report_words import (
    CHANGES,
    FORMATS,
    INDICATIONS,
    SOURCES,
    TIME_STAMPS,
    chosen,
    explained,
    label,
)

_STYLE: Final = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin:0}h3{font-size:1rem;margin:1.25rem 0 .25rem}
dl{display:grid;grid-template-columns:minmax(10rem,17rem) 1fr;gap:.25rem 1rem;margin:.75rem 0}
dt{color:#57606a}dd{margin:0;overflow-wrap:anywhere}
section{border:1px solid #d0d7de;border-left-width:.5rem;border-radius:.4rem;padding:1rem;margin:1.25rem 0}
.passed{border-left-color:#1a7f37}.failed{border-left-color:#cf222e}.unknown{border-left-color:#9a6700}
.verdict{font-weight:600;font-size:1.15rem;margin:.25rem 0}.code{color:#57606a;font-size:.85rem}
.passed .verdict{color:#116329}.failed .verdict{color:#a40e26}.unknown .verdict{color:#7d4e00}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid #d0d7de;overflow-wrap:anywhere}
th{font-weight:600;color:#57606a;overflow-wrap:normal}
code{font:.85rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
footer{color:#57606a;font-size:.85rem;margin:2rem 0}
@media (max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4rem}}
@media print{body{margin:0;max-width:none}section{break-inside:avoid}}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
_CLASSES: Final = {
    Indication.TOTAL_PASSED: "passed",
    Indication.TOTAL_FAILED: "failed",
    Indication.INDETERMINATE: "unknown",
}


def page(
    report: Report, language: Language, *, document_sha256: bytes, document_bytes: int, validated_at: datetime
) -> str:
    """Write the page of a report on a document."""
    words = _Words(language)
    title = words.label("title")
    sections = (
        _section(signature, number, len(report.signatures), words)
        for number, signature in enumerate(report.signatures, 1)
    )
    facts = [
        ("document", _code(document_sha256.hex())),
        ("size", escape(f"{document_bytes:,}".replace(",", " "))),
        ("validated", _time(validated_at)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="{language.value}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header class="{_CLASSES[report.indication]}">\n<h1>{title}</h1>\n{_verdict(report.indication, words)}\n'
        f"{words.facts(facts)}\n</header>\n<main>\n{''.join(sections)}</main>\n"
        f"<footer>{words.label('footer')}</footer>\n</body>\n</html>\n"
    )


class _Words:
    """Labels in one language, escaped."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def label(self, name: str) -> str:
        return escape(label(name, self.language))

    def of(self, words: tuple[str, str, str]) -> str:
        return escape(chosen(words, self.language))

    def facts(self, facts: Iterable[tuple[str, str]]) -> str:
        """A list of labels and their HTML."""
        return f"<dl>{''.join(f'<dt>{self.label(name)}</dt><dd>{html}</dd>' for name, html in facts)}</dl>"

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """A table of HTML under labels."""
        head = "".join(f'<th scope="col">{self.label(name)}</th>' for name in heads)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n"


def _section(signature: SignatureReport, number: int, count: int, words: _Words) -> str:
    level = escape(signature.level.value) if signature.level is not FoundLevel.NONE else words.label("none")
    facts = [
        ("signer", escape(signature.signer_subject) or words.label("none")),
        ("serial", _code(signature.signer_serial) if signature.signer_serial else words.label("none")),
        ("format", words.of(FORMATS[signature.format])),
        ("level", level),
        ("claimed", _time(signature.claimed_at) or words.label("none")),
        ("stamped", _time(signature.stamped_at) or words.label("none")),
        ("best", _time(signature.best_signature_at) or words.label("none")),
    ]
    why = explained(signature.sub_indication, signature.explanation, words.language)
    reason = f"<p>{escape(why)}</p>\n" if why and signature.indication is not Indication.TOTAL_PASSED else ""
    return (
        f'<section class="{_CLASSES[signature.indication]}">\n'
        f"<h2>{words.label('signature')} {number} {words.label('of')} {count}</h2>\n"
        f"{_verdict(signature.indication, words, signature.sub_indication)}\n{reason}{words.facts(facts)}\n"
        f"{_changes(signature.changes, words)}{_stamps(signature.time_stamps, words)}"
        f"{_chain(signature.chain, words)}{_evidence(signature.revocation, words)}</section>\n"
    )


def _verdict(indication: Indication, words: _Words, sub_indication: str = "") -> str:
    code = indication.value + (f" / {sub_indication}" if sub_indication else "")
    return f'<p class="verdict">{words.of(INDICATIONS[indication])}</p><p class="code">{escape(code)}</p>'


def _changes(changes: Sequence[Change], words: _Words) -> str:
    if not changes:
        return f"<h3>{words.label('changes')}</h3>\n<p>{words.label('unchanged')}</p>\n"
    items = []
    for change in changes:
        fields = f": {escape(', '.join(change.fields))}" if change.fields else ""
        what = words.of(CHANGES[change.kind])
        items.append(f"<li>{words.label('revision')} {change.revision}: {what}{fields}</li>")
    return f"<h3>{words.label('changes')}</h3>\n<ul>{''.join(items)}</ul>\n"


def _stamps(stamps: Sequence[TimeStamp], words: _Words) -> str:
    if not stamps:
        return ""
    rows = [
        (
            words.of(TIME_STAMPS[stamp.kind]),
            _time(stamp.at),
            escape(stamp.authority),
            words.label("valid" if stamp.valid else "invalid"),
        )
        for stamp in stamps
    ]
    return f"<h3>{words.label('stamps')}</h3>\n{words.table(('kind', 'time', 'authority', 'status'), rows)}"


def _chain(chain: Sequence[ChainCertificate], words: _Words) -> str:
    if not chain:
        return ""
    rows = [
        (
            escape(item.subject) + (f" <strong>({words.label('anchor')})</strong>" if item.anchor else ""),
            _code(item.serial),
            _time(item.not_before),
            _time(item.not_after),
        )
        for item in chain
    ]
    table = words.table(("signer", "serial", "valid_from", "valid_to"), rows)
    return f"<h3>{words.label('chain')}</h3>\n{table}"


def _evidence(evidence: Sequence[RevocationEvidence], words: _Words) -> str:
    if not evidence:
        return ""
    rows = [
        (
            escape(item.kind.value),
            words.of(SOURCES[item.source]),
            _code(item.serial),
            _time(item.produced_at),
            _time(item.next_update_at),
            f"{words.label('revoked')} {_time(item.revoked_at)}" if item.revoked_at else words.label("good"),
        )
        for item in evidence
    ]
    table = words.table(("kind", "source", "serial", "issued", "next", "status"), rows)
    return f"<h3>{words.label('evidence')}</h3>\n{table}"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _time(time: datetime | None) -> str:
    return escape(time.strftime("%Y-%m-%d %H:%M:%S")) if time is not None else ""
