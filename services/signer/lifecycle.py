"""What becomes of a credential: its person ends, pauses and resumes it, and in the end its key is destroyed.

| state     | REVOKE              | SUSPEND   | RESUME | DestroyKey         |
|-----------|---------------------|-----------|--------|--------------------|
| PENDING   | REVOKED (cancelled) |           |        |                    |
| ACTIVE    | REVOKED             | SUSPENDED |        |                    |
| SUSPENDED | REVOKED             |           | ACTIVE |                    |
| REVOKED   |                     |           |        | DESTROYED          |
| EXPIRED   |                     |           |        | DESTROYED          |
| DESTROYED |                     |           |        | the proof, again   |

RESUME ends a pause of the person's own; what the Operator or the authority ordered, they end (`ordered`).
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from mesh import base64url, precondition, telemetry
from mesh.facts import KeyDestruction
from mesh.floors import Floors
from mesh.order import Actor
from mesh.pins import CurrentPins
from mesh.receipts import CurrentSigner
from mesh.transaction import Openings, Purpose, txn_of
from services.signer.credential import (
    Change,
    Credential,
    CredentialHeldError,
    CredentialNotActiveError,
    CredentialNotEndedError,
    CredentialNotSuspendedError,
    Credentials,
    Ending,
    HolderMac,
    State,
    TransactionAlreadyUsedError,
    existing,
    require_attested,
    require_certificate,
    require_phone,
    require_subject,
)

# A receipt names the policy by which its factor was judged; nobody judged anybody here.
_NO_POLICY = "none"
_DESTROYED_FROM = frozenset({State.REVOKED, State.EXPIRED})


class Lifecycle:
    """Changes credentials for whoever satisfies the signer's own pins and floors."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        holders: HolderMac,
        attester: CurrentSigner,
        pins: CurrentPins,
        floors: Floors,
        now: Callable[[], datetime],
    ) -> None:
        self._credentials = credentials
        self._holders = holders
        self._attester = attester
        self._pins = pins
        self._floors = floors
        self._now = now

    async def change(
        self,
        purpose: Purpose,
        request_id: str,
        transaction_bytes: bytes,
        openings: Openings,
        receipts: Sequence[str],
    ) -> None:
        """Do to the transaction's credential what `purpose` (REVOKE, SUSPEND, RESUME) says.

        A repeat with the same request id changes nothing. Raises PreconditionError, the errors of `credential`,
        DependencyUnavailableError.
        """
        txn = txn_of(transaction_bytes)
        if await self._was_changed_by(txn, request_id):
            return
        now = self._now()
        grant = precondition.authorize(
            purpose, transaction_bytes, openings, receipts, self._pins(), self._floors, int(now.timestamp())
        )
        credential = existing(await self._credentials.find(grant.transaction.credential))
        require_attested(credential, self._pins())
        require_subject(credential, self._holders.subject(grant.iin))
        # To revoke and to suspend not the phone: who lost it needs this most.
        if purpose is Purpose.RESUME:
            require_phone(credential, self._holders.phone(grant.phone))
        require_certificate(credential, grant.transaction.certificate_sha256)
        if await self._credentials.change(Change(txn, request_id, credential.name, purpose), now):
            telemetry.logger().info(_SAID[purpose], txn=base64url.encode(txn), credential=credential.name)
            return
        if not await self._was_changed_by(txn, request_id):
            if purpose is Purpose.RESUME:
                if credential.state is State.SUSPENDED and credential.suspended_by != Actor.PERSON:
                    raise CredentialHeldError("The credential is suspended on another's word.")
                raise CredentialNotSuspendedError("The credential is not suspended.")
            raise CredentialNotActiveError("The credential is not active.")

    async def destroy_key(self, name: str) -> str:
        """Erase the wrapped key of a credential that is over; return the proof, KEY_DESTRUCTION.

        A repeat returns the same proof. Raises CredentialNotFoundError, CredentialNotEndedError,
        CredentialRefusedError, DependencyUnavailableError.
        """
        while True:
            now = self._now()
            credential = existing(await self._credentials.find(name))
            if credential.state is State.DESTROYED:
                return credential.destruction_proof
            proof = self._proof_of(credential, now)
            # False: another call was faster, or the key was wrapped anew; the next look tells.
            if await self._credentials.destroy(name, credential.wrapped_key, proof, now):
                telemetry.logger().info("key destroyed", credential=name)
                return proof

    def _proof_of(self, credential: Credential, now: datetime) -> str:
        if credential.state_at(now) not in _DESTROYED_FROM:
            raise CredentialNotEndedError("The credential is not over.")
        require_attested(credential, self._pins())
        return self._attester().sign(
            KeyDestruction(
                credential=credential.name,
                public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
                wrapped_sha256=hashlib.sha256(credential.wrapped_key).digest(),
                ending=_ending_of(credential).value,
                destroyed_at=int(now.timestamp()),
            ),
            txn=credential.txn,
            policy=_NO_POLICY,
            now=int(now.timestamp()),
        )

    async def _was_changed_by(self, txn: bytes, request_id: str) -> bool:
        earlier = await self._credentials.changed_by(txn)
        if earlier is not None and earlier != request_id:
            raise TransactionAlreadyUsedError("The transaction was used before.")
        return earlier is not None


_SAID = {
    Purpose.REVOKE: "credential disabled",
    Purpose.SUSPEND: "credential suspended",
    Purpose.RESUME: "credential resumed",
}


def _ending_of(credential: Credential) -> Ending:
    return Ending(credential.ending) if credential.state is State.REVOKED else Ending.EXPIRED
