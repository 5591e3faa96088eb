"""What runs in a worker process: the methods that `services.documents.inspector` calls.

Headers are JSON. An answer is either a result or `{"refused": {"reason", "message", "metadata"}}` with a reason from
`errors.REFUSALS`. Times travel as Unix seconds.
"""

import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final

from asn1crypto import x509

from mesh.errors import FinIdError
from services.documents import report_json
from services.documents.confined import (
    completeness,
    pdf,
    pdf_extension,
    signed_data,
    signer,
    time_stamp,
    trust,
    validation,
    warming,
    xml_place,
)
from services.documents.confined import evidence as evidences
from services.documents.confined.appearance import Look
from services.documents.confined.evidence import Evidence
from services.documents.confined.pdf import Visible
from services.documents.errors import DocumentTooComplexError
from services.documents.pades import Place

DEFAULT_FONT: Final = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
"""Debian's fonts-dejavu-core: it has the Cyrillic of Kazakh."""
Header = dict[str, Any]
Answer = tuple[Header, list[bytes]]


def serve(arguments: Mapping[str, Any]) -> "Worker":
    """Make the target of this process. `arguments`: trust_anchors_pem, font_file (text), cpu_budget_s (float)."""
    # pyHanko's warnings quote subjects of certificates, and those hold an IIN.
    logging.disable(logging.CRITICAL)
    anchors = trust.anchors_of(arguments["trust_anchors_pem"].encode("ascii"))
    warming.warm_up()
    font_file = arguments.get("font_file", DEFAULT_FONT)
    return Worker(anchors, cpu_budget_s=arguments["cpu_budget_s"], font_file=font_file)


