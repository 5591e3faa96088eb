"""The client credentials grant (RFC 6749 section 4.4): a client's id and secret against an access token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from services.portal.access_token import LIFETIME_S, AccessTokens
from services.portal.application import Application, Service, State
from services.portal.client_secret import SecretHash


class GrantRefusedError(Exception):
    """No token; `error` is RFC 6749's word for it (section 5.2), the message its description."""

    error: ClassVar[str] = "invalid_request"


class InvalidClientError(GrantRefusedError):
    """Client id and secret do not belong together. Which of them is wrong, and whether the id exists, stays unsaid."""

    error = "invalid_client"


class UnauthorizedClientError(GrantRefusedError):
    """The secret is right, and the application or its participant is suspended."""

    error = "unauthorized_client"


class InvalidScopeError(GrantRefusedError):
    """A scope is none of the application's services."""

    error = "invalid_scope"


class TooManyAttemptsError(Exception):
    """This client id failed too often from this address lately."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many failed attempts")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client presents, and the address it comes from."""

    client_id: str
    secret: str = field(repr=False)
    address: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A client's application and the keyed hashes of its live secrets."""

    application: Application
    secret_hmacs: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GrantedToken:
    """An access token and what it is good for."""

    token: str = field(repr=False)
    expires_in_s: int
    services: tuple[Service, ...]


class Clients(Protocol):
    """The record of clients, and of who failed to log in."""

    async def find(self, client_id: str, now: datetime) -> Registration | None:
        """Return the client's application and live secrets."""
        ...

    async def begin_attempt(self, origin_hmac: bytes, now: datetime) -> int:
        """Count an attempt before it is judged; return 0, or after how many seconds to come again, counting nothing."""
        ...

    async def forgive(self, origin_hmac: bytes) -> None:
        """Forget the attempts of an origin that has shown the right secret."""
        ...


class ClientCredentials:
    """Judges credentials and grants tokens."""

    def __init__(
        self, *, clients: Clients, secret_hash: SecretHash, tokens: AccessTokens, now: Callable[[], datetime]
    ) -> None:
        self._clients = clients
        self._secret_hash = secret_hash
        self._tokens = tokens
        self._now = now

    async def grant(self, credentials: Credentials, scope: str) -> GrantedToken:
        """Return a token for the services that `scope` names (space-separated), or for all of the application's.

        Raises InvalidClientError, UnauthorizedClientError, InvalidScopeError or TooManyAttemptsError.
        """
        origin_hmac = self._secret_hash.of_origin(credentials.client_id, credentials.address)
        # Counted before it is judged, so that guesses that come together cannot be more than the limit. Counted by
        # address too, so that nobody can lock a bank out by guessing in its name.
        if retry_after_s := await self._clients.begin_attempt(origin_hmac, self._now()):
            raise TooManyAttemptsError(retry_after_s)
        registration = await self._clients.find(credentials.client_id, self._now())
        # An unknown client takes the same comparison, so that the time taken does not tell who exists.
        kept = registration.secret_hmacs if registration is not None else ()
        right = self._secret_hash.is_one_of(kept or (b"\0" * 32,), credentials.client_id, credentials.secret)
        if registration is None or not right:
            raise InvalidClientError("client authentication failed")
        await self._clients.forgive(origin_hmac)
        application = registration.application
        if application.state is not State.ACTIVE:
            raise UnauthorizedClientError("the application is suspended")
        services = _narrowed(application.services, scope.split())
        return GrantedToken(self._tokens.issue(application, services), LIFETIME_S, services)


def _narrowed(services: tuple[Service, ...], wanted: Sequence[str]) -> tuple[Service, ...]:
    if not wanted:
        return services
    if not set(wanted) <= set(services):
        raise InvalidScopeError("a scope is none of the application's services")
    return tuple(service for service in services if service in wanted)
