"""The documents service as it is deployed: its own process, mTLS, PostgreSQL, a folder, a worker, health."""

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from finid.documents.v1 import documents_pb2 as pb
from finid.documents.v1 import documents_pb2_grpc as rpc
from finid.esign.v1 import esign_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local.database import Database
from mesh import base64url, names, pins, receipts, signed_attributes
from mesh.facts import Preparation
from mesh.status import PeerError
from mesh.transaction import Binding, Document, Env, Purpose, txn_of
from tests.bundles import World, transaction_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.documents.authority import Authority
from tests.documents.pdfs import encrypted_pdf
from tests.documents.room import APPLICATION, contract_pdf
from tests.mtls import Authority as MeshAuthority

pytestmark = pytest.mark.postgres

WORLD = World()
TITLES = ("Договор займа", "Приложение")


@pytest.fixture
def environment(database: Callable[..., Database], tmp_path: Path, authority: Authority) -> dict[str, str]:
    """Settings of replicas that share database, folder and key."""
    secrets = {"field.key": base64url.encode(b"f" * 32), "database.url": database("documents").url("documents")}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    WORLD.write_files(tmp_path)
    (tmp_path / "objects").mkdir()
    (tmp_path / "anchors.pem").write_bytes(authority.anchors_pem)
    return {
        "FINID_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "FINID_FIELD_KEY_FILE": str(tmp_path / "field.key"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "documents.key"),
        "FINID_TRUST_ANCHORS_FILE": str(tmp_path / "anchors.pem"),
        "FINID_DOCUMENTS_DIR": str(tmp_path / "objects"),
    }


def _mesh(tmp_path: Path) -> MeshAuthority:
    (tmp_path / "tls").mkdir(exist_ok=True)
    return MeshAuthority(tmp_path / "tls")


def _stub(documents: Deployed, caller: str = "auth_gateway") -> "rpc.DocumentsServiceAsyncStub":
    return rpc.DocumentsServiceStub(documents.channel(caller))


def _request(authority: Authority, *contents: tuple[int, bytes], request_id: str = "request-0001") -> pb.PrepareRequest:
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC).replace(microsecond=0))
    return pb.PrepareRequest(
        request_id=request_id,
        application=APPLICATION,
        signature=f"signatures/{names.new_id()}",
        documents=[
            esign_pb2.NewDocument(title=title, content=content, format=kind, level=esign_pb2.SIGNATURE_LEVEL_B_T)  # type: ignore[arg-type]
            for title, (kind, content) in zip(TITLES, contents, strict=False)
        ],
        certificate_der=authority.signer.der,
        chain_der=authority.chain,
        signing_time=now,
    )


def _assembly(authority: Authority, prepared: pb.PrepareResponse) -> pb.AssembleRequest:
    signatures = [authority.signer.sign_digest(document.digest_sha256) for document in prepared.documents]
    now = datetime.now(UTC).replace(microsecond=0)
    return pb.AssembleRequest(
        preparation=prepared.preparation,
        signatures=signatures,
        time_stamp_tokens=[authority.time_stamp(hashlib.sha256(item).digest(), at=now) for item in signatures],
    )


async def _reason(call: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc]
    return PeerError("documents", refused.value).reason


