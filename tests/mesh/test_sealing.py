"""Sealed values and their keys: what opens under which, and what is refused."""

from pathlib import Path

import pytest

from mesh import base64url
from mesh.sealing import FieldKeys, Seal, SealBrokenError, derive, key_id, read_keys

K1, K2, K3 = (bytes([number]) * 32 for number in (1, 2, 3))
PLACE = {"column": "people.phone", "row": "row-1"}


def key_file(folder: Path, name: str, key: bytes) -> Path:
    (folder / name).write_text(base64url.encode(key) + "\n")
    return folder / name


def test_the_newest_key_seals_and_any_opens() -> None:
    before = Seal(K1).seal(b"value", **PLACE)
    rotated = Seal(K3, K1, K2)
    assert rotated.open(before, **PLACE) == b"value"
    assert rotated.open(Seal(K2).seal(b"value", **PLACE), **PLACE) == b"value"
    after = rotated.seal(b"value", **PLACE)
    assert Seal(K3).open(after, **PLACE) == b"value"
    with pytest.raises(SealBrokenError):
        Seal(K2, K1).open(after, **PLACE)


def test_what_the_newest_key_sealed_is_told_from_what_an_earlier_one_did() -> None:
    seal = Seal(K2, K1)
    assert seal.is_current(seal.seal(b"", **PLACE), **PLACE)
    assert not seal.is_current(Seal(K1).seal(b"", **PLACE), **PLACE)


@pytest.mark.parametrize(
    ("sealed", "place"),
    [
        pytest.param(Seal(K3).seal(b"value", **PLACE), PLACE, id="sealed under a key that is not given"),
        pytest.param(Seal(K1).seal(b"value", **PLACE), PLACE | {"row": "row-2"}, id="moved to another row"),
        pytest.param(Seal(K2).seal(b"value", **PLACE), PLACE | {"column": "people.name"}, id="moved to another column"),
        pytest.param(Seal(K1).seal(b"value", **PLACE)[:-1], PLACE, id="cut"),
        pytest.param(b"\x02" + Seal(K1).seal(b"value", **PLACE)[1:], PLACE, id="of another format"),
        pytest.param(b"", PLACE, id="empty"),
    ],
)
def test_what_no_key_sealed_for_this_place_does_not_open(sealed: bytes, place: dict[str, str]) -> None:
    with pytest.raises(SealBrokenError):
        Seal(K2, K1).open(sealed, **place)
    with pytest.raises(SealBrokenError):
        Seal(K2, K1).is_current(sealed, **place)


@pytest.mark.parametrize("keys", [(b"short",), (K1, b"short"), (b"short", K1)])
def test_a_key_of_another_length_seals_nothing(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Seal(*keys)


def test_keys_are_read_in_their_order_and_named(tmp_path: Path) -> None:
    one, two, three = (key_file(tmp_path, f"{key[0]}.key", key) for key in (K1, K2, K3))
    keys = read_keys(three, [one, two])
    assert keys.keys == (K1, K2, K3)
    assert keys.newest == K3
    assert keys.kids == (key_id(K1), key_id(K2), key_id(K3))
    assert keys.kid == key_id(K3)
    assert all(len(kid) == 8 for kid in keys.kids)
    assert read_keys(one).keys == (K1,)


def test_the_name_of_a_key_never_changes() -> None:
    assert key_id(K1) == "07c87c68"


@pytest.mark.parametrize("earlier", [[K1], [K2, K1], [K2, K2]])
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, earlier: list[bytes]) -> None:
    files = [key_file(tmp_path, f"{place}.key", key) for place, key in enumerate(earlier)]
    with pytest.raises(ValueError, match="stands twice"):
        read_keys(key_file(tmp_path, "field.key", K1), files)


def test_a_file_that_is_no_key_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"short\.key"):
        read_keys(key_file(tmp_path, "field.key", K1), [key_file(tmp_path, "short.key", b"short")])


def test_keys_are_not_shown() -> None:
    assert repr(FieldKeys((K1,))) == "FieldKeys()"


def test_one_use_is_derived_from_each_key() -> None:
    keys = FieldKeys((K1, K2))
    assert keys.derived("room-field") == (derive(K1, "room-field"), derive(K2, "room-field"))
    before = Seal(derive(K1, "room-field")).seal(b"value", **PLACE)
    assert keys.seal("room-field").open(before, **PLACE) == b"value"
    assert Seal(derive(K2, "room-field")).open(keys.seal("room-field").seal(b"value", **PLACE), **PLACE) == b"value"
