"""A compromised gateway: holds the hub's own certificate and a genuine bundle, and asks the signer for more.

The signer trusts nothing that the gateway says, so each of these must be refused, and the HSM must see no call.
"""

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from finid.factor.v1 import bundle_pb2
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc

from deploy.demo.evidence import receipt_claims
from mesh import identity, transaction
from mesh.channel import answers_of, connect
from mesh.settings import MeshSettings
from mesh.status import PeerError

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was tried, and how the signer refused it."""

    tried: str
    code: str
    reason: str
    message: str


class NotRefusedError(Exception):
    """The signer did what it must not do."""


class Intruder:
    """Calls the signer with the gateway's identity."""

    def __init__(self, gateway: MeshSettings, signer_address: str, evidence: dict[str, Any]) -> None:
        bundle = evidence["bundle"]
        openings = bundle["openings"]
        self._channel = connect(identity.mounted(gateway), "signer", signer_address)
        self._stub = rpc.SignerServiceStub(self._channel)
        self._transaction = base64.b64decode(bundle["transaction"])
        self._receipts = [str(token) for token in bundle["receipts"]]
        self._openings = bundle_pb2.Openings(
            iin=openings["iin"],
            iin_salt=base64.b64decode(openings["iinSalt"]),
            phone=openings["phone"],
            phone_salt=base64.b64decode(openings["phoneSalt"]),
        )
        documents = transaction.parse(self._transaction).documents
        self._digests = [document.digest_sha256 for document in documents]

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def without_the_code(self) -> Refusal:
        """Sign with the receipt of the SMS code left out."""
        kept = [token for token in self._receipts if receipt_claims(token)["factor"] != "SMS_OTP"]
        return await self._try("signing without the SMS_OTP receipt", kept, self._digests)

    async def another_digest(self) -> Refusal:
        """Sign a digest that the person never confirmed."""
        digests = [*self._digests[:-1], secrets.token_bytes(32)]
        return await self._try("signing a digest other than the authorized one", self._receipts, digests)

    async def a_second_time(self) -> Refusal:
        """Use a transaction again that has been used."""
        return await self._try("using the same transaction a second time", self._receipts, self._digests)

    async def _try(self, tried: str, receipts: list[str], digests: list[bytes]) -> Refusal:
        request = pb.SignDigestsRequest(
            request_id=secrets.token_hex(16),
            bundle=bundle_pb2.Bundle(transaction=self._transaction, openings=self._openings, receipts=receipts),
            digests_sha256=digests,
        )
        try:
            async with answers_of("signer"):
                await self._stub.SignDigests(request, timeout=_TIMEOUT_S)
        except PeerError as error:
            return Refusal(tried, error.code, error.reason, error.message)
        raise NotRefusedError(tried)
