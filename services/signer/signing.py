"""Signing: exactly the digests that a person confirmed, in order, once.

The intent is stored before the token is called, the signatures are recorded before they are released. So whatever dies,
no signature leaves without its record, and no transaction is signed twice. What happened to an intent whose signer died
cannot be known: it is ABORTED (perhaps computed, never released), and the person authenticates anew.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mesh import base64url, metrics, precondition, telemetry
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.floors import Floors
from mesh.hsm import TokenError
from mesh.pins import CurrentPins
from mesh.precondition import Grant
from mesh.transaction import Openings, Purpose, txn_of
from services.signer.credential import (
    AnotherAlgorithmError,
    Credential,
    CredentialNotActiveError,
    Credentials,
    HolderMac,
    TransactionAlreadyUsedError,
    existing,
    require_active,
    require_attested,
    require_certificate,
    require_phone,
    require_subject,
)
from services.signer.subject_keys import SubjectKeys, all_verify, signature_algorithm
from services.signer.unwraps import Unwraps

LEASE_S = 30


class DigestsNotAuthorizedError(FinIdError):
    """The digests are not exactly those of the transaction, in their order."""

    code = Code.PERMISSION_DENIED
    reason = "DIGESTS_NOT_AUTHORIZED"


class SignatureAbortedError(FinIdError):
    """The signing was begun and not recorded in time. It never will be: a new authentication is needed."""

    code = Code.FAILED_PRECONDITION
    reason = "SIGNATURE_ABORTED"


class SigningInProgressError(FinIdError):
    """The transaction is being signed now; ask again."""

    code = Code.UNAVAILABLE
    reason = "SIGNING_IN_PROGRESS"


class Phase(StrEnum):
    """INTENT: the token may have been called. RECORDED: signatures are there. ABORTED: never released."""

    INTENT = "INTENT"
    RECORDED = "RECORDED"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class Signing:
    """One transaction's signing as recorded; `signatures` are empty unless RECORDED."""

    txn: bytes
    request_id: str
    credential: str
    phase: Phase
    digests_sha256: tuple[bytes, ...]
    signatures: tuple[bytes, ...]
    lease_ends_at: datetime


class Signings(Protocol):
    """The record of signings. Each change is one guarded statement, so it holds over all replicas."""

    async def find(self, txn: bytes) -> Signing | None:
        """Return the signing of a transaction."""
        ...

    async def intend(self, signing: Signing, certificate_sha256: bytes, at: datetime) -> bool:
        """Store the intent; False, changing nothing, unless the transaction is new and the credential ACTIVE then."""
        ...

    async def record(self, txn: bytes, signatures: Sequence[bytes], at: datetime) -> bool:
        """Store the signatures of an intent; False when it is none any more."""
        ...

    async def abort(self, txn: bytes, at: datetime) -> bool:
        """End an intent without signatures; a signing that is no intent any more stays as it is, and False says so."""
        ...

    async def abort_expired(self, at: datetime) -> int:
        """Abort every intent whose lease has ended; return how many."""
        ...


