"""The envelope of wrapped keys: it comes from a database that may lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.hsm import KekName, KeyAlgorithm, WrappedKey, WrappedKeyRefusedError

LABELS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=32)
ENVELOPES = st.builds(
    WrappedKey,
    st.builds(KekName, LABELS, st.integers(1, 0xFFFF)),
    st.sampled_from((KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384)),
    st.integers(2, 20).flatmap(lambda blocks: st.binary(min_size=8 * blocks, max_size=8 * blocks)),
)


@given(ENVELOPES)
def test_envelope_reads_back_as_it_was_written(key: WrappedKey) -> None:
    assert WrappedKey.from_bytes(key.to_bytes()) == key


@given(ENVELOPES, st.data())
def test_envelope_has_one_encoding(key: WrappedKey, data: st.DataObject) -> None:
    envelope = bytearray(key.to_bytes())
    position = data.draw(st.integers(0, len(envelope) - 1))
    envelope[position] ^= data.draw(st.integers(1, 255))
    try:
        read = WrappedKey.from_bytes(bytes(envelope))
    except WrappedKeyRefusedError:
        return
    assert read != key
    assert read.to_bytes() == bytes(envelope)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(envelope: bytes) -> None:
    with pytest.raises(WrappedKeyRefusedError):
        WrappedKey.from_bytes(envelope)


@pytest.mark.parametrize(("label", "generation"), [("", 1), ("x" * 33, 1), ("ключ", 1), ("kek", 0), ("kek", 0x10000)])
def test_kek_name_is_refused(label: str, generation: int) -> None:
    with pytest.raises(ValueError, match="KEK"):
        KekName(label, generation)
