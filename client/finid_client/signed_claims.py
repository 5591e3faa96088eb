"""The gateway's signed statements (compact JWS): what their signature covers, for those who verify them offline."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from finid_client.errors import ProofRefusedError
from finid_client.keys import STATEMENT, KeySet
from mesh import base64url, strict_json
from mesh.strict_json import StrictJsonError

_MAX_CHARS: Final = 16 * 1024
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_ISSUER: Final = "auth_gateway"


class Claims:
    """Claims by name, each of the kind that is asked for. Raises StrictJsonError for one that is missing or of another.

    Claims that nobody asks for are left alone: later versions of FinID may add some.
    """

    def __init__(self, claims: Mapping[str, object]) -> None:
        self._claims = claims

    def __contains__(self, name: str) -> bool:
        return name in self._claims

    def text(self, name: str) -> str:
        """Return a string."""
        return strict_json.string(self._claims.get(name), name)

    def time(self, name: str) -> datetime:
        """Return a time that is given in Unix seconds."""
        try:
            return datetime.fromtimestamp(strict_json.integer(self._claims.get(name), name), UTC)
        except (OverflowError, OSError, ValueError) as error:
            raise StrictJsonError(name, "must be Unix seconds") from error

    def octets(self, name: str) -> bytes:
        """Return bytes that are given in hex."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError as error:
            raise StrictJsonError(name, "must be hex") from error


def verified(jws: str, keys: KeySet, typ: str) -> Claims:
    """Return what the gateway states under `typ`, once its signature is verified.

    Raises StrictJsonError for what is no such statement, ProofRefusedError (KEY_UNKNOWN, SIGNATURE_INVALID).
    """
    if len(jws) > _MAX_CHARS or jws.count(".") != 2:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise StrictJsonError("", "is not a compact JWS")
    signed, _, signature_text = jws.rpartition(".")
    header_text, _, claims_text = signed.partition(".")
    header = strict_json.members(_json(header_text), _HEADER, "header")
    # The algorithm is ours and not the token's (RFC 8725 section 3.1).
    if header["alg"] != "EdDSA" or header["typ"] != typ:
        raise StrictJsonError("header", f"must be of EdDSA and {typ}")
    key = next((key for key in keys.of_use(STATEMENT) if key.kid == header["kid"]), None)
    if key is None:
        raise ProofRefusedError("KEY_UNKNOWN", "the statement's key is not among the published ones")
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(_octets(signature_text), signed.encode("ascii"))
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise ProofRefusedError("SIGNATURE_INVALID", "the statement's signature is wrong") from error
    claims = _json(claims_text)
    if not isinstance(claims, dict):
        raise StrictJsonError("claims", "must be an object")
    read = Claims(claims)
    if read.text("iss") != _ISSUER:
        raise StrictJsonError("iss", f"must be {_ISSUER}")
    return read


def _json(part: str) -> object:
    return strict_json.parse(_octets(part), max_bytes=_MAX_CHARS)


def _octets(part: str) -> bytes:
    try:
        return base64url.decode(part)
    except ValueError as error:
        raise StrictJsonError("", "is not base64url") from error