class DigestSigner:
    """Signs digests with subject keys for whoever satisfies the signer's own pins and floors."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        signings: Signings,
        keys: SubjectKeys,
        unwraps: Unwraps,
        holders: HolderMac,
        pins: CurrentPins,
        floors: Floors,
        now: Callable[[], datetime],
        sweep_every_s: float = 10.0,
    ) -> None:
        self._credentials = credentials
        self._signings = signings
        self._keys = keys
        self._unwraps = unwraps
        self._holders = holders
        self._pins = pins
        self._floors = floors
        self._now = now
        self._sweep_every_s = sweep_every_s

    async def sign_digests(
        self,
        request_id: str,
        transaction_bytes: bytes,
        openings: Openings,
        receipts: Sequence[str],
        digests_sha256: Sequence[bytes],
    ) -> tuple[bytes, ...]:
        """Return one ECDSA-Sig-Value (DER) for each digest, in order.

        A repeat with the same request id returns the first answer, and asks for no fresh receipts: it was released
        before. Under another request id only who could have signed learns that the transaction was used. Raises
        PreconditionError, the errors of this module and of `credential`, DependencyUnavailableError,
        TokenUnavailableError.
        """
        digests = tuple(digests_sha256)
        earlier = await self._signings.find(txn_of(transaction_bytes))
        if earlier is not None and earlier.request_id == request_id:
            return await self._repeat(earlier, request_id, digests)

        now = self._now()
        grant = precondition.authorize(
            Purpose.SIGN, transaction_bytes, openings, receipts, self._pins(), self._floors, int(now.timestamp())
        )
        if digests != grant.digests_sha256:
            raise DigestsNotAuthorizedError("The digests are not those of the transaction.")
        if earlier is not None:
            raise TransactionAlreadyUsedError("The transaction was used before.")
        credential = existing(await self._credentials.find(grant.transaction.credential))
        self._require_usable(credential, grant, now)

        # Before the intent: what the person confirmed is not used up while the token is known to be away.
        self._keys.require_present()
        intent = Signing(
            txn=grant.txn,
            request_id=request_id,
            credential=credential.name,
            phase=Phase.INTENT,
            digests_sha256=grant.digests_sha256,
            signatures=(),
            lease_ends_at=now + timedelta(seconds=LEASE_S),
        )
        if not await self._signings.intend(intent, grant.transaction.certificate_sha256, now):
            # Between the look and the intent another call took the transaction, or the credential's state changed.
            earlier = await self._signings.find(grant.txn)
            if earlier is None:
                raise CredentialNotActiveError("The credential is not active.")
            return await self._repeat(earlier, request_id, digests)
        metrics.SIGNING_INTENTS.add(state=Phase.INTENT.value)
        return await self._sign_and_record(intent, credential)

    async def abort_expired_intents(self) -> None:
        """Abort intents whose signer died, and see that every unwrapping had one, until cancelled."""
        while True:
            self._unwraps.check()
            # A lost database shows in the health; the next round tries again.
            with contextlib.suppress(DependencyUnavailableError):
                aborted = await self._signings.abort_expired(self._now())
                metrics.SIGNING_INTENTS.add(aborted, state=Phase.ABORTED.value)
                if aborted:
                    telemetry.logger().warning("intents without a record aborted", count=aborted)
            await asyncio.sleep(self._sweep_every_s)

    def _require_usable(self, credential: Credential, grant: Grant, now: datetime) -> None:
        require_attested(credential, self._pins())
        require_subject(credential, self._holders.subject(grant.iin))
        require_phone(credential, self._holders.phone(grant.phone))
        require_active(credential, now)
        require_certificate(credential, grant.transaction.certificate_sha256)
        if grant.transaction.signature_algorithm != signature_algorithm(credential.public_key_der):
            raise AnotherAlgorithmError("The transaction names another signature algorithm.")

    async def _sign_and_record(self, intent: Signing, credential: Credential) -> tuple[bytes, ...]:
        try:
            with self._unwraps.expected():
                signatures = tuple(await self._keys.sign(credential.wrapped_key, intent.digests_sha256))
        except TokenError as error:
            await self._abort(intent)
            raise SignatureAbortedError("The token did not sign.") from error
        if not all_verify(credential.public_key_der, intent.digests_sha256, signatures):
            await self._abort(intent)
            raise SignatureAbortedError("The token's signatures are not of this key.")
        if not await self._signings.record(intent.txn, signatures, self._now()):
            raise SignatureAbortedError("The signing took too long.")
        metrics.SIGNING_INTENTS.add(state=Phase.RECORDED.value)
        telemetry.logger().info(
            "digests signed", txn=base64url.encode(intent.txn), credential=credential.name, count=len(signatures)
        )
        return signatures

    async def _abort(self, intent: Signing) -> None:
        if await self._signings.abort(intent.txn, self._now()):
            metrics.SIGNING_INTENTS.add(state=Phase.ABORTED.value)

    async def _repeat(self, earlier: Signing, request_id: str, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if earlier.request_id != request_id:
            raise TransactionAlreadyUsedError("The transaction was used before.")
        if earlier.digests_sha256 != digests:
            raise DigestsNotAuthorizedError("The digests are not those of the transaction.")
        if earlier.phase is Phase.INTENT and earlier.lease_ends_at <= self._now():
            await self._abort(earlier)
            # Recorded after all, if its signer was faster than we.
            earlier = await self._signings.find(earlier.txn) or earlier
        if earlier.phase is Phase.RECORDED:
            return earlier.signatures
        if earlier.phase is Phase.INTENT:
            raise SigningInProgressError("The transaction is being signed.", retry_after_s=1.0)
        raise SignatureAbortedError("The signing was aborted.")
