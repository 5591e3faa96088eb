"""Access tokens: JWT (RFC 9068) signed with ES256, and the public keys by which anybody checks them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from mesh.names import new_id
from services.portal.application import Application, Service

AUDIENCE = "finid-api"
LIFETIME_S = 15 * 60
_ALGORITHM = "ES256"
_CURVE = "P-256"


def read_key(pem: bytes, *, private: bool) -> ECKey:
    """Return a P-256 key from PEM, with its RFC 7638 thumbprint as `kid`. Raises ValueError for anything else."""
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError) as error:
        raise ValueError("a token key must be a PEM key") from error
    if key.get("crv") != _CURVE or key.is_private is not private:
        raise ValueError(f"a token key must be a {'private' if private else 'public'} key of P-256")
    key.ensure_kid()
    return key


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The key that signs, and public keys that are only announced: the next one, before it signs, and the previous."""

    current: ECKey
    announced: Sequence[ECKey] = ()

    def jwks(self) -> str:
        """Return the public keys as a JWK Set (RFC 7517)."""
        keys = [key.as_dict(private=False, use="sig", alg=_ALGORITHM) for key in (self.current, *self.announced)]
        return json.dumps({"keys": keys}, separators=(",", ":"))


class AccessTokens:
    """Issues access tokens."""

    def __init__(
        self,
        *,
        keys: TokenKeys,
        issuer: str,
        now: Callable[[], datetime],
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._now = now
        self._make_id = make_id

    def issue(self, application: Application, services: Sequence[Service]) -> str:
        """Return a token for the application and these of its services, good for LIFETIME_S."""
        issued_at = int(self._now().timestamp())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": application.client_id,
            "client_id": application.client_id,
            "iat": issued_at,
            "exp": issued_at + LIFETIME_S,
            "jti": self._make_id(),
            "application": application.name,
            "title": application.title,
            "channels": [channel.value for channel in application.channels],
            "services": [service.value for service in services],
        }
        header = {"alg": _ALGORITHM, "kid": self._keys.current.kid, "typ": "at+jwt"}
        return jwt.encode(header, claims, self._keys.current, algorithms=[_ALGORITHM])
