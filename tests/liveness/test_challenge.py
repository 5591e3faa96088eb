"""Scripts: of one attempt only, and nobody's guess."""

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.liveness
from services.liveness import challenge, policies
from services.liveness.challenge import NONCE_BYTES, Scripts, new_nonce
from services.liveness.policies import Policy, Variety
from services.liveness.prompts import Move, Prompt
from tests.bundles import digest_of
from tests.liveness.faces import POLICY

SHIPPED = Path(services.liveness.__path__[0]) / "policies.toml"
SCRIPTS = Scripts(digest_of("script key"))
TXN = digest_of("a transaction")
NONCE = b"n" * NONCE_BYTES


@given(txn=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=16, max_size=16), length=st.integers(3, 6))
def test_script_has_as_many_prompts_as_the_policy_asks_and_none_twice(txn: bytes, nonce: bytes, length: int) -> None:
    script = SCRIPTS.write(txn, nonce, replace(POLICY, length=length))
    assert len(script.prompts) == len(set(script.prompts)) == length
    assert Prompt.NEUTRAL not in script.prompts


def test_every_replica_writes_the_same_script_of_an_attempt() -> None:
    assert SCRIPTS.write(TXN, NONCE, POLICY) == Scripts(digest_of("script key")).write(TXN, NONCE, POLICY)


@pytest.mark.parametrize(
    "other",
    [
        Scripts(digest_of("another key")).write(TXN, NONCE, POLICY),
        SCRIPTS.write(digest_of("another transaction"), NONCE, POLICY),
        SCRIPTS.write(TXN, b"m" * NONCE_BYTES, POLICY),
    ],
    ids=["key", "transaction", "nonce"],
)
def test_another_key_transaction_or_nonce_gives_another_script(other: object) -> None:
    assert SCRIPTS.write(TXN, NONCE, POLICY) != other


def plain(policy: Policy) -> Policy:
    """The policy, if it asked for everything in few ways."""
    variety = Variety(times=(1, 2), blinks=(1,), holds_ms=(200,), reaches_percent=(100,), windows_ms=(10_000,))
    return replace(policy, prompts=(Prompt.SMILE, Prompt.BLINK, Prompt.TURN_LEFT, Prompt.LOOK_DOWN), variety=variety)


def counted_by_hand(policy: Policy) -> int:
    ways = {prompt: len(challenge.asks(prompt, policy)) for prompt in policy.prompts}
    return sum(math.prod(ways[prompt] for prompt in order) for order in permutations(policy.prompts, policy.length))


@pytest.mark.parametrize("policy", policies.load(SHIPPED).values(), ids=lambda policy: policy.id)
def test_shipped_policies_allow_more_than_a_million_scripts(policy: Policy) -> None:
    assert challenge.count(policy) == counted_by_hand(policy)
    assert challenge.count(policy) >= 2**20


def test_sandbox_allows_as_many_scripts_as_its_policy_says() -> None:
    """60 orders without a blink, each gesture in 30 ways; 60 with one, which may be asked for in 9."""
    assert challenge.count(POLICY) == 60 * 30**3 + 60 * 30**2 * 9 == 2_106_000
    assert "2,106,000" in SHIPPED.read_text(encoding="utf-8")


@pytest.mark.parametrize("length", [3, 4])
def test_each_number_is_another_script_and_each_script_has_a_number(length: int) -> None:
    policy = replace(plain(POLICY), length=length)
    scripts = {challenge.script_of(number, policy) for number in range(challenge.count(policy))}
    assert len(scripts) == challenge.count(policy) == counted_by_hand(policy)
    assert all(len({prompt for prompt, *_ in script}) == length for script in scripts)


@given(st.sets(st.integers(0, 2_105_999), min_size=2, max_size=2))
def test_no_two_numbers_of_the_sandbox_are_one_script(numbers: set[int]) -> None:
    one, other = (challenge.script_of(number, POLICY) for number in numbers)
    assert one != other


def test_scripts_are_uniform() -> None:
    policy = plain(POLICY)
    total = challenge.count(policy)
    drawn = Counter(SCRIPTS.write(TXN, number.to_bytes(NONCE_BYTES), policy).moves for number in range(100 * total))
    assert len(drawn) == total == 6 * 2**3 + 18 * 2**2
    # Chi-square with 119 degrees of freedom: above 190 once in 30,000 times, and the draw is always the same.
    assert sum((seen - 100) ** 2 / 100 for seen in drawn.values()) < 190


def test_every_way_of_asking_is_used() -> None:
    moves = [move for number in range(3_000) for move in SCRIPTS.write(TXN, number.to_bytes(NONCE_BYTES), POLICY).moves]
    used = Counter((move.prompt, move.times, move.hold_ms, move.reach_percent) for move in moves)
    assert set(used) == {ask for prompt in POLICY.prompts for ask in challenge.asks(prompt, POLICY)}
    windows = Counter(move.window_ms for move in moves)
    assert set(windows) == set(POLICY.variety.windows_ms)
    assert min(windows.values()) > 2_800


def test_chance_that_a_recording_fits_another_script_is_what_the_policies_file_says() -> None:
    """It fits when each gesture is the same, done as often, for as long or longer, and as far or further."""

    def fits(recorded: Move, asked: Move) -> bool:
        return (
            recorded.prompt is asked.prompt
            # Blinking is never wrong, so more blinks serve where fewer are asked for.
            and (recorded.times == asked.times or (asked.prompt is Prompt.BLINK and recorded.times > asked.times))
            and recorded.hold_ms >= asked.hold_ms
            and recorded.reach_percent >= asked.reach_percent
        )

    ways = {prompt: [Move(*ask, window_ms=0) for ask in challenge.asks(prompt, POLICY)] for prompt in POLICY.prompts}
    pairs = {prompt: sum(fits(one, other) for one in moves for other in moves) for prompt, moves in ways.items()}
    fitting = sum(math.prod(pairs[prompt] for prompt in order) for order in permutations(POLICY.prompts, POLICY.length))
    one_in = challenge.count(POLICY) ** 2 / fitting
    assert f"one in {round(one_in, -2):,.0f}" in SHIPPED.read_text(encoding="utf-8")


def test_name_of_a_script_says_nothing_of_its_prompts() -> None:
    """The name is known to the gateway and to whoever reads a receipt; equal scripts have different names."""
    names: dict[tuple[Prompt, ...], set[str]] = {}
    for number in range(500):
        script = SCRIPTS.write(TXN, number.to_bytes(NONCE_BYTES), POLICY)
        names.setdefault(script.prompts, set()).add(script.id)
    assert sum(map(len, names.values())) == 500


def test_nonces_differ() -> None:
    assert len({new_nonce() for _ in range(100)}) == 100


@pytest.mark.parametrize("key", [b"", b"short", bytes(33)])
def test_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Scripts(key)


def test_key_is_in_no_repr() -> None:
    assert "key" not in repr(SCRIPTS)
