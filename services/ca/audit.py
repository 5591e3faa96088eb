"""The audit of the ledger: an append-only chain of what happened, and the check that nothing in it was changed.

The database's triggers write it (migrations/0002): one entry for each change of a certificate's state and for each list
published, in the order of their commits; `services.ca.rekey` adds one when the field key was replaced. An entry's hash
is SHA-256 of the hash before it (32 zero bytes at first) and of the entry's fields. Whoever rewrites an entry has to
rewrite all that follow; a hash that was noted elsewhere, in a log or on paper, then no longer matches.
`services.ca.admin audit` follows the chain from a command line.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.ca.ledger import Entry

_FIRST = bytes(32)
_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AuditBrokenError(Exception):
    """The chain does not hold; says from which entry on."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry's number and hash; (0, 32 zero bytes) of an empty audit."""

    seq: int = 0
    hash: bytes = _FIRST

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


async def verify(read: Callable[[int, int], Awaitable[Sequence[Entry]]], expected: str = "") -> Head:
    """Follow the chain from its beginning to its head and return that.

    `read` gives the entries after a number, at most so many; `expected` is SEQ:HASH as noted before, "" for none.

    Raises AuditBrokenError.
    """
    head, met = Head(), not expected
    while entries := await read(head.seq, _PAGE):
        for entry in entries:
            if entry.seq != head.seq + 1 or entry.hash != _hash(head.hash, entry):
                raise AuditBrokenError(f"entry {head.seq + 1} is missing or was changed")
            head = Head(entry.seq, entry.hash)
            met = met or str(head) == expected
    if not met:
        raise AuditBrokenError(f"{expected} is not in the chain")
    return head


def _hash(previous: bytes, entry: Entry) -> bytes:
    since = entry.at - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    fields = (
        entry.seq,
        micros,
        entry.event,
        entry.subject,
        entry.actor,
        entry.reason,
        entry.sha256,
        str(entry.changes_status).lower(),
    )
    return hashlib.sha256(previous + "|".join(map(str, fields)).encode("utf-8")).digest()
