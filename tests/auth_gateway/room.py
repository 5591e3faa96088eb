"""The gateway's domain over the real store and fake spokes, and a person who walks through it."""

import datetime
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import services.auth_gateway
from mesh import base64url
from mesh.names import new_id
from mesh.postgres import Database
from mesh.sealing import FieldKeys, Seal, derive
from mesh.transaction import Channel, Env
from services.auth_gateway.allowance import Allowance, Limits
from services.auth_gateway.authentication import Authentication, Language, ReturnTo, State
from services.auth_gateway.bucket_store import BucketStore
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.completion import Completion, Consumers
from services.auth_gateway.consent_store import ConsentStore
from services.auth_gateway.consents import ConsentBook
from services.auth_gateway.creation import Ask, Creation
from services.auth_gateway.flow import Flow, Spokes
from services.auth_gateway.given_consents import GivenConsents
from services.auth_gateway.list_store import ListStore
from services.auth_gateway.listing import Lists
from services.auth_gateway.pace import Pace
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.ports import DocumentFormat, NewDocument
from services.auth_gateway.records import Certificate, Request
from services.auth_gateway.results import Results
from services.auth_gateway.statements import SigningKey, StatementKey
from services.auth_gateway.store import Store
from services.auth_gateway.subjects import SUBJECT_LABEL, Subjects
from services.auth_gateway.webhook_store import WebhookStore
from tests.auth_gateway.fakes import (
    APPLICATION,
    CODE,
    FRAMES,
    REDIRECT_URI,
    Clock,
    FakeCa,
    FakeDocuments,
    FakeFaceMatch,
    FakeLiveness,
    FakeOtp,
    FakePortal,
    FakeRegistry,
    FakeSigner,
)
from tests.bundles import IIN, PHONE, POLICY, digest_of

FIELD_KEY = digest_of("field key")
VERIFIER = "a-verifier-of-enough-characters-for-rfc-7636-x"
CHALLENGE = base64url.encode(hashlib.sha256(VERIFIER.encode()).digest())
PAGE_URI = "https://id.example/capture"
DOCUMENTS = (
    NewDocument("Несие шарты.txt", b"the contract", DocumentFormat.CADES_DETACHED),
    NewDocument("Annex.pdf", b"%PDF-the annex", DocumentFormat.PADES),
)


def store_over(database: Database) -> Store:
    """A gateway's store as its __main__ makes it."""
    return Store(database, Seal(derive(FIELD_KEY, "field")))


ANSWERS_AFTER_S = 0.4


