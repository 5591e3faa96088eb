"""Moving credentials to a newer key of their pseudonyms: each is hashed once more, and its row attested anew.

An attestation is over the pseudonyms of person and phone, so both change together (`mesh.pseudonyms`). What is not as
the signer attested it is never attested anew: it stays as it is, which no later key finds, and is named.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from mesh.facts import Factor
from mesh.pins import Pins, key_id
from mesh.receipts import ReceiptSigner
from services.signer.credential import Credential, HolderMac, attestation_of

_BATCH = 1000
_PROGRESS_EVERY_S = 2.0


class LiftingRefusedError(Exception):
    """Credentials cannot be moved; says why. Nothing was changed."""


class Lifting:
    """Moves single credentials to all of the signer's keys."""

    def __init__(self, *, holders: HolderMac, attester: ReceiptSigner, pins: Pins, now: Callable[[], datetime]) -> None:
        self._holders = holders
        self._attester = attester
        self._pins = pins
        self._now = now

    def require_believed(self) -> None:
        """Refuse to attest by a key that no signer would believe. Raises LiftingRefusedError."""
        pin = self._pins.find(key_id(self._attester.public_key), Factor.KEY_ATTESTATION)
        if pin is None or not pin.not_before <= int(self._now().timestamp()) <= pin.not_after:
            raise LiftingRefusedError("the signer's receipt key is not pinned now: pin it first")

    def lifted(self, credential: Credential, since: int) -> Credential:
        """Return a credential that the first `since` keys made as all of them make it.

        Raises CredentialRefusedError for one that is not as it was attested.
        """
        earlier = attestation_of(credential, self._pins)
        subject_hmac = self._holders.lifted(credential.subject_hmac, since)
        phone_hmac = self._holders.lifted(credential.phone_hmac, since)
        return replace(
            credential,
            subject_hmac=subject_hmac,
            phone_hmac=phone_hmac,
            # Empty for keys of before it was kept.
            photo_hmac=self._holders.lifted(credential.photo_hmac, since) if credential.photo_hmac else b"",
            key_attestation=self._attester.sign(
                replace(earlier.facts, subject_hmac=subject_hmac, phone_hmac=phone_hmac),
                txn=credential.txn,
                policy=earlier.policy,
                now=int(self._now().timestamp()),
            ),
        )


class CredentialPages(Protocol):
    """The record of credentials, as moving all of them sees it."""

    async def page(self, after: str, limit: int) -> Sequence[Credential]:
        """Return the next credentials, by name after `after`."""
        ...

    async def put(self, credentials: Sequence[Credential]) -> int:
        """Write pseudonyms and attestations over those that were there; return how many rows were written."""
        ...


@dataclass(frozen=True, slots=True)
class Everybody:
    """Moves all credentials, within what the caller has made one transaction. `say` takes lines of progress.

    `lift` returns each credential as all keys make it, or why it is refused. `failures` names those that stay as they
    are; unless there are exactly `leaves` of them, nothing is moved.
    """

    lift: Callable[[Sequence[Credential], int], Awaitable[Sequence[Credential | str]]]
    say: Callable[[str], None]
    leaves: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    async def move(self, pages: CredentialPages, since: int) -> int:
        """Move what the first `since` keys made; return how many rows. Raises LiftingRefusedError, changing nothing."""
        began_s = said_s = time.monotonic()
        moved = 0
        self.failures.clear()
        credentials = await pages.page("", _BATCH)
        lifted = await self._lifted(credentials, since)
        while credentials:
            credentials = await pages.page(credentials[-1].name, _BATCH)
            # The next ones are attested while these are written.
            written, lifted = await asyncio.gather(pages.put(lifted), self._lifted(credentials, since))
            moved += written
            if time.monotonic() - said_s >= _PROGRESS_EVERY_S:
                said_s = time.monotonic()
                self.say(f"moved {moved} ({moved / (said_s - began_s):.0f}/s), {len(self.failures)} refused")
        if len(self.failures) != self.leaves:
            raise LiftingRefusedError(
                f"{len(self.failures)} credentials are not as they were attested, and --leave says {self.leaves}: "
                "restore them from a backup, or leave exactly so many for good"
            )
        self.say(f"signer.credentials: {moved} rows")
        return moved

    async def look(self, pages: CredentialPages, since: int) -> int:
        """Go through all credentials and change nothing; return how many could be moved."""
        could, after = 0, ""
        self.failures.clear()
        while credentials := await pages.page(after, _BATCH):
            after = credentials[-1].name
            could += len(await self._lifted(credentials, since))
        return could

    async def _lifted(self, credentials: Sequence[Credential], since: int) -> Sequence[Credential]:
        lifted = list[Credential]()
        for was, now in zip(credentials, await self.lift(credentials, since), strict=True):
            if isinstance(now, Credential):
                lifted.append(now)
            else:
                self.failures[was.name] = now
                self.say(f"{was.name}: {now}, stays under the earlier keys")
        return lifted
