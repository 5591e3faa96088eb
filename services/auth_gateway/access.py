"""Who calls: the participant's access token, verified here although Envoy has verified it too."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mesh.errors import Code, FinIdError

_AUDIENCE = "finid-api"
_ALGORITHMS = ["ES256"]
_MAX_TOKEN_CHARS = 4096
_KEYS_LIVE_S = 300.0
_REFETCH_AFTER_S = 5.0


class TokenInvalidError(FinIdError):
    """There is no access token, or it is not valid now."""

    code = Code.UNAUTHENTICATED
    reason = "TOKEN_INVALID"


@dataclass(frozen=True, slots=True)
class Caller:
    """The application that an access token was given to."""

    application: str


class AccessTokens:
    """Verifies access tokens (JWT, ES256) against the portal's keys, which are fetched when needed and kept shortly."""

    def __init__(self, fetch_keys: Callable[[], Awaitable[str]], issuer: str) -> None:
        self._fetch_keys = fetch_keys
        self._claims = jwt.JWTClaimsRegistry(
            leeway=5,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": _AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            application={"essential": True},
        )
        self._keys: KeySet | None = None
        self._fetched_at = 0.0

    async def caller(self, authorization: str) -> Caller:
        """Return who an `authorization` header's bearer token belongs to. Raises TokenInvalidError."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_CHARS:
            raise TokenInvalidError("The call needs an access token.")
        keys = await self._current_keys(_KEYS_LIVE_S)
        try:
            return self._verify(token, keys)
        except (JoseError, ValueError):
            keys = await self._current_keys(_REFETCH_AFTER_S)  # a key may have been rotated in
        try:
            return self._verify(token, keys)
        except (JoseError, ValueError) as error:
            raise TokenInvalidError("The access token is not valid.") from error

    def _verify(self, token: str, keys: KeySet) -> Caller:
        decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
        self._claims.validate(decoded.claims)
        return Caller(str(decoded.claims["application"]))

    async def _current_keys(self, live_s: float) -> KeySet:
        if self._keys is None or time.monotonic() - self._fetched_at > live_s:
            self._keys = KeySet.import_key_set(json.loads(await self._fetch_keys()))
            self._fetched_at = time.monotonic()
        return self._keys
