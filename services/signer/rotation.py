"""Rotation: every subject key is wrapped anew by the newest KEK, one row at a time, while the service signs.

Each row is swapped by one guarded statement, blob and attestation together; before it the old blob is the key, after it
the new one, and both open. So whatever dies, a repeat goes on with what is left under the old KEK. No row is given up
in silence: one that is not as it was attested, or that does not open, stays as it is and is named.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from mesh import receipts
from mesh.errors import FinIdError
from mesh.facts import KeyAttestation
from mesh.hsm import KekName, Token, WrappedKey, WrappedKeyRefusedError
from mesh.pins import Pins
from mesh.receipts import ReceiptSigner
from services.signer.credential import Credential, CredentialRefusedError, State, require_attested
from services.signer.subject_keys import all_verify

_BATCH = 200
_PROGRESS_EVERY_S = 2.0
# What a rewrapped key signs to prove that it is the same: no transaction, no document begins like this.
_PROOF = b"finid-rewrapped-key-v1\0"


class RotationRefusedError(Exception):
    """The rotation may not begin, or an old KEK may not be destroyed; says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Held:
    """How many keys are in one state under one KEK (`KekName.in_envelopes`), and since when the oldest of them is."""

    kek: bytes
    state: State
    keys: int
    oldest: datetime


class KeyRows(Protocol):
    """The record of credentials, as rotation sees it."""

    async def under(self, kek: KekName, after: str, limit: int) -> Sequence[Credential]:
        """Return the next credentials, by name after `after`, whose key a KEK opens."""
        ...

    async def count_under(self, kek: KekName) -> int:
        """Return how many credentials' keys a KEK opens."""
        ...

    async def rewrap(self, credential: Credential, wrapped_key: bytes, key_attestation: str) -> bool:
        """Swap blob and attestation; False, changing nothing, when the row is not as it was read."""
        ...

    async def held(self) -> Sequence[Held]:
        """Return what is there, by KEK and state."""
        ...

    async def signings(self, at: datetime) -> Mapping[str, int]:
        """Return how many signings are recorded, aborted, going on, and left over by a signer that died."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """`failures` tell of each key that stays under the old KEK why it does, by credential."""

    rewrapped: int
    failures: Mapping[str, str]


class Rotation:
    """Moves every subject key from one KEK to another of the same token."""

    def __init__(
        self,
        *,
        rows: KeyRows,
        token: Token,
        attester: ReceiptSigner,
        pins: Pins,
        old: KekName,
        new: KekName,
        now: Callable[[], datetime],
        say: Callable[[str], None],
        batch: int = _BATCH,
    ) -> None:
        """`say` takes lines of progress and failures."""
        if old == new:
            raise RotationRefusedError("a KEK is not rotated to itself")
        self._rows = rows
        self._token = token
        self._attester = attester
        self._pins = pins
        self._old = old
        self._new = new
        self._now = now
        self._say = say
        self._batch = batch
        self._failures: dict[str, str] = {}
        self._rewrapped = 0

    async def run(self) -> Outcome:
        """Rewrap what is under the old KEK now and what comes under it meanwhile; return what was done.

        Raises RotationRefusedError when what the signer attests now would not be believed, TokenError when the token
        is away, DependencyUnavailableError: a repeat goes on from there.
        """
        self._token.require_kek(self._new)
        self._token.require_kek(self._old)
        began_s = said_s = time.monotonic()
        total = await self._rows.count_under(self._old)
        self._say(f"{total} keys under {self._old.token_label}")
        after = ""
        while True:
            credentials = await self._rows.under(self._old, after, self._batch)
            if not credentials:
                # Keys that were made under the old KEK meanwhile may have names that come before.
                if await self._rows.count_under(self._old) <= len(self._failures):
                    break
                after, total = "", await self._rows.count_under(self._old) + self._rewrapped
                continue
            for credential in credentials:
                await self._move(credential)
                if time.monotonic() - said_s >= _PROGRESS_EVERY_S:
                    said_s = time.monotonic()
                    self._progress(total, said_s - began_s)
            after = credentials[-1].name
        self._progress(total, time.monotonic() - began_s)
        return Outcome(self._rewrapped, dict(self._failures))

    async def _move(self, credential: Credential) -> None:
        if credential.name in self._failures:
            return
        try:
            moved = self._rewrap(credential)
        except (CredentialRefusedError, WrappedKeyRefusedError, ValueError) as error:
            why = error.reason if isinstance(error, FinIdError) else "KEY_RECORD_REFUSED"
            self._failures[credential.name] = why
            self._say(f"{credential.name}: {why}, stays under {self._old.token_label}")
            return
        attestation = self._attest(credential, moved)
        # False: destroyed, or moved by another run; whatever is still under the old KEK comes again.
        if await self._rows.rewrap(credential, moved, attestation):
            self._rewrapped += 1

    def _rewrap(self, credential: Credential) -> bytes:
        """The key under the new KEK, proved to be the same by a signature that is of no use to anybody."""
        require_attested(credential, self._pins)
        moved = self._token.rewrap(WrappedKey.from_bytes(credential.wrapped_key), self._new)
        envelope = moved.to_bytes()
        proof = hashlib.sha256(_PROOF + credential.txn + envelope).digest()
        if not all_verify(credential.public_key_der, [proof], self._token.sign_with_wrapped(moved, [proof])):
            raise CredentialRefusedError("The blob is not of the row's public key.")
        return envelope

    def _attest(self, credential: Credential, envelope: bytes) -> str:
        earlier = receipts.parse(credential.key_attestation)
        stated = KeyAttestation(
            credential=credential.name,
            subject_hmac=credential.subject_hmac,
            phone_hmac=credential.phone_hmac,
            public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
            wrapped_sha256=hashlib.sha256(envelope).digest(),
        )
        now = int(self._now().timestamp())
        attestation = self._attester.sign(stated, txn=credential.txn, policy=earlier.policy, now=now)
        try:
            require_attested(replace(credential, wrapped_key=envelope, key_attestation=attestation), self._pins)
        except CredentialRefusedError as error:
            # Else every key would be lost, one after the other.
            raise RotationRefusedError("the signer's receipt key is not pinned now: pin it first") from error
        return attestation

    def _progress(self, total: int, elapsed_s: float) -> None:
        rate = self._rewrapped / elapsed_s if elapsed_s > 0 else 0.0
        left = max(0, total - self._rewrapped - len(self._failures))
        ends = f", {left / rate:.0f} s to go" if left and rate else ""
        self._say(
            f"rewrapped {self._rewrapped} of {total} ({rate:.0f}/s), {len(self._failures)} refused, {left} left{ends}"
        )


async def require_retired(rows: KeyRows, token: Token, old: KekName) -> None:
    """Refuse unless a newer KEK stands beside `old` and no row is under it. Raises RotationRefusedError, TokenError."""
    if not any(kek.generation > old.generation for kek in token.keks(old.label)):
        raise RotationRefusedError(f"{old.token_label} is the newest KEK of the token")
    if left := await rows.count_under(old):
        raise RotationRefusedError(f"{left} keys are under {old.token_label}: rotate first")
