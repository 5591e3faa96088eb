"""What the clients were told, and the calls by which they were told it: repeated until there is an answer for good."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from cryptography import x509
from finid.ca.v1 import ca_pb2 as ca_pb
from finid.ca.v1 import ca_pb2_grpc as ca_rpc
from finid.signer.v1 import signer_pb2 as signer_pb
from finid.signer.v1 import signer_pb2_grpc as signer_rpc

from mesh.status import PeerError
from tests.bundles import SentBundle
from tests.kills.processes import Processes, Service
from tests.signer.place import message_of, request_of

_Answer = TypeVar("_Answer")

_DEADLINE_S = 8.0
_PAUSE_S = 0.1
_LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
IN_PROGRESS = frozenset({"SIGNING_IN_PROGRESS", "ISSUANCE_IN_PROGRESS"})
# For good: an intent that a death left behind is never signed again.
LEFT_BEHIND = frozenset({"SIGNATURE_ABORTED", "ISSUANCE_ABANDONED"})


class RefusedError(Exception):
    """The answer for good is a refusal."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InProgressError(Exception):
    """An earlier attempt may still be at work, or died at it: ask later."""


@dataclass
class Told:
    """All answers, by transaction where there is one. `against` lists what no client may ever be told."""

    keys: dict[bytes, signer_pb.GenerateKeyResponse] = field(default_factory=dict)
    signatures: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    certificates: dict[bytes, bytes] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    left_behind: dict[bytes, str] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)
    lists: dict[int, bytes] = field(default_factory=dict)
    stamps: list[bytes] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    lost: int = 0
    against: list[str] = field(default_factory=list)
    at_an_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, answers: dict[Any, _Answer], key: Any, answer: _Answer, what: str) -> _Answer:
        """Remember an answer; a second one to the same request must be the same."""
        if key in self.left_behind:
            self.against.append(f"{what} was answered after it was given up")
        if key in answers:
            self.repeats += 1
            if answers[key] != answer:
                self.against.append(f"{what} was answered twice, and not the same")
        answers[key] = answer
        self.at_an_answer.set()
        return answer


