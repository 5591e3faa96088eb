"""Addresses that others name: where nothing is asked, and how little a hostile server can do."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest

from mesh.egress import AddressRefusedError, Egress, EgressRefusedError, Rule, is_public, rule_of

LOOPBACK = (ip_network("127.0.0.0/8"),)
ANY = Rule()
HERE = Rule(None, LOOPBACK)

NOT_PUBLIC = (
    # IPv4: this network, private, shared, loopback, link-local (and the clouds' metadata), special, documentation, ...
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.1",  # noqa: S104
    "127.255.255.254", "169.254.169.254", "192.0.0.1", "192.0.0.9", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    # IPv6 of the same kinds
    "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "ff0e::1", "100::1", "2001:db8::1",
    "3fff::1", "5f00::1", "4000::1",
    # IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "fe80::1%1",
)  # fmt: skip
PUBLIC = ("8.8.8.8", "1.1.1.1", "95.56.237.24", "2a00:1450:4010::1", "2606:4700::1111")


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_address_that_is_not_public_is_not_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_public(ip_address(address))
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    literal = f"[{address}]" if ":" in address else address
    for egress, url in (
        (Egress(ANY, resolve=resolving()), f"http://{literal}/crl"),
        (Egress(ANY, resolve=resolving(address)), "http://authority.example/crl"),
        (Egress(ANY, resolve=resolving("8.8.8.8", address)), "https://authority.example/crl"),
    ):
        with pytest.raises(EgressRefusedError):
            await egress.fetch(url, max_bytes=10)


def _never(*_: object) -> None:
    raise AssertionError("connected")


async def test_what_is_allowed_would_be_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two tests around this one would see a connection."""
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    for url in ("http://authority.example/crl", "https://authority.example:443/crl", "http://8.8.8.8/crl"):
        with pytest.raises(AssertionError, match="connected"):
            await Egress(ANY, resolve=resolving("8.8.8.8")).fetch(url, max_bytes=10)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


HOSTILE_URLS = {
    "another scheme": "ftp://authority.example/crl",
    "a file": "file:///etc/passwd",
    "ldap": "ldap://authority.example/cn=ca",
    "gopher": "gopher://authority.example/1",
    "no scheme": "//authority.example/crl",
    "a user": "http://user@authority.example/crl",
    "a user who looks like the host": "http://authority.example:80@10.0.0.1/crl",
    "a backslash": "http://authority.example\\@10.0.0.1/crl",
    "another port": "http://authority.example:8080/crl",
    "the port of a database": "http://authority.example:5432/",
    "no port at all": "http://authority.example:0x50/crl",
    "no host": "http:///crl",
    "only dots": "http://./crl",
    "a line break": "http://authority.example/crl\r\nX: y",
    "a blank": "http://authority.example/c rl",
    "a nul": "http://authority.example/\0",
    "other letters": "http://authоrity.example/crl",
    "too long": "http://authority.example/" + "a" * 2048,
    "a public address in another form": "http://134744072/",
    "a public address in a short form": "http://8.8/",
    "an octal loopback": "http://0177.0.0.1/",
    "a decimal loopback": "http://2130706433/",
    "a hexadecimal loopback": "http://0x7f.1/",
    "a short loopback": "http://127.1/",
    "a name of here": "http://localhost/",
    "a name of here with a dot": "http://localhost./",
}


@pytest.mark.parametrize("url", HOSTILE_URLS.values(), ids=HOSTILE_URLS)
async def test_hostile_url_leads_nowhere(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its host has a public address; what only the system's resolver understands, it resolves."""
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    egress = Egress(ANY, resolve=resolving("8.8.8.8")) if "auth" in url else Egress(ANY)
    with pytest.raises(EgressRefusedError):
        await egress.fetch(url, max_bytes=10)


async def test_only_named_hosts_are_resolved_when_hosts_are_named() -> None:
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ("10.0.0.1",)

    egress = Egress(Rule(frozenset({"crl.pki.gov.kz"})), resolve=resolve)
    for url in (
        "http://other.example/",
        "http://crl.pki.gov.kz.other.example/",
        "http://a.crl.pki.gov.kz/",
        "http://8.8.8.8/",
        "http://CRL.pki.gov.kz./",
    ):
        with pytest.raises(EgressRefusedError):
            await egress.fetch(url, max_bytes=10)
    assert asked == ["crl.pki.gov.kz"]


Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[str]:
    """A server on the loopback; yields its address."""

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await respond(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    try:
        yield f"http://authority.example:{server.sockets[0].getsockname()[1]}/crl"
    finally:
        server.close()


def answering(head: str, body: bytes = b"", *, seen: list[bytes] | None = None) -> Respond:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request)
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return respond


def at(rule: Rule = HERE, *, timeout_s: float = 4.0) -> Egress:
    return Egress(rule, resolve=resolving("127.0.0.1"), timeout_s=timeout_s)


async def test_answer_of_a_good_server_comes_back_and_little_is_told() -> None:
    seen: list[bytes] = []
    async with serving(answering("HTTP/1.1 200 OK\nContent-Length: 3", b"CRL", seen=seen)) as url:
        assert await at().fetch(url, max_bytes=3) == b"CRL"
    head = seen[0].decode().lower()
    assert head.startswith("get /crl http/1.1\r\n")
    assert "host: authority.example" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


async def test_request_is_posted() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"application/ocsp-request" in head
        body = await reader.readexactly(7)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + body[::-1])

    async with serving(respond) as url:
        found = await at().fetch(url, max_bytes=10, body=b"request", media_type="application/ocsp-request")
    assert found == b"tseuqer"


