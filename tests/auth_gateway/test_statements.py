"""Signed results: what they say, that somebody else's library verifies them, and what they are not taken for."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from finid.auth.v1 import auth_pb2 as auth
from finid.pki.v1 import pki_pb2 as pki
from google.protobuf.json_format import MessageToDict
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet, OKPKey

from mesh import base64url, receipts
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Channel, Env
from services.auth_gateway.authentication import State
from services.auth_gateway.servicer.pki import PkiServicer
from services.auth_gateway.statements import (
    KeyUse,
    PublishedKey,
    SigningKey,
    StatementKey,
    earlier_keys,
    person_sha256,
    result_claims,
)
from tests.auth_gateway.edge import Edge
from tests.auth_gateway.fakes import APPLICATION, PERSON
from tests.auth_gateway.room import VERIFIER, Room, ask_of
from tests.auth_gateway.visits import Stream, create, entered, finished_steps, issue, walked
from tests.bundles import IIN, PHONE, World, digest_of

pytestmark = pytest.mark.postgres


async def published(edge: Edge) -> KeySet:
    """The keys for statements, out of what everybody may fetch."""
    body = await edge.pki().GetReceiptKeys(pki.GetReceiptKeysRequest())
    return KeySet.import_key_set({"keys": [key for key in json.loads(body.data)["keys"] if is_for_statements(key)]})


def is_for_statements(key: dict[str, Any]) -> bool:
    return bool(key["finid_use"] == "statement")


async def claims_of(edge: Edge, token: str) -> dict[str, Any]:
    """What a JWS says, once joserfc has verified it."""
    verified = jws.deserialize_compact(token, await published(edge), algorithms=["EdDSA"])
    assert verified.headers() == {
        "alg": "EdDSA",
        "typ": "finid-result+jwt",
        "kid": edge.room.statement_key.kid,
    }
    claims: dict[str, Any] = json.loads(verified.payload)
    return claims


async def result_of(edge: Edge, name: str, code: str = "") -> auth.AuthenticationResult:
    asked = auth.ReadResultRequest(name=name, result_code=code, code_verifier=VERIFIER if code else "")
    return await edge.finid().ReadResult(asked, metadata=edge.token())


async def test_a_success_is_verified_offline_with_the_published_key_and_another_library(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    code = await walked(edge, created.capture_uri)
    result = await result_of(edge, created.name, code)
    item = await edge.room.get(created.name)
    assert item.finished_at is not None
    person = MessageToDict(result.person, preserving_proto_field_name=True)
    assert await claims_of(edge, result.result_jws) == {
        "iss": "auth_gateway",
        "env": "sandbox",
        "aud": APPLICATION,
        "sub": created.name,
        "txn": item.txn.hex(),
        "purpose": "IDENTIFY",
        "channel": "HOSTED",
        "verdict": "SUCCESS",
        "reason": "",
        "outcome": "",
        "cross_device": "false",
        "created_at": created.create_time.seconds,
        "finished_at": result.finish_time.seconds,
        "iat": result.finish_time.seconds,
        "jti": created.name.partition("/")[2],
        "person_sha256": hashlib.sha256(rfc8785.dumps(person)).hexdigest(),
    }
    assert (await result_of(edge, created.name, code)).result_jws == result.result_jws


async def test_a_failure_says_its_reason_and_names_nobody(edge: Edge) -> None:
    edge.room.liveness.is_live = False
    item = await edge.room.identify(ask_of(channel=Channel.STEPS))
    await edge.room.consent(item)
    for _ in range(3):
        await edge.room.flow.start_liveness(await edge.room.get(item.name))
        await edge.room.flow.submit_frames(await edge.room.get(item.name), [])
    claims = await claims_of(edge, (await result_of(edge, item.name)).result_jws)
    assert (claims["verdict"], claims["reason"], claims["person_sha256"]) == ("FAILURE", "LIVENESS_FAILED", "")


async def test_the_stream_ends_with_the_same_statement_that_reading_gives(edge: Edge) -> None:
    stream = Stream(edge)
    name = await stream.up_to_the_code(create(auth.CHANNEL_STREAM))
    await stream.ask(verify_code=entered())
    streamed = (await stream.hears()).result.result_jws
    assert (await claims_of(edge, streamed))["channel"] == "STREAM"
    assert (await result_of(edge, name)).result_jws == streamed


async def test_what_was_made_is_named(edge: Edge) -> None:
    order = await edge.esign().IssueCertificate(issue(), metadata=edge.token())
    code = await walked(edge, order.authentication.capture_uri)
    result = await result_of(edge, order.authentication.name, code)
    claims = await claims_of(edge, result.result_jws)
    assert claims["purpose"] == "ISSUE"
    assert claims["outcome"] == result.outcome
    assert claims["outcome"].startswith("certificates/")
    assert claims["person_sha256"] == ""


async def test_a_statement_holds_no_personal_data(edge: Edge) -> None:
    token = (await result_of(edge, await finished_steps(edge))).result_jws
    said = base64url.decode(token.split(".")[1]).decode()
    for value in (*PERSON.values(), IIN, PHONE, PHONE[1:]):
        assert value not in said


async def test_a_changed_statement_or_another_key_does_not_verify(edge: Edge) -> None:
    item = await edge.room.identify(ask_of(channel=Channel.STEPS))
    finished = await edge.room.walk(item, State.FINISHED)
    token = edge.room.results.statement(finished)
    keys = await published(edge)
    header, _, signature = token.split(".")
    altered = base64url.encode(rfc8785.dumps(dict(result_claims(finished)) | {"verdict": "FAILURE"}))
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(f"{header}.{altered}.{signature}", keys, algorithms=["EdDSA"])
    another = OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(edge.world.pins().pins[0].public_key)}
    )
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(token, another, algorithms=["EdDSA"])


async def test_no_consumer_takes_a_statement_for_a_receipt(room: Room) -> None:
    finished = await room.walk(await room.identify(), State.FINISHED)
    with pytest.raises(PreconditionError) as refused:
        receipts.parse(room.results.statement(finished))
    assert refused.value.refusal is Refusal.RECEIPT_MALFORMED


async def test_there_is_no_statement_before_the_end(room: Room) -> None:
    for state in (State.AWAITING_CONSENTS, State.AWAITING_LIVENESS, State.AWAITING_CODE):
        item = await room.walk(await room.identify(), state)
        with pytest.raises(ValueError, match="no verdict"):
            room.results.statement(item)


def test_the_digest_of_a_person_is_of_the_fields_that_have_a_value_in_any_order() -> None:
    person = {"given_name": "Айгерім", "iin": IIN, "patronymic": ""}
    expected = hashlib.sha256(f'{{"given_name":"Айгерім","iin":"{IIN}"}}'.encode()).hexdigest()
    assert person_sha256(person) == person_sha256(dict(reversed(person.items()))) == expected
    assert person_sha256({}) == person_sha256({"patronymic": ""}) == ""


def test_the_same_claims_give_the_same_bytes() -> None:
    key = StatementKey(Ed25519PrivateKey.from_private_bytes(digest_of("a key")))
    assert key.sign("t+jwt", {"a": 1, "b": "x"}) == key.sign("t+jwt", {"b": "x", "a": 1})
    assert "Ed25519PrivateKey" not in repr(key)


def test_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="Ed25519"):
        SigningKey.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


async def test_keys_that_were_replaced_stay_published_as_they_were(room: Room) -> None:
    earlier = StatementKey(Ed25519PrivateKey.from_private_bytes(digest_of("an earlier key")))
    before = await _keys_of(room, [PublishedKey(KeyUse.STATEMENT, earlier.public_key)])
    kept = earlier_keys(json.dumps({"keys": before}).encode(), Env.SANDBOX)
    after = await _keys_of(room, [PublishedKey(KeyUse.STATEMENT, room.statement_key.public_key), *kept])
    assert {key["kid"] for key in after} == {earlier.kid, room.statement_key.kid}
    assert before[0] in after
    token = earlier.sign("finid-result+jwt", {"verdict": "SUCCESS"})
    assert jws.deserialize_compact(token, KeySet.import_key_set({"keys": after}), algorithms=["EdDSA"])


async def _keys_of(room: Room, own: list[PublishedKey]) -> list[dict[str, Any]]:
    servicer = PkiServicer(room.ca, World().pins, lambda: own, room.clock.now)
    body = await servicer.GetReceiptKeys(pki.GetReceiptKeysRequest(), None)
    return [key for key in json.loads(body.data)["keys"] if key["finid_use"] != "receipt"]


@pytest.mark.parametrize(
    "change",
    [{"d": "AAAA"}, {"kid": "x"}, {"finid_use": "receipt"}, {"x": "AAAA"}, {"x": None}, {"finid_env": "production"}],
)
async def test_a_file_of_earlier_keys_that_holds_anything_else_is_refused(room: Room, change: dict[str, Any]) -> None:
    (key,) = await _keys_of(room, [PublishedKey(KeyUse.WEBHOOK, room.webhook_key.public_key)])
    changed = {name: value for name, value in (key | change).items() if value is not None}
    with pytest.raises(ValueError, match=r"field|kid|lacks|must|not|environment|key"):
        earlier_keys(json.dumps({"keys": [changed]}).encode(), Env.SANDBOX)
