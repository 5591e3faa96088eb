"""Key-encryption keys: what they force, their generations, and a key's way from one to the next."""

import hashlib
from dataclasses import replace
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from pkcs11 import KeyType, Mechanism, MechanismFlag

from mesh.hsm import (
    KekName,
    KekTemplateRefusedError,
    KeyAlgorithm,
    Token,
    TokenKeyExistsError,
    TokenKeyMissingError,
    TokenPool,
    WrappedKeyRefusedError,
    announce_kek,
    capabilities,
    unwrap_template,
)
from mesh.hsm.curves import unwrap_ec
from tests.softhsm import SoftHsm, TokenPlace

pytestmark = pytest.mark.hsm

OLD, NEW = KekName("subject-kek", 1), KekName("subject-kek", 2)
DIGEST = hashlib.sha256(b"document").digest()


@pytest.fixture
def place(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    token = place.open(writable=True)
    token.create_kek(OLD)
    token.create_kek(NEW)
    return place


@pytest.fixture
def token(place: TokenPlace) -> Token:
    return place.open(writable=True)


def bare_kek(token: Token, kek: KekName) -> None:
    """A KEK as python-pkcs11 alone makes it: with no CKA_UNWRAP_TEMPLATE."""
    flags = MechanismFlag.WRAP | MechanismFlag.UNWRAP
    token._create_secret(kek.token_label, KeyType.AES, flags, Mechanism.AES_KEY_GEN)


def verify(public_key_der: bytes, signature: bytes) -> None:
    key = load_der_public_key(public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_the_token_itself_refuses_to_unwrap_a_key_that_could_be_read(token: Token) -> None:
    pair = token.generate_wrapped(OLD, KeyAlgorithm.EC_P256)
    with token._sessions.work("find") as desk:
        kek = desk.session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=OLD.token_label)
        with pytest.raises(pkcs11.exceptions.TemplateInconsistent):
            unwrap_ec(kek, pair.private_key.wrapped, extractable=True, sensitive=False)
    assert token.session_keys() == 0


def test_without_the_template_it_would_not(token: Token) -> None:
    """What the test above would see of a KEK that forces nothing."""
    bare = KekName("bare", 1)
    bare_kek(token, bare)
    pair = token.generate_wrapped(bare, KeyAlgorithm.EC_P256)
    with token._sessions.work("find") as desk:
        kek = desk.session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=bare.token_label)
        opened = unwrap_ec(kek, pair.private_key.wrapped, extractable=True, sensitive=False)
        assert len(opened[pkcs11.Attribute.VALUE]) == 32
        opened.destroy()


def test_whoever_has_pin_and_token_can_still_have_a_key_wrapped_by_one_of_their_own(token: Token) -> None:
    """The limit of the template: a key that may be rewrapped may be wrapped by any key that the device lets in."""
    pair = token.generate_wrapped(OLD, KeyAlgorithm.EC_P256)
    brought = bytes(range(32))
    with token._sessions.work("find") as desk:
        kek = desk.session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=OLD.token_label)
        mine: Any = desk.session.create_object(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.Attribute.KEY_TYPE: KeyType.AES,
                pkcs11.Attribute.VALUE: brought,
                pkcs11.Attribute.WRAP: True,
            }
        )
        opened = unwrap_ec(kek, pair.private_key.wrapped, extractable=True)
        taken = mine.wrap_key(opened, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        opened.destroy()
        mine.destroy()
    value = aes_key_unwrap_with_padding(brought, taken)
    # SoftHSM wraps a few zeros after the PKCS#8 structure.
    key = load_der_private_key(value[: 2 + value[1]], password=None)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public == pair.public_key_der


def test_a_kek_says_what_it_forces_and_that_it_never_left(token: Token) -> None:
    bare = KekName("bare", 1)
    bare_kek(token, bare)
    assert [token.forces_sensitive(kek) for kek in (OLD, NEW, bare)] == [True, True, False]
    assert token.never_left(OLD)
    with pytest.raises(TokenKeyMissingError):
        token.forces_sensitive(KekName("subject-kek", 3))


def test_production_refuses_a_kek_that_forces_nothing_and_development_warns(
    token: Token, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = KekName("bare", 1)
    bare_kek(token, bare)
    announce_kek(token, OLD, production=True)
    announce_kek(token, OLD, production=False)
    assert "unwrap template" not in capsys.readouterr().out
    announce_kek(token, bare, production=False)
    assert "no unwrap template" in capsys.readouterr().out
    with pytest.raises(KekTemplateRefusedError, match="bare-1"):
        announce_kek(token, bare, production=True)


def test_generations_stand_beside_each_other_and_none_is_made_twice(token: Token) -> None:
    bare_kek(token, KekName("subject-kek-of-others", 7))
    token.create_kek(KekName("subject-kek", 10))
    assert [kek.generation for kek in token.keks("subject-kek")] == [1, 2, 10]
    with pytest.raises(TokenKeyExistsError):
        token.create_kek(NEW)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384])
