"""Faces of reference photos, kept for a short while, so that a retry costs one embedding less.

They live in this process's memory and nowhere else: another replica, or this one started again, embeds again. An entry
is found and opened by the photo's digest together with a key that this process drew at its start; neither the
embedding nor the digest is kept, so whoever reads the memory without having the photo's digest opens nothing. The
models' digests and the rule by which the face was taken are part of the place: another policy's entry is not found.
Only faces are kept, never a fault. A hijacked worker's lie is kept like any other answer, until it expires. What a hit
tells by its speed it tells to the gateway alone, which refuses at its own pace.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Protocol

from mesh import metrics
from mesh.sealing import Seal, derive
from services.facematch.pictures import EMBEDDING_VALUES, QUALITY_COMPONENTS, FaceRule, Portrait, Quality

_COLUMN = "facematch.reference"
_PORTRAIT = struct.Struct(f"<{EMBEDDING_VALUES}f{len(QUALITY_COMPONENTS)}B")


class Timer(Protocol):
    """A handle of what will be done later."""

    def cancel(self) -> None:
        """Do it not."""


class Timers(Protocol):
    """What the cache needs of an event loop."""

    def time(self) -> float:
        """Seconds of a clock that only goes forward."""

    def call_later(self, delay: float, callback: Callable[[bytes], None], place: bytes, /) -> Timer:
        """Call back with `place` after so many seconds."""


@dataclass(frozen=True, slots=True)
class _Entry:
    sealed: bytes = field(repr=False)
    expires_s: float
    erasure: Timer


class ReferenceCache:
    """At most `max_entries` faces, each erased `ttl_s` seconds after it was kept, used or not; 0 s keeps none.

    `key` is 32 random bytes of this process alone. Figures count look-ups by their result, and nothing else.
    """

    def __init__(
        self,
        *,
        key: bytes,
        ttl_s: float,
        max_entries: int,
        models_sha256: Sequence[bytes],
        timers: Timers,
    ) -> None:
        if max_entries < 1 or ttl_s < 0:
            raise ValueError("a cache has room for at least one entry, and no negative time")
        self._key = key
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._models = b"".join(models_sha256)
        self._timers = timers
        # In the order in which they were kept, which is that of their expiry.
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, photo_sha256: bytes, rule: FaceRule) -> Portrait | None:
        """Return the face of the photo of this digest, taken by this rule, or None."""
        place = self._place(photo_sha256, rule)
        entry = self._entries.get(place)
        # The timer of a busy loop may be late.
        if entry is None or self._timers.time() >= entry.expires_s:
            metrics.FACEMATCH_REFERENCE_LOOKUPS.add(result="miss")
            return None
        metrics.FACEMATCH_REFERENCE_LOOKUPS.add(result="hit")
        opened = self._seal(photo_sha256).open(entry.sealed, column=_COLUMN, row=place.hex())
        values = _PORTRAIT.unpack(opened)
        return Portrait(values[:EMBEDDING_VALUES], Quality(*values[EMBEDDING_VALUES:]))

    def keep(self, photo_sha256: bytes, rule: FaceRule, portrait: Portrait) -> None:
        """Keep a face. The oldest one makes room."""
        if self._ttl_s == 0:
            return
        place = self._place(photo_sha256, rule)
        self._erase(place)
        if len(self._entries) >= self._max_entries:
            self._erase(next(iter(self._entries)))
        packed = _PORTRAIT.pack(*portrait.embedding, *astuple(portrait.quality))
        sealed = self._seal(photo_sha256).seal(packed, column=_COLUMN, row=place.hex())
        erasure = self._timers.call_later(self._ttl_s, self._erase, place)
        self._entries[place] = _Entry(sealed, self._timers.time() + self._ttl_s, erasure)

    def _erase(self, place: bytes) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            entry.erasure.cancel()

    def _seal(self, photo_sha256: bytes) -> Seal:
        return Seal(derive(self._key + photo_sha256, "facematch-reference"))

    def _place(self, photo_sha256: bytes, rule: FaceRule) -> bytes:
        taken_by = f"{rule.min_score_ppm} {rule.min_face_px} {rule.takes_largest}".encode()
        return derive(self._key + photo_sha256 + self._models + taken_by, "facematch-reference-place")