async def test_killed_between_prepare_and_assemble_another_process_finishes(
    environment: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    content = contract_pdf()
    asked = _request(
        authority,
        (esign_pb2.SIGNATURE_FORMAT_PADES, content),
        (esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED, b"appendix"),
    )
    async with deployed("documents", _mesh(tmp_path), environment) as first:
        prepared = await _stub(first).Prepare(asked, timeout=20)
        first.kill()

    async with deployed("documents", _mesh(tmp_path), environment) as second:
        stub = _stub(second)
        assert await stub.Prepare(asked, timeout=20) == prepared
        shown = await stub.GetContent(pb.GetContentRequest(preparation=prepared.preparation, index=0), timeout=20)
        assert (shown.content, shown.media_type) == (content, "application/pdf")
        assembly = _assembly(authority, prepared)
        assembled = await stub.Assemble(assembly, timeout=20)
        assert await stub.Assemble(assembly, timeout=20) == assembled
        of_signature = pb.GetSignatureDocumentsRequest(application=APPLICATION, signature=asked.signature)
        assert (await stub.GetSignatureDocuments(of_signature, timeout=20)).documents == assembled.documents
        listed = await stub.ListDocuments(pb.ListDocumentsRequest(application=APPLICATION), timeout=20)
        assert {document.name for document in listed.documents} == {item.name for item in assembled.documents}
        for document, original in zip(assembled.documents, (b"", b"appendix"), strict=True):
            download = pb.DownloadRequest(application=APPLICATION, name=document.name)
            fetched = await stub.Download(download, timeout=20)
            assert fetched.document == document
            ask = pb.ValidateRequest(signed=fetched.content, content=original, crls_der=authority.crls())
            report = await stub.Validate(ask, timeout=20)
            assert report.indication == esign_pb2.INDICATION_TOTAL_PASSED
            assert report.signatures[0].signer_subject.startswith("serialNumber=IIN")
    for log in (first.log, second.log):
        assert "IIN" not in log
        assert not any(title in log for title in TITLES)


async def test_a_transaction_of_what_was_prepared_is_vouched_for_and_no_other(
    environment: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    asked = _request(
        authority,
        (esign_pb2.SIGNATURE_FORMAT_PADES, contract_pdf()),
        (esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED, b"appendix"),
        request_id="request-0020",
    )
    bindings = {pb.BINDING_REBUILT: Binding.REBUILT, pb.BINDING_DIGEST_ONLY: Binding.DIGEST_ONLY}
    async with deployed("documents", _mesh(tmp_path), environment) as documents:
        stub = _stub(documents)
        prepared = await stub.Prepare(asked, timeout=20)
        honest = replace(
            transaction_of(Purpose.SIGN, now=int(time.time())),
            application=APPLICATION,
            certificate_sha256=hashlib.sha256(authority.signer.der).digest(),
            signing_time=asked.signing_time.seconds,
            documents=tuple(
                Document(item.title, item.content_sha256, item.digest_sha256, bindings[item.binding])
                for item in prepared.documents
            ),
        )
        answer = await stub.Vouch(
            pb.VouchRequest(preparation=prepared.preparation, transaction=honest.encode()), timeout=20
        )
        lie = replace(honest, documents=honest.documents[::-1])
        refused = stub.Vouch(pb.VouchRequest(preparation=prepared.preparation, transaction=lie.encode()), timeout=20)
        assert await _reason(refused) == "TRANSACTION_OF_OTHER_DOCUMENTS"
    now, pinned = int(time.time()), pins.parse(WORLD.pins_json(not_after=int(time.time()) + 600), Env.SANDBOX)
    receipts.verify(answer.receipt, Preparation, pinned, txn=txn_of(honest.encode()), now=now)


async def test_answers_of_prepare_are_what_the_transaction_and_the_signer_need(
    environment: dict[str, str], tmp_path: Path, authority: Authority, database: Callable[..., Database]
) -> None:
    cades, pades = esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED, esign_pb2.SIGNATURE_FORMAT_PADES
    async with deployed("documents", _mesh(tmp_path), environment) as documents:
        stub = _stub(documents)
        asked = _request(authority, (cades, b"content"), request_id="request-0010")
        [document] = (await stub.Prepare(asked, timeout=20)).documents
        assert (document.title, document.binding) == (TITLES[0], pb.BINDING_REBUILT)
        rebuilt = signed_attributes.digest(
            hashlib.sha256(b"content").digest(),
            hashlib.sha256(authority.signer.der).digest(),
            asked.signing_time.seconds,
        )
        assert document.digest_sha256 == rebuilt

        # Refusals leave with their reasons.
        encrypted = _request(authority, (pades, encrypted_pdf()), request_id="request-0011")
        assert await _reason(stub.Prepare(encrypted, timeout=20)) == "PDF_ENCRYPTED"
        assert await _reason(_stub(documents, "portal").Prepare(asked, timeout=20)) == "CALLER_NOT_ALLOWED"
        unknown = pb.DownloadRequest(application=APPLICATION, name=f"documents/{names.new_id()}")
        assert await _reason(stub.Download(unknown, timeout=20)) == "DOCUMENT_NOT_FOUND"

        # A lost database: not serving, and back again.
        async with lost(database("documents")):
            await documents.becomes(NOT_SERVING)
            assert await _reason(stub.Prepare(asked, timeout=20)) == "DEPENDENCY_UNAVAILABLE"
        await documents.becomes(SERVING)
        assert (await stub.Prepare(asked, timeout=20)).documents == [document]


LARGE_BYTES = 200_000_000
PART = os.urandom(1024 * 1024)


def _large() -> AsyncIterator[bytes]:
    """200 MB, made as they are sent: parts that all differ."""

    async def made() -> AsyncIterator[bytes]:
        for number, start in enumerate(range(0, LARGE_BYTES, len(PART))):
            yield (number.to_bytes(4, "big") + PART[4:])[: LARGE_BYTES - start]

    return made()


def _peak_rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def test_200_megabytes_are_signed_read_and_verified_in_little_memory(
    environment: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    whole = _request(authority, (esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED, b"x"), request_id="request-0030")
    order = pb.PartedOrder(
        request_id=whole.request_id,
        application=APPLICATION,
        signature=whole.signature,
        documents=[
            pb.PartedDocument(
                title="Видео",
                format=esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED,
                level=esign_pb2.SIGNATURE_LEVEL_B_T,
            )
        ],
        certificate_der=authority.signer.der,
        chain_der=authority.chain,
        signing_time=whole.signing_time,
    )
    expected = hashlib.sha256()

    async def upload() -> AsyncIterator[pb.PreparePartedRequest]:
        yield pb.PreparePartedRequest(order=order)
        async for data in _large():
            expected.update(data)
            yield pb.PreparePartedRequest(content=pb.ContentPart(index=0, data=data))

    async with deployed("documents", _mesh(tmp_path), environment) as documents:
        stub = _stub(documents)
        assert documents.process is not None
        pid = documents.process.pid
        before_mib = _peak_rss_mib(pid)
        [prepared] = [answer async for answer in stub.PrepareParted(upload(), timeout=60)]
        [document] = prepared.documents
        assert document.content_sha256 == expected.digest()

        assembled = await stub.Assemble(_assembly(authority, prepared), timeout=20)
        name = assembled.documents[0].name
        signed = (await stub.Download(pb.DownloadRequest(application=APPLICATION, name=name), timeout=20)).content

        wanted = pb.GetContentRequest(preparation=prepared.preparation, index=0)
        assert await _reason(stub.GetContent(wanted, timeout=20)) == "CONTENT_ONLY_IN_PARTS"
        reading, large = stub.ReadContent(iter([wanted]), timeout=60), _large()
        async for part in reading:
            if part.HasField("content"):
                assert (part.content.size_bytes, part.content.sha256) == (LARGE_BYTES, expected.digest())
                continue
            assert part.data == await anext(large)
            if part.data[:4] == (64).to_bytes(4, "big"):  # the rest is more of the same
                reading.cancel()
                break

        async def validation() -> AsyncIterator[pb.ValidatePartedRequest]:
            request = pb.ValidateRequest(signed=signed, crls_der=authority.crls(at=now))
            yield pb.ValidatePartedRequest(request=request)
            async for data in _large():
                yield pb.ValidatePartedRequest(content=data)

        [report] = [answer async for answer in stub.ValidateParted(validation(), timeout=60)]
        assert report.indication == esign_pb2.INDICATION_TOTAL_PASSED, report

        content = pb.PreparePartedRequest(content=pb.ContentPart(index=0, data=b"x"))
        asked = pb.PreparePartedRequest(order=order)
        for mixed_up in ([content], [asked, asked], []):
            answers = stub.PrepareParted(iter(mixed_up), timeout=20)
            assert await _reason(anext(aiter(answers))) == "INVALID_REQUEST"
        grown_mib = _peak_rss_mib(pid) - before_mib
    print(f"peak RSS before {before_mib:.0f} MiB, grown by {grown_mib:.0f} MiB with {LARGE_BYTES} bytes")
    assert grown_mib < 96


async def test_documents_with_a_key_that_its_rows_do_not_stand_under_does_not_start(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "new.key").write_text(base64url.encode(b"n" * 32))
    (tmp_path / "new.key").chmod(0o400)
    changed = {
        "FINID_FIELD_KEY_FILE": str(tmp_path / "new.key"),
        "FINID_EARLIER_FIELD_KEY_FILES": json.dumps([environment["FINID_FIELD_KEY_FILE"]]),
    }
    with pytest.raises(AssertionError, match=r"refused to start: .*python -m services\.documents\.rekey"):
        async with deployed("documents", _mesh(tmp_path), environment | changed):
            pass
