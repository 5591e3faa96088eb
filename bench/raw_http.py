"""An HTTP/1.1 client that costs next to nothing, so that the server is what is measured.

It sends bytes made beforehand and reads one answer with a content-length. A connection is kept for as long as the
server keeps it: `openssl ocsp` hangs up after each answer.
"""

import asyncio
from collections.abc import Awaitable, Callable

from deploy.local.ports import HOST

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LENGTH = b"content-length:"


class HttpError(Exception):
    """The answer is not 200 with a content-length."""


def post(port: int, path: str, media_type: str, body: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"\r\n" + body


def get(port: int, path: str) -> bytes:
    """A whole request."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()


def client(port: int) -> Callable[[bytes], Awaitable[bytes]]:
    """Return the call that sends a whole request to a port of loopback and returns the answer's body."""
    idle: list[_Connection] = []

    async def call(request: bytes) -> bytes:
        connection = idle.pop() if idle else await asyncio.open_connection(HOST, port)
        reader, writer = connection
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise HttpError(head.split(b"\r\n", 1)[0].decode())
        body = await reader.readexactly(int(head.partition(_LENGTH)[2].split(b"\r\n", 1)[0]))
        if head.startswith(b"http/1.0") or reader.at_eof():
            writer.close()
        else:
            idle.append(connection)
        return body

    return call
