"""PortalService: protobuf to the domain and back."""

from typing import Any, Protocol

import grpc
from finid.auth.v1 import auth_pb2
from finid.portal.v1 import portal_pb2 as pb
from finid.portal.v1 import portal_pb2_grpc as rpc

from services.portal.application import Application


class Applications(Protocol):
    """The record of applications."""

    async def get(self, name: str) -> Application:
        """Return an application. Raises ApplicationNotFoundError."""
        ...


class PortalServicer(rpc.PortalServiceServicer):
    """The portal's methods for the hub. See portal.proto."""

    def __init__(self, applications: Applications, jwks_json: str) -> None:
        self._applications = applications
        self._jwks_json = jwks_json

    async def GetTokenKeys(
        self, _request: pb.GetTokenKeysRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetTokenKeysResponse:
        """Return the keys that access tokens are checked by."""
        return pb.GetTokenKeysResponse(jwks_json=self._jwks_json)

    async def GetApplication(
        self, request: pb.GetApplicationRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Application:
        """Return an application."""
        found = await self._applications.get(request.name)
        return pb.Application(
            name=found.name,
            title=found.title,
            state=pb.ApplicationState.Value(f"APPLICATION_STATE_{found.state.value}"),
            channels=[auth_pb2.Channel.Value(f"CHANNEL_{channel.value}") for channel in found.channels],
            purposes=[auth_pb2.Purpose.Value(f"PURPOSE_{purpose.value}") for purpose in found.purposes],
            scopes=[auth_pb2.Scope.Value(f"SCOPE_{scope.upper()}") for scope in found.scopes],
            redirect_uris=found.redirect_uris,
            policy=found.policy,
            webhook_uri=found.webhook_uri,
        )