@dataclass
class Room:
    """One gateway process. Its spokes, like its store, are the same for all processes of a test."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    key: bytes = field(default_factory=lambda: digest_of(new_id()))
    """Another one for each test, so that none meets the authentications that another left open."""
    earlier: tuple[bytes, ...] = ()
    """Those before it, the oldest first."""

    def __post_init__(self) -> None:
        self.registry = FakeRegistry(self.clock)
        self.liveness = FakeLiveness()
        self.facematch = FakeFaceMatch(self.clock)
        self.otp = FakeOtp(self.clock)
        self.signer = FakeSigner()
        self.ca = FakeCa()
        self.documents = FakeDocuments(self.clock)
        self.portal = FakePortal()
        self.links = CaptureLinks(
            derive(self.key, "capture-link"), PAGE_URI, earlier=[derive(key, "capture-link") for key in self.earlier]
        )
        self.consents = ConsentBook(Path(services.auth_gateway.__file__).with_name("consents.toml"))
        self.pace = Pace(self.clock.seconds, self.clock.sleep)
        self.completion = self.new_completion()
        self.flow = Flow(
            self.store,
            Spokes(self.liveness, self.facematch, self.otp),
            self.completion,
            self.clock.now,
            self.pace,
        )
        self.webhook_store = WebhookStore(self.store._database)
        self.webhook_key = SigningKey(Ed25519PrivateKey.from_private_bytes(digest_of("webhook key")))
        self.statement_key = StatementKey(Ed25519PrivateKey.from_private_bytes(digest_of("statement key")))
        self.results = Results(self.store, self.clock.now, lambda: self.statement_key)
        self.consent_store = ConsentStore(self.store._database)
        self.shelf = ListStore(self.store._database, self.store._seal)
        self.buckets = BucketStore(self.store._database)
        limits = Limits.of(read=1000, step=1000, create=1000, document=1000, starts_per_day=100_000)
        self.allowance = Allowance(self.buckets, limits, self.clock.now, self.clock.seconds)
        self.page_tokens = PageTokens(FieldKeys((*self.earlier, self.key)).seal("page-token"))
        self.lists = Lists(self.shelf, self.signer, self.page_tokens)
        self.given_consents = GivenConsents(
            self.consent_store, lambda: self.statement_key, Env.SANDBOX, self.page_tokens, self.clock.now
        )
        self.creation = Creation(
            env=Env.SANDBOX,
            subjects=Subjects(FieldKeys((*self.earlier, self.key)).derived(SUBJECT_LABEL)),
            records=self.store,
            portal=self.portal,
            registry=self.registry,
            documents=self.documents,
            signer=self.signer,
            consents=self.consents,
            links=self.links,
            policies=frozenset({POLICY}),
            now=self.clock.now,
            pace=self.pace,
            answers_after_s=ANSWERS_AFTER_S,
        )

    @property
    def consumers(self) -> Consumers:
        return Consumers(self.registry, self.otp, self.signer, self.ca, self.documents)

    def new_completion(self) -> Completion:
        """The completion of another process."""
        return Completion(self.store, self.consumers, self.clock.now, self.clock.sleep)

    async def get(self, name: str) -> Authentication:
        found = await self.store.get(name)
        assert found is not None
        return found

    async def identify(
        self, ask: Ask | None = None, scopes: tuple[str, ...] = ("name", "birth_date")
    ) -> Authentication:
        """A new authentication."""
        return await self.get(await self.creation.identify(ask or ask_of(), scopes))

    async def walk(self, current: Authentication, to: State, *, code: str = CODE) -> Authentication:
        """Take the person's steps, until the authentication stands at `to`."""
        steps: dict[State, Callable[[Authentication], Awaitable[None]]] = {
            State.AWAITING_CONSENTS: self.consent,
            State.AWAITING_LIVENESS: self.show_face,
            State.AWAITING_CODE: lambda item: self.enter_code(item, code),
        }
        while current.state is not to:
            await steps[current.state](current)
            current = await self.get(current.name)
        return current

    async def consent(self, current: Authentication) -> None:
        """Agree to everything."""
        await self.flow.give_consents(current, [(text.id, text.version) for text in current.consents])

    async def show_face(self, current: Authentication) -> None:
        """A whole liveness attempt."""
        await self.flow.start_liveness(current)
        current = await self.get(current.name)
        await self.flow.submit_frames(current, FRAMES)
        await self.flow.submit_frames(current, FRAMES)

    async def enter_code(self, current: Authentication, code: str = CODE) -> None:
        """Ask for a code and enter one."""
        await self.flow.send_code(current)
        await self.flow.verify_code(await self.get(current.name), code)

    async def certificate(self, iin: str = IIN) -> Certificate:
        """A person's certificate, got the way a person gets one."""
        order = await self.creation.issue(ask_of(iin=iin), "individual-sign")
        operation = await self.store.operation(order)
        assert operation is not None
        current = await self.walk(await self.get(operation.authentication), State.FINISHED)
        found = await self.store.certificate(current.outcome)
        assert found is not None
        return found

    async def issuing(self) -> Authentication:
        """A new authentication for a certificate."""
        return await self._of_operation(await self.creation.issue(ask_of(), "individual-sign"))

    async def reissuing(self, certificate: Certificate | None = None) -> Authentication:
        """A new authentication for a certificate in place of another."""
        certificate = certificate or await self.certificate()
        return await self._of_operation(await self.creation.reissue(ask_of(), certificate.name, "individual-sign"))

    async def revoking(self, certificate: Certificate | None = None) -> Authentication:
        """A new authentication for a certificate's revocation."""
        certificate = certificate or await self.certificate()
        return await self._of_operation(await self.creation.revoke(ask_of(), certificate.name, "keyCompromise"))

    async def suspending(self, certificate: Certificate | None = None) -> Authentication:
        """A new authentication for a hold on a certificate."""
        certificate = certificate or await self.certificate()
        return await self._of_operation(await self.creation.suspend(ask_of(), certificate.name))

    async def resuming(self, certificate: Certificate | None = None) -> Authentication:
        """A new authentication for the end of a hold."""
        certificate = certificate or await self.certificate()
        self.signer.states[certificate.credential] = "SUSPENDED"
        return await self._of_operation(await self.creation.resume(ask_of(), certificate.name))

    async def signing(
        self, documents: tuple[NewDocument, ...] = DOCUMENTS, certificate: Certificate | None = None
    ) -> Authentication:
        """A new authentication for signatures on documents."""
        certificate = certificate or await self.certificate()
        return await self._of_operation(await self.creation.sign(ask_of(), certificate.name, documents))

    async def _of_operation(self, name: str) -> Authentication:
        operation = await self.store.operation(name)
        assert operation is not None
        return await self.get(operation.authentication)


def ask_of(
    *,
    iin: str = IIN,
    phone: str = PHONE,
    channel: Channel = Channel.HOSTED,
    application: str = APPLICATION,
    request_id: str = "",
    body: str = "a body",
    redirect_uri: str = REDIRECT_URI,
    code_challenge: str = CHALLENGE,
    language: Language = Language.RU,
    cross_device: bool = False,
) -> Ask:
    """What an application asks for; a new request each time."""
    return Ask(
        request=Request(application, "Create", request_id or new_id(), digest_of(body)),
        application=application,
        iin=iin,
        phone=phone,
        channel=channel,
        language=language,
        return_to=ReturnTo(redirect_uri, "state of the bank", code_challenge),
        cross_device=cross_device,
    )


def after(moment: datetime.datetime, seconds: float) -> datetime.datetime:
    return moment + datetime.timedelta(seconds=seconds)
