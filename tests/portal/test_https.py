"""The portal's HTTPS side shows the certificate of now, and asks every caller for one, before a rotation and after."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.settings import MeshSettings
from services.portal.https import tls_context
from tests.mtls import Authority

LOOK_EVERY_S = 0.05


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def served(authority: Authority) -> AsyncIterator[tuple[MeshSettings, int]]:
    settings = authority.settings("portal").model_copy(update={"reload_every_s": LOOK_EVERY_S})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls_context(settings))
    yield settings, server.sockets[0].getsockname()[1]
    server.close()


async def _asked(authority: Authority, port: int, *, certificate: bool = True) -> bytes:
    """Ask for one line; return the certificate (DER) that was shown."""
    context = ssl.create_default_context(cafile=str(authority.root_file))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(*authority.issue("envoy"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_a_new_certificate_is_shown_to_who_connects_next(
    authority: Authority, served: tuple[MeshSettings, int]
) -> None:
    settings, port = served
    for _ in range(3):
        written = x509.load_pem_x509_certificate(settings.tls_certificate_file.read_bytes())
        assert await _asked(authority, port) == written.public_bytes(Encoding.DER)
        authority.issue("portal")
        await asyncio.sleep(LOOK_EVERY_S)


async def test_who_shows_none_is_refused_before_a_rotation_and_after_it(
    authority: Authority, served: tuple[MeshSettings, int]
) -> None:
    _, port = served
    for _ in range(2):
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await _asked(authority, port, certificate=False)
        authority.issue("portal")
        await asyncio.sleep(LOOK_EVERY_S)
    assert await _asked(authority, port)
