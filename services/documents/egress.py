"""Fetching from addresses that stand in other people's certificates: the one way out of this room, off by default.

An uploaded document names the addresses, so each is hostile until shown otherwise: its host is resolved once, every
address that it has must be a public one, and the connection goes to just those; no redirect is followed, no proxy,
cookie or compression is used, and length, time and number are bounded. What comes back proves nothing by itself: a
worker reads it, and only what an authority signed counts.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_URL: Final = 2048
_PORTS: Final = {"http": 80, "https": 443}
_MAX_HEADER_BYTES: Final = 8190
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
# In what `ipaddress` holds for global, or holds for global in some versions: addresses that stand for other ones.
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.0.0.0/24",  # IETF protocol assignments, 192.0.0.9 and .10 with them (RFC 6890)
        "2001::/23",  # Teredo, ORCHID, benchmarking (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4: an IPv4 address inside (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
        "64:ff9b::/96",  # NAT64: an IPv4 address inside (RFC 6052)
        "64:ff9b:1::/48",  # NAT64 of a network's own (RFC 8215)
    )
)


class EgressRefusedError(Exception):
    """An address that is not fetched from, or an answer that is not taken; the message names no address."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where may be fetched from: any public host, or those named (lower case). `networks` besides are for tests."""

    hosts: frozenset[str] | None = None
    networks: tuple[Network, ...] = field(default=())

    def allows(self, host: str) -> bool:
        """Tell whether the host may be asked at all."""
        return self.hosts is None or host in self.hosts

    def is_inside(self, address: Address) -> bool:
        """Tell whether an address is in a network that is allowed though it is not public."""
        return any(address in network for network in self.networks if network.version == address.version)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the Internet's own: no network nearby, no group, no stand-in for another."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id is not None):
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """All addresses of a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Egress:
    """Fetches under a rule. `trusted` are for https, the system's when None."""

    def __init__(
        self,
        rule: Rule,
        *,
        resolve: Resolve = resolve_by_system,
        timeout_s: float = 4.0,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self._rule = rule
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._trusted: ssl.SSLContext | bool = trusted or True

    async def fetch(self, url: str, *, max_bytes: int, body: bytes | None = None, media_type: str = "") -> bytes:
        """Return what is behind an address: by GET, or by POST of a body. Raises EgressRefusedError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                parts, host, port = self._checked(url)
                pinned = await self._pinned(host, port)
                return await self._exchange(parts, pinned, max_bytes, body, media_type)
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError, ValueError) as error:
            raise EgressRefusedError(
                f"no answer in time, or none that is understood: {type(error).__name__}"
            ) from error

    def _checked(self, url: str) -> tuple[SplitResult, str, int]:
        """Take an address apart. Raises EgressRefusedError, ValueError."""
        if len(url) > MAX_URL or not url.isascii() or any(not "!" <= letter <= "~" for letter in url):
            raise EgressRefusedError("an address too long, or of letters that none has")
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or parts.username is not None or parts.password is not None or "\\" in url:
            raise EgressRefusedError("neither http nor https, or with a user's name")
        host = (parts.hostname or "").rstrip(".")
        if not host or not self._rule.allows(host):
            raise EgressRefusedError("a host that is not allowed")
        port = parts.port or _PORTS[parts.scheme]
        if port not in _PORTS.values() and not self._rule.networks:
            raise EgressRefusedError("another port than those of http and https")
        return parts, host, port

    async def _pinned(self, host: str, port: int) -> Sequence[Address]:
        """Resolve a host, once. Raises EgressRefusedError when any of its addresses is not to be reached."""
        try:
            addresses: Sequence[Address] = [ip_address(host)]
        except ValueError:
            if ":" in host or host.replace(".", "").isdigit():
                # What aiohttp takes for an address, it does not ask the resolver for.
                raise EgressRefusedError("an address in another form than its own") from None
            # Whoever mixes public with other addresses means the others.
            addresses = [ip_address(text) for text in await self._resolve(host, port)]
        if not addresses:
            raise EgressRefusedError("a host without an address")
        for address in addresses:
            if self._rule.is_inside(address):
                continue
            if port not in _PORTS.values() or not is_public(address):
                raise EgressRefusedError("a host whose address is not public")
        return addresses

    async def _exchange(
        self, parts: SplitResult, pinned: Sequence[Address], max_bytes: int, body: bytes | None, media_type: str
    ) -> bytes:
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(pinned), use_dns_cache=False, force_close=True, limit=1, ssl=self._trusted
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            ) as session,
            session.request(
                "GET" if body is None else "POST",
                parts._replace(fragment="").geturl(),
                data=body,
                headers={
                    "User-Agent": "FinID",
                    "Accept-Encoding": "identity",
                    **({} if body is None else {"Content-Type": media_type}),
                },
                allow_redirects=False,
            ) as answer,
        ):
            if answer.status != 200:  # noqa: PLR2004
                raise EgressRefusedError("an answer that is none: another status than 200")
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise EgressRefusedError("a compressed answer, which nobody asked for")
            found = bytearray()
            async for piece in answer.content.iter_chunked(65536):
                found += piece
                if len(found) > max_bytes:
                    raise EgressRefusedError(f"an answer of more than {max_bytes} bytes")
            return bytes(found)


class _Pinned(AbstractResolver):
    """Answers with the addresses that were checked, whatever the name is by now."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,  # noqa: PLR2004
                proto=0,
                flags=int(socket.AI_NUMERICHOST),
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def rule_of(hosts: str, networks: str = "") -> Rule | None:
    """Read a rule from settings: "" for none, "*" for any public host, or hosts with commas between them.

    Raises ValueError.
    """
    allowed = tuple(ip_network(text.strip()) for text in networks.split(",") if text.strip())
    if not hosts.strip():
        return None
    if hosts.strip() == "*":
        return Rule(None, allowed)
    names = frozenset(name.strip().lower() for name in hosts.split(",") if name.strip())
    if any(not name.isascii() or "*" in name or "/" in name or ":" in name for name in names):
        raise ValueError("hosts are named one by one, without port, path or wildcard")
    return Rule(names, allowed)
