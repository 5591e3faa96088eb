"""The otp service as it is deployed: its own process, mTLS, PostgreSQL, the outbox, health."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import psycopg
import pytest
from finid.auth.v1 import auth_pb2
from finid.otp.v1 import otp_pb2 as pb
from finid.otp.v1 import otp_pb2_grpc as rpc

from deploy.local.database import Database
from mesh import base64url, pins, receipts
from mesh.facts import SmsOtp
from mesh.status import PeerError
from mesh.transaction import Env, Purpose
from tests.bundles import PHONE, World, digest_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority
from tests.otp.sms import code_in
from tests.otp.test_smpp import started
from tests.ports import free_port

pytestmark = pytest.mark.postgres

WORLD = World()


@dataclass(frozen=True)
class Running:
    otp: Deployed
    outbox: Path

    def codes(self) -> list[str]:
        """The codes of all SMS so far."""
        return [code_in(text) for text in self.texts() if text[-6:].isdigit()]

    def texts(self) -> list[str]:
        """All SMS so far."""
        return [json.loads(file.read_text())["text"] for file in sorted(self.outbox.glob("*.json"))]


@pytest.fixture
async def running(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Running]:
    environment = environment_in(tmp_path, database("otp"))
    async with deployed("otp", Authority(tmp_path / "tls"), environment) as otp:
        made = Running(otp, tmp_path / "outbox")
        yield made
    assert "development outbox" in otp.log
    assert PHONE not in otp.log
    assert not any(code in otp.log for code in made.codes())


def environment_in(tmp_path: Path, database: Database) -> dict[str, str]:
    """Write what the service needs into a folder; return its settings."""
    (tmp_path / "tls").mkdir()
    outbox = tmp_path / "outbox"
    outbox.mkdir(mode=0o700)
    WORLD.write_files(tmp_path)
    secrets = {"hmac.key": base64url.encode(digest_of("otp key")), "database.url": database.url("otp")}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    return {
        "FINID_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "otp.key"),
        "FINID_OTP_HMAC_KEY_FILE": str(tmp_path / "hmac.key"),
        "FINID_OTP_PROVIDER": "outbox",
        "FINID_OTP_OUTBOX_DIR": str(outbox),
        "FINID_OTP_RESEND_AFTER_S": "0",
    }


async def test_sends_confirms_and_notices_the_loss_of_its_database(
    running: Running, database: Callable[..., Database]
) -> None:
    stub = rpc.OtpServiceStub(running.otp.channel("auth_gateway"))
    now = int(time.time())
    sent = WORLD.bundle(Purpose.IDENTIFY, now=now)
    ask = pb.SendCodeRequest(
        transaction=sent.transaction_bytes,
        phone=sent.openings.phone,
        phone_salt=sent.openings.phone_salt,
        language=auth_pb2.LANGUAGE_EN,
    )

    # A code goes out, and a second ends the first.
    first = await stub.SendCode(ask, timeout=5)
    second = await stub.SendCode(ask, timeout=5)
    assert second.masked_phone == "+7 701 *** ** 01"
    first_code, second_code = running.codes()
    stale = pb.VerifyCodeRequest(challenge=first.challenge, txn=sent.txn, code=first_code)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.VerifyCode(stale, timeout=5)
    assert PeerError("otp", refused.value).reason == "CHALLENGE_UNKNOWN"

    # A wrong code is refused without an echo of it; the right one gives a receipt that holds, twice the same.
    wrong = f"{(int(second_code) + 1) % 10**6:06d}"
    guess = pb.VerifyCodeRequest(challenge=second.challenge, txn=sent.txn, code=wrong)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.VerifyCode(guess, timeout=5)
    told = PeerError("otp", refused.value)
    assert (told.reason, told.metadata) == ("CODE_WRONG", {"checks_left": "4"})
    entered = pb.VerifyCodeRequest(challenge=second.challenge, txn=sent.txn, code=second_code)
    confirmed = await stub.VerifyCode(entered, timeout=5)
    assert await stub.VerifyCode(entered, timeout=5) == confirmed
    pinned = pins.parse(WORLD.pins_json(not_before=now - 60, not_after=now + 60), Env.SANDBOX)
    stated = receipts.verify(confirmed.receipt, SmsOtp, pinned, txn=sent.txn, now=int(time.time())).facts
    assert stated.phone_commitment == sent.transaction.phone_commitment

    # Of what was signed and of what ends soon a phone is told once each, however often the gateway asks.
    signed = WORLD.bundle(Purpose.SIGN, now=now)
    done = pb.SendNoticeRequest(
        transaction=signed.transaction_bytes,
        phone=signed.openings.phone,
        phone_salt=signed.openings.phone_salt,
        language=auth_pb2.LANGUAGE_EN,
    )
    ends = pb.SendExpiryNoticeRequest(
        serial="5f" * 20, not_after=now + 86_400, within_days=7, phone=PHONE, language=auth_pb2.LANGUAGE_EN
    )
    for _ in range(2):
        await stub.SendNotice(done, timeout=5)
        await stub.SendExpiryNotice(ends, timeout=5)
    notices = running.texts()[2:]
    assert [text.partition(" ON ")[0].partition(' "')[0] for text in notices] == [
        "FinID sandbox: DOCUMENT SIGNED",
        "FinID sandbox: YOUR SIGNATURE CERTIFICATE ENDS",
    ]

    # Nobody but the gateway may ask.
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rpc.OtpServiceStub(running.otp.channel("liveness")).VerifyCode(entered, timeout=5)
    assert PeerError("otp", refused.value).reason == "CALLER_NOT_ALLOWED"

    # A lost database: not serving, and no SMS that the record does not know; and back again.
    other = WORLD.bundle(Purpose.IDENTIFY, now=now)
    ask.transaction = other.transaction_bytes
    async with lost(database("otp")):
        await running.otp.becomes(NOT_SERVING)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SendCode(ask, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(running.codes()) == 2
    await running.otp.becomes(SERVING)
    assert (await stub.SendCode(ask, timeout=5)).challenge


PROVIDERS = """
[[provider]]
name = "centre"
kind = "smpp"
host = "127.0.0.1"
port = {port}
tls = false
system_id = "finid"
password_file = "{secret}"
source = "FinID"
timeout_s = 2

