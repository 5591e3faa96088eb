"""The reference photo opens for this service only, and only untouched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey

from mesh import base64url
from services.facematch.errors import ImageTooLargeError, PhotoNotOpenedError
from services.facematch.photo import PhotoKey
from services.facematch.pictures import Limits
from services.registry.photo import PhotoRecipient

PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 800
KEY = ECKey.generate_key("P-256", private=True)
PHOTO_KEY = PhotoKey.from_jwk(json.dumps(KEY.as_dict(private=True)))
RECIPIENT = PhotoRecipient.from_jwk(json.dumps(KEY.as_dict(private=False)))
SEALED = RECIPIENT.encrypt(PHOTO)


def sealed(header: dict[str, str], key: ECKey | OctKey = KEY) -> str:
    return jwe.encrypt_compact(header, PHOTO, key, algorithms=[header["alg"], header["enc"], "DEF"])


def test_opens_what_registry_encrypted() -> None:
    assert PHOTO_KEY.open(SEALED) == PHOTO


def test_refuses_a_photo_for_another_service() -> None:
    other = ECKey.generate_key("P-256", private=True)
    with pytest.raises(PhotoNotOpenedError):
        PhotoKey(other).open(SEALED)


@pytest.mark.parametrize("part", range(5))
def test_refuses_a_change_in_any_part(part: int) -> None:
    parts = SEALED.split(".")
    middle = len(parts[part]) // 2
    changed = "A" if parts[part][middle : middle + 1] != "A" else "B"
    parts[part] = parts[part][:middle] + changed + parts[part][middle + 1 :]
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(".".join(parts))


@pytest.mark.parametrize("part", range(5))
def test_refuses_a_missing_part(part: int) -> None:
    parts = SEALED.split(".")
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(".".join(parts[:part] + parts[part + 1 :]))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ECDH-ES", "enc": "A128GCM"},
        {"alg": "ECDH-ES", "enc": "A256CBC-HS512"},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        {"alg": "ECDH-ES", "enc": "A256GCM", "zip": "DEF"},
    ],
)
def test_refuses_other_algorithms_and_compression(header: dict[str, str]) -> None:
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(sealed(header))


def test_refuses_a_shared_secret_in_place_of_the_key() -> None:
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(sealed({"alg": "dir", "enc": "A256GCM"}, OctKey.generate_key(256)))


def test_refuses_an_ephemeral_key_that_is_no_point_of_the_curve() -> None:
    _, *rest = SEALED.split(".")
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "epk": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}}
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(".".join([base64url.encode(json.dumps(header).encode()), *rest]))


def test_refuses_an_empty_photo() -> None:
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(RECIPIENT.encrypt(b""))


def test_refuses_a_photo_that_is_too_large() -> None:
    with pytest.raises(ImageTooLargeError):
        PHOTO_KEY.open(RECIPIENT.encrypt(bytes(Limits().max_bytes + 4096)))


def test_errors_name_the_picture_and_hold_nothing_of_it() -> None:
    with pytest.raises(PhotoNotOpenedError) as refused:
        PHOTO_KEY.open(SEALED[:-8])
    assert refused.value.metadata == {"image": "photo_jwe"}
    assert refused.value.message == "The reference photo cannot be decrypted."


@given(st.text(max_size=200) | st.lists(st.text("abcAB0-_=", max_size=20), max_size=6).map(".".join))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(text)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=4))
def test_any_ephemeral_key_is_refused(epk: dict[str, object]) -> None:
    header = base64url.encode(json.dumps({"alg": "ECDH-ES", "enc": "A256GCM", "epk": epk}).encode())
    with pytest.raises(PhotoNotOpenedError):
        PHOTO_KEY.open(".".join([header, *SEALED.split(".")[1:]]))


@pytest.mark.parametrize(
    "jwk",
    [
        "",
        "{}",
        "[]",
        json.dumps(KEY.as_dict(private=False)),
        json.dumps(ECKey.generate_key("P-384", private=True).as_dict(private=True)),
        json.dumps(OctKey.generate_key(256).as_dict(private=True)),
    ],
)
def test_refuses_a_key_file_that_is_no_private_p256_key(jwk: str) -> None:
    with pytest.raises(ValueError, match="photo key"):
        PhotoKey.from_jwk(jwk)


def test_does_not_show_its_key() -> None:
    assert str(KEY.as_dict(private=True)["d"]) not in repr(PHOTO_KEY)