def test_a_rewrapped_key_is_the_same_key_under_the_other_kek(
    place: TokenPlace, token: Token, algorithm: KeyAlgorithm
) -> None:
    files = {path.name for path in place.folder.iterdir()}
    pair = token.generate_wrapped(OLD, algorithm)
    moved = token.rewrap(pair.private_key, NEW)
    assert (moved.kek, moved.algorithm) == (NEW, algorithm)
    assert moved.wrapped != pair.private_key.wrapped
    for key in (pair.private_key, moved):
        verify(pair.public_key_der, token.sign_with_wrapped(key, [DIGEST])[0])
    with pytest.raises(WrappedKeyRefusedError):
        token.sign_with_wrapped(replace(moved, kek=OLD), [DIGEST])
    assert token.session_keys() == 0
    assert {path.name for path in place.folder.iterdir()} == files


def test_what_cannot_be_rewrapped_leaves_nothing_in_the_session(token: Token) -> None:
    key = token.generate_wrapped(OLD, KeyAlgorithm.EC_P256).private_key
    damaged = bytes([*key.wrapped[:-1], key.wrapped[-1] ^ 1])
    for refused, error in (
        (replace(key, wrapped=damaged), WrappedKeyRefusedError),
        (replace(key, algorithm=KeyAlgorithm.EC_P384), WrappedKeyRefusedError),
        (replace(key, kek=KekName("subject-kek", 3)), TokenKeyMissingError),
    ):
        with pytest.raises(error):
            token.rewrap(refused, NEW)
    with pytest.raises(TokenKeyMissingError):
        token.rewrap(key, KekName("subject-kek", 3))
    assert token.session_keys() == 0


async def test_a_service_goes_on_when_an_earlier_kek_is_destroyed_and_not_when_its_own_is(
    place: TokenPlace, token: Token
) -> None:
    pool = TokenPool(place.open())
    pool.token.require_kek(NEW)
    key = await pool.call(token.generate_wrapped, OLD, KeyAlgorithm.EC_P256)
    await pool.call(pool.token.sign_with_wrapped, key.private_key, [DIGEST])
    token.destroy_kek(OLD)
    assert token.keks("subject-kek") == (NEW,)
    await pool.probe()
    with pytest.raises((TokenKeyMissingError, WrappedKeyRefusedError)):
        await pool.call(pool.token.sign_with_wrapped, key.private_key, [DIGEST])
    await pool.probe()
    token.destroy_kek(NEW)
    with pytest.raises(TokenKeyMissingError):
        await pool.probe()
    pool.close()


def test_a_kek_made_by_another_process_is_found_by_a_service_that_runs(place: TokenPlace, token: Token) -> None:
    service = place.open()
    service.require_kek(NEW)
    later = KekName("subject-kek", 3)
    token.create_kek(later)
    assert service.sign_with_wrapped(token.generate_wrapped(later, KeyAlgorithm.EC_P256).private_key, [DIGEST])


def test_softhsm_lacks_nothing_and_leaves_nothing(place: TokenPlace) -> None:
    token = place.open()
    files = {path.name for path in place.folder.iterdir()}
    assert token.lacks() == ()
    assert token.session_keys() == 0
    assert {path.name for path in place.folder.iterdir()} == files


def test_what_a_token_lacks_is_named(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwrap_template, "DEMANDED", {})
    assert all("value can be read" in line for line in token.lacks())
    assert len(token.lacks()) == 2
    monkeypatch.setattr(unwrap_template, "DEMANDED", {pkcs11.Attribute.SENSITIVE: False})
    assert any("EC_P256: is not unwrapped to sign" in line for line in token.lacks())
    monkeypatch.setattr(capabilities, "_MECHANISMS", (Mechanism.AES_KEY_WRAP_PAD, Mechanism.KIP_WRAP))
    assert token.lacks() == ("CKM_KIP_WRAP",)
    assert token.session_keys() == 0
