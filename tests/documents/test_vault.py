"""The object store: encrypted, bound to names, durable in a folder, and the same on S3."""

import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from mesh.errors import DependencyUnavailableError
from mesh.sealing import Seal
from services.documents.errors import ContentUnreadableError
from services.documents.sealed_stream import CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES
from services.documents.vault import Vault

KEY = bytes(range(32))


class S3(BaseHTTPRequestHandler):
    """As much of S3 as one object at a time needs, in one request or in parts."""

    objects: dict[str, bytes]
    parts: dict[int, bytes]

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?")
        if query:
            self.parts[int(parse_qs(query)["partNumber"][0])] = content
        else:
            self.objects[path] = content
        self._answer(200, b"", {"ETag": '"1"'})

    def do_GET(self) -> None:
        body = self.objects.get(self.path)
        headers = {"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 09:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if body is not None and wanted:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._answer(206, body[start:], headers)
            return
        self._answer(404 if body is None else 200, body or b"", headers)

    def do_POST(self) -> None:
        """CreateMultipartUpload, CompleteMultipartUpload, DeleteObjects."""
        listed = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path, _, query = self.path.partition("?")
        if query.startswith("uploads"):
            self._answer(200, b"<Result><Bucket>bucket</Bucket><Key>a</Key><UploadId>1</UploadId></Result>", {})
            return
        if query == "uploadId=1":
            self.objects[path] = b"".join(self.parts[number] for number in sorted(self.parts))
            self._answer(200, b'<Result><ETag>"1"</ETag></Result>', {})
            return
        keys = re.findall("<Key>(.*?)</Key>", listed)
        for key in keys:
            self.objects.pop(f"/bucket/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def s3() -> Iterator[S3Store]:
    handler = type("Handler", (S3,), {"objects": {}, "parts": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield S3Store.from_url(
        "s3://bucket/finid",
        config={
            "endpoint": f"http://127.0.0.1:{server.server_port}",
            "region": "none",
            "access_key_id": "id",
            "secret_access_key": "secret",
        },
        client_options={"allow_http": True},
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return LocalStore(prefix=tmp_path)
    found: S3Store = request.getfixturevalue("s3")
    return found


async def test_object_comes_back_and_is_gone_when_deleted(store: ObjectStore) -> None:
    vault = Vault(store)
    await vault.put("prepared/a", b"content", key=KEY)
    assert await vault.get("prepared/a", key=KEY) == b"content"
    await vault.delete("prepared/a")
    await vault.delete("prepared/a")
    with pytest.raises(ContentUnreadableError):
        await vault.get("prepared/a", key=KEY)


async def test_stored_bytes_do_not_show_the_content(tmp_path: Path) -> None:
    await Vault(LocalStore(prefix=tmp_path)).put("prepared/a", b"the secret clause", key=KEY)
    assert b"secret" not in (tmp_path / "prepared" / "a").read_bytes()


async def test_same_content_is_never_stored_as_the_same_bytes(tmp_path: Path) -> None:
    vault = Vault(LocalStore(prefix=tmp_path))
    for name in ("a", "b"):
        await vault.put(name, b"content", key=KEY)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


async def test_object_under_another_name_key_or_with_a_flipped_bit_does_not_open(tmp_path: Path) -> None:
    vault = Vault(LocalStore(prefix=tmp_path))
    await vault.put("a", b"content", key=KEY)
    sealed = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(sealed)
    (tmp_path / "c").write_bytes(b"")
    for name, key in (("a", bytes(32)), ("b", KEY), ("c", KEY)):
        with pytest.raises(ContentUnreadableError):
            await vault.get(name, key=key)
    (tmp_path / "a").write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(ContentUnreadableError):
        await vault.get("a", key=KEY)


async def test_object_in_a_folder_is_on_the_disk_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    await Vault(LocalStore(prefix=tmp_path)).put("prepared/a", b"content", key=KEY)
    assert synced == [tmp_path / "prepared" / "a", tmp_path / "prepared", tmp_path]


async def test_store_that_is_away_is_a_lost_dependency(s3: S3Store, tmp_path: Path) -> None:
    away = S3Store.from_url(
        "s3://bucket",
        config={"endpoint": "http://127.0.0.1:9", "region": "none", "skip_signature": True},
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    (tmp_path / "prepared").write_bytes(b"a file where a folder must be")
    for store in (away, LocalStore(prefix=tmp_path)):
        vault = Vault(store)
        with pytest.raises(DependencyUnavailableError):
            await vault.put("prepared/a", b"content", key=KEY)
    with pytest.raises(DependencyUnavailableError):
        await Vault(away).get("prepared/a", key=KEY)


# Large objects: in chunks, never whole in memory


async def _pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


LENGTHS = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 6 * CHUNK_BYTES)


@pytest.mark.parametrize("length", LENGTHS)
async def test_object_that_comes_in_pieces_is_what_comes_back_from_any_octet_on(
    store: ObjectStore, length: int
) -> None:
    vault, content = Vault(store), os.urandom(length)
    await vault.put_pieces("a", _pieces(content, 700_001), key=KEY)
    assert await vault.get("a", key=KEY) == content
    for start in {0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, length - 1, length}:
        if 0 <= start <= length:
            found = b"".join([piece async for piece in vault.pieces("a", key=KEY, start=start)])
            assert found == content[start:], start
    with pytest.raises(ContentUnreadableError):
        [piece async for piece in vault.pieces("a", key=KEY, start=length + 1)]


async def test_pieces_that_end_in_an_error_leave_no_object(tmp_path: Path) -> None:
    async def cut_off() -> AsyncIterator[bytes]:
        yield bytes(6 * CHUNK_BYTES)
        raise ValueError("the sender went away")

    vault = Vault(LocalStore(prefix=tmp_path))
    with pytest.raises(ValueError, match="went away"):
        await vault.put_pieces("prepared/a", cut_off(), key=KEY)
    assert _files(tmp_path) == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _chunks(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + SEALED_CHUNK_BYTES] for at in range(HEADER_BYTES, len(sealed), SEALED_CHUNK_BYTES)]


Attack = Callable[[bytes, bytes], bytes]
ATTACKS: dict[str, Attack] = {
    "the last chunk cut off": lambda own, _: own[:HEADER_BYTES] + b"".join(_chunks(own)[:-1]),
    "all but the first cut off": lambda own, _: own[:HEADER_BYTES] + _chunks(own)[0],
    "a few octets cut off": lambda own, _: own[:-3],
    "all chunks cut off": lambda own, _: own[:HEADER_BYTES],
    "cut off within the header": lambda own, _: own[: HEADER_BYTES - 1],
    "emptied": lambda _, __: b"",
    "a chunk appended": lambda own, _: own + _chunks(own)[0],
    "octets appended": lambda own, _: own + b"x",
    "two chunks in each other's place": lambda own, _: (
        own[:HEADER_BYTES] + b"".join([_chunks(own)[1], _chunks(own)[0], *_chunks(own)[2:]])
    ),
    "a chunk left out": lambda own, _: own[:HEADER_BYTES] + b"".join(_chunks(own)[1:]),
    "a chunk twice": lambda own, _: own[:HEADER_BYTES] + b"".join([_chunks(own)[0], *_chunks(own)]),
    "a chunk of another object": lambda own, other: (
        own[:HEADER_BYTES] + b"".join([_chunks(other)[0], *_chunks(own)[1:]])
    ),
    "another object's chunks behind the own header": lambda own, other: own[:HEADER_BYTES] + other[HEADER_BYTES:],
    "another object": lambda _, other: other,
    "a flipped bit of the salt": lambda own, _: own[:5] + bytes([own[5] ^ 1]) + own[6:],
    "a flipped bit of the nonce": lambda own, _: (
        own[: HEADER_BYTES - 1] + bytes([own[HEADER_BYTES - 1] ^ 1]) + own[HEADER_BYTES:]
    ),
    "a flipped bit in the middle": lambda own, _: (
        own[: len(own) // 2] + bytes([own[len(own) // 2] ^ 1]) + own[len(own) // 2 + 1 :]
    ),
    "an unknown format": lambda own, _: b"\x03" + own[1:],
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_altered_object_does_not_open(tmp_path: Path, attack: Attack) -> None:
    vault, content = Vault(LocalStore(prefix=tmp_path)), os.urandom(2 * CHUNK_BYTES + 7)
    for name in ("own", "other"):  # under one key: documents of one preparation share theirs
        await vault.put(name, content, key=KEY)
    altered = attack((tmp_path / "own").read_bytes(), (tmp_path / "other").read_bytes())
    (tmp_path / "own").write_bytes(altered)
    with pytest.raises(ContentUnreadableError):
        await vault.get("own", key=KEY)


async def test_end_of_an_object_that_was_cut_off_is_not_taken_for_its_end(tmp_path: Path) -> None:
    """Who reads from the middle on meets the last chunk too."""
    vault, content = Vault(LocalStore(prefix=tmp_path)), os.urandom(2 * CHUNK_BYTES + 7)
    await vault.put("a", content, key=KEY)
    sealed = (tmp_path / "a").read_bytes()
    for kept in (len(_chunks(sealed)) - 1, 1):
        (tmp_path / "a").write_bytes(sealed[:HEADER_BYTES] + b"".join(_chunks(sealed)[:kept]))
        with pytest.raises(ContentUnreadableError):
            [piece async for piece in vault.pieces("a", key=KEY, start=CHUNK_BYTES + 1)]


async def test_object_of_the_format_before_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(Seal(KEY).seal(b"content", column="object", row="a"))
    vault = Vault(LocalStore(prefix=tmp_path))
    assert await vault.get("a", key=KEY) == b"content"
    assert [piece async for piece in vault.pieces("a", key=KEY, start=3)] == [b"tent"]
