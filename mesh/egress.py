"""The one way out of the mesh to addresses that others name: in certificates of uploaded documents, for webhooks.

Each is hostile until shown otherwise: its host is resolved once, every address that it has must be a public one, and
the connection goes to just those; no redirect is followed, no proxy, cookie or compression is used, and length and time
are bounded. What comes back proves nothing by itself.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
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
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, UnicodeError, ValueError)
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
    """An address that is not asked, or an answer that is not taken; the message names no address."""


class AddressRefusedError(EgressRefusedError):
    """An address that is not asked at all: no connection was made."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be asked: any public host, or those named (lower case). `networks` besides are for tests.

    `schemes` are those of URLs; their own ports are the only ones, but in `networks`.
    """

    hosts: frozenset[str] | None = None
    networks: tuple[Network, ...] = field(default=())
    schemes: frozenset[str] = frozenset(_PORTS)

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
                headers = {} if body is None else {"Content-Type": media_type}
                async with self._asked(url, body, headers) as answer:
                    return await _read(answer, max_bytes)
        except _FAILURES as error:
            raise EgressRefusedError(
                f"no answer in time, or none that is understood: {type(error).__name__}"
            ) from error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body and return the status of the answer, of which nothing else is read. Raises EgressRefusedError."""
        try:
            async with asyncio.timeout(self._timeout_s), self._asked(url, body, headers) as answer:
                return answer.status
        except _FAILURES as error:
            raise EgressRefusedError(
                f"no answer in time, or none that is understood: {type(error).__name__}"
            ) from error

    def _checked(self, url: str) -> tuple[SplitResult, str, int]:
        """Take an address apart. Raises AddressRefusedError."""
        if len(url) > MAX_URL or not url.isascii() or any(not "!" <= letter <= "~" for letter in url):
            raise AddressRefusedError("an address too long, or of letters that none has")
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise AddressRefusedError("an address that is none") from error
        if parts.scheme not in self._rule.schemes or parts.username is not None or parts.password is not None:
            raise AddressRefusedError("a scheme that is not allowed, or with a user's name")
        host = (parts.hostname or "").rstrip(".")
        if not host or "\\" in url or not self._rule.allows(host):
            raise AddressRefusedError("a host that is not allowed")
        if port not in self._ports and not self._rule.networks:
            raise AddressRefusedError("another port than those of the schemes allowed")
        return parts, host, port

    @property
    def _ports(self) -> frozenset[int]:
        return frozenset(_PORTS[scheme] for scheme in self._rule.schemes)

    async def _pinned(self, host: str, port: int) -> Sequence[Address]:
        """Resolve a host, once. Raises AddressRefusedError when any of its addresses is not to be reached."""
        try:
            addresses: Sequence[Address] = [ip_address(host)]
        except ValueError:
            if ":" in host or host.replace(".", "").isdigit():
                # What aiohttp takes for an address, it does not ask the resolver for.
                raise AddressRefusedError("an address in another form than its own") from None
            # Whoever mixes public with other addresses means the others.
            addresses = [ip_address(text) for text in await self._resolve(host, port)]
        if not addresses:
            raise AddressRefusedError("a host without an address")
        for address in addresses:
            if self._rule.is_inside(address):
                continue
            if port not in self._ports or not is_public(address):
                raise AddressRefusedError("a host whose address is not public")
        return addresses

    @asynccontextmanager
    async def _asked(
        self, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, by GET or by POST of a body; the connection ends with the answer, read or not."""
        parts, host, port = self._checked(url)
        pinned = await self._pinned(host, port)
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
                headers={"User-Agent": "FinID", "Accept-Encoding": "identity", **headers},
                allow_redirects=False,
            ) as answer,
        ):
            yield answer


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
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


def networks_of(text: str) -> tuple[Network, ...]:
    """Read networks with commas between them. Raises ValueError."""
    return tuple(ip_network(network.strip()) for network in text.split(",") if network.strip())


def rule_of(hosts: str, networks: str = "") -> Rule | None:
    """Read a rule from settings: "" for none, "*" for any public host, or hosts with commas between them.

    Raises ValueError.
    """
    allowed = networks_of(networks)
    if not hosts.strip():
        return None
    if hosts.strip() == "*":
        return Rule(None, allowed)
    names = frozenset(name.strip().lower() for name in hosts.split(",") if name.strip())
    if any(not name.isascii() or "*" in name or "/" in name or ":" in name for name in names):
        raise ValueError("hosts are named one by one, without port, path or wildcard")
    return Rule(names, allowed)
