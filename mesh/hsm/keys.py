"""Key algorithms, and the shape in which keys and signatures leave a token."""

from collections.abc import Callable
from enum import Enum
from typing import NoReturn

import pkcs11.util.ec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mesh.hsm.errors import TokenUnavailableError


class KeyAlgorithm(Enum):
    """Signing keys that a token can hold. The value is the name used in transactions, protos and the database.

    Subject keys, which live outside wrapped, are on curves only: an RSA key takes a token 250 ms and more to make.
    """

    EC_P256 = "EC_P256"
    EC_P384 = "EC_P384"
    RSA_2048 = "RSA_2048"
    RSA_3072 = "RSA_3072"
    RSA_4096 = "RSA_4096"

    @property
    def rsa_bits(self) -> int:
        """Size of the modulus; 0 for a key on a curve."""
        return int(self.value.removeprefix("RSA_")) if self.value.startswith("RSA_") else 0

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve, as `cryptography` knows it. Raises ValueError for RSA."""
        if self.rsa_bits:
            raise ValueError(f"{self.value} is on no curve")
        return ec.SECP256R1() if self is KeyAlgorithm.EC_P256 else ec.SECP384R1()

    @property
    def digest(self) -> hashes.SHA256 | hashes.SHA384:
        """The hash of the key's own strength (FIPS 186-5, 6.4; SP 800-57 part 1, table 2)."""
        strong = (KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_4096)
        return hashes.SHA384() if self in strong else hashes.SHA256()

    @property
    def coordinate_bytes(self) -> int:
        """Length of one coordinate, and of each half of a raw signature."""
        return (self.curve.key_size + 7) // 8

    @property
    def ec_parameters_der(self) -> bytes:
        """CKA_EC_PARAMS: the named curve."""
        parameters: bytes = pkcs11.util.ec.encode_named_curve_parameters(self.curve.name)
        return parameters

    @classmethod
    def of(cls, public_key_der: bytes) -> "KeyAlgorithm":
        """Tell the algorithm of a SubjectPublicKeyInfo.

        Raises:
            ValueError: it does not parse, or is of no algorithm above.
        """
        key = load_der_public_key(public_key_der)
        if isinstance(key, ec.EllipticCurvePublicKey):
            for algorithm in (cls.EC_P256, cls.EC_P384):
                if key.curve.name == algorithm.curve.name:
                    return algorithm
        if isinstance(key, rsa.RSAPublicKey):
            for algorithm in (cls.RSA_2048, cls.RSA_3072, cls.RSA_4096):
                if key.key_size == algorithm.rsa_bits:
                    return algorithm
        raise ValueError("not a public key of a known algorithm")


def public_key_der(algorithm: KeyAlgorithm, ec_point: bytes) -> bytes:
    """SubjectPublicKeyInfo (DER) of a token's CKA_EC_POINT, an OCTET STRING around the uncompressed point."""
    point_bytes = 1 + 2 * algorithm.coordinate_bytes
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(algorithm.curve, ec_point[-point_bytes:])
    except ValueError as error:
        raise TokenUnavailableError("the token answered with a public key that is no point of its curve") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signature_der(raw: bytes) -> bytes:
    """ECDSA-Sig-Value (RFC 3279, 2.2.3) of a token's raw signature r‖s."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


class StaysInToken:
    """What no key of a token does, whatever it is asked."""

    def private_numbers(self) -> NoReturn:
        """Refuse: the key stays in the token."""
        raise TypeError("a token's key never leaves it")

    def private_bytes(self, *_: object) -> NoReturn:
        """Refuse: the key stays in the token."""
        raise TypeError("a token's key never leaves it")


class TokenPrivateKey(StaysInToken, ec.EllipticCurvePrivateKey):
    """A token's key in the shape that `cryptography`'s builders of certificates, CRLs and OCSP responses sign with.

    `sign_digest` takes a digest and answers with an ECDSA-Sig-Value; it blocks, and raises `TokenError`.
    """

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign_digest: Callable[[bytes], bytes]) -> None:
        self._public_key = public_key
        self._sign_digest = sign_digest

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """Hash `data` here, sign its digest in the token."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed):
            return self._sign_digest(bytes(data))
        digest = hashes.Hash(algorithm)
        digest.update(data)
        return self._sign_digest(digest.finalize())

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve of the key."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """The size of the curve, in bits."""
        return self._public_key.key_size

    def exchange(self, *_: object) -> NoReturn:
        """Refuse: a signing key agrees on nothing."""
        raise TypeError("a token's signing key only signs")

    def __copy__(self) -> "TokenPrivateKey":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "TokenPrivateKey":
        return self
