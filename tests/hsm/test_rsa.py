"""RSA keys in a real SoftHSM token; openssl is the judge."""

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh.hsm import KekName, KeyAlgorithm, Token, TokenKeyExistsError, TokenKeyMissingError
from tests.softhsm import SoftHsm

pytestmark = pytest.mark.hsm

RSA = (KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
DATA = b"what is signed"
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def token(softhsm: SoftHsm) -> Token:
    token = softhsm.new_token().open(writable=True)
    for algorithm in RSA:
        token.generate_key_pair(algorithm.value, algorithm)
    return token


def openssl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False, timeout=30)


def is_accepted(folder: Path, token: Token, label: str, name: str, signature: bytes, *options: str) -> bool:
    (folder / "key.der").write_bytes(token.public_key_der(label))
    (folder / "signature").write_bytes(signature)
    (folder / "data").write_bytes(DATA)
    chosen = [word for option in options for word in ("-sigopt", option)]
    arguments = [f"-{name}", "-verify", "key.der", "-keyform", "DER", *chosen, "-signature", "signature", "data"]
    return openssl(folder, "dgst", *arguments).returncode == 0


@pytest.mark.parametrize("algorithm", RSA)
@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        (padding.PKCS1v15(), ()),
        (padding.PSS.DIGEST_LENGTH, ("rsa_padding_mode:pss", "rsa_pss_saltlen:digest")),
        (padding.PSS.MAX_LENGTH, ("rsa_padding_mode:pss", "rsa_pss_saltlen:max")),
        (20, ("rsa_padding_mode:pss", "rsa_pss_saltlen:20")),
    ],
    ids=["PKCS#1 v1.5", "PSS, salt as the digest", "PSS, longest salt", "PSS, 20 bytes of salt"],
)
def test_openssl_accepts_the_signature_and_refuses_a_flipped_bit(
    token: Token, algorithm: KeyAlgorithm, name: str, wanted: object, options: tuple[str, ...], tmp_path: Path
) -> None:
    known = HASHES[name]
    scheme = wanted if isinstance(wanted, padding.PKCS1v15) else padding.PSS(padding.MGF1(known), wanted)  # type: ignore[arg-type]
    signature = token.rsa_private_key(algorithm.value).sign(DATA, scheme, known)
    assert is_accepted(tmp_path, token, algorithm.value, name, signature, *options)
    flipped = bytes([*signature[:-1], signature[-1] ^ 1])
    assert not is_accepted(tmp_path, token, algorithm.value, name, flipped, *options)
    token.rsa_private_key(algorithm.value).public_key().verify(signature, DATA, scheme, known)


def test_a_digest_made_elsewhere_is_signed_as_it_is(token: Token, tmp_path: Path) -> None:
    key = token.rsa_private_key("RSA_2048")
    digest = hashlib.sha256(DATA).digest()
    signature = key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    assert is_accepted(tmp_path, token, "RSA_2048", "sha256", signature)
    with pytest.raises(ValueError, match="32 bytes"):
        key.sign(digest[:-1], padding.PKCS1v15(), Prehashed(hashes.SHA256()))


@pytest.mark.parametrize("scheme", [None, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)])
def test_openssl_verifies_a_chain_that_the_builders_of_cryptography_made(
    token: Token, scheme: padding.PSS | None, tmp_path: Path
) -> None:
    key = token.rsa_private_key("RSA_3072")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RSA root")])
    leaf_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, BEGINS, BEGINS + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .sign(key, hashes.SHA256(), rsa_padding=scheme)
    )
    subject_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = (
        x509.CertificateBuilder(name, leaf_name, subject_key, 2, BEGINS, BEGINS + timedelta(days=3600))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
        .sign(key, hashes.SHA256(), rsa_padding=scheme)
    )
    crl = (
        x509.CertificateRevocationListBuilder(name, BEGINS, BEGINS + timedelta(days=3600))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256(), rsa_padding=scheme)
    )
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    at = str(int((BEGINS + timedelta(days=1)).timestamp()))
    strict = ("verify", "-x509_strict", "-attime", at, "-CAfile", "root.pem", "-CRLfile", "crl.pem", "-crl_check")
    judged = openssl(tmp_path, *strict, "leaf.pem")
    assert judged.returncode == 0, judged.stderr
    der = bytearray(leaf.public_bytes(Encoding.DER))
    der[-1] ^= 1
    (tmp_path / "flipped.der").write_bytes(bytes(der))
    assert openssl(tmp_path, *strict, "flipped.der").returncode != 0


@pytest.mark.parametrize("algorithm", RSA)
def test_the_algorithm_is_told_of_the_public_key(token: Token, algorithm: KeyAlgorithm) -> None:
    der = token.public_key_der(algorithm.value)
    assert KeyAlgorithm.of(der) is algorithm
    assert token.rsa_private_key(algorithm.value).key_size == algorithm.rsa_bits
    assert token.rsa_private_key(algorithm.value).public_key().public_numbers().e == 65537
    with pytest.raises(ValueError, match="curve"):
        _ = algorithm.curve


REFUSED = [
    ("SHA-1", padding.PKCS1v15(), hashes.SHA1(), ValueError),  # noqa: S303  refused, that is the point
    ("no hash named", padding.PKCS1v15(), NoDigestInfo(), TypeError),
    ("a mask of another hash", padding.PSS(padding.MGF1(hashes.SHA384()), 32), hashes.SHA256(), ValueError),
    (
        "encryption's padding",
        padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
        hashes.SHA256(),
        ValueError,
    ),
]


@pytest.mark.parametrize(("scheme", "known", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_nothing_else_is_signed(
    token: Token, scheme: padding.AsymmetricPadding, known: hashes.HashAlgorithm, error: type[Exception]
) -> None:
    with pytest.raises(error):
        token.rsa_private_key("RSA_2048").sign(DATA, scheme, known)


def test_the_key_only_signs_and_stays_inside(token: Token) -> None:
    key = token.rsa_private_key("RSA_2048")
    for refused in (
        key.private_numbers,
        lambda: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        lambda: key.decrypt(bytes(256), padding.PKCS1v15()),
    ):
        with pytest.raises(TypeError):
            refused()


def test_a_key_of_the_other_kind_is_named(token: Token) -> None:
    token.generate_key_pair("on a curve", KeyAlgorithm.EC_P256)
    with pytest.raises(TokenKeyMissingError, match="no RSA key"):
        token.rsa_private_key("on a curve")
    with pytest.raises(TokenKeyMissingError, match="no curve"):
        token.private_key("RSA_2048")
    with pytest.raises(TokenKeyExistsError):
        token.generate_key_pair("RSA_2048", KeyAlgorithm.RSA_2048)


def test_subject_keys_are_on_curves(token: Token) -> None:
    token.create_kek(KekName("subject-kek", 1))
    with pytest.raises(ValueError, match="curves"):
        token.generate_wrapped(KekName("subject-kek", 1), KeyAlgorithm.RSA_2048)
