"""What people are told through the whole mesh unasked: what was signed, and that a certificate ends soon."""

import asyncio

import psycopg
import pytest

from deploy.demo.phone import Phone
from tests.e2e.signer import Signer
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]


def test_after_a_signature_the_phone_that_confirmed_it_is_told(signer: Signer, loop: asyncio.AbstractEventLoop) -> None:
    phone = Phone(signer.given.live.phone, signer.given.outbox)
    loop.run_until_complete(signer.sign())
    text = loop.run_until_complete(phone.next_notice())
    assert text.startswith("FinID sandbox: ДОКУМЕНТ ПОДПИСАН «Agreement» (отпечаток ")
    assert text.endswith("Если это не вы, сразу приостановите сертификат.")


def test_the_owner_of_a_certificate_that_ends_soon_is_told_once(
    signer: Signer, mesh: RunningMesh, loop: asyncio.AbstractEventLoop
) -> None:
    serial = signer.certificate.removeprefix("certificates/")
    with psycopg.connect((mesh.folder / "secrets" / "owner.url").read_text()) as database:
        # Time flies: the authority's own record says that it ends in five days, and the hourly look is due.
        database.execute(
            "UPDATE ca.certificates SET not_after = now() + interval '5 days' WHERE encode(serial, 'hex') = %s",
            [serial],
        )
        database.execute("UPDATE auth_gateway.expiry_sweep SET next_at = '-infinity'")
    phone = Phone(signer.given.live.phone, signer.given.outbox)
    shown = f"{serial[-8:-4]}-{serial[-4:]}".upper()

    async def told() -> str:
        # The hub looks every ten seconds whether it is time, a phone waits ten for an SMS.
        for _ in range(6):
            try:
                text = await phone.next_notice()
            except TimeoutError:
                continue
            if shown in text:
                return text
        raise AssertionError("nobody was told")

    text = loop.run_until_complete(told())
    assert "СРОК ВАШЕГО СЕРТИФИКАТА" in text
    with psycopg.connect((mesh.folder / "secrets" / "owner.url").read_text()) as database:
        database.execute("UPDATE auth_gateway.expiry_sweep SET next_at = '-infinity'")
    loop.run_until_complete(asyncio.sleep(12))
    texts = [path.read_text(encoding="utf-8") for path in mesh.outbox.glob("*.json")]
    assert sum(shown in text for text in texts) == 1
