"""Keyed hashes under several keys: what they are, and how a value gets from some of the keys to all."""

import hmac

import hypothesis
import pytest
from hypothesis import strategies as st

from mesh.pseudonyms import Onion, stamp_of, table_of
from mesh.sealing import FieldKeys, key_id

K1, K2, K3 = (bytes([number]) * 32 for number in (1, 2, 3))


def test_one_key_makes_a_plain_hmac() -> None:
    assert Onion([K1]).of(b"880101300015") == hmac.digest(K1, b"880101300015", "sha256")


def test_each_further_key_hashes_what_those_before_it_made() -> None:
    once = hmac.digest(K1, b"880101300015", "sha256")
    assert Onion([K1, K2]).of(b"880101300015") == hmac.digest(K2, once, "sha256")


@hypothesis.given(keys=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5), message=st.binary())
def test_a_value_of_the_first_keys_is_lifted_to_what_all_of_them_make(keys: list[bytes], message: bytes) -> None:
    for since in range(1, len(keys) + 1):
        assert Onion(keys).lifted(Onion(keys[:since]).of(message), since) == Onion(keys).of(message)


def test_a_pseudonym_hangs_on_every_key_and_on_their_order() -> None:
    made = {Onion(keys).of(b"x") for keys in ([K1], [K2], [K1, K2], [K2, K1], [K1, K2, K3], [K1, K3])}
    assert len(made) == 6


def test_without_a_key_there_is_no_pseudonym() -> None:
    with pytest.raises(ValueError, match="one key or more"):
        Onion([])


def test_the_stamp_names_every_key_in_its_order() -> None:
    assert stamp_of(FieldKeys((K1,))) == key_id(K1)
    assert stamp_of(FieldKeys((K2, K1))) == f"{key_id(K2)} {key_id(K1)}"


@pytest.mark.parametrize("room", ["", "registry; DROP", "registry.x", "Registry"])
def test_only_a_rooms_name_makes_a_table(room: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        table_of(room)
