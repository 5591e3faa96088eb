"""A real SoftHSM token behind `Token`."""

import hashlib
import hmac
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

from mesh.hsm import (
    KekName,
    KeyAlgorithm,
    Token,
    TokenKeyExistsError,
    TokenKeyMissingError,
    TokenPinRefusedError,
    TokenUnavailableError,
    WrappedKey,
    WrappedKeyRefusedError,
    open_token,
)
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace

pytestmark = pytest.mark.hsm

KEK = KekName("subject-kek", 1)
CURVES = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384)


@pytest.fixture(scope="module")
def place(softhsm: SoftHsm) -> TokenPlace:
    return softhsm.new_token()


@pytest.fixture(scope="module")
def token(place: TokenPlace) -> Token:
    token = place.open(writable=True)
    token.create_kek(KEK)
    return token


def verify(public_key_der: bytes, signature: bytes, digest: bytes) -> None:
    key = load_der_public_key(public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("algorithm", CURVES)
def test_token_key_signs_digests(token: Token, algorithm: KeyAlgorithm) -> None:
    label = f"sign-{algorithm.value}"
    public_key = token.generate_key_pair(label, algorithm)
    assert token.public_key_der(label) == public_key
    assert KeyAlgorithm.of(public_key) is algorithm
    digest = hashlib.sha256(b"document").digest()
    signature = token.sign_digest(label, digest)
    verify(public_key, signature, digest)
    with pytest.raises(InvalidSignature):
        verify(public_key, signature, hashlib.sha256(b"another").digest())


def test_token_key_label_is_given_once(token: Token) -> None:
    token.generate_key_pair("once", KeyAlgorithm.EC_P256)
    with pytest.raises(TokenKeyExistsError):
        token.generate_key_pair("once", KeyAlgorithm.EC_P256)
    with pytest.raises(TokenKeyExistsError):
        token.create_kek(KEK)


def test_missing_key_is_named(token: Token) -> None:
    assert not token.has_key_pair("absent")
    with pytest.raises(TokenKeyMissingError, match="absent"):
        token.sign_digest("absent", bytes(32))
    with pytest.raises(TokenKeyMissingError):
        token.generate_wrapped(KekName("subject-kek", 2), KeyAlgorithm.EC_P256)


def test_service_session_cannot_add_keys_to_the_token(place: TokenPlace, token: Token) -> None:
    assert token.has_kek(KEK)
    with pytest.raises(TokenUnavailableError):
        place.open().generate_key_pair("written-by-a-service", KeyAlgorithm.EC_P256)
    assert not token.has_key_pair("written-by-a-service")


@pytest.mark.parametrize("algorithm", CURVES)
def test_wrapped_key_signs_in_order(token: Token, algorithm: KeyAlgorithm) -> None:
    pair = token.generate_wrapped(KEK, algorithm)
    digests = [hashlib.sha256(bytes([index])).digest() for index in range(5)]
    key = WrappedKey.from_bytes(pair.private_key.to_bytes())
    for digest, signature in zip(digests, token.sign_with_wrapped(key, digests), strict=True):
        verify(pair.public_key_der, signature, digest)


def test_wrapped_keys_leave_nothing_in_the_token(place: TokenPlace, token: Token) -> None:
    files = {path.name for path in place.folder.iterdir()}
    pair = token.generate_wrapped(KEK, KeyAlgorithm.EC_P256)
    token.sign_with_wrapped(pair.private_key, [bytes(32)])
    assert {path.name for path in place.folder.iterdir()} == files


def test_damaged_wrapped_key_is_refused_and_the_token_goes_on(token: Token) -> None:
    pair = token.generate_wrapped(KEK, KeyAlgorithm.EC_P256)
    damaged = bytes([*pair.private_key.wrapped[:-1], pair.private_key.wrapped[-1] ^ 1])
    with pytest.raises(WrappedKeyRefusedError):
        token.sign_with_wrapped(replace(pair.private_key, wrapped=damaged), [bytes(32)])
    assert token.sign_with_wrapped(pair.private_key, [bytes(32)])


def test_wrapped_key_is_refused_under_another_kek(token: Token) -> None:
    other = KekName("other-kek", 1)
    token.create_kek(other)
    pair = token.generate_wrapped(KEK, KeyAlgorithm.EC_P256)
    with pytest.raises(WrappedKeyRefusedError):
        token.sign_with_wrapped(replace(pair.private_key, kek=other), [bytes(32)])


def test_wrapped_key_is_refused_under_another_algorithm(token: Token) -> None:
    pair = token.generate_wrapped(KEK, KeyAlgorithm.EC_P256)
    with pytest.raises(WrappedKeyRefusedError):
        token.sign_with_wrapped(replace(pair.private_key, algorithm=KeyAlgorithm.EC_P384), [bytes(32)])


def test_mac_is_keyed_by_the_token(token: Token) -> None:
    token.create_mac_key("mac")
    token.create_mac_key("mac-2")
    assert token.has_mac_key("mac")
    code = token.mac("mac", b"data")
    assert len(code) == hashlib.sha256().digest_size
    assert hmac.compare_digest(code, token.mac("mac", b"data"))
    assert code not in (token.mac("mac", b"datum"), token.mac("mac-2", b"data"))


def test_random_has_the_length_asked_for(token: Token) -> None:
    drawn = token.random(20)
    assert len(drawn) == 20
    assert drawn != token.random(20)


def test_softhsm_is_known_as_a_development_token(token: Token) -> None:
    assert token.is_development_token


def test_builders_of_cryptography_sign_with_the_token(token: Token) -> None:
    token.generate_key_pair("builder", KeyAlgorithm.EC_P384)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(token.private_key("builder"), hashes.SHA384())
    assert csr.is_signature_valid


def test_private_key_object_gives_nothing_away(token: Token) -> None:
    token.generate_key_pair("closed", KeyAlgorithm.EC_P256)
    key = token.private_key("closed")
    with pytest.raises(TypeError):
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(TypeError):
        key.private_numbers()


def test_wrong_pin_is_tried_once_only(softhsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = softhsm.new_token()
    wrong = tmp_path_factory.mktemp("pin") / "wrong"
    wrong.write_text("not the pin")
    with pytest.raises(TokenPinRefusedError):
        open_token(MODULE_PATH, place.label, wrong)
    assert place.open().random(1)


def test_unknown_token_module_and_pin_file_are_unavailable(place: TokenPlace) -> None:
    with pytest.raises(TokenUnavailableError):
        open_token(MODULE_PATH, "no-such-token", place.pin_file)
    with pytest.raises(TokenUnavailableError):
        open_token(place.pin_file, place.label, place.pin_file)
    with pytest.raises(TokenUnavailableError):
        open_token(MODULE_PATH, place.label, place.folder / "no-such-file")
