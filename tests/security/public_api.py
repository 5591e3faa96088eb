"""The gateway's public servicers over a room of tests/auth_gateway, called with tokens of a portal of tests/portal."""

from dataclasses import dataclass, field, replace

from mesh.sealing import derive
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.servicer.capture import CaptureServicer
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.esign import ESignServicer
from services.auth_gateway.servicer.finid import FinIdServicer
from services.auth_gateway.servicer.front import Front
from services.auth_gateway.servicer.webhooks import WebhookDesk
from services.portal import access_token
from services.portal.access_token import TokenKeys
from services.portal.application import Service
from tests.auth_gateway.room import Room
from tests.portal import clients


@dataclass
class Context:
    """The part of a call's context that servicers read."""

    metadata: tuple[tuple[str, str], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata


@dataclass
class PublicApi:
    """What an application and the hosted page can reach."""

    room: Room
    portal: access_token.AccessTokens = field(init=False)

    def __post_init__(self) -> None:
        keys = TokenKeys(clients.TOKEN_KEY)
        now = self.room.clock.now
        self.portal = access_token.AccessTokens(keys=keys, issuer=clients.ISSUER, now=now)
        self.room.portal.jwks = keys.jwks()
        tokens = AccessTokens(
            self.room.portal.token_keys, clients.ISSUER, lambda: int(now().timestamp()), self.room.clock.seconds
        )
        desk = Desk(
            front=Front(tokens, self.room.store, now, self.room.allowance),
            records=self.room.store,
            creation=self.room.creation,
            flow=self.room.flow,
            results=self.room.results,
            links=self.room.links,
            request_key=derive(self.room.key, "request-digest"),
            consents=self.room.given_consents,
            lists=self.room.lists,
            page_tokens=self.room.page_tokens,
            earlier_request_keys=tuple(derive(key, "request-digest") for key in self.room.earlier),
        )
        self.finid = FinIdServicer(desk, WebhookDesk(self.room.webhook_store, self.room.page_tokens))
        self.esign = ESignServicer(desk, self.room.documents, self.room.ca)
        self.capture = CaptureServicer(desk, self.room.documents)

    def as_application(self, name: str) -> Context:
        """A call with a token that the portal made out to an application, whoever asked it to."""
        token = self.portal.issue(replace(clients.APPLICATION, name=name), tuple(Service))
        return Context((("authorization", f"Bearer {token}"),))
