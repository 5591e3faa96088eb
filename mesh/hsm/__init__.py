"""Hardware security modules over PKCS#11; the only place that imports pkcs11.

    token = open_token(module_path, "signer", pin_file)
    pool = TokenPool(token)
    key = await pool.call(token.generate_wrapped, KekName("subject-kek", 1), KeyAlgorithm.EC_P256)
    signatures = await pool.call(token.sign_with_wrapped, key.private_key, digests)

`Token` blocks and may be called from any thread; `TokenPool` is its asynchronous front, with a queue and time limits.
"""

from pathlib import Path

from mesh.hsm.announcement import announce, announce_kek
from mesh.hsm.core_dumps import forbid_core_dumps
from mesh.hsm.errors import (
    DevelopmentTokenError,
    KekTemplateRefusedError,
    TokenBusyError,
    TokenError,
    TokenKeyExistsError,
    TokenKeyMissingError,
    TokenPinRefusedError,
    TokenUnavailableError,
    WrappedKeyRefusedError,
)
from mesh.hsm.keys import KeyAlgorithm, TokenPrivateKey
from mesh.hsm.module import Module
from mesh.hsm.pool import TokenPool
from mesh.hsm.rsa import RsaScheme, TokenRsaPrivateKey
from mesh.hsm.token import Token
from mesh.hsm.wrapped import KekName, WrappedKey, WrappedKeyPair

__all__ = [
    "DevelopmentTokenError",
    "KekName",
    "KekTemplateRefusedError",
    "KeyAlgorithm",
    "RsaScheme",
    "Token",
    "TokenBusyError",
    "TokenError",
    "TokenKeyExistsError",
    "TokenKeyMissingError",
    "TokenPinRefusedError",
    "TokenPool",
    "TokenPrivateKey",
    "TokenRsaPrivateKey",
    "TokenUnavailableError",
    "WrappedKey",
    "WrappedKeyPair",
    "WrappedKeyRefusedError",
    "announce",
    "announce_kek",
    "open_token",
]


def open_token(module_path: Path, label: str, pin_file: Path, *, writable: bool = False) -> Token:
    """Load a PKCS#11 module and log in to one of its tokens; `writable` is for ceremonies.

    From here on the process leaves no core file (`mesh.hsm.core_dumps`).

    Raises:
        TokenUnavailableError: no such module, token or PIN file.
        TokenPinRefusedError: the PIN is wrong.
    """
    forbid_core_dumps()
    return Token(Module.load(module_path), label, pin_file, writable=writable)