async def test_name_is_resolved_once_and_rebinding_changes_nothing() -> None:
    """A second look would give another address: one that is not to be reached."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"]])
    asked = 0

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return next(answers)

    async with serving(answering("HTTP/1.1 200 OK\nContent-Length: 2", b"ok")) as url:
        assert await Egress(HERE, resolve=rebinding).fetch(url, max_bytes=10) == b"ok"
    assert asked == 1


async def test_loopback_is_reached_in_tests_only() -> None:
    async with serving(answering("HTTP/1.1 200 OK\nContent-Length: 2", b"ok")) as url:
        with pytest.raises(EgressRefusedError):
            await at(ANY).fetch(url, max_bytes=10)
        other = Rule(None, (ip_network("10.0.0.0/8"),))
        with pytest.raises(EgressRefusedError):
            await at(other).fetch(url, max_bytes=10)


HOSTILE_ANSWERS: dict[str, Respond] = {
    "a redirect": answering("HTTP/1.1 302 Found\nLocation: http://169.254.169.254/\nContent-Length: 0"),
    "a redirect to itself": answering("HTTP/1.1 307 Temporary\nLocation: /crl\nContent-Length: 0"),
    "no such thing": answering("HTTP/1.1 404 Not Found\nContent-Length: 3", b"CRL"),
    "a part": answering("HTTP/1.1 206 Partial\nContent-Length: 3", b"CRL"),
    "more than said": answering("HTTP/1.1 200 OK\nContent-Length: 1000000", bytes(1000000)),
    "more than said, without a length": answering("HTTP/1.1 200 OK\nConnection: close", bytes(1000000)),
    "more in chunks": answering(
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"ffff\r\n" + bytes(0xFFFF) + b"\r\nffff\r\n" + bytes(0xFFFF)
    ),
    "less than said": answering("HTTP/1.1 200 OK\nContent-Length: 100", b"CRL"),
    "a gzip bomb": answering(
        f"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {len(gzip.compress(bytes(50_000_000)))}",
        gzip.compress(bytes(50_000_000)),
    ),
    "a header without end": answering("HTTP/1.1 200 OK\nX: " + "a" * 100_000),
    "no HTTP": answering("SSH-2.0-OpenSSH_9.2"),
    "nothing": answering(""),
}


@pytest.mark.parametrize("respond", HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
async def test_hostile_answer_is_not_taken(respond: Respond) -> None:
    async with serving(respond) as url:
        with pytest.raises(EgressRefusedError):
            await at(timeout_s=1.0).fetch(url, max_bytes=50_000)


async def test_redirect_is_not_followed() -> None:
    seen: list[bytes] = []
    async with serving(answering("HTTP/1.1 301 Moved\nLocation: /other\nContent-Length: 0", seen=seen)) as url:
        with pytest.raises(EgressRefusedError):
            await at().fetch(url, max_bytes=10)
    assert len(seen) == 1


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("respond", [_drip, _silent], ids=["a letter at a time", "never"])
async def test_slow_server_is_left(respond: Respond) -> None:
    async with serving(respond) as url:
        started = time.monotonic()
        with pytest.raises(EgressRefusedError):
            await at(timeout_s=0.3).fetch(url, max_bytes=5000)
        assert time.monotonic() - started < 5


async def test_slow_resolver_is_left() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(30)
        return ("8.8.8.8",)

    started = time.monotonic()
    with pytest.raises(EgressRefusedError):
        await Egress(ANY, resolve=resolve, timeout_s=0.2).fetch("http://authority.example/", max_bytes=10)
    assert time.monotonic() - started < 5


def test_rule_is_none_any_host_or_those_named() -> None:
    assert rule_of("") is None
    assert rule_of(" ") is None
    assert rule_of("*") == Rule(None)
    assert rule_of("CRL.pki.gov.kz, ocsp.pki.gov.kz") == Rule(frozenset({"crl.pki.gov.kz", "ocsp.pki.gov.kz"}))
    for wrong in ("*.gov.kz", "http://crl.pki.gov.kz", "crl.pki.gov.kz:80", "қаз.kz"):
        with pytest.raises(ValueError, match="one by one"):
            rule_of(wrong)
    with pytest.raises(ValueError, match="host bits"):
        rule_of("*", "10.0.0.1/8")


@pytest.mark.parametrize("status", [200, 202, 302, 410, 500])
async def test_of_a_posted_answer_only_the_status_is_read(status: int) -> None:
    seen: list[bytes] = []
    head = f"HTTP/1.1 {status} X\nLocation: http://169.254.169.254/\nContent-Length: 100000000"
    async with serving(answering(head, bytes(100_000), seen=seen)) as url:
        assert await at().post(url, b"{}", {"Content-Type": "application/json", "webhook-id": "one"}) == status
    (asked,) = seen  # no redirect was followed
    assert asked.startswith(b"POST /crl HTTP/1.1\r\n")
    assert b"webhook-id: one\r\n" in asked


@pytest.mark.parametrize(
    "url",
    ["http://authority.example/", "https://authority.example:80/", "https://authority.example:8443/"],
)
async def test_where_https_alone_is_allowed_nothing_else_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    egress = Egress(Rule(schemes=frozenset({"https"})), resolve=resolving("8.8.8.8"))
    with pytest.raises(AddressRefusedError):
        await egress.post(url, b"{}", {})
    with pytest.raises(AssertionError, match="connected"):
        await egress.post("https://authority.example/", b"{}", {})


async def test_an_address_that_is_refused_is_told_from_a_server_that_does_not_answer() -> None:
    with pytest.raises(AddressRefusedError):
        await Egress(ANY, resolve=resolving("10.0.0.1")).post("https://authority.example/", b"{}", {})
    async with serving(_silent) as url:
        with pytest.raises(EgressRefusedError) as refused:
            await at(timeout_s=0.2).post(url, b"{}", {})
    assert not isinstance(refused.value, AddressRefusedError)
