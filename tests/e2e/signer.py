"""A bank and a person who use the running mesh again and again."""

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from deploy.demo.contract import contract_pdf
from deploy.demo.hosted import confirm
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import CallRefusedError, Participant, Pkce
from deploy.demo.walk import Surroundings


def _quiet(_kind: str, _value: Any) -> None:
    return None


@dataclass
class Signer:
    """A bank and a person who sign again and again; `certificate` is the one they use."""

    given: Surroundings
    bank: Participant
    certificate: str = ""
    unfinished: str = ""

    async def enrol(self) -> None:
        """Get a certificate."""
        order = await self._ordered("/v1/certificateOrders", {"profile": "individual-sign"})
        self.certificate = order["certificate"]["name"]

    async def reissue(self) -> None:
        """Have the certificate replaced."""
        order = await self._ordered(f"/v1/{self.certificate}:reissue", {"profile": "individual-sign"})
        self.certificate = order["certificate"]["name"]

    async def revoke(self, reason: str) -> dict[str, Any]:
        """Have the certificate revoked; return the change."""
        return await self._ordered(f"/v1/{self.certificate}:revoke", {"reason": reason})

    async def suspend(self) -> dict[str, Any]:
        """Have the certificate put on hold; return the change."""
        return await self._ordered(f"/v1/{self.certificate}:suspend", {})

    async def resume(self) -> dict[str, Any]:
        """Have the hold ended; return the change."""
        return await self._ordered(f"/v1/{self.certificate}:resume", {})

    async def not_begun(self, path: str, body: dict[str, Any]) -> str:
        """Ask for something; return why it is refused at once."""
        try:
            await self.bank.call("POST", path, self._create(Pkce()) | body)
        except CallRefusedError as refusal:
            return refusal.reason
        raise AssertionError(f"{path} was begun")

    async def sign(self) -> bytes:
        """Sign a contract; return the signature (CAdES, detached)."""
        document = {
            "title": "Agreement",
            "content": base64.b64encode(contract_pdf()).decode(),
            "format": "SIGNATURE_FORMAT_CADES_DETACHED",
            "level": "SIGNATURE_LEVEL_B_T",
        }
        done = await self._ordered("/v1/signatures", {"certificate": self.certificate, "documents": [document]})
        signed = await self.bank.fetch("GET", f"/v1/{done['documents'][0]['name']}:download")
        assert signed
        return signed

    async def give_up(self) -> None:
        """Cancel what was begun and can still be cancelled."""
        try:
            await self.bank.call("POST", f"/v1/{self.unfinished}:cancel", {})
        except CallRefusedError as refusal:
            if refusal.reason not in {"WRONG_STATE", "AUTHENTICATION_EXPIRED"}:
                raise

    async def _ordered(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        pkce = Pkce()
        order = await self.bank.call("POST", path, self._create(pkce) | body)
        result = await self._confirmed(order, pkce)
        assert result["verdict"] == "VERDICT_SUCCESS", result["reason"]
        return await self.bank.call("GET", f"/v1/{order['name']}")

    async def _confirmed(self, order: dict[str, Any], pkce: Pkce) -> dict[str, Any]:
        authentication = order["authentication"]
        self.unfinished = authentication["name"]
        phone = Phone(self.given.live.phone, self.given.outbox)
        back = await confirm(
            self.given.edge, RequestLog(), authentication["captureUri"], self.given.camera(), phone, _quiet
        )
        return await self.bank.read_result(authentication["name"], back, pkce, "state")

    def _create(self, pkce: Pkce) -> dict[str, Any]:
        return {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": self.given.live.iin, "phone": self.given.live.phone},
            "returnTo": {
                "redirectUri": self.given.redirect_uri,
                "state": "state",
                "codeChallenge": pkce.challenge,
            },
        }
