"""REST over Envoy: the participant's backend with its access token, and the person's browser with its cookie."""

import base64
import hashlib
import secrets
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from deploy.demo.request_log import RequestLog, as_text

_TIMEOUT_S = 30.0


class CallRefusedError(Exception):
    """FinID answered with an error: HTTP status, and reason and message of google.rpc.Status."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        details = body.get("details", [])
        self.reason = next((str(item["reason"]) for item in details if "reason" in item), "")
        self.message = str(body.get("message", ""))
        self.status = status
        super().__init__(f"HTTP {status} {self.reason}: {self.message}")


@dataclass(frozen=True, slots=True)
class Edge:
    """Where FinID is: its HTTPS address, its plain address for PKI files, and the root its certificate hangs from."""

    base_url: str
    pki_url: str
    root_file: Path

    def tls(self) -> ssl.SSLContext:
        """Return what a client trusts: FinID's own root and nothing else."""
        return ssl.create_default_context(cafile=str(self.root_file))


class _Rest:
    """JSON calls, each recorded."""

    def __init__(self, edge: Edge, log: RequestLog, headers: dict[str, str]) -> None:
        self._client = httpx.AsyncClient(
            base_url=edge.base_url, verify=edge.tls(), timeout=_TIMEOUT_S, headers=headers, http2=False
        )
        self._log = log
        self._shown = dict.fromkeys(headers, "***")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's JSON. Raises CallRefusedError."""
        answer = await self._client.request(method, path, json=body)
        value = answer.json() if answer.content else {}
        headers = self._shown | ({"content-type": "application/json"} if body is not None else {})
        self._log.record(method, path, headers, as_text(body), answer.status_code, as_text(value))
        if answer.is_error:
            raise CallRefusedError(answer.status_code, value)
        result: dict[str, Any] = value
        return result

    async def fetch(self, method: str, path: str, body: bytes | None = None, media_type: str = "") -> bytes:
        """Return the answer's bytes. Raises CallRefusedError."""
        headers = {"content-type": media_type} if media_type else {}
        answer = await self._client.request(method, path, content=body, headers=headers)
        shown = f"{len(body)} bytes" if body is not None else ""
        self._log.record(method, path, self._shown | headers, shown, answer.status_code, f"{len(answer.content)} bytes")
        if answer.is_error:
            raise CallRefusedError(answer.status_code, answer.json())
        return answer.content


@dataclass(slots=True)
class Pkce:
    """RFC 7636: the verifier stays with the participant, the challenge goes with the create call."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def challenge(self) -> str:
        """Return base64url of the verifier's SHA-256."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


class Participant(_Rest):
    """A bank's backend."""

    @classmethod
    async def login(cls, edge: Edge, log: RequestLog, client_id: str, client_secret: str) -> "Participant":
        """Get an access token with the application's credentials (OAuth 2.0 client credentials)."""
        async with httpx.AsyncClient(base_url=edge.base_url, verify=edge.tls(), timeout=_TIMEOUT_S) as client:
            answer = await client.post(
                "/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client_id, client_secret)
            )
        log.record(
            "POST",
            "/oauth2/token",
            {"authorization": "***", "content-type": "application/x-www-form-urlencoded"},
            "grant_type=client_credentials",
            answer.status_code,
            as_text(answer.json()),
        )
        if answer.is_error:
            raise CallRefusedError(answer.status_code, {"message": str(answer.json().get("error", ""))})
        participant = cls(edge, log, {"authorization": f"Bearer {answer.json()['access_token']}"})
        participant.access_token = answer.json()["access_token"]
        return participant

    access_token = ""

    async def read_result(self, name: str, redirect_uri: str, pkce: Pkce, state: str) -> dict[str, Any]:
        """Take the one-time code from where the person came back, and read the verdict with it."""
        query = parse_qs(urlsplit(redirect_uri).query)
        if query.get("state") != [state]:
            raise ValueError("the person came back with another state")
        body = {"resultCode": query["code"][0], "codeVerifier": pkce.verifier}
        return await self.call("POST", f"/v1/{name}:readResult", body)


class Browser(_Rest):
    """The person's browser on the hosted page: no token, only the cookie that the link was exchanged for."""

    @classmethod
    async def open(cls, edge: Edge, log: RequestLog, capture_uri: str) -> "tuple[Browser, dict[str, Any]]":
        """Exchange the token in the link's fragment for the session cookie, on the origin of the page."""
        link = urlsplit(capture_uri)
        origin = f"{link.scheme}://{link.netloc}"
        browser = cls(replace(edge, base_url=origin), log, {"origin": origin})
        page = await browser.call("POST", "/v1/capture:open", {"token": link.fragment})
        return browser, page
