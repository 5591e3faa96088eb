"""The object store: encrypted, bound to names, durable in a folder, and the same on S3."""

import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from mesh.errors import DependencyUnavailableError
from services.documents.errors import ContentUnreadableError
from services.documents.vault import Vault

KEY = bytes(range(32))


class S3(BaseHTTPRequestHandler):
    """As much of S3 as one object at a time needs."""

    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"", {"ETag": '"1"'})

    def do_GET(self) -> None:
        body = self.objects.get(self.path)
        headers = {"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 09:00:00 GMT"}
        self._answer(404 if body is None else 200, body or b"", headers)

    def do_POST(self) -> None:
        """DeleteObjects."""
        listed = self.rfile.read(int(self.headers["Content-Length"])).decode()
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
    handler = type("Handler", (S3,), {"objects": {}})
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
