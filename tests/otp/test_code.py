"""Codes: how they are drawn and what is kept of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.otp.code import DIGITS, KeyedHash, new_code
from tests.bundles import digest_of

KEYED_HASH = KeyedHash(digest_of("key"))
TXN, CHALLENGE = digest_of("txn"), "a" * 26


def test_codes_are_six_digits_drawn_from_a_million() -> None:
    asked: list[int] = []

    def draw(limit: int) -> int:
        asked.append(limit)
        return 42

    assert new_code(draw) == "000042"
    assert asked == [1_000_000]


def test_codes_come_from_the_systems_generator_in_no_pattern() -> None:
    codes = [new_code() for _ in range(5000)]
    assert all(len(code) == DIGITS and code.isdigit() for code in codes)
    assert len(set(codes)) > 4900
    for place in range(DIGITS):
        counted = Counter(code[place] for code in codes)
        assert len(counted) == 10
        assert max(counted.values()) < 650  # 500 expected, standard deviation 21


@given(st.text("0123456789", min_size=6, max_size=10))
def test_only_the_code_itself_is_the_code(code: str) -> None:
    kept = KEYED_HASH.of_code(TXN, CHALLENGE, "123456")
    assert KEYED_HASH.is_code(kept, TXN, CHALLENGE, code) is (code == "123456")


@pytest.mark.parametrize(
    ("txn", "challenge", "key"),
    [
        (digest_of("another txn"), CHALLENGE, "key"),
        (TXN, "b" * 26, "key"),
        (TXN, CHALLENGE, "another key"),
    ],
)
def test_what_is_kept_is_bound_to_transaction_challenge_and_key(txn: bytes, challenge: str, key: str) -> None:
    kept = KEYED_HASH.of_code(TXN, CHALLENGE, "123456")
    assert not KeyedHash(digest_of(key)).is_code(kept, txn, challenge, "123456")


def test_a_code_is_compared_under_the_key_it_was_kept_under() -> None:
    old, now = digest_of("old key"), digest_of("new key")
    before, after, later = KeyedHash(old), KeyedHash(now, [old]), KeyedHash(digest_of("third key"), [now])
    kept = before.of_code(TXN, CHALLENGE, "123456")
    assert after.key_id != before.key_id
    assert after.is_code(kept, TXN, CHALLENGE, "123456", before.key_id)
    assert not after.is_code(kept, TXN, CHALLENGE, "123456", after.key_id)
    assert not after.is_code(kept, TXN, CHALLENGE, "123457", before.key_id)
    assert after.is_code(kept, TXN, CHALLENGE, "123456", ""), "kept before keys had names"
    assert after.knows(before.key_id)
    assert not later.knows(before.key_id)


def test_who_is_counted_is_found_again_under_the_keys_before() -> None:
    old, now = digest_of("old key"), digest_of("new key")
    before, after = KeyedHash(old), KeyedHash(now, [old])
    for kind in (KeyedHash.phone, KeyedHash.person, KeyedHash.address):
        assert kind(before, "+77010000001").earlier == ()
        assert kind(after, "+77010000001").earlier == (kind(before, "+77010000001").hmac,)
        assert kind(after, "+77010000001").hmac != kind(before, "+77010000001").hmac


def test_phones_persons_and_addresses_are_counted_apart() -> None:
    assert len({kind(KEYED_HASH, "1").hmac for kind in (KeyedHash.phone, KeyedHash.person, KeyedHash.address)}) == 3


def test_codes_and_phones_are_hashed_apart() -> None:
    assert KEYED_HASH.of_phone("+77010000001") != KeyedHash(digest_of("another")).of_phone("+77010000001")
    assert len(KEYED_HASH.of_phone("+77010000001")) == 32


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyedHash(b"k" * length)
