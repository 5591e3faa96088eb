"""Who calls: the participant's access token, verified here although Envoy has verified it too."""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mesh import names, telemetry
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.status import PeerError

_AUDIENCE = "finid-api"
_ALGORITHMS = ["ES256"]
_TYPES = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 section 4
_LEEWAY_S = 5
_MAX_TOKEN_CHARS = 4096
_KEYS_LIVE_S = 300.0
_REFETCH_AFTER_S = 5.0
# As long as tokens live: a portal that is away costs nobody a valid token.
_KEYS_DIE_S = 900.0
# Tokens whose signature need not be verified again. An application has few at a time.
_MAX_KNOWN = 1024


class Service(StrEnum):
    """What a token is good for; the OAuth2 scopes that the portal grants."""

    FINID = "finid"
    ESIGN = "esign"


class TokenInvalidError(FinIdError):
    """There is no access token, or it is not valid now."""

    code = Code.UNAUTHENTICATED
    reason = "TOKEN_INVALID"


class ServiceNotGrantedError(FinIdError):
    """The access token is valid, and not for this service."""

    code = Code.PERMISSION_DENIED
    reason = "SERVICE_NOT_GRANTED"


@dataclass(frozen=True, slots=True)
class Caller:
    """The application that an access token was given to, and what for."""

    application: str
    services: frozenset[str]

    def require(self, service: Service) -> None:
        """Raise ServiceNotGrantedError unless the token is good for `service`."""
        if service not in self.services:
            raise ServiceNotGrantedError("The access token is not for this service.")


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified: whose it is, until when (Unix seconds), and by which keys, which may be replaced."""

    caller: Caller
    expires_at: int
    keys: KeySet


class AccessTokens:
    """Verifies access tokens (RFC 9068, ES256) against the portal's keys, which are fetched when needed and kept.

    A token is verified once for each set of keys and known by its digest until it expires. `fetch_keys` returns a JWK
    Set as JSON; `now` is Unix seconds, `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        fetch_keys: Callable[[], Awaitable[str]],
        issuer: str,
        now: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._now = now
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._claims = jwt.JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": _AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            application={"essential": True},
            services={"essential": True},
        )
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def caller(self, authorization: str) -> Caller:
        """Return who an `authorization` header's bearer token belongs to.

        Raises TokenInvalidError, DependencyUnavailableError when there are no keys to judge it by.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_TOKEN_CHARS:
            raise TokenInvalidError("The call needs an access token.")
        digest = hashlib.sha256(token.encode()).digest()
        keys = await self._current_keys(_KEYS_LIVE_S)
        known = self._known.get(digest)
        if known is not None and known.keys is keys and self._now() < known.expires_at:
            return known.caller
        try:
            return self._remember(digest, self._verify(token, keys))
        except (JoseError, ValueError):
            renewed = await self._current_keys(_REFETCH_AFTER_S)  # a key may have been rotated in
        try:
            return self._remember(digest, self._verify(token, renewed))
        except (JoseError, ValueError) as error:
            raise TokenInvalidError("The access token is not valid.") from error

    def _remember(self, digest: bytes, known: _Known) -> Caller:
        self._known.pop(digest, None)
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]  # the one that was verified longest ago
        self._known[digest] = known
        return known.caller

    def _verify(self, token: str, keys: KeySet) -> _Known:
        decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
        if decoded.header.get("typ") not in _TYPES:
            raise ValueError("not an access token")
        self._claims.validate(decoded.claims)
        application, services = decoded.claims["application"], decoded.claims["services"]
        named = isinstance(application, str) and names.is_name("applications", application)
        if not named or not isinstance(services, list):
            raise ValueError("not the portal's claims")
        return _Known(Caller(application, frozenset(map(str, services))), int(decoded.claims["exp"]), keys)

    async def _current_keys(self, live_s: float) -> KeySet:
        """Return keys that are younger than `live_s`, or the last ones if no newer can be had now."""
        now = self._clock()
        if self._keys is not None and now - self._fetched_at <= live_s:
            return self._keys
        async with self._fetching:
            now = self._clock()
            may_ask = self._keys is None or now - self._tried_at > _REFETCH_AFTER_S
            if now - self._fetched_at > live_s and may_ask:
                self._tried_at = now
                await self._renew(now)
            if self._keys is None or now - self._fetched_at > _KEYS_DIE_S:
                raise DependencyUnavailableError("Access tokens cannot be verified now.", retry_after_s=1.0)
            return self._keys

    async def _renew(self, now: float) -> None:
        try:
            self._keys = KeySet.import_key_set(json.loads(await self._fetch_keys()))
            self._fetched_at = now
        except (PeerError, JoseError, ValueError, TypeError, KeyError) as error:
            telemetry.logger().warning("token keys not renewed", error_class=type(error).__name__)
