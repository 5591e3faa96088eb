"""The envelope of a subject key that lives outside the token: which KEK opens it, what it is, and the wrapped bytes."""

from dataclasses import dataclass

from mesh.hsm.errors import WrappedKeyRefusedError
from mesh.hsm.keys import KeyAlgorithm

_MAGIC = b"FWK1"
_ALGORITHM_CODES = {KeyAlgorithm.EC_P256: 1, KeyAlgorithm.EC_P384: 2}
_ALGORITHMS = {code: algorithm for algorithm, code in _ALGORITHM_CODES.items()}
_HEADER_BYTES = len(_MAGIC) + 1 + 2 + 1
_MAX_BYTES = 4096
_MAX_GENERATION = 0xFFFF
_MAX_LABEL_BYTES = 32
# RFC 5649, 4.1: the output is whole semi-blocks, two at least.
_SEMI_BLOCK_BYTES = 8


@dataclass(frozen=True, slots=True)
class KekName:
    """A key-encryption key: its purpose (a label) and its generation, which rotation counts up."""

    label: str
    generation: int

    def __post_init__(self) -> None:
        if not (self.label.isascii() and self.label.isprintable() and 0 < len(self.label) <= _MAX_LABEL_BYTES):
            raise ValueError("a KEK label is 1 to 32 printable ASCII characters")
        if not 0 < self.generation <= _MAX_GENERATION:
            raise ValueError("a KEK generation is between 1 and 65535")

    @property
    def token_label(self) -> str:
        """CKA_LABEL of the key in the token."""
        return f"{self.label}-{self.generation}"

    @property
    def in_envelopes(self) -> bytes:
        """How envelopes name the KEK, from their byte 5 on: generation (u16), label length (u8), label."""
        label = self.label.encode("ascii")
        return self.generation.to_bytes(2) + len(label).to_bytes(1) + label


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A private key wrapped by a KEK with CKM_AES_KEY_WRAP_PAD (RFC 5649). Useless without the token."""

    kek: KekName
    algorithm: KeyAlgorithm
    wrapped: bytes

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHM_CODES:
            raise ValueError("subject keys are on curves")

    def to_bytes(self) -> bytes:
        """Encode: "FWK1", algorithm (u8), KEK generation (u16), label length (u8), label, wrapped key."""
        return _MAGIC + _ALGORITHM_CODES[self.algorithm].to_bytes(1) + self.kek.in_envelopes + self.wrapped

    @classmethod
    def from_bytes(cls, envelope: bytes) -> "WrappedKey":
        """Decode what `to_bytes` made.

        Raises:
            WrappedKeyRefusedError: it is anything else.
        """
        try:
            kek, algorithm, wrapped = _parse(envelope)
        except (ValueError, KeyError) as error:
            raise WrappedKeyRefusedError("the envelope of the wrapped key does not parse") from error
        return cls(kek, algorithm, wrapped)


def _parse(envelope: bytes) -> tuple[KekName, KeyAlgorithm, bytes]:
    if not envelope.startswith(_MAGIC) or not _HEADER_BYTES < len(envelope) <= _MAX_BYTES:
        raise ValueError("not an envelope")
    label_end = _HEADER_BYTES + envelope[7]
    wrapped = envelope[label_end:]
    if len(wrapped) < 2 * _SEMI_BLOCK_BYTES or len(wrapped) % _SEMI_BLOCK_BYTES:
        raise ValueError("not a wrapped key")
    kek = KekName(envelope[_HEADER_BYTES:label_end].decode("ascii"), int.from_bytes(envelope[5:7]))
    return kek, _ALGORITHMS[envelope[4]], wrapped


@dataclass(frozen=True, slots=True)
class WrappedKeyPair:
    """A new key pair: SubjectPublicKeyInfo (DER) and the wrapped private key."""

    public_key_der: bytes
    private_key: WrappedKey
