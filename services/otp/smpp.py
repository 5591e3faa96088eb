"""SMS over SMPP 3.4 to an operator's or aggregator's centre, with one bound session for each process.

Sections are those of the "Short Message Peer to Peer Protocol Specification v3.4".
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

import smpp34

from mesh import telemetry
from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.segments import is_gsm_7, segments_of
from services.otp.sends import SendState

_INTERNATIONAL, _ISDN = 1, 1  # 5.2.5, 5.2.6
_DEFAULT_ALPHABET, _UCS_2 = 0, 8  # 5.2.19
_UDH_INDICATOR = 0x40  # 5.2.12
_RECEIPT = 0x04
_RECEIPT_BITS = 0x3C
_WANT_RECEIPT = 1  # 5.2.17
_MESSAGE_PAYLOAD, _RECEIPTED_MESSAGE_ID, _MESSAGE_STATE = 0x0424, 0x001E, 0x0427  # 5.3.2
# 5.1.3: invalid destination address, its type of number, its numbering plan.
_UNREACHABLE: Final = frozenset({0x0B, 0x50, 0x51})
# 5.2.28 and appendix B: message_state by number, and as the text of a receipt has it.
_STATES: Final[Mapping[str, SendState]] = {
    "DELIVRD": SendState.DELIVERED,
    "EXPIRED": SendState.UNDELIVERED,
    "DELETED": SendState.UNDELIVERED,
    "UNDELIV": SendState.UNDELIVERED,
    "REJECTD": SendState.UNDELIVERED,
}
_NUMBERED: Final = {2: "DELIVRD", 3: "EXPIRED", 4: "DELETED", 5: "UNDELIV", 8: "REJECTD"}
_RECEIPT_ID = re.compile(r"\bid:(\S{1,64})")
_RECEIPT_STATE = re.compile(r"\bstat:([A-Z]{1,7})")
_RECONNECT_S = (1.0, 2.0, 5.0, 15.0, 30.0)

Receipt = Callable[[str, str, SendState], Awaitable[None]]
"""Takes a provider's name, its name for an SMS, and what became of it."""


@dataclass(frozen=True, slots=True)
class SmppAccount:
    """Where a centre is, who we are to it, and how it takes what is longer than one SMS.

    PAYLOAD: whole, in the message_payload parameter (5.3.2.32). UDH: in parts that the phone puts together; a part that
    is lost leaves delivery unknown.
    """

    host: str
    port: int
    tls: bool
    system_id: str
    password: str = field(repr=False)
    source: str
    source_ton: int = 5  # alphanumeric
    source_npi: int = 0
    system_type: str = ""
    long_texts: Literal["payload", "udh"] = "payload"


