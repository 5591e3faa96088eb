"""RSA keys of a token: their public half, their signatures, and their shape for `cryptography`'s builders."""

from collections.abc import Callable
from enum import Enum
from typing import ClassVar, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.hsm.errors import TokenUnavailableError
from mesh.hsm.keys import StaysInToken

# DER of DigestInfo before the digest (RFC 8017, 9.2, note 1): CKM_RSA_PKCS takes the whole.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def digest_info(digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """DigestInfo (DER) of a digest of SHA-256, SHA-384 or SHA-512."""
    if len(digest) != algorithm.digest_size:
        raise ValueError(f"a digest of {algorithm.name} has {algorithm.digest_size} bytes")
    return _DIGEST_INFO[algorithm.name] + digest


def rsa_public_key_der(modulus: bytes, public_exponent: bytes) -> bytes:
    """SubjectPublicKeyInfo (DER) of a token's CKA_MODULUS and CKA_PUBLIC_EXPONENT, big-endian."""
    try:
        key = rsa.RSAPublicNumbers(int.from_bytes(public_exponent), int.from_bytes(modulus)).public_key()
    except ValueError as error:
        raise TokenUnavailableError("the token answered with a public key that is no RSA key") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class RsaScheme(Enum):
    """How an RSA key signs (RFC 8017): RSASSA-PKCS1-v1_5, or RSASSA-PSS with MGF1 over the same hash."""

    PKCS1_V15 = "PKCS1_V15"
    PSS = "PSS"


class TokenRsaPrivateKey(StaysInToken, rsa.RSAPrivateKey):
    """An RSA key of a token, as `TokenPrivateKey`.

    `sign_digest` takes a digest, its hash, a scheme and, for PSS, the length of the salt in bytes; it blocks, and
    raises `TokenError`.
    """

    _HASHES: ClassVar[tuple[type[hashes.HashAlgorithm], ...]] = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

    def __init__(
        self,
        public_key: rsa.RSAPublicKey,
        sign_digest: Callable[[bytes, hashes.HashAlgorithm, RsaScheme, int], bytes],
    ) -> None:
        self._public_key = public_key
        self._sign_digest = sign_digest

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        padding: padding.AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | NoDigestInfo,
    ) -> bytes:
        """Hash `data` here, sign its digest in the token: SHA-2 of 256 bits and more, PKCS#1 v1.5 or PSS."""
        if isinstance(algorithm, NoDigestInfo):
            raise TypeError("a token's RSA key signs digests with their names")
        known = algorithm._algorithm if isinstance(algorithm, Prehashed) else algorithm  # noqa: SLF001  as rsa.py of cryptography
        if not isinstance(known, self._HASHES):
            raise ValueError(f"a token's RSA key does not sign {known.name} digests")  # noqa: TRY004
        if isinstance(algorithm, Prehashed):
            digest = bytes(data)
        else:
            hashing = hashes.Hash(known)
            hashing.update(data)
            digest = hashing.finalize()
        scheme, salt_bytes = _scheme_of(padding, known, self.key_size)
        return self._sign_digest(digest, known, scheme, salt_bytes)

    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._public_key

    @property
    def key_size(self) -> int:
        """The size of the modulus, in bits."""
        return self._public_key.key_size

    def decrypt(self, *_: object) -> NoReturn:
        """Refuse: a signing key decrypts nothing."""
        raise TypeError("a token's signing key only signs")

    def __copy__(self) -> "TokenRsaPrivateKey":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "TokenRsaPrivateKey":
        return self


def _scheme_of(wanted: padding.AsymmetricPadding, known: hashes.HashAlgorithm, bits: int) -> tuple[RsaScheme, int]:
    """Tell scheme and length of the salt. Raises ValueError for PSS whose mask is of another hash, and for the rest."""
    if isinstance(wanted, padding.PKCS1v15):
        return RsaScheme.PKCS1_V15, 0
    if not isinstance(wanted, padding.PSS) or wanted.mgf._algorithm.name != known.name:  # noqa: SLF001
        raise ValueError("a token's RSA key signs with PKCS#1 v1.5, or PSS with MGF1 over the same hash")
    length = wanted._salt_length  # noqa: SLF001
    if isinstance(length, int):
        return RsaScheme.PSS, length
    if length is padding.PSS.DIGEST_LENGTH:
        return RsaScheme.PSS, known.digest_size
    # RFC 8017, 9.1.1: emLen - hLen - 2.
    return RsaScheme.PSS, (bits + 6) // 8 - known.digest_size - 2
