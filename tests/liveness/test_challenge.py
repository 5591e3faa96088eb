"""Scripts: of one attempt only, and nobody's guess."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.liveness.challenge import NONCE_BYTES, Scripts, new_nonce
from services.liveness.prompts import GESTURES, Prompt
from tests.bundles import digest_of
from tests.liveness.faces import POLICY

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


def test_scripts_are_spread_evenly() -> None:
    scripts = Counter(SCRIPTS.write(TXN, number.to_bytes(NONCE_BYTES), POLICY).prompts for number in range(12_000))
    assert len(scripts) == 120  # 6 x 5 x 4
    assert 50 < min(scripts.values()) <= max(scripts.values()) < 150
    first = Counter(script[0] for script in scripts.elements())
    assert set(first) == set(GESTURES)
    assert all(1_800 < count < 2_200 for count in first.values())


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
