"""Reports as JSON between a worker and the service; what is read is checked for shape, since a worker may be anybody's.

Times are Unix seconds, digests hexadecimal.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from services.documents.report import (
    ChainCertificate,
    Change,
    ChangeKind,
    EvidenceKind,
    EvidenceSource,
    FoundFormat,
    FoundLevel,
    Indication,
    RevocationEvidence,
    SignatureReport,
    TimeStamp,
    TimeStampKind,
)

MAX_TEXT: Final = 2048
_MAX_UNIX_S: Final = 253_402_300_799  # 9999-12-31T23:59:59Z
_MAX_ITEMS: Final = 1024
_MAX_REVISION: Final = 10_000
_T = TypeVar("_T")


def of(report: SignatureReport) -> dict[str, Any]:
    """Write a report."""
    return {
        "indication": report.indication.value,
        "sub_indication": report.sub_indication,
        "explanation": report.explanation,
        "signer_subject": report.signer_subject,
        "signer_serial": report.signer_serial,
        "claimed_at": _unix_s(report.claimed_at),
        "stamped_at": _unix_s(report.stamped_at),
        "format": report.format.value,
        "level": report.level.value,
        "best_signature_at": _unix_s(report.best_signature_at),
        "chain": [
            {
                "subject": item.subject,
                "issuer": item.issuer,
                "serial": item.serial,
                "not_before": _unix_s(item.not_before),
                "not_after": _unix_s(item.not_after),
                "sha256": item.sha256.hex(),
                "anchor": item.anchor,
            }
            for item in report.chain
        ],
        "revocation": [
            {
                "kind": item.kind.value,
                "source": item.source.value,
                "serial": item.serial,
                "produced_at": _unix_s(item.produced_at),
                "next_update_at": _unix_s(item.next_update_at),
                "revoked_at": _unix_s(item.revoked_at),
            }
            for item in report.revocation
        ],
        "time_stamps": [
            {"kind": item.kind.value, "at": _unix_s(item.at), "authority": item.authority, "valid": item.valid}
            for item in report.time_stamps
        ],
        "changes": [
            {"revision": item.revision, "kind": item.kind.value, "fields": list(item.fields)} for item in report.changes
        ],
    }


def read(found: Mapping[str, Any]) -> SignatureReport:
    """Read a report. Raises KeyError, TypeError or ValueError for anything that `of` would not have written."""
    return SignatureReport(
        indication=Indication(found["indication"]),
        sub_indication=text(found["sub_indication"]),
        explanation=text(found["explanation"]),
        signer_subject=text(found["signer_subject"]),
        signer_serial=text(found["signer_serial"]),
        claimed_at=_time(found["claimed_at"]),
        stamped_at=_time(found["stamped_at"]),
        format=FoundFormat(found["format"]),
        level=FoundLevel(found["level"]),
        best_signature_at=_time(found["best_signature_at"]),
        chain=_each(found["chain"], _certificate),
        revocation=_each(found["revocation"], _evidence),
        time_stamps=_each(found["time_stamps"], _time_stamp),
        changes=_each(found["changes"], _change),
    )


def text(value: object) -> str:
    """Check a short text. Raises ValueError."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("no short text")
    return value


def _certificate(item: Mapping[str, Any]) -> ChainCertificate:
    return ChainCertificate(
        subject=text(item["subject"]),
        issuer=text(item["issuer"]),
        serial=text(item["serial"]),
        not_before=_some_time(item["not_before"]),
        not_after=_some_time(item["not_after"]),
        sha256=bytes.fromhex(text(item["sha256"])),
        anchor=_flag(item["anchor"]),
    )


def _evidence(item: Mapping[str, Any]) -> RevocationEvidence:
    return RevocationEvidence(
        kind=EvidenceKind(item["kind"]),
        source=EvidenceSource(item["source"]),
        serial=text(item["serial"]),
        produced_at=_some_time(item["produced_at"]),
        next_update_at=_time(item["next_update_at"]),
        revoked_at=_time(item["revoked_at"]),
    )


def _time_stamp(item: Mapping[str, Any]) -> TimeStamp:
    return TimeStamp(TimeStampKind(item["kind"]), _some_time(item["at"]), text(item["authority"]), _flag(item["valid"]))


def _change(item: Mapping[str, Any]) -> Change:
    revision = item["revision"]
    if not isinstance(revision, int) or not 0 < revision <= _MAX_REVISION:
        raise ValueError("no revision")
    return Change(revision, ChangeKind(item["kind"]), _each(item["fields"], text))


def _each(items: object, read_one: Callable[[Any], _T]) -> tuple[_T, ...]:
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        raise ValueError("no list")
    return tuple(read_one(item) for item in items)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("no truth value")
    return value


def _some_time(value: object) -> datetime:
    time = _time(value)
    if time is None:
        raise ValueError("no time")
    return time


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value <= _MAX_UNIX_S:
        raise ValueError("no time")
    return datetime.fromtimestamp(value, UTC)


def _unix_s(time: datetime | None) -> int | None:
    return None if time is None else max(0, int(time.timestamp()))
