"""Scripts of prompts: unpredictable to whoever does not hold the secret, and of one attempt only.

A script follows from the service's secret, the transaction and a nonce made for the attempt, so a recording made for
one attempt fits another by chance only. The store keeps the nonce and not the script: who reads the database does not
learn what will be asked.

Every script that a policy allows has a number, and the number is drawn; so each is as likely as any other. What a
recording has to match is counted: which gestures in which order, and of each how often, how long and how far. The
windows are drawn beside it and not counted, since a recording need not match them.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import factorial

from mesh.transaction import Channel
from services.liveness import flash
from services.liveness.flash import Colour
from services.liveness.policies import Policy
from services.liveness.prompts import Move, Prompt

NONCE_BYTES = 16
_KEY_BYTES = 32
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Script:
    """What is asked in one attempt, after NEUTRAL; `id` names it and says nothing about it.

    `flashes` are the colours that are shown after that, one sequence for each round; empty when none are.
    """

    id: str
    moves: tuple[Move, ...]
    flashes: tuple[tuple[Colour, ...], ...] = ()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The gestures, in order."""
        return tuple(move.prompt for move in self.moves)

    @property
    def last_index(self) -> int:
        """The index of what is asked last; 0 is NEUTRAL's."""
        return len(self.moves) + bool(self.flashes)


@dataclass(frozen=True, slots=True)
class Scripts:
    """Writes the scripts of this service. `key` is 32 secret bytes, the same on every replica."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != _KEY_BYTES:
            raise ValueError(f"the key of scripts has {_KEY_BYTES} bytes")

    def write(self, txn: bytes, nonce: bytes, policy: Policy, channel: Channel | None = None) -> Script:
        """Return the script of one attempt: `policy.length` of the policy's prompts in any order, none twice.

        Colours are in it when the policy asks for them over `channel`, and never without one.
        """
        name = hmac.digest(self.key, b"finid-liveness-script-id-v2\0" + txn + nonce, "sha256")[:_ID_BYTES]
        randoms = self._numbers(txn, nonce)
        asked = script_of(_below(count(policy), randoms), policy)
        windows_ms = policy.variety.windows_ms
        moves = tuple(Move(*ask, window_ms=windows_ms[_below(len(windows_ms), randoms)]) for ask in asked)
        asked_flash = policy.flash_over(channel)
        rounds, colours = (asked_flash.rounds, asked_flash.colours) if asked_flash else (0, 0)
        flashes = tuple(flash.sequence(self.key, txn, nonce + bytes([number]), colours) for number in range(rounds))
        return Script(base64.b32encode(name).decode().rstrip("=").lower(), moves, flashes)

    def _numbers(self, txn: bytes, nonce: bytes) -> Iterator[int]:
        """Endless bytes that only the key's holder can tell: HMAC of a counter."""
        counter = 0
        while True:
            block = b"finid-liveness-script-v2\0" + txn + nonce + counter.to_bytes(4)
            yield from hmac.new(self.key, block, hashlib.sha256).digest()
            counter += 1


Ask = tuple[Prompt, int, int, int]
"""A prompt, how many times, how long (ms), how far (percent)."""


def count(policy: Policy) -> int:
    """Return how many scripts a policy allows, windows aside."""
    return _arrangements([len(asks(prompt, policy)) for prompt in policy.prompts], policy.length)


def script_of(number: int, policy: Policy) -> tuple[Ask, ...]:
    """Return the script that has this number, from 0 to `count(policy)` - 1; another number has another script."""
    left = {prompt: asks(prompt, policy) for prompt in policy.prompts}
    script: list[Ask] = []
    for still in range(policy.length, 0, -1):
        for prompt, ways in left.items():
            rest = _arrangements([len(other) for key, other in left.items() if key is not prompt], still - 1)
            if number < len(ways) * rest:
                break
            number -= len(ways) * rest
        way, number = divmod(number, rest)
        script.append(left.pop(prompt)[way])
    return tuple(script)


def asks(prompt: Prompt, policy: Policy) -> Sequence[Ask]:
    """Return every way in which a policy may ask for a gesture."""
    blinks = prompt is Prompt.BLINK
    return [
        (prompt, times, hold_ms, reach_percent)
        for times in (policy.variety.blinks if blinks else policy.variety.times)
        for hold_ms in ((0,) if blinks else policy.variety.holds_ms)
        for reach_percent in policy.variety.reaches_percent
    ]


def _arrangements(ways: Sequence[int], length: int) -> int:
    """In how many ways `length` different things stand in a row when each may itself be in one of so many `ways`."""
    # sums[k]: over all k of the things looked at so far, the products of their ways.
    sums = [1] + [0] * length
    for way in ways:
        for size in range(length, 0, -1):
            sums[size] += way * sums[size - 1]
    return sums[length] * factorial(length)


def _below(count: int, randoms: Iterator[int]) -> int:
    """A number from 0 to `count` - 1, each as likely: those beyond the last whole multiple of `count` are skipped."""
    size = (count.bit_length() + 7) // 8
    limit = 256**size - 256**size % count
    while (number := int.from_bytes(bytes(islice(randoms, size)))) >= limit:
        pass
    return number % count


def new_nonce() -> bytes:
    """Return the nonce of a new attempt."""
    return secrets.token_bytes(NONCE_BYTES)
