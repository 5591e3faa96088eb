"""Access tokens (RFC 6749 section 4.4): asked for when first needed, kept, and renewed before they run out."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import httpx

from finid_client.address import Address
from finid_client.credentials import Credentials
from finid_client.errors import CallError, Refusal, call_error

METHOD = "POST /oauth2/token"
# Renewed so much before it ends, or in the last tenth of a shorter life.
_EARLY_S = 60.0
_EARLY_PART = 0.1
_CODE_OF_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token, and the monotonic second from which on another one is asked for."""

    text: str = field(repr=False)
    renew_at: float


def _request(credentials: Credentials) -> tuple[dict[str, str], tuple[str, str]]:
    """The form, and id and secret as RFC 6749 section 2.3.1 wants them."""
    return (
        {"grant_type": "client_credentials"},
        (quote_plus(credentials.client_id), quote_plus(credentials.client_secret)),
    )


def read(answer: httpx.Response, asked_at: float) -> AccessToken:
    """Return the token of an answer. Raises CallError."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.status_code == httpx.codes.OK:
        token, lives_s = body.get("access_token"), body.get("expires_in")
        if isinstance(token, str) and token and isinstance(lives_s, int) and lives_s > 0:
            return AccessToken(token, asked_at + lives_s - min(_EARLY_S, lives_s * _EARLY_PART))
    waiting = answer.headers.get("retry-after", "")
    raise call_error(
        METHOD,
        Refusal(
            code=_CODE_OF_STATUS.get(answer.status_code, "INTERNAL"),
            reason=str(body.get("error", "")),
            message=str(body.get("error_description", f"HTTP {answer.status_code}")),
            retry_after_s=float(waiting) if waiting.isdecimal() else None,
        ),
    )


def _unreachable(error: httpx.TransportError) -> CallError:
    return call_error(METHOD, Refusal("UNAVAILABLE", message=f"{type(error).__name__}: {error}"))


class TokenSource:
    """Tokens for threads: while one thread asks, the others wait for its answer."""

    def __init__(self, address: Address, credentials: Credentials, now: Callable[[], float] = time.monotonic) -> None:
        self._credentials = credentials
        self._now = now
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._http = httpx.Client(base_url=address.token_base_url or address.base_url, verify=address.tls())

    def get(self, timeout_s: float) -> str:
        """Return a token that is good for a while. Raises CallError."""
        with self._lock:
            if self._token is None or self._now() >= self._token.renew_at:
                form, basic = _request(self._credentials)
                asked_at = self._now()
                try:
                    answer = self._http.post("/oauth2/token", data=form, auth=basic, timeout=timeout_s)
                except httpx.TransportError as error:
                    raise _unreachable(error) from error
                self._token = read(answer, asked_at)
            return self._token.text

    def forget(self, text: str) -> None:
        """Let go of a token that was refused, if it is still the one in use."""
        with self._lock:
            if self._token is not None and self._token.text == text:
                self._token = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncTokenSource:
    """Tokens for tasks of one event loop."""

    def __init__(self, address: Address, credentials: Credentials, now: Callable[[], float] = time.monotonic) -> None:
        self._credentials = credentials
        self._now = now
        self._lock = asyncio.Lock()
        self._token: AccessToken | None = None
        self._http = httpx.AsyncClient(base_url=address.token_base_url or address.base_url, verify=address.tls())

    async def get(self, timeout_s: float) -> str:
        """Return a token that is good for a while. Raises CallError."""
        async with self._lock:
            if self._token is None or self._now() >= self._token.renew_at:
                form, basic = _request(self._credentials)
                asked_at = self._now()
                try:
                    answer = await self._http.post("/oauth2/token", data=form, auth=basic, timeout=timeout_s)
                except httpx.TransportError as error:
                    raise _unreachable(error) from error
                self._token = read(answer, asked_at)
            return self._token.text

    def forget(self, text: str) -> None:
        """Let go of a token that was refused, if it is still the one in use."""
        if self._token is not None and self._token.text == text:
            self._token = None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
