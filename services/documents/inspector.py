"""The room's side of the worker processes: typed calls, and distrust of what comes back.

A worker parses hostile uploads, so it may be anybody's by now: its answers are checked for shape here, and whatever
can be recomputed from them is recomputed by the caller.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from mesh.errors import DependencyUnavailableError
from services.documents import cms, report_json
from services.documents.appearance import Appearance
from services.documents.errors import REFUSALS
from services.documents.pades import Place
from services.documents.report import Report
from services.documents.revocation import Revocation

_SETS = ("digest algorithms", "certificates", "revocation", "signer infos")


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


@dataclass(frozen=True, slots=True)
class Extension:
    """What to append to a signed PDF, and where in the result a document time stamp goes, if one was asked for."""

    appended: bytes
    place: Place | None


@dataclass(frozen=True, slots=True)
class CanonicalXml:
    """What a signature inside an XML document covers, and the position of the tag that ends the document."""

    content: bytes
    envelope_at: int

    @property
    def sha256(self) -> bytes:
        """Of the canonical content."""
        return hashlib.sha256(self.content).digest()


class Inspector:
    """Everything this room asks about bytes it did not make. All methods also raise what `Workers.call` raises."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def reserve(
        self,
        content: bytes,
        *,
        field_name: str,
        signing_time: datetime,
        reserved_bytes: int,
        seen: Appearance | None = None,
    ) -> Reservation:
        """Find out how to append an empty signature to a PDF.

        It looks like `seen` where it is visible.
        Raises PdfBrokenError, PdfEncryptedError, PdfLockedError, PdfPlaceError, DocumentTooComplexError.
        """
        header = {
            "field": field_name,
            "signing_time": _unix_s(signing_time),
            "reserved_bytes": reserved_bytes,
            "seen": seen and {"page": seen.page, "box": seen.box, "lines": seen.lines, "qr": seen.qr},
        }
        result, blobs = await self._call("reserve", header, [content])
        start, end = result.get("start"), result.get("end")
        if not isinstance(start, int) or not isinstance(end, int) or len(blobs) != 1:
            raise InspectionFailedError("a document could not be prepared")
        return Reservation(blobs[0], Place(start, end))

    async def extend(
        self,
        signed: bytes,
        place: Place,
        certificates_der: Sequence[bytes],
        revocation: Revocation,
        *,
        field_name: str,
        reserved_bytes: int,
    ) -> Extension:
        """Find out how to append a security store for the signature in `place`, and room for a document time stamp.

        Raises DocumentTooComplexError.
        """
        header = {
            "start": place.start,
            "end": place.end,
            "certificates": len(certificates_der),
            "ocsp_responses": len(revocation.ocsp_responses),
            "field": field_name,
            "reserved_bytes": reserved_bytes,
        }
        blobs = [signed, *certificates_der, *revocation.ocsp_responses, *revocation.crls]
        result, answer = await self._call("extend", header, blobs)
        start, end = result.get("start"), result.get("end")
        if len(answer) != 1 or type(start) is not type(end):
            raise InspectionFailedError("a document could not be extended")
        return Extension(answer[0], Place(start, end) if isinstance(start, int) and isinstance(end, int) else None)

    async def read_xml(self, content: bytes) -> CanonicalXml:
        """Return the canonical form of an XML document without its signatures, and where one more can go.

        Raises XmlBrokenError, XmlLockedError, DocumentTooComplexError.
        """
        result, blobs = await self._call("read_xml", {}, [content])
        at = result.get("envelope_at")
        if type(at) is not int or not 0 < at < len(content) or len(blobs) != 1:
            raise InspectionFailedError("an XML document could not be read")
        return CanonicalXml(blobs[0], at)

    async def read_signed_data(self, signed: bytes, content_digests: Mapping[str, bytes]) -> cms.Others:
        """Take a CMS of earlier signers apart; each must have signed the content, by its digests.

        Raises EarlierSignatureError, DocumentTooComplexError.
        """
        header = {"content_digests": {name: digest.hex() for name, digest in content_digests.items()}}
        result, blobs = await self._call("read_signed_data", header, [signed])
        counts, version = result.get("counts"), result.get("version")
        if not isinstance(version, int) or not isinstance(counts, list) or len(counts) != len(_SETS):
            raise InspectionFailedError("an earlier signature could not be read")
        if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != len(blobs):
            raise InspectionFailedError("an earlier signature could not be read")
        elements = iter(blobs)
        digests, certificates, revocation, infos = (tuple(itertools.islice(elements, count)) for count in counts)
        return cms.Others(version, digests, certificates, revocation, infos)

    async def index_time_stamp(self, token_der: bytes, index_der: bytes) -> bytes:
        """Return a time stamp token with an ats-hash-index-v3 among its unsigned attributes.

        Raises TimeStampMalformedError.
        """
        _, blobs = await self._call("index_time_stamp", {}, [token_der, index_der])
        if len(blobs) != 1:
            raise InspectionFailedError("a time stamp could not be taken over")
        return blobs[0]

    async def check_evidence(
        self, chain_der: Sequence[bytes], tokens_der: Sequence[bytes], revocation: Revocation, *, now: datetime
    ) -> None:
        """Check that the revocation status shows the signer, first of the chain, and the tokens' signers to be good.

        Raises EvidenceInsufficientError, TimeStampMalformedError.
        """
        header = {
            "now": _unix_s(now),
            "tokens": len(tokens_der),
            "certificates": len(chain_der),
            "ocsp_responses": len(revocation.ocsp_responses),
        }
        await self._call(
            "check_evidence", header, [*tokens_der, *chain_der, *revocation.ocsp_responses, *revocation.crls]
        )

    async def check_signer(self, certificates_der: Sequence[bytes], *, at: datetime) -> None:
        """Check that the first certificate may sign documents at that time, by the others and the trust anchors.

        Raises SignerCertificateError.
        """
        await self._call("check_signer", {"at": _unix_s(at)}, certificates_der)

    async def check_time_stamp(
        self,
        token_der: bytes,
        imprint_sha256: bytes,
        chain_der: Sequence[bytes],
        *,
        signing_time: datetime,
        now: datetime,
    ) -> None:
        """Check that a token proves a proper time for what has that digest.

        Raises TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
        TimeStampOrderError.
        """
        header = {"signing_time": _unix_s(signing_time), "now": _unix_s(now)}
        await self._call("check_time_stamp", header, [token_der, imprint_sha256, *chain_der])

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
