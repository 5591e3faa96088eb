"""The room's side of the worker processes: typed calls, and distrust of what comes back.

A worker parses hostile uploads, so it may be anybody's by now: its answers are checked for shape here, and whatever
can be recomputed from them is recomputed by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from mesh.errors import DependencyUnavailableError
from services.documents import report_json
from services.documents.errors import REFUSALS
from services.documents.pades import Place
from services.documents.report import Report


class Workers(Protocol):
    """The part of mesh.worker.WorkerPool that is used here."""

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Call a method of `confined.worker.Worker`; raises a FinIdError when no worker answers."""


class InspectionFailedError(DependencyUnavailableError):
    """A worker answered nonsense."""

    reason = "INSPECTION_FAILED"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What to append to an uploaded PDF so that it has a place for a signature, and where that is."""

    appended: bytes
    place: Place


class Inspector:
    """Everything this room asks about bytes it did not make. All methods also raise what `Workers.call` raises."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def reserve(
        self, content: bytes, *, field_name: str, signing_time: datetime, reserved_bytes: int
    ) -> Reservation:
        """Find out how to append an empty signature to a PDF.

        Raises PdfBrokenError, PdfEncryptedError, PdfLockedError, DocumentTooComplexError.
        """
        header = {"field": field_name, "signing_time": _unix_s(signing_time), "reserved_bytes": reserved_bytes}
        result, blobs = await self._call("reserve", header, [content])
        start, end = result.get("start"), result.get("end")
        if not isinstance(start, int) or not isinstance(end, int) or len(blobs) != 1:
            raise InspectionFailedError("a document could not be prepared")
        return Reservation(blobs[0], Place(start, end))

    async def check_signer(self, certificates_der: Sequence[bytes], *, at: datetime) -> None:
        """Check that the first certificate may sign documents at that time, by the others and the trust anchors.

        Raises SignerCertificateError.
        """
        await self._call("check_signer", {"at": _unix_s(at)}, certificates_der)

    async def check_time_stamp(
        self, token_der: bytes, signature: bytes, chain_der: Sequence[bytes], *, signing_time: datetime, now: datetime
    ) -> None:
        """Check that a token proves a proper time for a signature value.

        Raises TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
        TimeStampOrderError.
        """
        header = {"signing_time": _unix_s(signing_time), "now": _unix_s(now)}
        await self._call("check_time_stamp", header, [token_der, signature, *chain_der])

    async def validate(
        self, signed: bytes, content_digests: Mapping[str, bytes], crls_der: Sequence[bytes], *, now: datetime
    ) -> Report:
        """Validate a signed PDF, XML or CMS; `content_digests` by algorithm name, empty without detached content.

        Raises NoSignatureError, PdfEncryptedError, XmlDoctypeError, DocumentTooComplexError.
        """
        digests = {name: digest.hex() for name, digest in content_digests.items()}
        header = {"now": _unix_s(now), "content_digests": digests}
        result, _ = await self._call("validate", header, [signed, *crls_der])
        try:
            return Report.of([report_json.read(found) for found in result["signatures"]])
        except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
            raise InspectionFailedError("the document could not be validated") from error

    async def _call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        result, answer_blobs = await self._workers.call(method, header, blobs)
        refused = result.get("refused")
        if refused is None:
            return result, answer_blobs
        try:
            refusal = REFUSALS[refused["reason"]]
            metadata = {report_json.text(key): report_json.text(value) for key, value in refused["metadata"].items()}
            message = report_json.text(refused["message"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InspectionFailedError("a document could not be inspected") from error
        raise refusal(message, metadata=metadata)


def _unix_s(time: datetime) -> int:
    return int(time.timestamp())
