"""Whom a service believes as its database is read for each connection: a root is replaced without a restart."""

import asyncio
import ssl
from pathlib import Path

import pytest

from mesh.errors import DependencyUnavailableError
from mesh.postgres import Database
from tests.mtls import Authority

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Server:
    """As much of PostgreSQL as shows a certificate and is then told who asks; it answers nobody."""

    def __init__(self, authority: Authority) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("postgres"))
        self.believed = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
        writer.write(b"S")
        try:
            await writer.start_tls(self._context)
            self.believed += bool(await reader.read(1))  # the start-up message, sent to whom is believed
        except (ssl.SSLError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_a_root_that_is_replaced_counts_for_the_next_connection(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    shown = Server(new)
    roots = tmp_path / "ca.crt"
    async with await asyncio.start_server(shown, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"postgresql://finid_otp:x@127.0.0.1:{port}/finid?sslmode=verify-ca&sslrootcert={roots}"
        both = old.root_file.read_bytes() + new.root_file.read_bytes()
        roots.write_bytes(old.root_file.read_bytes())
        database = await Database.open(url, service="otp")
        for content, believed in ((old.root_file.read_bytes(), 0), (both, 1), (new.root_file.read_bytes(), 2)):
            roots.write_bytes(content)
            with pytest.raises(DependencyUnavailableError):
                await database.probe()
            assert shown.believed == believed
        await database.close()
