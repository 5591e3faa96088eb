"""People who get certificates, sign, have them replaced, suspended and revoked, until the rounds are over."""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from mesh.names import new_id
from mesh.transaction import Openings, Purpose
from services.ca.signing import key_bits
from tests.bundles import SentBundle, World, digest_of, document
from tests.kills.told import LEFT_BEHIND, Client, InProgressError, RefusedError

_Answer = TypeVar("_Answer")

# A client that lost an answer asks again; so does one in so many that did not.
_ASKED_AGAIN = 0.25
# How often a person signs, has the certificate replaced, suspends and resumes it, revokes it.
_WEIGHTS = (70, 12, 12, 6)
_PAUSE_S = 0.02
_LATER_S = 2.0
# What no receipt is fresh enough for any more, because its first attempts all got lost.
_TOO_LATE = frozenset({"CODE_TOO_OLD", "TRANSACTION_EXPIRED", "RECEIPT_EXPIRED"})


@dataclass(frozen=True, slots=True)
class Held:
    """A credential in use, and its certificate."""

    credential: str
    certificate_der: bytes

    @property
    def certificate_sha256(self) -> bytes:
        return hashlib.sha256(self.certificate_der).digest()


@dataclass
class Parked:
    """What died half-way or may still be at work, to be asked for again later."""

    ask: Callable[[], Awaitable[object]]


@dataclass
class People:
    """Everybody, and what they have begun."""

    client: Client
    world: World
    issuing: x509.Certificate
    seed: int
    born: int = 0
    parked: list[Parked] = field(default_factory=list)
    done: int = 0
    over: bool = False

    async def lives(self, number: int) -> None:
        """One life after another, until it is over. A person whose call died half-way makes room for another."""
        chance = random.Random(f"{self.seed} {number}")
        while not self.over:
            self.born += 1
            person = _Person(self, chance, _openings(self.born))
            try:
                await person.live()
            except InProgressError:
                continue
            except RefusedError as refused:
                if refused.reason not in LEFT_BEHIND | _TOO_LATE:
                    self.client.told.against.append(f"a person was refused: {refused.reason}")

    async def read(self) -> None:
        """Fetch lists, ask for statuses and have digests stamped, as relying parties do."""
        chance, told = random.Random(f"{self.seed} relying party"), self.client.told
        while not self.over:
            await self.client.revocation_list()
            await self.client.stamp(chance.randbytes(32))
            if told.certificates:
                await self._read_status(chance.choice(list(told.certificates.values())))
            await asyncio.sleep(_PAUSE_S)

    async def _read_status(self, certificate_der: bytes) -> None:
        certificate = x509.load_der_x509_certificate(certificate_der)
        answer = await self.client.status(status_request(certificate.serial_number, self.issuing))
        status = ocsp.load_der_ocsp_response(answer).certificate_status
        self.client.told.statuses[status.name] += 1
        if status is ocsp.OCSPCertStatus.UNKNOWN:
            self.client.told.against.append("a certificate that was issued has an unknown status")

    async def ask_for_parked(self) -> None:
        """Ask again for what died half-way, for as long as it is in progress."""
        while not self.over:
            await asyncio.sleep(_LATER_S)
            await self.settle()

    async def settle(self) -> None:
        """Ask once for everything that is parked; what is answered for good is parked no more."""
        parked, self.parked = self.parked, []
        for one in parked:
            try:
                await one.ask()
            except InProgressError:
                self.parked.append(one)
            except RefusedError as refused:
                if refused.reason not in LEFT_BEHIND | _TOO_LATE:
                    self.client.told.against.append(f"a repeat was refused: {refused.reason}")


