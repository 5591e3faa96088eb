"""The reference photo on its way through the gateway: encrypted to facematch, the only one that may see it."""

import json

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

_ALGORITHM = "ECDH-ES"
_ENCRYPTION = "A256GCM"
_CURVE = "P-256"


class PhotoRecipient:
    """facematch's public key."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        self._header = {"alg": _ALGORITHM, "enc": _ENCRYPTION, "cty": "image/jpeg", "kid": key.thumbprint()}

    @classmethod
    def from_jwk(cls, text: str) -> "PhotoRecipient":
        """Take a JWK (RFC 7517) of P-256. Raises ValueError for any other key, and for a private one."""
        try:
            key = ECKey.import_key(json.loads(text))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ValueError("the photo's recipient must be a JWK of P-256") from error
        if key.get("crv") != _CURVE or key.is_private:
            raise ValueError("the photo's recipient must be a public JWK of P-256")
        return cls(key)

    def encrypt(self, jpeg: bytes) -> str:
        """Return a compact JWE (RFC 7516) with a fresh ephemeral key."""
        return jwe.encrypt_compact(self._header, jpeg, self._key, algorithms=[_ALGORITHM, _ENCRYPTION])
