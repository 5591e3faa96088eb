"""PkiService: what relying parties fetch, open to everybody."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finid.pki.v1 import pki_pb2 as pb
from finid.pki.v1 import pki_pb2_grpc as rpc
from google.api.httpbody_pb2 import HttpBody

from mesh import base64url
from mesh.errors import Code, FinIdError
from mesh.pins import CurrentPins, Pin
from mesh.status import PeerError
from mesh.transaction import Env
from services.auth_gateway.flow import step_error
from services.auth_gateway.ports import Ca
from services.auth_gateway.servicer import pki_caching
from services.auth_gateway.statements import ISSUER, PublishedKey

_MAX_REQUEST_BYTES = 4096
_QUADRUPLE = 4
_RECEIPT = "receipt"


class PkiRequestInvalidError(FinIdError):
    """An OCSP or time stamp request is empty, too large or of another media type."""

    code = Code.INVALID_ARGUMENT
    reason = "PKI_REQUEST_INVALID"


class PkiServicer(rpc.PkiServiceServicer):
    """Proto to domain and back; see proto/finid/pki/v1/pki.proto."""

    def __init__(
        self,
        ca: Ca,
        pins: CurrentPins,
        own_keys: Callable[[], Sequence[PublishedKey]],
        now: Callable[[], datetime],
    ) -> None:
        self._ca = ca
        self._pins = pins
        self._own_keys = own_keys
        self._now = now

    async def GetIssuingCrl(self, request: pb.GetIssuingCrlRequest, context: Any) -> HttpBody:
        """See the proto."""
        return await self._crl(context, root=False)

    async def GetRootCrl(self, request: pb.GetRootCrlRequest, context: Any) -> HttpBody:
        """See the proto."""
        return await self._crl(context, root=True)

    async def _crl(self, context: Any, *, root: bool) -> HttpBody:
        try:
            der = await self._ca.crl(root=root)
        except PeerError as error:
            raise step_error(error) from error
        await context.send_initial_metadata(pki_caching.of_crl(der, self._now()))
        return HttpBody(content_type="application/pkix-crl", data=der)

    async def GetIssuingCertificate(self, request: pb.GetIssuingCertificateRequest, context: Any) -> HttpBody:
        """See the proto."""
        der = (await self._chain())[0]
        await context.send_initial_metadata(pki_caching.of_certificate(der, self._now()))
        return HttpBody(content_type="application/pkix-cert", data=der)

    async def GetChain(self, request: pb.GetChainRequest, context: Any) -> HttpBody:
        """See the proto."""
        chain = await self._chain()
        await context.send_initial_metadata(pki_caching.of_certificate(chain[0], self._now()))
        pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
        return HttpBody(content_type="application/pem-certificate-chain", data=b"".join(pem))

    async def _chain(self) -> tuple[bytes, ...]:
        try:
            return await self._ca.chain()
        except PeerError as error:
            raise step_error(error) from error

    async def Ocsp(self, request: HttpBody, context: Any) -> HttpBody:
        """See the proto."""
        return await self._ocsp(_body(request, "application/ocsp-request"))

    async def GetOcsp(self, request: pb.GetOcspRequest, context: Any) -> HttpBody:
        """See the proto."""
        answer = await self._ocsp(_from_path(request.request))
        await context.send_initial_metadata(pki_caching.of_ocsp(answer.data, self._now()))
        return answer

    async def _ocsp(self, der: bytes) -> HttpBody:
        try:
            return HttpBody(content_type="application/ocsp-response", data=await self._ca.ocsp(der))
        except PeerError as error:
            raise step_error(error) from error

    async def TimeStamp(self, request: HttpBody, context: Any) -> HttpBody:
        """See the proto."""
        der = _body(request, "application/timestamp-query")
        try:
            return HttpBody(content_type="application/timestamp-reply", data=await self._ca.time_stamp(der))
        except PeerError as error:
            raise step_error(error) from error

    async def GetReceiptKeys(self, request: pb.GetReceiptKeysRequest, context: Any) -> HttpBody:
        """See the proto."""
        pins = self._pins()
        own = [_own_jwk(key, pins.env) for key in self._own_keys()]
        keys = {"keys": [*(_jwk(pin) for pin in pins.pins), *own]}
        return HttpBody(content_type="application/jwk-set+json", data=json.dumps(keys).encode())


def _body(request: HttpBody, media_type: str) -> bytes:
    if request.content_type.partition(";")[0].strip().lower() != media_type:
        raise PkiRequestInvalidError(f"The media type must be {media_type}.")
    if not 0 < len(request.data) <= _MAX_REQUEST_BYTES:
        raise PkiRequestInvalidError(f"The body must have 1 to {_MAX_REQUEST_BYTES} bytes.")
    return bytes(request.data)


def _from_path(text: str) -> bytes:
    """The DER that a path spells in base64; Envoy leaves the percent-encoding of its reserved characters to us."""
    try:
        spelled = unquote(text, errors="strict")
        # Envoy's transcoder drops a slash at the end of a path; base64 that lacks one letter of its last four had it.
        spelled += "/" * (len(spelled) % _QUADRUPLE == _QUADRUPLE - 1)
        der = base64.b64decode(spelled, validate=True)
    except ValueError as error:
        raise PkiRequestInvalidError("The path must hold the request in base64.") from error
    if not 0 < len(der) <= _MAX_REQUEST_BYTES:
        raise PkiRequestInvalidError(f"The request must have 1 to {_MAX_REQUEST_BYTES} bytes.")
    return der


def _jwk(pin: Pin) -> dict[str, str | int]:
    """A pinned receipt key as JWK (RFC 8037), with the factor, issuer and validity that it is pinned for."""
    return _ed25519(pin.public_key, pin.kid) | {
        "finid_use": _RECEIPT,
        "finid_factor": pin.factor.value,
        "finid_issuer": pin.issuer,
        "finid_env": pin.env.value,
        "nbf": pin.not_before,
        "exp": pin.not_after,
    }


def _own_jwk(key: PublishedKey, env: Env) -> dict[str, str | int]:
    """A key of the gateway's, with what it signs: nobody pins it, and it confirms no factor."""
    return _ed25519(key.public_key, key.kid) | {
        "finid_use": key.use.value,
        "finid_issuer": ISSUER,
        "finid_env": env.value,
    }


def _ed25519(public_key: bytes, kid: str) -> dict[str, str | int]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64url.encode(public_key),
        "kid": kid,
        "use": "sig",
        "alg": "EdDSA",
    }
