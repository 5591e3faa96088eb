"""SMS over SMPP, against a centre that runs as a process of its own and whose bytes are the library's."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st

from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.segments import segments_of
from services.otp.sends import SendState
from services.otp.smpp import SmppAccount, SmppSms, _receipt_of, _relative_time
from tests.ports import free_port

KAZAKH = "FinID: ҚҰЖАТҚА ҚОЛ ҚОЮ «Несие шарты». Код: 123456"
LATIN = 'FinID: SIGN A DOCUMENT "Loan {2}". Code: 123456'
LONG = KAZAKH * 4


@dataclass
class Centre:
    """A running centre, and a session with it."""

    port: int
    process: asyncio.subprocess.Process
    sms: SmppSms
    receipts: "asyncio.Queue[tuple[str, str, SendState]]" = field(default_factory=asyncio.Queue)

    async def submitted(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while (line := await asyncio.wait_for(self.process.stdout.readline(), 5)) == b"bound\n":
            continue
        told: dict[str, Any] = json.loads(line)
        return told

    async def bound(self) -> None:
        async with asyncio.timeout(5):
            while self.sms._session is None:  # noqa: ASYNC110  another task binds
                await asyncio.sleep(0.01)


async def started(port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.otp.smsc", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


def account(port: int) -> SmppAccount:
    return SmppAccount("127.0.0.1", port, tls=False, system_id="finid", password="secret", source="FinID")


# The centre says nothing to what goes to numbers with this end.
_NEVER_ANSWERS = "13"


@asynccontextmanager
async def running(timeout_s: float = 20.0, **changed: Any) -> AsyncIterator[Centre]:
    port = free_port()
    receipts: asyncio.Queue[tuple[str, str, SendState]] = asyncio.Queue()

    async def received(provider: str, reference: str, state: SendState) -> None:
        await receipts.put((provider, reference, state))

    async def sleep(_: float) -> None:
        await asyncio.sleep(0.02)

    process = await started(port)
    sms = SmppSms("kcell", replace(account(port), **changed), received, timeout_s=timeout_s, sleep=sleep)
    centre = Centre(port, process, sms, receipts)
    session = asyncio.create_task(sms.run())
    await centre.bound()
    try:
        yield centre
    finally:
        session.cancel()
        await asyncio.wait([session])
        if centre.process.returncode is None:
            centre.process.kill()
        await centre.process.wait()


async def test_a_text_in_cyrillic_is_ucs_2_for_an_international_number() -> None:
    async with running() as centre:
        accepted = await centre.sms.send("+77010000000", KAZAKH, 300)
        told = await centre.submitted()
        assert accepted.reference == "sms-1"
        assert told == {
            "to": "77010000000",
            "ton_npi": [1, 1],
            "from": "FinID",
            "esm_class": 0,
            "data_coding": 8,
            "registered_delivery": 1,
            "short_message": KAZAKH.encode("utf-16-be").hex(),
            "payload": "",
        }


async def test_a_text_of_the_gsm_alphabet_is_sent_in_it() -> None:
    async with running() as centre:
        await centre.sms.send("+77010000000", LATIN, 300)
        told = await centre.submitted()
        # Letters and digits have their ASCII codes; a brace is an escape sequence (3GPP TS 23.038 6.2.1.1).
        expected = LATIN.encode().replace(b"{", b"\x1b\x28").replace(b"}", b"\x1b\x29")
        assert (told["data_coding"], told["short_message"]) == (0, expected.hex())


async def test_a_long_text_is_one_payload_or_parts_that_a_phone_puts_together() -> None:
    async with running() as centre:
        await centre.sms.send("+77010000000", LONG, 300)
        told = await centre.submitted()
        assert (told["short_message"], told["payload"]) == ("", LONG.encode("utf-16-be").hex())
    async with running(long_texts="udh") as centre:
        assert (await centre.sms.send("+77010000000", LONG, 300)).reference == "sms-3"
        parts = [bytes.fromhex((await centre.submitted())["short_message"]) for _ in segments_of(LONG)]
        assert {part[:3] for part in parts} == {bytes([5, 0, 3])}
        assert len({part[3] for part in parts}) == 1
        assert [(part[4], part[5]) for part in parts] == [(3, 1), (3, 2), (3, 3)]
        assert b"".join(part[6:] for part in parts).decode("utf-16-be") == LONG
        assert all(len(part) <= 140 for part in parts)


@pytest.mark.parametrize(
    ("ends", "state"),
    [("00", SendState.DELIVERED), ("01", SendState.DELIVERED), ("15", SendState.UNDELIVERED)],
)
async def test_what_became_of_an_sms_is_received(ends: str, state: SendState) -> None:
    async with running() as centre:
        accepted = await centre.sms.send(f"+770100000{ends}", KAZAKH, 300)
        assert await asyncio.wait_for(centre.receipts.get(), 5) == ("kcell", accepted.reference, state)


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        ("11", SmsUnavailableError),
        ("12", PhoneUnreachableError),
        (_NEVER_ANSWERS, DeliveryUnknownError),
        ("14", DeliveryUnknownError),
    ],
)
async def test_what_a_centre_did_not_take_is_told_from_what_it_may_have(ends: str, error: type[Exception]) -> None:
    async with running(timeout_s=2.0 if ends == _NEVER_ANSWERS else 20.0) as centre:
        with pytest.raises(error) as refused:
            await centre.sms.send(f"+770100000{ends}", KAZAKH, 300)
        assert "7701" not in str(refused.value)
        assert "123456" not in repr(refused.value)


async def test_without_a_session_nothing_is_taken_and_a_lost_one_is_bound_again() -> None:
    async with running() as centre:
        centre.process.kill()
        await centre.process.wait()
        async with asyncio.timeout(5):
            while centre.sms._session is not None:  # noqa: ASYNC110  another task notices
                await asyncio.sleep(0.01)
        with pytest.raises(SmsUnavailableError):
            await centre.sms.send("+77010000000", KAZAKH, 300)
        centre.process = await started(centre.port)
        await centre.bound()
        assert (await centre.sms.send("+77010000000", KAZAKH, 300)).reference == "sms-1"


async def test_a_centre_that_is_not_there_took_nothing() -> None:
    async def ignored(*_: object) -> None:
        pass

    sms = SmppSms("away", account(free_port()), ignored, timeout_s=0.2, sleep=lambda _: asyncio.sleep(0.01))
    session = asyncio.create_task(sms.run())
    await asyncio.sleep(0.1)
    with pytest.raises(SmsUnavailableError):
        await sms.send("+77010000000", KAZAKH, 300)
    assert not session.done(), "it keeps trying"
    session.cancel()
    await asyncio.wait([session])


@dataclass
class Event:
    """What arrives from the centre."""

    short_message: bytes
    esm_class: int = 4
    tlvs: tuple[smpp34.Tlv, ...] = ()


@pytest.mark.parametrize(
    ("event", "read"),
    [
        (Event(b"id:ab12 sub:001 dlvrd:001 stat:DELIVRD err:000 text:"), ("ab12", SendState.DELIVERED)),
        (Event(b"id:ab12 stat:EXPIRED"), ("ab12", SendState.UNDELIVERED)),
        (Event(b"id:ab12 stat:REJECTD"), ("ab12", SendState.UNDELIVERED)),
        (Event(b"", tlvs=(smpp34.Tlv(0x1E, b"x\0"), smpp34.Tlv(0x427, b"\x05"))), ("x", SendState.UNDELIVERED)),
        (Event(b"id:ab12 stat:ENROUTE"), None),
        (Event(b"id:ab12 stat:ACCEPTD"), None),
        (Event(b"stat:DELIVRD"), None),
        (Event(b"", tlvs=(smpp34.Tlv(0x1E, b"\0"), smpp34.Tlv(0x427, b"\x02"))), None),
        (Event(b"", tlvs=(smpp34.Tlv(0x1E, b"x\0"), smpp34.Tlv(0x427, b""))), None),
        (Event(b"\xff\xfe\x00"), None),
        # Somebody answers the SMS: that is no receipt, whatever it says.
        (Event(b"id:ab12 stat:DELIVRD", esm_class=0), None),
    ],
)
def test_receipts(event: Event, read: tuple[str, SendState] | None) -> None:
    assert _receipt_of(event) == read  # type: ignore[arg-type]


@given(
    st.binary(max_size=255),
    st.integers(0, 255),
    st.lists(st.tuples(st.sampled_from([0x1E, 0x427, 0x424]), st.binary(max_size=70)), max_size=4),
)
def test_nothing_that_a_centre_sends_upsets_the_reader(
    text: bytes, esm_class: int, parameters: list[tuple[int, bytes]]
) -> None:
    read = _receipt_of(Event(text, esm_class, tuple(smpp34.Tlv(*each) for each in parameters)))  # type: ignore[arg-type]
    assert read is None or (read[0] and read[1] in {SendState.DELIVERED, SendState.UNDELIVERED})


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(1, "000000000001000R"), (300, "000000000500000R"), (86400, "000001000000000R"), (90061, "000001010101000R")],
)
def test_validity_is_relative(seconds: int, spelled: str) -> None:
    assert _relative_time(seconds) == spelled


def test_the_password_is_in_no_representation() -> None:
    assert "secret" not in repr(account(1))
