"""The portal's HTTPS side: POST /oauth2/token and GET /.well-known/jwks.json."""

import hashlib

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from services.portal import token_request
from services.portal.client_credentials import (
    ClientCredentials,
    Credentials,
    GrantRefusedError,
    InvalidClientError,
    TooManyAttemptsError,
)

# RFC 6749 section 5.1: whoever caches a token could give it away.
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# Short beside a token's life, so that a key announced one token's life before it signs is known everywhere.
_JWKS_MAX_AGE_S = 300
_RETRY_AFTER_S = 1


class PortalWeb:
    """Handlers of the two paths."""

    def __init__(self, client_credentials: ClientCredentials, jwks_json: str) -> None:
        self._client_credentials = client_credentials
        self._jwks_json = jwks_json
        self._jwks_etag = f'"{hashlib.sha256(jwks_json.encode()).hexdigest()[:32]}"'

    def app(self) -> Starlette:
        """Return the ASGI application."""
        app = Starlette(
            routes=[
                Route("/oauth2/token", self.token, methods=["POST"]),
                Route("/.well-known/jwks.json", self.jwks, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error, Exception: _unexpected_error},
        )
        app.router.redirect_slashes = False  # a redirect would carry credentials to a second request
        return app

    async def token(self, request: Request) -> Response:
        """Grant an access token (RFC 6749 section 4.4)."""
        try:
            asked = token_request.parse(request.headers, await _body(request))
            credentials = Credentials(asked.client_id, asked.client_secret, address_of(request))
            granted = await self._client_credentials.grant(credentials, asked.scope)
        except InvalidClientError as error:
            telemetry.logger().info("token refused", reason="INVALID_CLIENT")
            challenge = {"WWW-Authenticate": 'Basic realm="finid", charset="UTF-8"'}
            return _oauth_error(401, error.error, str(error), challenge)
        except GrantRefusedError as error:
            return _oauth_error(400, error.error, str(error))
        except TooManyAttemptsError as error:
            telemetry.logger().warning("token refused", reason="TOO_MANY_ATTEMPTS")
            waiting = {"Retry-After": str(error.retry_after_s)}
            return _oauth_error(429, "temporarily_unavailable", "too many failed attempts", waiting)
        except DependencyUnavailableError:
            waiting = {"Retry-After": str(_RETRY_AFTER_S)}
            return _oauth_error(503, "temporarily_unavailable", "come again in a moment", waiting)
        answer = {
            "access_token": granted.token,
            "token_type": "Bearer",
            "expires_in": granted.expires_in_s,
            "scope": " ".join(granted.services),
        }
        return JSONResponse(answer, headers=_NO_STORE)

    async def jwks(self, request: Request) -> Response:
        """Announce the public keys (RFC 7517)."""
        headers = {"Cache-Control": f"public, max-age={_JWKS_MAX_AGE_S}", "ETag": self._jwks_etag}
        if request.headers.get("if-none-match") == self._jwks_etag:
            return Response(status_code=304, headers=headers)
        return Response(self._jwks_json, media_type="application/jwk-set+json", headers=headers)


def address_of(request: Request) -> str:
    """Return the client's address: the last one of X-Forwarded-For, which Envoy itself has put there."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded or (request.client.host if request.client is not None else "")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > token_request.MAX_BODY_BYTES:
            raise token_request.InvalidRequestError("the body is too large")
    return bytes(body)


def _oauth_error(status: int, error: str, description: str, headers: dict[str, str] | None = None) -> Response:
    body = {"error": error, "error_description": description}
    return JSONResponse(body, status_code=status, headers=_NO_STORE | (headers or {}))


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    return _oauth_error(status, "invalid_request", "no such path or method", dict(headers or {}))


async def _unexpected_error(_request: Request, error: Exception) -> Response:
    telemetry.logger().error("call failed", error_class=type(error).__name__, stack=telemetry.stack_of(error))
    return _oauth_error(500, "server_error", "internal error")
