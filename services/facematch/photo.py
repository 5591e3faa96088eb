"""Opening the reference photo that registry encrypted for this service alone.

A compact JWE: ECDH-ES to this service's P-256 key, A256GCM, no compression. The gateway carries it and cannot read it.
Anybody can encrypt to a public key: what ties the photo to the state's record is its digest, which FACE_MATCH states
and `precondition.authorize` compares with the one in STATE_RECORD.
Sources: RFC 7516, RFC 7518 sections 4.6 and 5.3.
"""

import json
from dataclasses import dataclass, field

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.facematch.errors import REFERENCE, ImageTooLargeError, PhotoNotOpenedError
from services.facematch.pictures import Limits

_BASE64_OF_PHOTO_CHARS = (Limits().max_bytes + 2) // 3 * 4


class _PhotoRegistry(jwe.JWERegistry):
    """joserfc's rules for what it opens, with room for a photo: its own limit for a ciphertext is 64 KiB."""

    max_ciphertext_length = _BASE64_OF_PHOTO_CHARS


_REGISTRY = _PhotoRegistry(algorithms=["ECDH-ES", "A256GCM"])


@dataclass(frozen=True, slots=True)
class PhotoKey:
    """The private key that opens reference photos."""

    key: ECKey = field(repr=False)

    @classmethod
    def from_jwk(cls, jwk_json: str) -> "PhotoKey":
        """The key of a private P-256 JWK. Raises ValueError for anything else."""
        try:
            key = ECKey.import_key(json.loads(jwk_json))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ValueError("the photo key is not an elliptic curve JWK") from error
        if key.curve_name != "P-256" or not key.is_private:
            raise ValueError("the photo key is not a private P-256 key")
        return cls(key)

    def open(self, photo_jwe: str) -> bytes:
        """The photo's bytes, as registry encrypted them.

        Raises ImageTooLargeError, and PhotoNotOpenedError for anything but an untouched JWE to this key.
        """
        if len(photo_jwe) > _BASE64_OF_PHOTO_CHARS:
            raise ImageTooLargeError(REFERENCE)
        try:
            photo = jwe.decrypt_compact(photo_jwe, self.key, registry=_REGISTRY).plaintext
        except (JoseError, ValueError, TypeError, KeyError, AssertionError) as error:
            raise PhotoNotOpenedError(REFERENCE) from error
        if not photo:
            raise PhotoNotOpenedError(REFERENCE)
        return photo
