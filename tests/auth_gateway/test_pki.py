"""PkiService over the wire: what relying parties fetch without a token."""

import base64
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from finid.pki.v1 import pki_pb2 as pki
from google.api.httpbody_pb2 import HttpBody

from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import unavailable
from tests.auth_gateway.pki_objects import (
    ISSUING_CRL,
    ISSUING_DER,
    MADE_AT,
    ROOT_CRL,
    STATUS_LASTS,
    UNAUTHORIZED,
    status,
)

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("method", "request_", "media_type", "data"),
    [
        ("GetIssuingCrl", pki.GetIssuingCrlRequest(), "application/pkix-crl", ISSUING_CRL),
        ("GetRootCrl", pki.GetRootCrlRequest(), "application/pkix-crl", ROOT_CRL),
        ("GetIssuingCertificate", pki.GetIssuingCertificateRequest(), "application/pkix-cert", ISSUING_DER),
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


async def headers_of(call: Any) -> dict[str, str]:
    await call
    return {name: value for name, value in await call.initial_metadata() if isinstance(value, str)}


@pytest.mark.parametrize(
    ("method", "request_", "max_age_s"),
    [
        ("GetIssuingCrl", pki.GetIssuingCrlRequest(), 300),
        ("GetRootCrl", pki.GetRootCrlRequest(), 300),
        ("GetIssuingCertificate", pki.GetIssuingCertificateRequest(), 86_400),
        ("GetChain", pki.GetChainRequest(), 86_400),
    ],
)
async def test_caches_may_keep_lists_for_minutes_and_certificates_for_a_day(
    edge: Edge, method: str, request_: Any, max_age_s: int
) -> None:
    first, again = [await headers_of(getattr(edge.pki(), method)(request_)) for _ in range(2)]
    assert first["cache-control"] == f"public, max-age={max_age_s}, no-transform, must-revalidate"
    assert parsedate_to_datetime(first["last-modified"]) == MADE_AT
    expires = parsedate_to_datetime(first["expires"])
    assert abs((expires - datetime.now(UTC)).total_seconds() - max_age_s) < 5
    assert first["etag"] == again["etag"]
    assert first["etag"].startswith('"')


@pytest.mark.parametrize("spelling", [quote, lambda text: text, lambda text: quote(text, safe="")])
async def test_status_is_asked_for_in_the_path_and_may_be_kept_until_it_ends(edge: Edge, spelling: Any) -> None:
    der = bytes(range(200, 256)) * 2
    edge.room.ca.statuses[der] = status()
    call = edge.pki().GetOcsp(pki.GetOcspRequest(request=spelling(base64.b64encode(der).decode())))
    headers, body = await headers_of(call), await call
    assert (body.content_type, body.data) == ("application/ocsp-response", edge.room.ca.statuses[der])
    assert 0 < int(headers["cache-control"].split("max-age=")[1].split(",")[0]) <= STATUS_LASTS.total_seconds()
    assert parsedate_to_datetime(headers["last-modified"]) >= MADE_AT


async def test_slash_at_the_end_of_the_path_that_envoy_drops_is_known_of(edge: Edge) -> None:
    der = b"\x30\x01\xff"
    assert base64.b64encode(der).endswith(b"/")
    edge.room.ca.statuses[der] = status()
    for text in ("MAH/", "MAH"):
        body = await edge.pki().GetOcsp(pki.GetOcspRequest(request=text))
        assert body.data == edge.room.ca.statuses[der]


@pytest.mark.parametrize("answer", [status(b"n" * 32), UNAUTHORIZED], ids=["with a nonce", "a refusal"])
async def test_status_for_one_request_alone_is_not_kept(edge: Edge, answer: bytes) -> None:
    edge.room.ca.statuses[b"q"] = answer
    headers = await headers_of(edge.pki().GetOcsp(pki.GetOcspRequest(request=base64.b64encode(b"q").decode())))
    assert not {"cache-control", "expires", "etag"} & headers.keys()


@pytest.mark.parametrize("text", ["%", "?", "q", "%FF", "/", base64.b64encode(b"q" * 4097).decode()])
async def test_a_path_that_is_no_request_does_not_reach_the_authority(edge: Edge, text: str) -> None:
    error = await refused(edge.pki().GetOcsp(pki.GetOcspRequest(request=text)))
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
    assert {(key.get("finid_factor"), key["finid_issuer"]) for key in keys} >= {
        ("STATE_RECORD", "registry"),
        ("KEY_ATTESTATION", "signer"),
    }
    pins = {(pin.kid, pin.factor.value) for pin in edge.world.pins().pins}
    assert {(key["kid"], key["finid_factor"]) for key in keys if key["finid_use"] == "receipt"} == pins
    assert {(key["kty"], key["crv"], key["alg"], key["finid_env"]) for key in keys} == {
        ("OKP", "Ed25519", "EdDSA", "sandbox")
    }
    assert not any("d" in key for key in keys)


async def test_the_gateways_own_keys_are_published_for_their_use_and_for_no_factor(edge: Edge) -> None:
    keys = json.loads((await edge.pki().GetReceiptKeys(pki.GetReceiptKeysRequest())).data)["keys"]
    own = {key["finid_use"]: key for key in keys if key["finid_use"] != "receipt"}
    assert {use: key["kid"] for use, key in own.items()} == {
        "statement": edge.room.statement_key.kid,
        "webhook": edge.room.webhook_key.kid,
    }
    assert not any("finid_factor" in key for key in own.values())
    assert {key["finid_issuer"] for key in own.values()} == {"auth_gateway"}
