"""An attacker who drives the mesh as the gateway does, and holds some of its parts; a victim who is not there.

    scene = await Scene.create(held={"otp"})          # otp's receipt key is the attacker's
    outcomes = await scene.outcomes(Purpose.SIGN)     # every plan that could work, and what came of it

What is not held is the service's own code: registry over a source that knows the victim, facematch over faces known by
their bytes, otp over phones that only their owner reads, documents over rows in memory, the signer over a token that
counts its calls, the CA over keys that count theirs. Of liveness there is its promise: whoever stands before the camera
gets a receipt, a picture of somebody does not (tests/liveness judges how well it is kept).

Whatever an honest part refuses to confirm, the attacker signs with a key of their own in its name: no bundle is refused
for being short. Everything happens within the second NOW.
"""

import hashlib
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.errors import FinIdError
from mesh.facts import Factor, Facts, StateRecord
from mesh.floors import Floors
from mesh.transaction import Env, Openings, Purpose, Transaction, txn_of
from services.ca.issue import Issue, IssueCommand
from services.ca.ledger import Intent, State
from services.documents.vouching import Vouching
from services.facematch.compare import Matcher
from services.facematch.photo import PhotoKey
from services.facematch.policies import Policy
from services.otp.challenge import Challenges, Limits
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.sending import Sending
from services.otp.sends import Sends
from services.otp.text import Language
from services.registry.attestation import Attestation
from services.registry.release import Release
from services.signer.credential import Credential
from tests.bundles import (
    FACTORS,
    ISSUER_OF,
    MATCH_MODEL,
    NOW,
    POLICY,
    SentBundle,
    World,
    digest_of,
    facts_of,
    sandbox_openings,
    transaction_of,
)
from tests.ca.authorities import PRACTICE, MemoryAuthority
from tests.ca.memory_ledger import Entry, MemoryLedger
from tests.documents.room import MemoryRecords, preparation_of
from tests.facematch.caches import FakeTimers, cache_of
from tests.facematch.test_compare import FakeFaces, face_at
from tests.otp.sms import SEAL, FakeChallenges, FakeProvider, code_in
from tests.registry import people
from tests.registry.people import PHOTO_JPEG, PHOTO_KEY, RECIPIENT, FakeInquiries, FakeReleases, FakeSource
from tests.signer.room import Room

DONE = "DONE"
REQUEST = "request-1"
AT = datetime.fromtimestamp(NOW, UTC)
VICTIM = sandbox_openings()
ATTACKERS_PHONE = "+77075550001"
ATTACKERS_PHOTO = b"the attacker's photo"
VICTIMS_PICTURES = tuple(f"a picture of the victim {number}".encode() for number in range(3))
ATTACKER_LIVE = tuple(f"the attacker {number}".encode() for number in range(3))
_FACES = FakeFaces()
_FACES.known |= {ATTACKERS_PHOTO: face_at(0.1)}
_FACES.known |= {PHOTO_JPEG: face_at(1.0)} | dict.fromkeys(VICTIMS_PICTURES, face_at(0.9))
_FACES.known |= dict.fromkeys(ATTACKER_LIVE, face_at(0.15))
_GUESSES = tuple(f"{number:06d}" for number in range(5))


@dataclass(frozen=True)
class Plan:
    """What the attacker tries: a phone to name, a face to show, and what a held registry says of the victim."""

    phone: str = VICTIM.phone
    before_camera: tuple[bytes, ...] = ATTACKER_LIVE
    lies_about_photo: bool = False
    lies_about_phone: bool = False

    @property
    def openings(self) -> Openings:
        return replace(VICTIM, phone=self.phone)


def plans(held: Collection[str]) -> Iterator[Plan]:
    """Every plan there is for who holds these parts."""
    lies = (False, True) if "registry" in held else (False,)
    yield from (
        Plan(*choice)
        for choice in product((VICTIM.phone, ATTACKERS_PHONE), (ATTACKER_LIVE, VICTIMS_PICTURES), lies, lies)
    )


