"""Attest: the state's word on one transaction's person, phone and face, and the photo for facematch alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mesh.admission import admit
from mesh.errors import Code, FinIdError
from mesh.facts import StateRecord
from mesh.receipts import CurrentSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Openings, Transaction
from services.registry import iin as iins
from services.registry.photo import PhotoRecipient
from services.registry.source import StateSource


class BadChecksumError(FinIdError):
    """The IIN's check digit is wrong, so nobody has it. Like UNKNOWN_IIN it never leaves the hub."""

    code = Code.INVALID_ARGUMENT
    reason = "BAD_CHECKSUM"


class InquiryLimitError(FinIdError):
    """This IIN was asked about too often lately, over all applications together."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "INQUIRY_LIMIT"


class Inquiries(Protocol):
    """Counts how often an IIN is asked about."""

    async def count(self, iin: str, now: datetime) -> None:
        """Count one inquiry, whether the IIN exists or not. Raises InquiryLimitError, counting nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Attested:
    """The STATE_RECORD receipt, and the reference photo as JWE for facematch."""

    receipt: str
    photo_jwe: str = field(repr=False)


class Attestation:
    """Attests transactions against one state source."""

    def __init__(
        self,
        *,
        env: Env,
        source: StateSource,
        inquiries: Inquiries,
        signer: CurrentSigner,
        recipient: PhotoRecipient,
        now: Callable[[], datetime],
    ) -> None:
        self._env = env
        self._source = source
        self._inquiries = inquiries
        self._signer = signer
        self._recipient = recipient
        self._now = now

    async def attest(self, transaction_bytes: bytes, openings: Openings) -> Attested:
        """Return what the source knows, bound to the transaction.

        Raises PreconditionError for a transaction that is not ours, not valid now or not of these openings;
        BadChecksumError, UnknownIinError, SourceUnavailableError; InquiryLimitError.
        """
        admitted = admit(transaction_bytes, self._env, int(self._now().timestamp()))
        require_opened(admitted.transaction, openings)
        if not iins.is_checksummed(openings.iin):
            raise BadChecksumError("The IIN's check digit is wrong.")
        await self._inquiries.count(openings.iin, self._now())
        photo_jpeg = await self._source.reference_photo(openings.iin)
        trusted = await self._source.trusted_phone(openings.iin)
        is_trusted = trusted is not None and trusted.number == openings.phone
        facts = StateRecord(
            iin_commitment=admitted.transaction.iin_commitment,
            phone_commitment=admitted.transaction.phone_commitment,
            phone_trusted=is_trusted,
            phone_trusted_since=trusted.since if trusted is not None and is_trusted else 0,
            photo_sha256=hashlib.sha256(photo_jpeg).digest(),
        )
        receipt = self._signer().sign(
            facts, txn=admitted.txn, policy=admitted.transaction.policy, now=int(self._now().timestamp())
        )
        return Attested(receipt, self._recipient.encrypt(photo_jpeg))


def require_opened(transaction: Transaction, openings: Openings) -> None:
    """Refuse openings that are not those of the transaction's commitments."""
    if openings.iin_commitment() != transaction.iin_commitment:
        raise PreconditionError(Refusal.IIN_NOT_OPENED)
    if openings.phone_commitment() != transaction.phone_commitment:
        raise PreconditionError(Refusal.PHONE_NOT_OPENED)
