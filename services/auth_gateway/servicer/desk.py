"""What every participant's servicer works with."""

import hmac
from dataclasses import dataclass

from finid.auth.v1 import auth_pb2 as pb
from google.protobuf.message import Message

from mesh.transaction import Channel
from services.auth_gateway.authentication import (
    Authentication,
    AuthenticationNotFoundError,
    ChannelNotAllowedError,
)
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.creation import Creation
from services.auth_gateway.flow import Flow
from services.auth_gateway.given_consents import GivenConsents
from services.auth_gateway.listing import Lists
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.records import Records, Request
from services.auth_gateway.results import Results
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.front import Call, Front


@dataclass(frozen=True, slots=True)
class Desk:
    """What every participant's servicer works with."""

    front: Front
    records: Records
    creation: Creation
    flow: Flow
    results: Results
    links: CaptureLinks
    request_key: bytes
    consents: GivenConsents
    lists: Lists
    page_tokens: PageTokens
    earlier_request_keys: tuple[bytes, ...] = ()

    def request(self, call: Call, method: str, request_id: str, message: Message) -> Request:
        """Return what makes a repeat of a create call the same; the digest is keyed, as it covers personal data."""
        body = message.SerializeToString(deterministic=True)
        digest, *earlier = (hmac.digest(key, body, "sha256") for key in (self.request_key, *self.earlier_request_keys))
        return Request(call.application, method, request_id, digest, tuple(earlier))

    async def find(self, call: Call, name: str) -> Authentication:
        """Return an authentication of the calling application. Another's is as good as none."""
        call.resource = name
        current = await self.records.get(name)
        if current is None or current.application != call.application:
            raise AuthenticationNotFoundError("There is no such authentication.")
        return current

    async def look(self, call: Call, name: str) -> pb.Authentication:
        """Return the public view of an authentication of the calling application, and journal the call with it."""
        seen = await self.front.look(call, name)
        if seen is None:
            raise AuthenticationNotFoundError("There is no such authentication.")
        return answers.seen(seen)

    async def find_for(self, call: Call, name: str, channel: Channel, etag: str = "") -> Authentication:
        """Return an authentication whose steps may be taken through `channel`, by who knows it as `etag`."""
        current = await self.find(call, name)
        if current.channel is not channel:
            raise ChannelNotAllowedError("The steps of this authentication are taken through another channel.")
        return current.pinned_to(etag)

    def shown(self, current: Authentication) -> pb.Authentication:
        """Return the public view."""
        return answers.authentication(current)

    def created(self, current: Authentication) -> pb.Authentication:
        """Return the public view for a create call: with the link to the hosted page, and the number to be matched."""
        hosted = current.channel is Channel.HOSTED
        return answers.authentication(
            current,
            self.links.uri(current.name, current.capture_token_sha256) if hosted else "",
            self.links.match_number(current.name, current.capture_token_sha256) if current.cross_device else "",
        )