@dataclass
class Client:
    """Calls signer and CA as the gateway does, again and again until the answer is for good."""

    processes: Processes
    told: Told
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate_key(self, request_id: str, bundle: SentBundle) -> signer_pb.GenerateKeyResponse:
        """Have the key of a new credential made."""
        request = signer_pb.GenerateKeyRequest(request_id=request_id, bundle=message_of(bundle))
        answer = await self._of_signer(lambda stub: stub.GenerateKey(request, timeout=_DEADLINE_S))
        return self.told.keep(self.told.keys, bundle.txn, answer, "a key")

    async def issue(self, request_id: str, bundle: SentBundle, csr_der: bytes, release: str) -> bytes:
        """Have its certificate issued."""
        request = ca_pb.IssueRequest(request_id=request_id, bundle=message_of(bundle), csr_der=csr_der, release=release)
        answer = await self._once(bundle.txn, self._of_ca(lambda stub: stub.Issue(request, timeout=_DEADLINE_S)))
        return self.told.keep(self.told.certificates, bundle.txn, answer.certificate_der, "a certificate")

    async def activate(self, credential: str, certificate_der: bytes) -> None:
        """Bring the certificate to the signer."""
        request = signer_pb.ActivateRequest(credential=credential, certificate_der=certificate_der)
        await self._of_signer(lambda stub: stub.Activate(request, timeout=_DEADLINE_S))

    async def put_in_force(self, credential: str) -> None:
        """Tell the CA that the certificate's key is active: if it waited, it takes another's place."""
        request = ca_pb.ActivateRequest(credential=credential)
        await self._of_ca(lambda stub: stub.Activate(request, timeout=_DEADLINE_S))

    async def sign(self, request_id: str, bundle: SentBundle) -> tuple[bytes, ...]:
        """Have documents signed."""
        request = request_of(bundle, request_id)
        call = self._of_signer(lambda stub: stub.SignDigests(request, timeout=_DEADLINE_S))
        answer = await self._once(bundle.txn, call)
        return self.told.keep(self.told.signatures, bundle.txn, tuple(answer.signatures), "a signing")

    async def change(self, kind: str, request_id: str, bundle: SentBundle) -> None:
        """Revoke, suspend or resume: at the signer first, then at the CA."""
        message = message_of(bundle)
        at_signer = {"revoke": "Disable", "suspend": "Suspend", "resume": "Resume"}[kind]
        signers_request = getattr(signer_pb, f"{at_signer}Request")(request_id=request_id, bundle=message)
        await self._of_signer(lambda stub: getattr(stub, at_signer)(signers_request, timeout=_DEADLINE_S))
        name = kind.capitalize()
        request = getattr(ca_pb, f"{name}Request")(request_id=request_id, bundle=message)
        await self._of_ca(lambda stub: getattr(stub, name)(request, timeout=_DEADLINE_S))

    async def destroy(self, credential: str) -> str:
        """Have a key that is over erased; return the proof."""
        request = signer_pb.DestroyKeyRequest(credential=credential)
        answer = await self._of_signer(lambda stub: stub.DestroyKey(request, timeout=_DEADLINE_S))
        return self.told.keep(self.told.proofs, credential, answer.proof, "the end of a key")

    async def revocation_list(self) -> x509.CertificateRevocationList:
        """Fetch the list; numbers only go up, and one number is one list."""
        highest = max(self.told.lists, default=0)
        request = ca_pb.GetCrlRequest(issuer=ca_pb.CRL_ISSUER_ISSUING)
        answer = await self._of_ca(lambda stub: stub.GetCrl(request, timeout=_DEADLINE_S))
        crl = x509.load_der_x509_crl(answer.crl_der)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        if number < highest:
            self.told.against.append(f"after list {highest} list {number} was served")
        self.told.keep(self.told.lists, number, answer.crl_der, f"list {number}")
        return crl

    async def status(self, request_der: bytes) -> bytes:
        """Ask for the status of a certificate (OCSP)."""
        request = ca_pb.OcspRequest(request_der=request_der)
        return (await self._of_ca(lambda stub: stub.Ocsp(request, timeout=_DEADLINE_S))).response_der

    async def stamp(self, digest_sha256: bytes) -> None:
        """Have a digest stamped."""
        request = ca_pb.StampDigestRequest(digest_sha256=digest_sha256)
        answer = await self._of_ca(lambda stub: stub.StampDigest(request, timeout=_DEADLINE_S))
        self.told.stamps.append(answer.token_der)

    async def _once(self, txn: bytes, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except RefusedError as refused:
            if refused.reason in LEFT_BEHIND:
                if txn in self.told.signatures or txn in self.told.certificates:
                    self.told.against.append(f"{refused.reason} after it was answered")
                self.told.left_behind[txn] = refused.reason
            raise

    async def _of_signer(self, call: "Callable[[signer_rpc.SignerServiceAsyncStub], Awaitable[_Answer]]") -> _Answer:
        signer = self.processes.signer
        return await self._until_answered(signer, lambda channel: call(signer_rpc.SignerServiceStub(channel)))

    async def _of_ca(self, call: "Callable[[ca_rpc.CaServiceAsyncStub], Awaitable[_Answer]]") -> _Answer:
        return await self._until_answered(self.processes.ca, lambda channel: call(ca_rpc.CaServiceStub(channel)))

    async def _until_answered(
        self, service: Service, call: Callable[[grpc.aio.Channel], Awaitable[_Answer]]
    ) -> _Answer:
        """Raises RefusedError, InProgressError."""
        while True:
            channel = await service.channel()
            try:
                return await call(channel)
            except grpc.aio.AioRpcError as error:
                answered = PeerError(service.name, error)
                if answered.reason in IN_PROGRESS:
                    raise InProgressError from error
                if answered.code == "INTERNAL":
                    # Nobody has foreseen it, whatever died: the log says what it was.
                    self.told.against.append(f"{service.name} answered INTERNAL")
                elif answered.code not in _LOST:
                    raise RefusedError(answered.reason or answered.code) from error
            except asyncio.CancelledError:
                # Of the call, whose channel was closed with its service; or of who waits for it.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            self.told.lost += 1
            await asyncio.sleep(_PAUSE_S)
