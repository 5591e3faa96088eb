"""A worker reads hostile uploads, so it may be hostile itself: its answers are not believed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from services.documents.errors import PdfBrokenError
from services.documents.inspector import InspectionFailedError, Inspector
from services.documents.preparing import Preparing
from tests.documents.authority import NOW, Authority
from tests.documents.room import Clock, Room, pdf

PASSED: dict[str, Any] = {
    "indication": "TOTAL_PASSED",
    "sub_indication": "",
    "explanation": "",
    "signer_subject": "CN=x",
    "signer_serial": "1f",
    "claimed_at": None,
    "stamped_at": None,
    "format": "PADES",
    "level": "B-T",
    "best_signature_at": 1,
    "chain": [],
    "revocation": [],
    "time_stamps": [],
    "changes": [],
}


class Liar:
    """A worker that answers the same to everything."""

    def __init__(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        self._answer = header, blobs

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        return self._answer


@pytest.mark.parametrize(
    ("header", "blobs"),
    [
        ({}, [b"appended"]),
        ({"start": 5}, [b"appended"]),
        ({"start": "5", "end": 9}, [b"appended"]),
        ({"start": 5, "end": 9}, []),
        ({"start": 5, "end": 9}, [b"a", b"b"]),
        ({"refused": "no"}, []),
        ({"refused": {"reason": "INTERNAL", "message": "x", "metadata": {}}}, []),
        ({"refused": {"reason": "PDF_BROKEN", "message": "x" * 5000, "metadata": {}}}, []),
        ({"refused": {"reason": "PDF_BROKEN", "message": "x", "metadata": {"k": 1}}}, []),
        ({"refused": {"reason": ["PDF_BROKEN"], "message": "x", "metadata": {}}}, []),
    ],
)
async def test_answer_of_another_shape_is_a_failed_inspection(header: dict[str, Any], blobs: list[bytes]) -> None:
    inspector = Inspector(Liar(header, blobs))
    with pytest.raises(InspectionFailedError):
        await inspector.reserve(b"%PDF-", field_name="f", signing_time=NOW, reserved_bytes=10)


async def test_refusal_keeps_reason_message_and_metadata() -> None:
    answer = {"refused": {"reason": "PDF_BROKEN", "message": "why", "metadata": {"a": "b"}}}
    with pytest.raises(PdfBrokenError) as refusal:
        await Inspector(Liar(answer, [])).reserve(b"%PDF-", field_name="f", signing_time=NOW, reserved_bytes=10)
    assert (refusal.value.message, refusal.value.metadata) == ("why", {"a": "b"})


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        [],
        [{}],
        ["TOTAL_PASSED"],
        [{**PASSED, "indication": "PASSED"}],
        [{**PASSED, "signer_subject": 5}],
        [{**PASSED, "explanation": "x" * 5000}],
        [{**PASSED, "stamped_at": "now"}],
        [{**PASSED, "stamped_at": -1}],
        [{**PASSED, "claimed_at": 10**18}],
        [{**PASSED, "level": "B-Z"}],
        [{**PASSED, "chain": {}}],
        [{**PASSED, "chain": ["x"]}],
        [{**PASSED, "revocation": [{"kind": "CRL"}]}],
        [{**PASSED, "time_stamps": [{"kind": "SIGNATURE", "at": 1, "authority": "CN=x", "valid": "yes"}]}],
        [{**PASSED, "time_stamps": [{"kind": "SIGNATURE", "at": None, "authority": "CN=x", "valid": True}]}],
        [{**PASSED, "changes": [{"revision": 0, "kind": "NOT_ALLOWED", "fields": []}]}],
        [{**PASSED, "changes": [{"revision": 2, "kind": "FIELDS_FILLED", "fields": [7]}]}],
        [{**PASSED, "changes": [{"revision": 2, "kind": "NOT_ALLOWED", "fields": []}] * 2000}],
    ],
)
async def test_report_of_another_shape_is_a_failed_inspection(signatures: object) -> None:
    inspector = Inspector(Liar({"signatures": signatures}, []))
    with pytest.raises(InspectionFailedError):
        await inspector.validate(b"signed", {}, (), now=NOW)


@pytest.mark.parametrize(
    ("start", "end", "appended"),
    [
        (0, 10, b"<0000000>"),
        (3, 9, b"x"),
        (10**12, 10**12 + 50, b"x"),
        (-3, 5, b"<00>"),
    ],
)
async def test_place_that_a_worker_invents_is_not_prepared(
    room: Room, authority: Authority, start: int, end: int, appended: bytes
) -> None:
    """The digest that the key signs is computed from the stored bytes, and only over a real, empty place."""

    class Inventor(Liar):
        async def call(
            self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
        ) -> tuple[dict[str, Any], list[bytes]]:
            return ({}, []) if method == "check_signer" else self._answer

    inventor = Inspector(Inventor({"start": start, "end": end}, [appended]))
    preparing = Preparing(
        room.records, room.vault, inventor, now=Clock(), new_key=lambda: bytes(32), pseudonyms=room.pseudonyms
    )
    with pytest.raises(InspectionFailedError):
        await preparing.prepare(room.order(pdf()))
    assert room.stored_objects() == []
