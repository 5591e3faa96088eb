"""Channels from the hub to its spokes: mTLS with the identity of now, the spoke's name, deadlines, typed errors."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import grpc
from opentelemetry.instrumentation.grpc import aio_client_interceptors

from mesh import deadline, metrics
from mesh.identity import Identity, channel_credentials
from mesh.mounted import Mounted
from mesh.status import PeerError

_KIB = 1024
# What a peer may use of the caller's time: the rest is for the answer's way back.
_MARGIN_S = 0.05
# How long a call waits for a peer that is away: a restarted peer is connected again within it.
_CONNECT_WITHIN_S = 3.0
# A name may have many addresses: a headless Service has those of all its ready pods. Calls go to each in turn; without
# this, gRPC stays with the first (https://github.com/grpc/grpc/blob/master/doc/load-balancing.md).
_BALANCED = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


class _SpendDeadline(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives every call the time that the current request has left, or `default_s` outside a request; and measures it.

    A call to a peer that is away waits a little for it. That is not a retry: nothing has been sent yet.
    """

    channel: grpc.aio.Channel

    def __init__(self, peer: str, default_s: float) -> None:
        self._peer = peer
        self._default_s = default_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        started = time.monotonic()
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
        answered = "CANCELLED"
        try:
            call = await continuation(details, request)
            answered = (await call.code()).name
        except grpc.aio.AioRpcError as error:
            answered = error.code().name
            raise
        finally:
            metrics.RPC_CLIENT_DURATION.record(
                time.monotonic() - started,
                peer=self._peer,
                method=metrics.METHODS.of(client_call_details.method),
                code=answered,
            )
        return call

    async def _connected(self) -> None:
        """Return when the peer is connected, or after a while: the call then says that it is not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                while (state := self.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await self.channel.wait_for_state_change(state)


class _Opened:
    """One channel with one identity, and how many calls run on it."""

    def __init__(self, identity: Identity, channel: grpc.aio.Channel) -> None:
        self.identity = identity
        self.channel = channel
        self._running = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    def started(self, call: Any) -> None:
        self._running += 1
        call.add_done_callback(self._ended)

    def retire(self) -> None:
        """Close when the last call has ended."""
        self._retired = True
        self._close_when_idle()

    def _ended(self, _call: Any) -> None:
        self._running -= 1
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._retired and not self._running and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self.channel.close())

    @property
    def closed(self) -> bool:
        """Whether nothing is left of it."""
        return self._closing is not None and self._closing.done()

    async def close(self) -> None:
        """Close now."""
        await (self._closing or self.channel.close())


class _Calls:
    """A method's calls, each on the channel of the identity that holds when it begins."""

    def __init__(
        self, channel: "RotatedChannel", kind: str, method: str, codec: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._bind: Callable[[_Opened], Callable[..., Any]] = lambda opened: getattr(opened.channel, kind)(
            method, *codec, **options
        )
        self._of: tuple[_Opened, Callable[..., Any]] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        opened = self._channel.opened()
        if self._of is None or self._of[0] is not opened:
            self._of = opened, self._bind(opened)
        call = self._of[1](*arguments, **options)
        opened.started(call)
        return call


class RotatedChannel(grpc.aio.Channel):
    """A channel that is opened anew when the identity changes; calls that run end on the one that they began on."""

    def __init__(self, identity: Mounted[Identity], dial: Callable[[Identity], grpc.aio.Channel]) -> None:
        self._identity = identity
        self._dial = dial
        self._opened: _Opened | None = None
        self._retired: list[_Opened] = []

    def opened(self) -> _Opened:
        """Return the channel of the identity that holds now."""
        identity = self._identity()
        if self._opened is None or self._opened.identity is not identity:
            if self._opened is not None:
                self._retired = [each for each in self._retired if not each.closed] + [self._opened]
                self._opened.retire()
            self._opened = _Opened(identity, self._dial(identity))
        return self._opened

    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Calls(self, "unary_unary", method, codec, options)

    def unary_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Calls(self, "unary_stream", method, codec, options)

    def stream_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Calls(self, "stream_unary", method, codec, options)

    def stream_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Calls(self, "stream_stream", method, codec, options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self.opened().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self.opened().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self.opened().channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close every channel there is."""
        for each in [*self._retired, *([self._opened] if self._opened else [])]:
            await each.close()


def connect(
    identity: Mounted[Identity],
    service: str,
    address: str,
    *,
    max_message_kib: int = 4 * _KIB,
    default_s: float = 10.0,
) -> grpc.aio.Channel:
    """Return a channel to `service` at `address`; the peer's certificate must name it.

    Where the address names several (a headless Service of Kubernetes), calls go round all of them.
    """

    def dial(holder: Identity) -> grpc.aio.Channel:
        spend = _SpendDeadline(service, default_s)
        spend.channel = grpc.aio.secure_channel(
            address,
            channel_credentials(holder),
            options=[
                ("grpc.ssl_target_name_override", f"{service.replace('_', '-')}.finid.internal"),
                ("grpc.max_receive_message_length", max_message_kib * _KIB),
                ("grpc.max_send_message_length", max_message_kib * _KIB),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.service_config", _BALANCED),
                # Asked again when a connection ends, as each does after a while (mesh.server); 30 s is gRPC's default.
                ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            ],
            interceptors=[*aio_client_interceptors(), spend],
        )
        return spend.channel

    return RotatedChannel(identity, dial)


@contextlib.asynccontextmanager
async def answers_of(peer: str) -> AsyncIterator[None]:
    """Turn a peer's gRPC error into PeerError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise PeerError(peer, error) from error


__all__ = ["PeerError", "answers_of", "connect"]
