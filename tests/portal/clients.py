"""A portal for tests: clients and attempts in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from joserfc.jwk import ECKey

from mesh.transaction import Channel, Purpose
from services.portal.access_token import AccessTokens, TokenKeys
from services.portal.application import Application, ApplicationNotFoundError, State
from services.portal.client_credentials import ClientCredentials, Registration
from services.portal.client_secret import SecretHash
from tests.bundles import NOW, POLICY, digest_of

ISSUER = "https://finid.example"
CLIENT_ID, SECRET = "demo-bank", "s" * 43
SECRET_HASH = SecretHash(digest_of("client secret key"))
TOKEN_KEY = ECKey.generate_key("P-256", private=True)
TOKEN_KEY.ensure_kid()
APPLICATION = Application(
    name="applications/" + "a" * 26,
    client_id=CLIENT_ID,
    title="Демо Банк",
    state=State.ACTIVE,
    channels=(Channel.HOSTED, Channel.STEPS),
    purposes=tuple(Purpose),
    scopes=("name", "birth_date"),
    redirect_uris=("https://bank.example/return",),
    policy=POLICY,
)


@dataclass
class Clock:
    """A clock that a test turns."""

    at: int = NOW

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@dataclass
class FakeClients:
    """One client, and attempts counted without a window."""

    application: Application = APPLICATION
    secret_hmacs: tuple[bytes, ...] = (SECRET_HASH.of(CLIENT_ID, SECRET),)
    max_failures: int = 3
    attempts: dict[bytes, int] = field(default_factory=dict)

    async def find(self, client_id: str, now: datetime) -> Registration | None:
        if client_id != self.application.client_id:
            return None
        return Registration(self.application, self.secret_hmacs)

    async def begin_attempt(self, origin_hmac: bytes, now: datetime) -> int:
        if self.attempts.get(origin_hmac, 0) >= self.max_failures:
            return 60
        self.attempts[origin_hmac] = self.attempts.get(origin_hmac, 0) + 1
        return 0

    async def forgive(self, origin_hmac: bytes) -> None:
        del self.attempts[origin_hmac]


@dataclass
class FakeApplications:
    application: Application = APPLICATION

    async def get(self, name: str) -> Application:
        if name != self.application.name:
            raise ApplicationNotFoundError("nothing")
        return self.application


def client_credentials(clients: FakeClients, clock: Clock | None = None) -> ClientCredentials:
    now = (clock or Clock()).now
    return ClientCredentials(
        clients=clients,
        secret_hash=SECRET_HASH,
        tokens=AccessTokens(keys=TokenKeys(TOKEN_KEY), issuer=ISSUER, now=now),
        now=now,
    )
