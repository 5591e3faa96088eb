"""Lifting on every core, in processes of their own: to attest is what takes time while the signer is stopped.

The processes have the keys that their parent has, and end with it, also when it is killed.
"""

import asyncio
import functools
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mesh import pins
from mesh.receipts import ReceiptSigner
from mesh.transaction import Env
from services.signer.credential import Credential, CredentialRefusedError, HolderMac
from services.signer.lifting import Lifting

_CHUNK = 100
# Fewer are done sooner than processes are started.
_ALONE_BELOW = 500


@dataclass(frozen=True, slots=True)
class Keys:
    """What it takes to lift: the keys of the pseudonyms (the oldest first), the receipt key (PEM), the pins (JSON)."""

    subject_keys: tuple[bytes, ...] = field(repr=False)
    receipt_pem: bytes = field(repr=False)
    pins_json: bytes
    env: Env


class LiftingWorkers:
    """As many processes as there are cores, which are started when there is much to do."""

    def __init__(self, keys: Keys, *, processes: int | None = None, alone_below: int = _ALONE_BELOW) -> None:
        self._keys = keys
        self._alone_below = alone_below
        self._processes = ProcessPoolExecutor(
            processes or os.cpu_count(), multiprocessing.get_context("spawn"), initializer=_end_with_parent
        )

    async def lifted(self, credentials: Sequence[Credential], since: int) -> Sequence[Credential | str]:
        """Return each as all keys make it, or why it is refused (`CredentialRefusedError.reason`), in their order."""
        if len(credentials) < self._alone_below:
            return _lifted(self._keys, credentials, since)
        loop = asyncio.get_running_loop()
        chunks = [credentials[at : at + _CHUNK] for at in range(0, len(credentials), _CHUNK)]
        lifted = await asyncio.gather(
            *(loop.run_in_executor(self._processes, _lifted, self._keys, chunk, since) for chunk in chunks)
        )
        return [each for chunk in lifted for each in chunk]

    def close(self) -> None:
        """End the processes."""
        self._processes.shutdown(cancel_futures=True)


def lifting_of(keys: Keys) -> Lifting:
    """Return what lifts with these keys. Raises ValueError, PinsError."""
    return Lifting(
        holders=HolderMac(*keys.subject_keys),
        attester=ReceiptSigner.from_pem(keys.receipt_pem, keys.env),
        pins=pins.parse(keys.pins_json, keys.env),
        now=lambda: datetime.now(UTC),
    )


_kept_lifting_of = functools.cache(lifting_of)


def _lifted(keys: Keys, credentials: Sequence[Credential], since: int) -> list[Credential | str]:
    lifting, lifted = _kept_lifting_of(keys), list[Credential | str]()
    for credential in credentials:
        try:
            lifted.append(lifting.lifted(credential, since))
        except CredentialRefusedError as error:
            lifted.append(error.reason)
    return lifted


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
