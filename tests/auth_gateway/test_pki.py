"""PkiService over the wire: what relying parties fetch without a token."""

import json
from typing import Any

import pytest
from finid.pki.v1 import pki_pb2 as pki
from google.api.httpbody_pb2 import HttpBody

from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import unavailable

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("method", "request_", "media_type", "data"),
    [
        ("GetIssuingCrl", pki.GetIssuingCrlRequest(), "application/pkix-crl", b"crl of the issuing ca"),
        ("GetRootCrl", pki.GetRootCrlRequest(), "application/pkix-crl", b"crl of the root"),
        ("GetIssuingCertificate", pki.GetIssuingCertificateRequest(), "application/pkix-cert", b"issuing ca"),
        (
            "Ocsp",
            HttpBody(content_type="application/ocsp-request", data=b"q"),
            "application/ocsp-response",
            b"status for q",
        ),
        (
            "TimeStamp",
            HttpBody(content_type="Application/Timestamp-Query; charset=binary", data=b"q"),
            "application/timestamp-reply",
            b"time for q",
        ),
    ],
)
async def test_relying_parties_need_no_token_and_get_the_right_media_types(
    edge: Edge, method: str, request_: Any, media_type: str, data: bytes
) -> None:
    body = await getattr(edge.pki(), method)(request_)
    assert (body.content_type, body.data) == (media_type, data)


@pytest.mark.parametrize("method", ["Ocsp", "TimeStamp"])
@pytest.mark.parametrize(
    "body",
    [
        HttpBody(data=b"q"),
        HttpBody(content_type="application/json", data=b"q"),
        HttpBody(content_type="application/ocsp-request"),
        HttpBody(content_type="application/timestamp-query"),
        HttpBody(content_type="application/ocsp-request", data=b"q" * 4097),
        HttpBody(content_type="application/timestamp-query", data=b"q" * 4097),
    ],
    ids=lambda body: f"{body.content_type} {len(body.data)}",
)
async def test_a_request_that_is_none_does_not_reach_the_authority(edge: Edge, method: str, body: HttpBody) -> None:
    error = await refused(getattr(edge.pki(), method)(body))
    assert told(error) == ("INVALID_ARGUMENT", "PKI_REQUEST_INVALID")
    assert edge.room.ca.calls == []


async def test_an_authority_that_is_away_is_unavailable(edge: Edge) -> None:
    for method, request_ in (("GetRootCrl", pki.GetRootCrlRequest()), ("GetChain", pki.GetChainRequest())):
        edge.room.ca.fails("crl", unavailable("ca"))
        edge.room.ca.fails("chain", unavailable("ca"))
        error = await refused(getattr(edge.pki(), method)(request_))
        assert (*told(error), error.retry_after_s) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE", 1.0)


async def test_the_keys_of_receipts_are_published_with_what_they_are_pinned_for(edge: Edge) -> None:
    body = await edge.pki().GetReceiptKeys(pki.GetReceiptKeysRequest())
    assert body.content_type == "application/jwk-set+json"
    keys = json.loads(body.data)["keys"]
    assert {(key["finid_factor"], key["finid_issuer"]) for key in keys} >= {
        ("STATE_RECORD", "registry"),
        ("KEY_ATTESTATION", "signer"),
    }
    pins = {(pin.kid, pin.factor.value) for pin in edge.world.pins().pins}
    assert {(key["kid"], key["finid_factor"]) for key in keys} == pins
    assert {(key["kty"], key["crv"], key["alg"], key["finid_env"]) for key in keys} == {
        ("OKP", "Ed25519", "EdDSA", "sandbox")
    }
    assert not any("d" in key for key in keys)