class Worker:
    """Methods `(header, blobs) -> (header, blobs)`; each ends within the processor time given."""

    def __init__(
        self, anchors: tuple[x509.Certificate, ...], *, cpu_budget_s: float, font_file: str = DEFAULT_FONT
    ) -> None:
        self._anchors = anchors
        self._font_file = font_file
        self._cpu_budget_s = cpu_budget_s

    def reserve(self, header: Header, blobs: list[bytes]) -> Answer:
        """[PDF]; field, signing_time, reserved_bytes, seen → start, end; [what to append]."""

        def work() -> Answer:
            update = pdf.reserve(
                blobs[0],
                field_name=header["field"],
                signing_time=_time(header["signing_time"]),
                reserved_bytes=header["reserved_bytes"],
                visible=self._visible(header["seen"]),
            )
            return {"start": update.place.start, "end": update.place.end}, [update.appended]

        return self._answer(work)

    def _visible(self, seen: Header | None) -> Visible | None:
        if seen is None:
            return None
        look = Look(tuple(seen["lines"]), seen["qr"], self._font_file)
        return Visible(seen["page"], tuple(seen["box"]), look)

    def extend(self, header: Header, blobs: list[bytes]) -> Answer:
        """[signed PDF, certificates …, OCSP …, CRLs …]; counts, field, reserved_bytes → start, end; [appended]."""

        def work() -> Answer:
            certificates, ocsp_responses, crls = _split(blobs[1:], header["certificates"], header["ocsp_responses"])
            appended, place = pdf_extension.extend(
                blobs[0],
                Place(header["start"], header["end"]),
                pdf_extension.Store(certificates, ocsp_responses, crls),
                field_name=header["field"],
                reserved_bytes=header["reserved_bytes"],
            )
            return {"start": place and place.start, "end": place and place.end}, [appended]

        return self._answer(work)

    def read_xml(self, _header: Header, blobs: list[bytes]) -> Answer:
        """[XML] → envelope_at; [canonical form without signatures]."""

        def work() -> Answer:
            canonical, at = xml_place.read(blobs[0])
            return {"envelope_at": at}, [canonical]

        return self._answer(work)

    def read_signed_data(self, header: Header, blobs: list[bytes]) -> Answer:
        """[CMS]; content_digests (hex by algorithm) → version, counts; [elements of its four sets]."""

        def work() -> Answer:
            digests = {name: bytes.fromhex(value) for name, value in header["content_digests"].items()}
            version, sets = signed_data.read(blobs[0], digests)
            return {"version": version, "counts": list(map(len, sets))}, [item for part in sets for item in part]

        return self._answer(work)

    def index_time_stamp(self, header: Header, blobs: list[bytes]) -> Answer:
        """[token, ATSHashIndexV3] → [token]."""
        return self._answer(lambda: ({}, [signed_data.with_hash_index(*blobs)]))

    def check_evidence(self, header: Header, blobs: list[bytes]) -> Answer:
        """[token …, signer's certificate, chain …, OCSP response …, CRL …]; counts, now."""

        def work() -> Answer:
            tokens, rest = blobs[: header["tokens"]], blobs[header["tokens"] :]
            chain, ocsp_responses, crls = _split(rest, header["certificates"], header["ocsp_responses"])
            store = pdf_extension.Store(chain, ocsp_responses, crls)
            completeness.check(store, tokens, anchors=self._anchors, now=_time(header["now"]))
            return {}, []

        return self._answer(work)

    def check_signer(self, header: Header, blobs: list[bytes]) -> Answer:
        """[signer's certificate, chain …]; at."""

        def work() -> Answer:
            signer.check(blobs, anchors=self._anchors, at=_time(header["at"]))
            return {}, []

        return self._answer(work)

    def check_time_stamp(self, header: Header, blobs: list[bytes]) -> Answer:
        """[token, stamped SHA-256, certificates …]; signing_time, now → stamped_at."""

        def work() -> Answer:
            token, imprint_sha256, *chain = blobs
            stamped_at = time_stamp.check(
                token,
                imprint_sha256,
                anchors=self._anchors,
                certificates=[x509.Certificate.load(der) for der in chain],
                signing_time=_time(header["signing_time"]),
                now=_time(header["now"]),
            )
            return {"stamped_at": int(stamped_at.timestamp())}, []

        return self._answer(work)

    def validate(self, header: Header, blobs: list[bytes]) -> Answer:
        """[signed, CRL …]; now, content_digests (hex by algorithm) → signatures."""

        def work() -> Answer:
            signed, *given = blobs
            digests = {name: bytes.fromhex(value) for name, value in header["content_digests"].items()}
            evidence = Evidence(self._anchors, evidences.readable_crls(given), _time(header["now"]))
            report = validation.validate(signed, digests, evidence)
            return {"signatures": [report_json.of(found) for found in report.signatures]}, []

        return self._answer(work)

    def _answer(self, work: Callable[[], Answer]) -> Answer:
        try:
            with _bounded(self._cpu_budget_s):
                return work()
        except FinIdError as refusal:
            return {"refused": {"reason": refusal.reason, "message": refusal.message, "metadata": refusal.metadata}}, []


class _OutOfTimeError(BaseException):
    """No Exception, so that no handler in a parser takes it for malformed input and goes on."""


_TICKS: Final = 20


@contextmanager
def _bounded(cpu_s: float) -> Iterator[None]:
    """Refuse the document when the block uses more processor time; a busy machine does not count against it.

    Time is counted in ticks of a twentieth, each timed anew when the one before is over: should the process's clock
    jump, as it may when a virtual machine is paused or moved, that costs the document one tick and not its whole time.
    """
    ticks = 0

    def tick(_signal: int, _frame: FrameType | None) -> None:
        nonlocal ticks
        ticks += 1
        if ticks >= _TICKS:
            raise _OutOfTimeError
        signal.setitimer(signal.ITIMER_PROF, cpu_s / _TICKS)

    previous = signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, cpu_s / _TICKS)
    try:
        yield
    except _OutOfTimeError as error:
        raise DocumentTooComplexError("reading the document takes more processor time than is spent on one") from error
    except RecursionError as error:
        raise DocumentTooComplexError("the document nests deeper than is followed") from error
    except MemoryError as error:
        raise DocumentTooComplexError("reading the document takes more memory than is spent on one") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _split(blobs: list[bytes], *counts: int) -> list[list[bytes]]:
    """The blobs in groups of those sizes, and what is left as one more."""
    groups, at = [], 0
    for count in counts:
        groups.append(blobs[at : at + count])
        at += count
    return [*groups, blobs[at:]]


def _time(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
