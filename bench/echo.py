"""A raw grpc.aio server that answers GetAuthentication with the bytes of a file: no interceptor, no check, no store.

`python -m bench.echo ANSWER PLAIN_PORT MTLS_PORT CERTIFICATE KEY ROOT` serves two ports until it is terminated.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

HOST = "127.0.0.1"
_METHOD = "/finid.auth.v1.FinIdService/GetAuthentication"


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._respond) if handler_call_details.method == _METHOD else None

    async def _respond(self, _request: bytes, _context: Any) -> bytes:
        return self._answer


async def serve(answer: bytes, plain_port: int, mtls_port: int, certificate: bytes, key: bytes, root: bytes) -> None:
    """Serve until cancelled."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(answer),))
    server.add_insecure_port(f"{HOST}:{plain_port}")
    own = grpc.ssl_server_credentials([(key, certificate)], root, require_client_auth=True)
    server.add_secure_port(f"{HOST}:{mtls_port}", own)
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Read the files and serve."""
    answer, plain_port, mtls_port, *identity = sys.argv[1:]
    certificate, key, root = (Path(name).read_bytes() for name in identity)
    asyncio.run(serve(Path(answer).read_bytes(), int(plain_port), int(mtls_port), certificate, key, root))


if __name__ == "__main__":
    main()
