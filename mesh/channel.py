"""Channels from the hub to its spokes: mTLS, the spoke's name checked, deadlines passed on, errors typed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import aio_client_interceptors

from mesh import deadline
from mesh.settings import MeshSettings
from mesh.status import PeerError

_KIB = 1024
# What a peer may use of the caller's time: the rest is for the answer's way back.
_MARGIN_S = 0.05
# How long a call waits for a peer that is away: a restarted peer is connected again within it.
_CONNECT_WITHIN_S = 3.0


class _SpendDeadline(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives every call the time that the current request has left, or `default_s` outside a request.

    A call to a peer that is away waits a little for it. That is not a retry: nothing has been sent yet.
    """

    channel: grpc.aio.Channel

    def __init__(self, default_s: float) -> None:
        self._default_s = default_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        await self._connected()
        remaining_s = deadline.remaining_s()
        left_s = self._default_s if remaining_s is None else max(0.001, remaining_s - _MARGIN_S)
        asked_s = client_call_details.timeout
        details = grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=left_s if asked_s is None else min(asked_s, left_s),
            metadata=client_call_details.metadata,
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        return await continuation(details, request)

    async def _connected(self) -> None:
        """Return when the peer is connected, or after a while: the call then says that it is not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                while (state := self.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await self.channel.wait_for_state_change(state)


def connect(
    settings: MeshSettings, service: str, address: str, *, max_message_kib: int = 4 * _KIB, default_s: float = 10.0
) -> grpc.aio.Channel:
    """Return a channel to `service` at `address`; the peer's certificate must name it."""
    channel_credentials = grpc.ssl_channel_credentials(
        root_certificates=settings.tls_ca_file.read_bytes(),
        private_key=settings.tls_key_file.read_bytes(),
        certificate_chain=settings.tls_certificate_file.read_bytes(),
    )
    spend = _SpendDeadline(default_s)
    channel = grpc.aio.secure_channel(
        address,
        channel_credentials,
        options=[
            ("grpc.ssl_target_name_override", f"{service.replace('_', '-')}.finid.internal"),
            ("grpc.max_receive_message_length", max_message_kib * _KIB),
            ("grpc.max_send_message_length", max_message_kib * _KIB),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
        interceptors=[*aio_client_interceptors(), spend],
    )
    spend.channel = channel
    return channel


@contextlib.asynccontextmanager
async def answers_of(peer: str) -> AsyncIterator[None]:
    """Turn a peer's gRPC error into PeerError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise PeerError(peer, error) from error


__all__ = ["PeerError", "answers_of", "connect"]