[[provider]]
name = "outbox"
kind = "outbox"
folder = "{outbox}"

[[route]]
prefix = "+77"
providers = ["centre", "outbox"]
"""


async def test_goes_to_the_next_provider_when_the_first_is_lost_and_learns_what_became_of_an_sms(
    database: Callable[..., Database], tmp_path: Path
) -> None:
    environment = environment_in(tmp_path, database("otp"))
    port, outbox = free_port(), tmp_path / "outbox"
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o400)
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS.format(port=port, outbox=outbox, secret=tmp_path / "password"))
    environment |= {"FINID_OTP_PROVIDER": "file", "FINID_OTP_PROVIDERS_FILE": str(file)}
    centre = await started(port)
    async with deployed("otp", Authority(tmp_path / "tls"), environment) as otp:
        stub = rpc.OtpServiceStub(otp.channel("auth_gateway"))
        bundle = WORLD.bundle(Purpose.IDENTIFY, now=int(time.time()))
        ask = pb.SendCodeRequest(
            transaction=bundle.transaction_bytes, phone=bundle.openings.phone, phone_salt=bundle.openings.phone_salt
        )
        assert centre.stdout is not None
        assert await asyncio.wait_for(centre.stdout.readline(), 5) == b"bound\n"
        first = await stub.SendCode(ask, timeout=5)
        assert await state_of(database("otp"), first.challenge) == ("DELIVERED", "centre")
        centre.kill()
        await centre.wait()
        second = await stub.SendCode(ask, timeout=5)
        assert await state_of(database("otp"), second.challenge) == ("SENT", "outbox")
        assert len(list(outbox.glob("*.json"))) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ReportDelivery(
                pb.ReportDeliveryRequest(provider="twilio", challenge=second.challenge, signature="x", body=b"x=y"),
                timeout=5,
            )
        assert PeerError("otp", refused.value).reason == "SMS_REPORT_REFUSED"
    assert PHONE not in otp.log


async def state_of(database: Database, challenge: str) -> tuple[str, str]:
    """State and provider of an SMS, once it is past what a provider answers at once."""
    async with asyncio.timeout(5):
        while True:
            with psycopg.connect(database.owner_url) as owner:
                row = owner.execute(
                    "SELECT state, provider FROM otp.sends WHERE challenge = %s", [challenge]
                ).fetchone()
            if row is not None and (row[1] != "centre" or row[0] != "SENT"):
                return row[0], row[1]
            await asyncio.sleep(0.05)
