"""A token that goes away and comes back, without a restart."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.hsm import KekName, KeyAlgorithm, TokenBusyError, TokenError, TokenPool, TokenUnavailableError
from mesh.hsm.module import Module
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace

pytestmark = pytest.mark.hsm

KEK = KekName("subject-kek", 1)


@pytest.fixture
def place(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    token = place.open(writable=True)
    token.generate_key_pair("k", KeyAlgorithm.EC_P256)
    token.create_kek(KEK)
    return place


@pytest.fixture
def pool(place: TokenPlace) -> Iterator[TokenPool]:
    pool = TokenPool(place.open(), queue_limit=2, call_timeout_s=30.0)
    yield pool
    pool.close()


@pytest.fixture
def impatient(place: TokenPlace) -> Iterator[TokenPool]:
    """A pool that soon gives a call up."""
    pool = TokenPool(place.open(), queue_limit=2, call_timeout_s=0.5)
    yield pool
    pool.close()


def take_away(place: TokenPlace) -> Path:
    return place.folder.rename(place.folder.parent.parent / place.folder.name)


async def test_lost_token_is_noticed_and_recovered(place: TokenPlace, pool: TokenPool) -> None:
    token = pool.token
    pair = await pool.call(token.generate_wrapped, KEK, KeyAlgorithm.EC_P256)
    await pool.call(token.sign_digest, "k", bytes(32))
    await pool.probe()

    away = take_away(place)
    began_s = time.monotonic()
    with pytest.raises(TokenUnavailableError):
        await pool.probe()
    assert time.monotonic() - began_s < 2
    with pytest.raises(TokenError):
        await pool.call(token.sign_digest, "k", bytes(32))
    with pytest.raises(TokenError):
        await pool.call(token.sign_with_wrapped, pair.private_key, [bytes(32)])

    away.rename(place.folder)
    await pool.probe()
    assert await pool.call(token.sign_digest, "k", bytes(32))
    assert await pool.call(token.sign_with_wrapped, pair.private_key, [bytes(32)])


async def test_lost_token_is_not_blamed_on_the_wrapped_key(place: TokenPlace, pool: TokenPool) -> None:
    token = pool.token
    pair = await pool.call(token.generate_wrapped, KEK, KeyAlgorithm.EC_P256)
    await pool.call(token.sign_with_wrapped, pair.private_key, [bytes(32)])
    away = take_away(place)
    with pytest.raises(TokenUnavailableError):
        await pool.call(token.sign_with_wrapped, pair.private_key, [bytes(32)])
    away.rename(place.folder)


async def test_recovery_of_one_token_keeps_others_working(softhsm: SoftHsm, place: TokenPlace, pool: TokenPool) -> None:
    other_place = softhsm.new_token()
    other_place.open(writable=True).generate_key_pair("k", KeyAlgorithm.EC_P256)
    other = TokenPool(other_place.open())
    await other.call(other.token.sign_digest, "k", bytes(32))
    away = take_away(place)
    with pytest.raises(TokenUnavailableError):
        await pool.probe()
    assert await other.call(other.token.sign_digest, "k", bytes(32))
    away.rename(place.folder)
    other.close()


async def test_work_goes_on_while_the_module_is_initialised_anew(pool: TokenPool) -> None:
    module = Module.load(MODULE_PATH)

    async def sign() -> None:
        for _ in range(50):
            await pool.call(pool.token.sign_digest, "k", bytes(32))

    async def reinitialise() -> None:
        for _ in range(10):
            await asyncio.to_thread(module.reinitialise, module.generation)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sign())
        tasks.create_task(sign())
        tasks.create_task(reinitialise())


async def test_slow_call_is_given_up_and_the_queue_is_bounded(impatient: TokenPool) -> None:
    pool = impatient
    release = threading.Event()
    hanging = [asyncio.create_task(pool.call(release.wait, 10.0)) for _ in range(2)]
    waiting = [asyncio.create_task(pool.call(pool.token.random, 1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TokenBusyError):
        await pool.call(pool.token.random, 1)
    for task in (*hanging, *waiting):
        with pytest.raises(TokenUnavailableError):
            await task
    release.set()
    assert len(await pool.call(pool.token.random, 1)) == 1


async def test_probe_does_not_wait_behind_work(pool: TokenPool) -> None:
    release = threading.Event()
    hanging = [asyncio.create_task(pool.call(release.wait, 10.0)) for _ in range(2)]
    await asyncio.sleep(0)
    await pool.probe()
    release.set()
    await asyncio.gather(*hanging)


def test_reinitialisation_refuses_while_a_call_hangs(softhsm: SoftHsm) -> None:
    softhsm.new_token()
    module = Module.load(MODULE_PATH)
    generation = module.generation
    with module.in_use(), pytest.raises(TokenUnavailableError):
        module.reinitialise(generation, wait_s=0.05)
    assert module.generation == generation
    module.reinitialise(generation)
    assert module.generation == generation + 1