@dataclass
class Scene:
    """Made by `create`. `credential` is the victim's, ACTIVE at the signer, unless there is none yet."""

    held: frozenset[str]
    world: World
    room: Room
    phone_trusted_to_identify: bool = True
    credential: Credential | None = None
    source: FakeSource = field(default_factory=FakeSource)
    authority: MemoryAuthority = field(default_factory=lambda: MemoryAuthority(AT))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    own_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.pins = self.world.pins()
        self.floors, self.floors_of_the_ca = (self._floors(attested=attested) for attested in (False, True))

    def _floors(self, *, attested: bool) -> Floors:
        made = self.world.floors(attested=attested)
        identify = replace(made[Purpose.IDENTIFY], phone_trusted=self.phone_trusted_to_identify)
        return made | {Purpose.IDENTIFY: identify}

    @classmethod
    async def create(
        cls, held: Iterable[str] = (), *, enrolled: bool = True, phone_trusted_to_identify: bool = True
    ) -> "Scene":
        world = World()
        scene = cls(
            frozenset(held),
            world,
            Room(pins=world.pins(), world=world),
            phone_trusted_to_identify=phone_trusted_to_identify,
        )
        if enrolled:
            scene.credential = await scene.room.enrol()
            scene.room.fake_keys.calls.clear()
            scene.ledger.entries[1] = _certified(scene.credential)
        return scene

    async def outcomes(self, purpose: Purpose) -> dict[Plan, str]:
        """DONE or the reason of the refusal, for every plan. Each is a new transaction."""
        return {plan: await self.outcome(purpose, plan) for plan in plans(self.held)}

    async def outcome(self, purpose: Purpose, plan: Plan) -> str:
        """Try one plan; return DONE or the reason of the refusal."""
        asked = self.asked(purpose, plan.openings)
        bundle = self.bundle(asked, plan.openings, await self.confirmed(asked, plan))
        try:
            await self.consume(bundle)
        except FinIdError as refused:
            return str(refused.reason)
        return DONE

    async def consume(self, bundle: SentBundle) -> None:
        """Bring the bundle to whoever acts on its purpose."""
        match bundle.purpose:
            case Purpose.SIGN:
                await self.room.sign(bundle)
            case Purpose.IDENTIFY:
                await self.release(bundle)
            case Purpose.REVOKE:
                await self.room.disable(bundle)
            case Purpose.ISSUE | Purpose.REISSUE:
                key = await self.room.generate(bundle)
                released = await self.release(bundle)
                await self.certify(bundle.also(key.key_attestation), key.csr_der, released)

    def asked(self, purpose: Purpose, openings: Openings = VICTIM) -> Transaction:
        """A transaction about the victim, made this second."""
        changed: dict[str, object] = {"created_at": NOW, "expires_at": NOW + 600}
        if purpose in {Purpose.SIGN, Purpose.REVOKE}:
            assert self.credential is not None
            changed |= {
                "credential": self.credential.name,
                "certificate_sha256": self.credential.certificate_sha256,
            }
            if purpose is Purpose.SIGN:
                changed |= {"documents": self.room.documents(self.credential)}
        if purpose is Purpose.REISSUE:
            assert self.credential is not None
            changed |= {"superseded": self.credential.name}
        made = transaction_of(purpose, openings=openings)
        return replace(made, **changed)  # type: ignore[arg-type]

    def bundle(self, asked: Transaction, openings: Openings, receipts: dict[Factor, str]) -> SentBundle:
        """What a consumer is sent."""
        return SentBundle(
            purpose=asked.purpose,
            transaction=asked,
            transaction_bytes=asked.encode(),
            openings=openings,
            receipts=receipts,
            pins=self.pins,
            floors=self.floors,
            tokens=tuple(receipts.values()),
        )

    async def confirmed_by(self, asked: Transaction, openings: Openings = VICTIM) -> dict[Factor, str]:
        """The receipts that honest parts give when the victim really is there and confirms `asked`."""
        txn = txn_of(asked.encode())
        stated = self.statements(asked, openings, VICTIMS_PICTURES)
        factors = {factor: self._sign(factor, stated[factor], txn) for factor in FACTORS}
        return await self.vouched(asked) | factors

    async def confirmed(self, asked: Transaction, plan: Plan) -> dict[Factor, str]:
        """The receipts that a plan comes to: honest ones where honest parts give them, forged ones otherwise."""
        stated = self.statements(asked, plan.openings, plan.before_camera)
        record, photo_jwe, reference = await self._record(asked, plan, stated)
        match = replace(stated[Factor.FACE_MATCH], reference_sha256=reference)  # type: ignore[call-arg]
        live = None if plan.before_camera is VICTIMS_PICTURES else stated[Factor.LIVENESS]
        txn = txn_of(asked.encode())
        return await self.vouched(asked) | {
            Factor.STATE_RECORD: record,
            Factor.LIVENESS: self._forged(Factor.LIVENESS, stated[Factor.LIVENESS], txn)
            if "liveness" in self.held or live is None
            else self._sign(Factor.LIVENESS, live, txn),
            Factor.FACE_MATCH: self._forged(Factor.FACE_MATCH, match, txn)
            if "facematch" in self.held
            else await self._compared(asked, photo_jwe, plan, match),
            Factor.SMS_OTP: self._forged(Factor.SMS_OTP, stated[Factor.SMS_OTP], txn)
            if "otp" in self.held
            else await self._entered(asked, plan, stated[Factor.SMS_OTP]),
        }

    async def vouched(self, asked: Transaction, *, prepared: Transaction | None = None) -> dict[Factor, str]:
        """PREPARATION for a signature, after documents prepared what `prepared` names: what is asked unless given."""
        if asked.purpose is not Purpose.SIGN:
            return {}
        records = MemoryRecords()
        about = prepared or asked
        made = preparation_of(about, self.room.ca.issued[about.certificate_sha256])
        await records.add(made)
        signer = self.world.signer_of(Factor.PREPARATION)
        vouching = Vouching(records, lambda: signer, env=Env.SANDBOX, now=lambda: AT)
        return {Factor.PREPARATION: await vouching.vouch(made.id, asked.encode())}

    def statements(self, asked: Transaction, openings: Openings, keyframes: tuple[bytes, ...]) -> dict[Factor, Facts]:
        """What would let the bundle pass, for every factor."""
        digests = tuple(hashlib.sha256(keyframe).digest() for keyframe in keyframes)
        return {
            Factor.PREPARATION: facts_of(Factor.PREPARATION, asked),
            Factor.STATE_RECORD: facts_of(
                Factor.STATE_RECORD,
                asked,
                photo_sha256=people.PHOTO_SHA256,
                phone_trusted=openings.phone == VICTIM.phone,
            ),
            Factor.LIVENESS: facts_of(Factor.LIVENESS, asked, keyframes_sha256=digests),
            Factor.FACE_MATCH: facts_of(
                Factor.FACE_MATCH, asked, probes_sha256=digests, reference_sha256=people.PHOTO_SHA256
            ),
            Factor.SMS_OTP: facts_of(Factor.SMS_OTP, asked, sent_at=NOW, verified_at=NOW),
        }

    async def _record(self, asked: Transaction, plan: Plan, stated: dict[Factor, Facts]) -> tuple[str, str, bytes]:
        """STATE_RECORD, the photo for facematch, and its digest."""
        if "registry" not in self.held:
            attested = await self.attestation.attest(asked.encode(), plan.openings)
            return attested.receipt, attested.photo_jwe, people.PHOTO_SHA256
        photo = ATTACKERS_PHOTO if plan.lies_about_photo else PHOTO_JPEG
        said = stated[Factor.STATE_RECORD]
        assert isinstance(said, StateRecord)
        lie = replace(
            said,
            photo_sha256=hashlib.sha256(photo).digest(),
            phone_trusted=said.phone_trusted or plan.lies_about_phone,
        )
        return self._sign(Factor.STATE_RECORD, lie, txn_of(asked.encode())), RECIPIENT.encrypt(photo), lie.photo_sha256

    async def _compared(self, asked: Transaction, photo_jwe: str, plan: Plan, wished: Facts) -> str:
        try:
            compared = await self.matcher.compare(asked.encode(), photo_jwe, plan.before_camera)
        except FinIdError:
            return self._forged(Factor.FACE_MATCH, wished, txn_of(asked.encode()))
        return compared.receipt

    async def _entered(self, asked: Transaction, plan: Plan, wished: Facts) -> str:
        """The code, read where the attacker can read it and guessed where not."""
        provider = FakeProvider()
        codes = self.codes(provider)
        sent = await codes.send(asked.encode(), plan.phone, plan.openings.phone_salt, Language.KK)
        ((phone, text, _),) = provider.sent
        tried = (code_in(text),) if phone == ATTACKERS_PHONE else tuple(g for g in _GUESSES if g != code_in(text))
        txn = txn_of(asked.encode())
        for code in tried:
            try:
                return await codes.verify(txn, sent.challenge, code)
            except FinIdError:
                continue
        return self._forged(Factor.SMS_OTP, wished, txn)

    def _forged(self, factor: Factor, stated: Facts, txn: bytes) -> str:
        """A receipt by the held spoke's key; without it by the attacker's own key in the spoke's name."""
        if ISSUER_OF[factor] in self.held:
            return self._sign(factor, stated, txn)
        return self.world.receipt(stated, txn=txn, claims={"iat": NOW, "exp": NOW + 600}, key=self.own_key)

    def _sign(self, factor: Factor, stated: Facts, txn: bytes) -> str:
        return self.world.signer_of(factor).sign(stated, txn=txn, policy=POLICY, now=NOW)

    @property
    def attestation(self) -> Attestation:
        return Attestation(
            env=Env.SANDBOX,
            source=self.source,
            inquiries=FakeInquiries(),
            signer=lambda: self.world.signer_of(Factor.STATE_RECORD),
            recipient=RECIPIENT,
            now=lambda: AT,
        )

    @property
    def matcher(self) -> Matcher:
        return Matcher(
            faces=_FACES,
            references=cache_of(FakeTimers()),
            photo_key=PhotoKey(PHOTO_KEY),
            policies={
                POLICY: Policy(
                    id=POLICY, threshold_ppm=425_000, min_score_ppm=700_000, min_face_px=75, min_document_face_px=48
                )
            },
            models_sha256=(MATCH_MODEL,),
            signer=lambda: self.world.signer_of(Factor.FACE_MATCH),
            now=lambda: NOW,
        )

    def codes(self, provider: FakeProvider, challenges: Challenges | None = None, sends: Sends | None = None) -> Codes:
        fake = FakeChallenges()
        return Codes(
            env=Env.SANDBOX,
            challenges=challenges or fake,
            sending=Sending(sends=sends or fake, provider=provider, seal=SEAL, now=lambda: AT),
            keyed_hash=KeyedHash(digest_of("otp key")),
            signer=lambda: self.world.signer_of(Factor.SMS_OTP),
            limits=Limits(),
            allowed_prefixes=("+77",),
            origin=None,
            max_segments=5,
            now=lambda: AT,
        )

    async def release(self, bundle: SentBundle) -> str:
        """Ask the registry for the person's data; return what it signs for the CA."""
        registry = Release(
            source=self.source,
            releases=FakeReleases(),
            signer=lambda: self.world.signer_of(Factor.RELEASE),
            pins=lambda: self.pins,
            floors=self.floors,
            now=lambda: AT,
        )
        answer = await registry.release(REQUEST, bundle.transaction_bytes, bundle.openings, bundle.tokens)
        return answer.release

    async def certify(self, bundle: SentBundle, csr_der: bytes, release: str) -> bytes:
        """Ask the CA for a certificate (DER)."""
        ca = Issue(
            authority=self.authority.authority,
            practice=PRACTICE,
            ledger=self.ledger,
            pins=lambda: self.pins,
            floors=self.floors_of_the_ca,
            now=lambda: AT,
            random_bytes=secrets.token_bytes,
        )
        issued = await ca.issue(
            IssueCommand(REQUEST, bundle.transaction_bytes, bundle.openings, bundle.tokens, csr_der, release)
        )
        return issued.certificate_der


def _certified(credential: Credential) -> Entry:
    """What the CA remembers of the victim's certificate."""
    intent = Intent(
        serial=1,
        txn=credential.txn,
        request_id=REQUEST,
        credential=credential.name,
        superseded="",
        iin=VICTIM.iin,
        public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
        profile="individual-sign",
        policy=POLICY,
        not_after=AT,
        intended_at=AT,
    )
    return Entry(intent, State.ISSUED, b"the victim's certificate")