@dataclass
class _Person:
    people: People
    chance: random.Random
    openings: Openings

    async def live(self) -> None:
        """Certificate after certificate, each used until it is revoked."""
        while not self.people.over:
            held: Held | None = await self._enrol()
            while held is not None and not self.people.over:
                act = self.chance.choices((self._sign, self._reissue, self._pause, self._end), _WEIGHTS)[0]
                try:
                    held = await act(held)
                except RefusedError as refused:
                    if refused.reason not in LEFT_BEHIND:
                        raise
                self.people.done += 1
                await asyncio.sleep(_PAUSE_S)

    async def _enrol(self) -> Held:
        return await self._new_key(self._bundle(Purpose.ISSUE))

    async def _reissue(self, held: Held) -> Held | None:
        return await self._new_key(self._bundle(Purpose.REISSUE, superseded=held.credential))

    async def _new_key(self, bundle: SentBundle) -> Held:
        client, request_id = self.people.client, new_id()
        key = await self._asked(lambda: client.generate_key(request_id, bundle))
        attested = bundle.also(key.key_attestation)
        opened = self.openings
        release = self.people.world.release(bundle.txn, now=int(time.time()), iin=opened.iin)
        certificate = await self._asked(lambda: client.issue(request_id, attested, key.csr_der, release))
        await self._asked(lambda: client.activate(key.credential, certificate))
        await self._asked(lambda: client.put_in_force(key.credential))
        return Held(key.credential, certificate)

    async def _sign(self, held: Held) -> Held | None:
        client, request_id = self.people.client, new_id()
        bundle = self._sign_bundle(held)
        await self._asked(lambda: client.sign(request_id, bundle))
        return held

    async def _pause(self, held: Held) -> Held | None:
        await self._change("suspend", Purpose.SUSPEND, held)
        await self._must_not_sign(held)
        await self._change("resume", Purpose.RESUME, held)
        return held

    async def _end(self, held: Held) -> None:
        client = self.people.client
        await self._change("revoke", Purpose.REVOKE, held, reason="keyCompromise")
        client.told.disabled.add(held.credential)
        client.told.revoked.add(held.certificate_sha256)
        await self._must_not_sign(held)
        await self._asked(lambda: client.destroy(held.credential))

    async def _must_not_sign(self, held: Held) -> None:
        try:
            await self.people.client.sign(new_id(), self._sign_bundle(held))
        except RefusedError as refused:
            if refused.reason == "CREDENTIAL_NOT_ACTIVE":
                return
            raise
        self.people.client.told.against.append("a credential signed that was suspended or revoked")

    async def _change(self, kind: str, purpose: Purpose, held: Held, **more: str) -> None:
        client, request_id = self.people.client, new_id()
        bundle = self._bundle(purpose, credential=held.credential, certificate_sha256=held.certificate_sha256, **more)
        await self._asked(lambda: client.change(kind, request_id, bundle))

    async def _asked(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask, and now and then ask again; what is still in progress is asked for later, and this life ends."""
        try:
            answer = await ask()
            if self.chance.random() < _ASKED_AGAIN:
                answer = await ask()
        except InProgressError:
            self.people.parked.append(Parked(ask))
            raise
        return answer

    def _sign_bundle(self, held: Held) -> SentBundle:
        signing_time = int(time.time()) - 121
        documents = tuple(
            document(f"{new_id()}.pdf", signing_time=signing_time, certificate_sha256=held.certificate_sha256)
            for _ in range(self.chance.randint(1, 3))
        )
        return self._bundle(
            Purpose.SIGN,
            credential=held.credential,
            certificate_sha256=held.certificate_sha256,
            documents=documents,
            signing_time=signing_time,
        )

    def _bundle(self, purpose: Purpose, **transaction: object) -> SentBundle:
        return self.people.world.bundle(purpose, openings=self.openings, now=int(time.time()), transaction=transaction)


def status_request(serial: int, issuing: x509.Certificate) -> bytes:
    """An OCSPRequest (DER) about one serial of the issuing CA."""
    name, key = hashlib.sha256(issuing.subject.public_bytes()).digest(), hashlib.sha256(key_bits(issuing)).digest()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, serial, hashes.SHA256())
    return builder.build().public_bytes(Encoding.DER)


def _openings(number: int) -> Openings:
    iin, phone = f"{900_000_000_000 + number}", f"+7701{number:07}"
    return Openings(iin, digest_of(f"iin salt {number}"), phone, digest_of(f"phone salt {number}"))
