"""The real worker process: confined, bounded in time, silent, and replaced when it is lost."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mesh.worker.pool import WorkerLostError, WorkerPool
from services.documents.confined import worker
from services.documents.errors import DocumentTooComplexError, PdfEncryptedError
from services.documents.inspector import Inspector
from services.documents.report import Indication
from tests.documents.authority import NOW, Authority
from tests.documents.pdfs import encrypted_pdf, fields_without_end, nested_arrays, packed_catalogue
from tests.documents.room import Room, cades, contract_pdf, pdf
from tests.processor import since

CPU_BUDGET_S = 1.0
HEADER = {"now": int(NOW.timestamp()), "crls": 0, "issuers": 0, "ocsp_responses": 0, "asks": True, "contents_then": {}}


@pytest.fixture
async def pool(authority: Authority) -> AsyncIterator[WorkerPool]:
    async with WorkerPool(
        "services.documents.confined.worker:serve",
        arguments={"trust_anchors_pem": authority.anchors_pem.decode(), "cpu_budget_s": CPU_BUDGET_S},
        call_timeout_s=120.0,
        max_address_space_bytes=1024**3,
    ) as running:
        yield running


async def _reserve(inspector: Inspector, content: bytes) -> None:
    await inspector.reserve(content, field_name="f", signing_time=NOW, reserved_bytes=100)


async def test_whole_way_through_a_confined_process(room: Room, authority: Authority, pool: WorkerPool) -> None:
    inspector = Inspector(pool)
    certificates = (authority.signer.der, *authority.chain)
    await inspector.check_signer(certificates, at=NOW)
    await _reserve(inspector, contract_pdf())
    with pytest.raises(PdfEncryptedError):
        await _reserve(inspector, encrypted_pdf())
    [signed] = await room.signed(pdf())
    report = (await inspector.validate(signed, {}, authority.crls(), now=NOW + timedelta(minutes=1))).report
    assert report.indication is Indication.TOTAL_PASSED
    assert report.signatures[0].stamped_at == NOW


@pytest.mark.timeout(600)
async def test_uploads_that_cost_too_much_are_refused_in_time_and_the_worker_lives(
    authority: Authority, pool: WorkerPool
) -> None:
    inspector = Inspector(pool)
    [pid] = pool.worker_pids
    for bomb in (fields_without_end(60), nested_arrays(200_000), packed_catalogue(300_000_000)):
        for inspection in (_reserve(inspector, bomb), inspector.validate(bomb, {}, (), now=NOW)):
            spent_s = since([pid])
            with pytest.raises(DocumentTooComplexError):
                await inspection
            assert spent_s() < 3 * CPU_BUDGET_S
    await _reserve(inspector, contract_pdf())
    assert pool.worker_pids == (pid,)


async def test_worker_killed_in_the_middle_fails_that_call_and_is_replaced(pool: WorkerPool) -> None:
    inspector = Inspector(pool)
    [pid] = pool.worker_pids
    call = asyncio.create_task(_reserve(inspector, fields_without_end(60)))
    await asyncio.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        await call
    await _reserve(inspector, contract_pdf())
    assert pool.worker_pids != (pid,)


async def test_worker_writes_nothing_about_certificates(room: Room, authority: Authority) -> None:
    """pyHanko's warnings quote subjects, and those hold an IIN: they must not even reach the worker's stderr."""
    [signature] = await room.signed(cades(content=b"content"))
    script = (
        "import json, sys\n"
        "from services.documents.confined.worker import serve\n"
        "arguments, header = map(json.loads, sys.argv[1:])\n"
        "print(serve(arguments).validate(header, [sys.stdin.buffer.read()]))"
    )
    anchors = {"trust_anchors_pem": authority.anchors_pem.decode(), "cpu_budget_s": 5.0}
    header = HEADER | {"content_digests": {"sha256": hashlib.sha256(b"content").hexdigest()}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, json.dumps(anchors), json.dumps(header)), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate(signature)
    assert b"TRY_LATER" in out  # for want of a CRL, which pyHanko warns about
    assert err == b""


async def test_nothing_is_left_to_import_when_the_first_upload_comes(room: Room, authority: Authority) -> None:
    """A lazy import would be paid by the first document, out of the processor time that it may cost."""
    [signed] = await room.signed(pdf())
    script = (
        "import json, sys\n"
        "from services.documents.confined.worker import serve\n"
        "arguments, header = map(json.loads, sys.argv[1:])\n"
        "worker = serve(arguments)\n"
        "before = set(sys.modules)\n"
        "answer, _ = worker.validate(header, [sys.stdin.buffer.read()])\n"
        "print(answer['signatures'][0]['signer_serial'], sorted(set(sys.modules) - before))"
    )
    anchors = {"trust_anchors_pem": authority.anchors_pem.decode(), "cpu_budget_s": 5.0}
    header: dict[str, object] = HEADER | {"content_digests": {}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, json.dumps(anchors), json.dumps(header)), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate(signed)
    assert out.decode().split() == [f"{authority.signer.certificate.serial_number:x}", "[]"], err


def _work_for_ever(cpu_s: float, *, early_ticks: int = 0) -> None:
    with worker._bounded(cpu_s):
        for _ in range(early_ticks):
            signal.raise_signal(signal.SIGPROF)
        while True:
            pass


def test_time_bound_ends_what_goes_on_for_ever() -> None:
    started = time.process_time()
    with pytest.raises(DocumentTooComplexError, match="processor time"):
        _work_for_ever(0.2)
    assert 0.15 < time.process_time() - started < 2.0


def test_time_bound_survives_a_jump_of_the_clock() -> None:
    """A jump is seen as a tick that comes early: it costs that tick, not the document."""
    with worker._bounded(0.4):
        for _ in range(3):
            signal.raise_signal(signal.SIGPROF)
    started = time.process_time()
    with pytest.raises(DocumentTooComplexError):
        _work_for_ever(0.4, early_ticks=1)
    assert time.process_time() - started > 0.3


def test_time_that_is_not_spent_in_the_block_is_not_counted() -> None:
    with worker._bounded(0.2):
        time.sleep(0.4)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
