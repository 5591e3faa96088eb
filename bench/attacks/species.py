"""All species of attacks, by name, and the making of one clip."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.random import Generator

from bench.attacks import animated, injected, printed, replayed, swapped
from bench.attacks.material import Made, Materials

SPECIES: Mapping[str, Callable[[Materials, Generator], Made]] = {
    "print": partial(printed.make, fills_the_frame=False),
    "print-full": partial(printed.make, fills_the_frame=True),
    "replay": partial(replayed.make, fills_the_frame=False),
    "replay-full": partial(replayed.make, fills_the_frame=True),
    "animated-still": animated.make,
    "face-swap": swapped.make,
    "splice": injected.splice,
    "other-session": injected.other_session,
    "frozen": injected.frozen,
    "looped": injected.looped,
}


def generator_of(species: str, number: int, seed: int) -> Generator:
    """Return the randomness of one clip: its own, whatever other clips are made."""
    name = int.from_bytes(hashlib.sha256(species.encode()).digest()[:8])
    return np.random.default_rng([seed, name, number])


def make(species: str, number: int, seed: int, materials: Materials) -> Made:
    """Return clip `number` of a species. Raises MaterialError."""
    return SPECIES[species](materials, generator_of(species, number, seed))