class SmppSms:
    """An SMS provider over one SMPP session, which `run` keeps bound; without it nothing is sent."""

    def __init__(
        self,
        name: str,
        account: SmppAccount,
        on_receipt: Receipt,
        *,
        timeout_s: float = 8.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._account = account
        self._on_receipt = on_receipt
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._client: smpp34.Client | None = None
        self._session: smpp34.Smsc | None = None

    async def run(self) -> None:
        """Keep a session bound until cancelled."""
        failures = 0
        while True:
            account = self._account
            client = smpp34.Client(
                account.host,
                account.port,
                account.system_id,
                account.password,
                bind_type="TRX",
                system_type=account.system_type,
                tls=account.tls,
                connect_timeout_ms=int(self._timeout_s * 1000),
            )
            try:
                async with asyncio.timeout(self._timeout_s):
                    session = await client.connect()
                failures = 0
                telemetry.logger().info("smpp session bound", provider=self.name)
                self._client, self._session = client, session
                await self._take_receipts(session)
            except (smpp34.SmppError, TimeoutError, OSError):
                failures += 1
            finally:
                self._client = self._session = None
                with suppress(smpp34.SmppError, TimeoutError):
                    async with asyncio.timeout(1.0):
                        await client.stop()
            telemetry.logger().warning("smpp session lost or refused", provider=self.name)
            await self._sleep(_RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)])

    async def _take_receipts(self, session: smpp34.Smsc) -> None:
        while not isinstance(event := await session.next(), smpp34.Disconnected):
            if (receipt := _receipt_of(event)) is not None:
                await self._on_receipt(self.name, *receipt)

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Submit one message, in parts where the account says so. See `delivery.SmsProvider`."""
        client, session = self._client, self._session
        if client is None or session is None or not await client.is_alive():
            raise SmsUnavailableError("The SMS provider is not connected.", retry_after_s=5.0)
        references: list[str] = []
        for part in _parts(text, self._account.long_texts):
            reference = await self._submit(session, phone, part, valid_s, is_gsm=is_gsm_7(text), begun=bool(references))
            references.append(reference)
        # Receipts of a text in parts come for each of them; the last part's stands for all.
        return Accepted(references[-1])

    async def _submit(
        self, session: smpp34.Smsc, phone: str, part: "_Part", valid_s: int, *, is_gsm: bool, begun: bool
    ) -> str:
        account = self._account
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await session.submit_sm(
                    phone.removeprefix("+"),
                    part.short_message,
                    source_addr=account.source,
                    source_addr_ton=account.source_ton,
                    source_addr_npi=account.source_npi,
                    dest_addr_ton=_INTERNATIONAL,
                    dest_addr_npi=_ISDN,
                    esm_class=_UDH_INDICATOR if part.has_header else 0,
                    data_coding=_DEFAULT_ALPHABET if is_gsm else _UCS_2,
                    registered_delivery=_WANT_RECEIPT,
                    validity_period=_relative_time(valid_s),
                    tlvs=[smpp34.Tlv(_MESSAGE_PAYLOAD, part.payload)] if part.payload else [],
                )
        except (smpp34.SmppError, TimeoutError) as error:
            # The session broke, or nothing came back: it may have been taken.
            raise DeliveryUnknownError from error
        if answer.is_success:
            return answer.message_id or ""
        if begun:
            raise DeliveryUnknownError
        if answer.command_status in _UNREACHABLE:
            raise PhoneUnreachableError("This phone cannot be reached by SMS.")
        raise SmsUnavailableError("The SMS provider took nothing.", retry_after_s=5.0)

    async def close(self) -> None:
        """The session ends with `run`."""


@dataclass(frozen=True, slots=True)
class _Part:
    short_message: bytes
    payload: bytes = b""
    has_header: bool = False


def _parts(text: str, long_texts: Literal["payload", "udh"]) -> list[_Part]:
    segments = segments_of(text)
    if len(segments) == 1:
        return [_Part(segments[0])]
    if long_texts == "payload":
        return [_Part(b"", b"".join(segments))]
    # 3GPP TS 23.040 9.2.3.24.1: six octets of header, of which the fourth tells one text from another.
    text_number = secrets.randbelow(256)
    return [
        _Part(bytes([5, 0, 3, text_number, len(segments), number]) + segment, has_header=True)
        for number, segment in enumerate(segments, 1)
    ]


def _relative_time(seconds: int) -> str:
    """7.1.1: years and months are 00."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    return f"0000{days:02d}{hours:02d}{rest // 60:02d}{rest % 60:02d}000R"


def _receipt_of(event: smpp34.DeliverSmEvent) -> tuple[str, SendState] | None:
    """The centre's name of an SMS and what became of it; None for anything else, such as an SMS that somebody wrote."""
    if event.esm_class & _RECEIPT_BITS != _RECEIPT:
        return None
    parameters = {parameter.tag: parameter for parameter in event.tlvs}
    text = event.short_message.decode("latin-1")
    if (identified := parameters.get(_RECEIPTED_MESSAGE_ID)) is not None:
        reference = identified.value.rstrip(b"\0").decode("latin-1")
    else:
        reference = found[1] if (found := _RECEIPT_ID.search(text)) else ""
    if (numbered := parameters.get(_MESSAGE_STATE)) is not None and len(numbered.value) == 1:
        word = _NUMBERED.get(numbered.value[0], "")
    else:
        word = found[1] if (found := _RECEIPT_STATE.search(text)) else ""
    state = _STATES.get(word)
    return (reference, state) if reference and state is not None else None
