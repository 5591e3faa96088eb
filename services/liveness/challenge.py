"""Scripts of prompts: unpredictable to whoever does not hold the secret, and of one attempt only.

A script follows from the service's secret, the transaction and a nonce made for the attempt, so a recording made for
one attempt fits another by chance only. The store keeps the nonce and not the prompts: who reads the database does not
learn what will be asked.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.liveness.policies import Policy
from services.liveness.prompts import Prompt

NONCE_BYTES = 16
_KEY_BYTES = 32
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Script:
    """What is asked in one attempt, after NEUTRAL; `id` names it and says nothing about it."""

    id: str
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Scripts:
    """Writes the scripts of this service. `key` is 32 secret bytes, the same on every replica."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != _KEY_BYTES:
            raise ValueError(f"the key of scripts has {_KEY_BYTES} bytes")

    def write(self, txn: bytes, nonce: bytes, policy: Policy) -> Script:
        """Return the script of one attempt: `policy.length` of the policy's prompts in any order, none twice."""
        name = hmac.digest(self.key, b"finid-liveness-script-id-v1\0" + txn + nonce, "sha256")[:_ID_BYTES]
        randoms = self._numbers(txn, nonce)
        left = list(policy.prompts)
        prompts = tuple(left.pop(_below(len(left), randoms)) for _ in range(policy.length))
        return Script(base64.b32encode(name).decode().rstrip("=").lower(), prompts)

    def _numbers(self, txn: bytes, nonce: bytes) -> Iterator[int]:
        """Endless bytes that only the key's holder can tell: HMAC of a counter."""
        counter = 0
        while True:
            block = b"finid-liveness-script-v1\0" + txn + nonce + counter.to_bytes(4)
            yield from hmac.new(self.key, block, hashlib.sha256).digest()
            counter += 1


def _below(count: int, randoms: Iterator[int]) -> int:
    """A number from 0 to `count` - 1, each as likely: bytes beyond the last whole multiple of `count` are skipped."""
    limit = 256 - 256 % count
    return next(number for number in randoms if number < limit) % count


def new_nonce() -> bytes:
    """Return the nonce of a new attempt."""
    return secrets.token_bytes(NONCE_BYTES)
