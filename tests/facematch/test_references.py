"""What is kept of reference photos: sealed, few, and not for long."""

import asyncio
import math
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import metrics
from mesh.sealing import SealBrokenError
from services.facematch.pictures import EMBEDDING_VALUES, QUALITY_COMPONENTS, FaceRule, Portrait, Quality
from services.facematch.references import ReferenceCache
from tests.facematch.caches import MODELS, FakeTimers, cache_of

RULE = FaceRule(min_score_ppm=700_000, min_face_px=48, takes_largest=True)
PHOTO = b"p" * 32


def face(number: int = 0) -> Portrait:
    """A face that float32 spells exactly."""
    embedding = tuple(1.0 if index == number else 0.0 for index in range(EMBEDDING_VALUES))
    return Portrait(embedding, Quality(*range(number, number + len(QUALITY_COMPONENTS))))


def photo(number: int) -> bytes:
    return bytes([number]) * 32


def test_finds_what_was_kept() -> None:
    cache = cache_of(FakeTimers())
    assert cache.find(PHOTO, RULE) is None
    cache.keep(PHOTO, RULE, face(3))
    assert cache.find(PHOTO, RULE) == face(3)


@pytest.mark.parametrize(
    "rule",
    [
        replace(RULE, min_score_ppm=700_001),
        replace(RULE, min_face_px=49),
        replace(RULE, takes_largest=False),
    ],
)
def test_does_not_find_what_another_policy_took(rule: FaceRule) -> None:
    cache = cache_of(FakeTimers())
    cache.keep(PHOTO, RULE, face())
    assert cache.find(PHOTO, rule) is None


def test_does_not_find_another_photo() -> None:
    cache = cache_of(FakeTimers())
    cache.keep(PHOTO, RULE, face())
    assert cache.find(photo(1), RULE) is None


def test_an_entry_serves_no_other_models_and_no_other_process() -> None:
    timers = FakeTimers()
    cache = cache_of(timers)
    cache.keep(PHOTO, RULE, face())
    for other in (cache_of(timers, models_sha256=MODELS[::-1]), cache_of(timers, key=b"K" * 32)):
        other._entries = cache._entries
        assert other.find(PHOTO, RULE) is None


def test_an_entry_moved_to_another_photo_does_not_open() -> None:
    cache = cache_of(FakeTimers())
    cache.keep(photo(1), RULE, face(1))
    cache.keep(photo(2), RULE, face(2))
    one, other = cache._entries
    cache._entries[one], cache._entries[other] = cache._entries[other], cache._entries[one]
    with pytest.raises(SealBrokenError):
        cache.find(photo(1), RULE)


def test_is_erased_by_its_timer_though_nobody_looks() -> None:
    timers = FakeTimers()
    cache = cache_of(timers, ttl_s=300)
    cache.keep(PHOTO, RULE, face())
    timers.move(299)
    assert len(cache) == 1
    timers.move(1)
    assert (len(cache), timers.waiting) == (0, 0)


async def test_an_event_loop_erases_it() -> None:
    cache = ReferenceCache(
        key=b"k" * 32,
        ttl_s=0.05,
        max_entries=1,
        models_sha256=MODELS,
        timers=asyncio.get_running_loop(),
    )
    cache.keep(PHOTO, RULE, face())
    assert cache.find(PHOTO, RULE) == face()
    await asyncio.sleep(0.2)
    assert len(cache) == 0


def test_a_look_up_does_not_lengthen_its_life() -> None:
    timers = FakeTimers()
    cache = cache_of(timers, ttl_s=300)
    cache.keep(PHOTO, RULE, face())
    for _ in range(3):
        timers.move(99)
        assert cache.find(PHOTO, RULE) is not None
    timers.move(3)
    assert cache.find(PHOTO, RULE) is None


def test_is_not_found_after_its_time_even_when_the_timer_is_late() -> None:
    timers = FakeTimers(is_late=True)
    cache = cache_of(timers, ttl_s=300)
    cache.keep(PHOTO, RULE, face())
    timers.move(300)
    assert cache.find(PHOTO, RULE) is None


def test_kept_again_it_lives_from_then_on_and_once() -> None:
    timers = FakeTimers()
    cache = cache_of(timers, ttl_s=300)
    cache.keep(PHOTO, RULE, face(1))
    timers.move(200)
    cache.keep(PHOTO, RULE, face(2))
    assert (len(cache), timers.waiting) == (1, 1)
    timers.move(200)
    assert cache.find(PHOTO, RULE) == face(2)
    timers.move(100)
    assert len(cache) == 0


def test_the_oldest_makes_room() -> None:
    timers = FakeTimers()
    cache = cache_of(timers, max_entries=2)
    for number in range(3):
        cache.keep(photo(number), RULE, face(number))
    assert [cache.find(photo(number), RULE) for number in range(3)] == [None, face(1), face(2)]
    assert timers.waiting == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200)), max_size=40))
def test_is_never_larger_or_older_than_allowed(steps: list[tuple[int, int]]) -> None:
    timers = FakeTimers()
    cache = cache_of(timers, ttl_s=300, max_entries=3)
    kept_at: dict[int, float] = {}
    for number, seconds in steps:
        cache.keep(photo(number), RULE, face(number))
        kept_at[number] = timers.now_s
        timers.move(seconds)
        assert len(cache) == timers.waiting <= 3
        for known, at_s in kept_at.items():
            found = cache.find(photo(known), RULE)
            assert found is None or (found == face(known) and timers.now_s < at_s + 300)


def test_no_time_keeps_nothing() -> None:
    timers = FakeTimers()
    cache = cache_of(timers, ttl_s=0)
    cache.keep(PHOTO, RULE, face())
    assert (cache.find(PHOTO, RULE), len(cache), timers.pending) == (None, 0, [])


@pytest.mark.parametrize(("ttl_s", "max_entries"), [(-1.0, 1), (1.0, 0)])
def test_refuses_to_be_nonsense(ttl_s: float, max_entries: int) -> None:
    with pytest.raises(ValueError, match="cache"):
        cache_of(FakeTimers(), ttl_s=ttl_s, max_entries=max_entries)


def test_holds_neither_the_embedding_nor_the_photos_digest() -> None:
    cache = cache_of(FakeTimers())
    embedding = tuple(math.sqrt(1 / EMBEDDING_VALUES) for _ in range(EMBEDDING_VALUES))
    digest = bytes(range(32))
    cache.keep(digest, RULE, Portrait(embedding, face().quality))
    ((place, entry),) = cache._entries.items()
    held = b"".join((place, entry.sealed, cache._key, cache._models))
    assert digest not in held
    assert struct.pack("<4f", *embedding[:4]) not in held
    assert str(entry.sealed) not in repr(entry)


def test_counts_hits_and_misses() -> None:
    counted = metrics.FACEMATCH_REFERENCE_LOOKUPS
    before = counted.count(result="miss"), counted.count(result="hit")
    cache = cache_of(FakeTimers())
    cache.find(PHOTO, RULE)
    cache.keep(PHOTO, RULE, face())
    for _ in range(2):
        cache.find(PHOTO, RULE)
    assert (counted.count(result="miss"), counted.count(result="hit")) == (before[0] + 1, before[1] + 2)
