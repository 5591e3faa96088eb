"""Subject keys in the token: made there, kept outside wrapped, back inside only while they sign."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from mesh.hsm import KekName, KeyAlgorithm, Token, TokenPool, TokenPrivateKey, WrappedKey

KEK_LABEL = "subject-kek"
OFFERED = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key: SubjectPublicKeyInfo, the wrapped private key, and a PKCS#10 request that proves its possession."""

    public_key_der: bytes
    wrapped_key: bytes = field(repr=False)
    csr_der: bytes


class SubjectKeys(Protocol):
    """The token, as far as this room uses it. Every method raises `mesh.hsm.TokenError`."""

    def require_present(self) -> None:
        """Refuse at once while the token is known to be away."""
        ...

    async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
        """Make a key on a curve."""
        ...

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        """Sign the digests in their order; return ECDSA-Sig-Values (DER)."""
        ...


class TokenSubjectKeys:
    """Subject keys wrapped by the KEK of a real token. See `SubjectKeys`."""

    def __init__(self, pool: TokenPool, kek: KekName) -> None:
        self._pool = pool
        self._kek = kek

    def require_present(self) -> None:
        """See `SubjectKeys`."""
        self._pool.require_present()

    async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
        """See `SubjectKeys`."""
        return await self._pool.call(_generate, self._pool.token, self._kek, algorithm)

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        """See `SubjectKeys`."""
        key = WrappedKey.from_bytes(wrapped_key)
        return await self._pool.call(self._pool.token.sign_with_wrapped, key, digests_sha256)


def _generate(token: Token, kek: KekName, algorithm: KeyAlgorithm) -> NewKey:
    pair = token.generate_wrapped(kek, algorithm)
    key = TokenPrivateKey(
        _on_curve(pair.public_key_der), lambda digest: token.sign_with_wrapped(pair.private_key, [digest])[0]
    )
    # SHA-256 with either curve, as for everything that subject keys sign (RFC 5758, 3.2 joins any curve with any hash).
    # No subject: the CA takes it from the opened commitments and the registry's release.
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return NewKey(pair.public_key_der, pair.private_key.to_bytes(), request.public_bytes(Encoding.DER))


def all_verify(public_key_der: bytes, digests_sha256: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
    """Tell whether there is exactly one signature for each digest, in order, each of this key."""
    if len(signatures) != len(digests_sha256):
        return False
    key = _on_curve(public_key_der)
    try:
        for digest, signature in zip(digests_sha256, signatures, strict=True):
            key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def signature_algorithm(public_key_der: bytes) -> str:
    """Return how transactions name what this key signs with."""
    return f"ECDSA_{KeyAlgorithm.of(public_key_der).value.removeprefix('EC_')}_SHA256"


def _on_curve(public_key_der: bytes) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(public_key_der)
    if KeyAlgorithm.of(public_key_der) not in OFFERED or not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not a public key of a subject")
    return key
