"""Verified offline: evidence, also years later; results; consent receipts; webhooks. A refusal for every rule."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finid.auth.v1 import auth_pb2 as auth
from finid.factor.v1 import bundle_pb2 as bundle_pb
from google.protobuf import json_format

from finid_client import (
    Env,
    KeySet,
    ProofRefusedError,
    Purpose,
    VerifiedEvidence,
    evidence_of_json,
    verify_consents,
    verify_evidence,
    verify_result,
    verify_webhook,
)
from finid_client.statements import person_sha256
from mesh import base64url, strict_json
from mesh.facts import Factor
from mesh.pins import key_id
from tests.bundles import ISSUER_OF, NOW, SentBundle, World, digest_of, sandbox_openings

WORLD = World()
APPLICATION = "applications/" + "a" * 26
AUTHENTICATION = "authentications/" + "b" * 26
STATEMENT_KEY = Ed25519PrivateKey.generate()
WEBHOOK_KEY = Ed25519PrivateKey.generate()
YEARS_LATER = NOW + 5 * 365 * 86_400


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def jwk(key: Ed25519PrivateKey, **members: Any) -> dict[str, Any]:
    public = raw(key)
    own = {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(public), "kid": key_id(public)}
    return own | {"use": "sig", "alg": "EdDSA"} | members


def jwks(*others: dict[str, Any], **validity: int) -> str:
    """The JWK Set as the gateway publishes it (services/auth_gateway/servicer/pki.py)."""
    receipts = [
        jwk(WORLD.keys[issuer], finid_factor=factor.value, finid_issuer=issuer, finid_env=WORLD.env.value)
        | {"nbf": NOW - 86_400, "exp": NOW + 86_400}
        | validity
        for factor, issuer in ISSUER_OF.items()
    ]
    gateway = [jwk(STATEMENT_KEY, finid_use="statement"), jwk(WEBHOOK_KEY, finid_use="webhook")]
    return json.dumps({"keys": [*receipts, *gateway, *others]})


def key_set(*others: dict[str, Any], **validity: int) -> KeySet:
    return KeySet.parse(jwks(*others, **validity))


def evidence_of(sent: SentBundle) -> auth.Evidence:
    opened = sent.openings
    return auth.Evidence(
        name=sent.transaction.authentication,
        bundle=bundle_pb.Bundle(
            transaction=sent.transaction_bytes,
            openings=bundle_pb.Openings(
                iin=opened.iin, iin_salt=opened.iin_salt, phone=opened.phone, phone_salt=opened.phone_salt
            ),
            receipts=sent.tokens,
        ),
    )


def verified(sent: SentBundle, **options: Any) -> VerifiedEvidence:
    pins = key_set().pins(Env.SANDBOX)
    return verify_evidence(evidence_of(sent), pins, **({"purpose": sent.purpose} | options))


@pytest.mark.parametrize("purpose", Purpose)
def test_evidence_of_every_purpose_is_verified_years_later(purpose: Purpose) -> None:
    sent = WORLD.bundle(purpose)
    proven = verified(sent)
    assert proven.grant.txn == sent.txn
    assert (proven.grant.iin, proven.grant.phone) == (sent.openings.iin, sent.openings.phone)
    assert proven.confirmed_at < datetime.fromtimestamp(NOW, UTC) < datetime.fromtimestamp(YEARS_LATER, UTC)


def test_evidence_with_a_key_attestation_is_verified() -> None:
    assert verified(WORLD.bundle(Purpose.ISSUE, attested=True)).transaction.purpose is Purpose.ISSUE


def test_evidence_is_verified_against_own_floors() -> None:
    sent = WORLD.bundle(Purpose.SIGN)
    verified(sent, floors=sent.floors)
    stricter = {Purpose.SIGN: replace(sent.floors[Purpose.SIGN], min_similarity_ppm=999_999)}
    with pytest.raises(ProofRefusedError, match="SIMILARITY_TOO_LOW"):
        verified(sent, floors=stricter)


def test_evidence_is_read_from_the_answer_of_rest() -> None:
    evidence = evidence_of(WORLD.bundle(Purpose.IDENTIFY))
    assert evidence_of_json(json_format.MessageToJson(evidence)) == evidence
    with pytest.raises(ProofRefusedError, match="EVIDENCE_MALFORMED"):
        evidence_of_json("{")


def _with(sent: SentBundle, **changes: Any) -> SentBundle:
    return replace(sent, **changes)


SIGN = WORLD.bundle(Purpose.SIGN)
REFUSED: dict[str, tuple[SentBundle, str]] = {
    "a factor is missing": (SIGN.without(Factor.SMS_OTP), "FACTOR_MISSING"),
    "no factor is there": (_with(SIGN, tokens=()), "FACTOR_MISSING"),
    "another purpose": (_with(WORLD.bundle(Purpose.IDENTIFY), purpose=Purpose.ISSUE), "PURPOSE_MISMATCH"),
    "a receipt that another key signed": (
        WORLD.bundle(Purpose.SIGN, keys={Factor.LIVENESS: Ed25519PrivateKey.generate()}),
        "SIGNATURE_INVALID",
    ),
    "a receipt of another transaction": (
        WORLD.bundle(Purpose.SIGN, claims={Factor.LIVENESS: {"txn": base64url.encode(digest_of("other"))}}),
        "RECEIPT_OF_ANOTHER_TRANSACTION",
    ),
    "another person's IIN": (
        _with(SIGN, openings=replace(sandbox_openings(), iin="930514400420")),
        "IIN_NOT_OPENED",
    ),
    "another phone": (_with(SIGN, openings=replace(sandbox_openings(), phone="+77000000009")), "PHONE_NOT_OPENED"),
    "a code entered too late": (
        WORLD.bundle(Purpose.SIGN, facts={Factor.SMS_OTP: {"sent_at": NOW - 400, "verified_at": NOW - 300}}),
        "OUT_OF_ORDER",
    ),
    "a receipt that had expired by then": (
        WORLD.bundle(Purpose.SIGN, claims={Factor.STATE_RECORD: {"exp": NOW - 60}}),
        "RECEIPT_EXPIRED",
    ),
    "a phone that is not trusted": (
        WORLD.bundle(Purpose.SIGN, facts={Factor.STATE_RECORD: {"phone_trusted": False}}),
        "PHONE_NOT_TRUSTED",
    ),
    "a face below FinID's own threshold": (
        WORLD.bundle(Purpose.SIGN, facts={Factor.FACE_MATCH: {"similarities_ppm": (1, 1, 1)}}),
        "SIMILARITY_TOO_LOW",
    ),
    "no transaction": (_with(SIGN, transaction_bytes=b"{}"), "TRANSACTION_INVALID"),
    "no receipt": (_with(SIGN, tokens=("x",)), "RECEIPT_MALFORMED"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_evidence_is_refused_for(what: str) -> None:
    sent, reason = REFUSED[what]
    with pytest.raises(ProofRefusedError) as caught:
        verified(sent)
    assert caught.value.reason == reason


def test_evidence_without_proper_openings_is_refused() -> None:
    evidence = evidence_of(SIGN)
    evidence.bundle.openings.iin = "1"
    with pytest.raises(ProofRefusedError, match="TRANSACTION_INVALID"):
        verify_evidence(evidence, key_set().pins(Env.SANDBOX), purpose=Purpose.SIGN)


def test_evidence_under_another_name_is_refused() -> None:
    evidence = evidence_of(SIGN)
    evidence.name = AUTHENTICATION
    with pytest.raises(ProofRefusedError, match="EVIDENCE_OF_ANOTHER"):
        verify_evidence(evidence, key_set().pins(Env.SANDBOX), purpose=Purpose.SIGN)


def test_evidence_of_the_sandbox_is_nothing_in_production() -> None:
    with pytest.raises(ProofRefusedError) as caught:
        verify_evidence(evidence_of(SIGN), key_set().pins(Env.PRODUCTION), purpose=Purpose.SIGN)
    assert caught.value.reason in {"KEY_NOT_PINNED", "ENV_MISMATCH"}


@pytest.mark.parametrize("validity", [{"exp": NOW - 200}, {"nbf": NOW}])
def test_a_key_counts_for_what_it_signed_while_it_was_valid(validity: dict[str, int]) -> None:
    with pytest.raises(ProofRefusedError, match="KEY_NOT_VALID_THEN"):
        verify_evidence(evidence_of(SIGN), key_set(**validity).pins(Env.SANDBOX), purpose=Purpose.SIGN)


@pytest.mark.parametrize(
    "keys",
    ["", "[]", "{}", '{"keys": {}}', '{"keys": [1]}', '{"keys": [], "keys": []}', b"\xff",
     json.dumps({"keys": [jwk(STATEMENT_KEY, finid_use="statement") | {"kid": "x"}]}),
     json.dumps({"keys": [jwk(STATEMENT_KEY, finid_use="statement") | {"x": "AA"}]}),
     json.dumps({"keys": [jwk(STATEMENT_KEY, finid_factor="LIVENESS")]}),
     json.dumps({"keys": [jwk(STATEMENT_KEY, finid_factor="X", finid_issuer="x", finid_env="sandbox", nbf=1, exp=2)]})],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_refused(keys: str | bytes) -> None:
    with pytest.raises(ProofRefusedError, match="KEYS_MALFORMED"):
        KeySet.parse(keys)


def test_keys_for_something_unknown_are_left_out() -> None:
    keys = key_set({"kty": "RSA", "n": "x"}, jwk(Ed25519PrivateKey.generate()))
    assert len(keys.receipt_pins) == len(ISSUER_OF)
    assert len(keys.others) == 2


AT = datetime.fromtimestamp(NOW, UTC)

# The signed result ----------------------------------------------------------------------------------------------------

PERSON = auth.Person(iin="930514400420", family_name="Серікова", birth_date="1993-05-14")
CLAIMS: dict[str, str | int] = {
    "iss": "auth_gateway", "env": "sandbox", "aud": APPLICATION, "sub": AUTHENTICATION, "txn": "ab" * 32,
    "purpose": "IDENTIFY", "channel": "HOSTED", "verdict": "SUCCESS", "reason": "", "outcome": "",
    "cross_device": "false", "created_at": NOW - 60, "finished_at": NOW, "iat": NOW, "jti": "b" * 26,
    "person_sha256": hashlib.sha256(
        '{"birth_date":"1993-05-14","family_name":"Серікова","iin":"930514400420"}'.encode()
    ).hexdigest(),
}  # fmt: skip


def signed_result(
    claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, key: Ed25519PrivateKey = STATEMENT_KEY
) -> str:
    head = {"alg": "EdDSA", "kid": key_id(raw(STATEMENT_KEY)), "typ": "finid-result+jwt"} | (header or {})
    stated = {name: value for name, value in (CLAIMS | (claims or {})).items() if value is not None}
    parts = [base64url.encode(strict_json.canonical(part)) for part in (head, stated)]
    signed = ".".join(parts)
    return f"{signed}.{base64url.encode(key.sign(signed.encode()))}"


def result_of(jws: str, **options: Any) -> Any:
    return verify_result(jws, key_set(), **({"env": Env.SANDBOX, "application": APPLICATION} | options))


def test_a_signed_result_says_what_was_decided() -> None:
    result = result_of(signed_result(), authentication=AUTHENTICATION)
    assert result.is_success
    assert (result.purpose, result.channel, result.is_cross_device) == ("IDENTIFY", "HOSTED", False)
    assert result.txn == b"\xab" * 32
    assert result.finished_at == datetime.fromtimestamp(NOW, UTC)


def test_a_failure_is_signed_too() -> None:
    jws = signed_result({"verdict": "FAILURE", "reason": "IDENTITY_NOT_CONFIRMED", "person_sha256": ""})
    result = result_of(jws)
    assert (result.is_success, result.reason) == (False, "IDENTITY_NOT_CONFIRMED")


def test_claims_of_a_later_version_are_left_alone() -> None:
    assert result_of(signed_result({"something_new": "x"})).is_success


def test_the_persons_data_belong_to_the_result() -> None:
    result = result_of(signed_result())
    result.require_person(PERSON)
    with pytest.raises(ProofRefusedError, match="PERSON_DIFFERS"):
        result.require_person(auth.Person(iin="930514400420", family_name="Другая", birth_date="1993-05-14"))
    assert person_sha256(auth.Person()) == ""


@pytest.mark.parametrize(
    ("jws", "reason"),
    [
        (signed_result(key=Ed25519PrivateKey.generate()), "SIGNATURE_INVALID"),
        (signed_result(header={"kid": key_id(raw(WEBHOOK_KEY))}, key=WEBHOOK_KEY), "KEY_UNKNOWN"),
        (signed_result(header={"kid": "x"}), "KEY_UNKNOWN"),
        (signed_result(header={"alg": "none"}), "RESULT_MALFORMED"),
        (signed_result(header={"alg": "HS256"}), "RESULT_MALFORMED"),
        (signed_result(header={"typ": "finid-liveness+jwt"}), "RESULT_MALFORMED"),
        (signed_result(header={"typ": "finid-consent+jwt"}), "RESULT_MALFORMED"),
        (signed_result(header={"jwk": "x"}), "RESULT_MALFORMED"),
        (signed_result({"iss": "somebody"}), "RESULT_MALFORMED"),
        (signed_result({"cross_device": "perhaps"}), "RESULT_MALFORMED"),
        (signed_result({"txn": "xy"}), "RESULT_MALFORMED"),
        (signed_result({"finished_at": "soon"}), "RESULT_MALFORMED"),
        (signed_result({"verdict": None}), "RESULT_MALFORMED"),
        (signed_result({"env": "production"}), "ENV_MISMATCH"),
        (signed_result({"aud": "applications/x"}), "RESULT_OF_ANOTHER_APPLICATION"),
        (signed_result({"sub": "authentications/x"}), "RESULT_OF_ANOTHER_AUTHENTICATION"),
        (signed_result().rpartition(".")[0] + ".AAAA", "SIGNATURE_INVALID"),
        (signed_result() + "=", "RESULT_MALFORMED"),
        (signed_result().replace(".", "", 1), "RESULT_MALFORMED"),
        ("", "RESULT_MALFORMED"),
        ("a.b.c", "RESULT_MALFORMED"),
        ("\u00e9.b.c", "RESULT_MALFORMED"),
        ("a." * 10_000, "RESULT_MALFORMED"),
    ],
)
def test_a_signed_result_is_refused(jws: str, reason: str) -> None:
    with pytest.raises(ProofRefusedError) as caught:
        result_of(jws, authentication=AUTHENTICATION)
    assert caught.value.reason == reason


def test_a_changed_claim_breaks_the_signature() -> None:
    head, claims, signature = signed_result().split(".")
    changed = json.loads(base64url.decode(claims)) | {"verdict": "FAILURE"}
    jws = ".".join((head, base64url.encode(strict_json.canonical(changed)), signature))
    with pytest.raises(ProofRefusedError, match="SIGNATURE_INVALID"):
        result_of(jws)


# The consent receipt --------------------------------------------------------------------------------------------------

CONSENTS: dict[str, str | int] = {
    "iss": "auth_gateway", "env": "sandbox", "aud": APPLICATION, "sub": AUTHENTICATION, "jti": "b.1", "iat": NOW + 90,
    "txn": "ab" * 32, "iin_commitment": "x", "purpose": "IDENTIFY", "channel": "HOSTED", "language": "kk",
    "scopes": "name birth_date", "application_title": "Demo Bank", "shown_at": NOW - 60, "given_at": NOW,
    "state": "WITHDRAWN", "consents": "biometric-data personal-data",
    "biometric-data.version": "1", "biometric-data.text_sha256": "cd" * 32, "biometric-data.controller": "operator",
    "biometric-data.controller_title": "Оператор FinID",
    "personal-data.version": "2", "personal-data.text_sha256": "ef" * 32, "personal-data.controller": APPLICATION,
    "personal-data.controller_title": "Demo Bank", "personal-data.withdrawn_at": NOW + 90,
    "personal-data.withdrawn_by": "PERSON",
}  # fmt: skip


def consent_receipt(
    claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, key: Ed25519PrivateKey = STATEMENT_KEY
) -> str:
    without_result = dict.fromkeys(CLAIMS.keys() - CONSENTS.keys())
    return signed_result(CONSENTS | without_result | (claims or {}), {"typ": "finid-consent+jwt"} | (header or {}), key)


def consents_of(jws: str, **options: Any) -> Any:
    return verify_consents(jws, key_set(), **({"env": Env.SANDBOX, "application": APPLICATION} | options))


def test_a_consent_receipt_says_what_was_agreed_to_and_what_of_it_stands() -> None:
    receipt = consents_of(consent_receipt(), authentication=AUTHENTICATION)
    assert (receipt.authentication, receipt.purpose, receipt.language) == (AUTHENTICATION, "IDENTIFY", "kk")
    assert (receipt.txn, receipt.scopes) == (b"\xab" * 32, ("name", "birth_date"))
    assert (receipt.given_at, receipt.issued_at) == (AT, AT + timedelta(seconds=90))
    biometric, personal = receipt.consents
    assert (biometric.document, biometric.version, biometric.controller) == ("biometric-data", "1", "operator")
    assert (biometric.text_sha256, biometric.is_live) == (b"\xcd" * 32, True)
    assert (personal.is_live, personal.withdrawn_at, personal.withdrawn_by) == (False, receipt.issued_at, "PERSON")


@pytest.mark.parametrize(
    ("jws", "reason"),
    [
        (consent_receipt(key=Ed25519PrivateKey.generate()), "SIGNATURE_INVALID"),
        (consent_receipt(header={"kid": key_id(raw(WEBHOOK_KEY))}, key=WEBHOOK_KEY), "KEY_UNKNOWN"),
        (consent_receipt(header={"alg": "none"}), "CONSENT_RECEIPT_MALFORMED"),
        (signed_result(), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"iss": "somebody"}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"consents": ""}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"consents": "personal-data state-data"}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"personal-data.text_sha256": "xy"}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"personal-data.withdrawn_at": "soon"}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"personal-data.withdrawn_by": None}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"env": "production"}), "ENV_MISMATCH"),
        (consent_receipt({"env": "elsewhere"}), "CONSENT_RECEIPT_MALFORMED"),
        (consent_receipt({"aud": "applications/x"}), "CONSENT_RECEIPT_OF_ANOTHER_APPLICATION"),
        (consent_receipt({"sub": "authentications/x"}), "CONSENT_RECEIPT_OF_ANOTHER_AUTHENTICATION"),
        ("", "CONSENT_RECEIPT_MALFORMED"),
    ],
)
def test_a_consent_receipt_is_refused(jws: str, reason: str) -> None:
    with pytest.raises(ProofRefusedError) as caught:
        consents_of(jws, authentication=AUTHENTICATION)
    assert caught.value.reason == reason


# Webhooks -------------------------------------------------------------------------------------------------------------

EVENT = {
    "type": "authentication.state_changed",
    "timestamp": "2025-11-24T16:00:00Z",
    "data": {"authentication": AUTHENTICATION, "state": "FINISHED", "operation": ""},
}
BODY = json.dumps(EVENT).encode()


def delivered(
    body: bytes = BODY, *, key: Ed25519PrivateKey = WEBHOOK_KEY, timestamp: str = str(NOW), **headers: str
) -> dict[str, str]:
    signature = base64.b64encode(key.sign(f"msg_1.{timestamp}.".encode() + body)).decode()
    return {
        "Webhook-Id": "msg_1",
        "webhook-timestamp": timestamp,
        "WEBHOOK-SIGNATURE": f"v1a,{signature}",
    } | headers


def test_a_webhook_says_what_changed() -> None:
    event = verify_webhook(delivered(), BODY, key_set(), now=AT)
    assert (event.id, event.type) == ("msg_1", "authentication.state_changed")
    assert (event.authentication, event.state, event.operation) == (AUTHENTICATION, "FINISHED", "")
    assert event.happened_at == datetime(2025, 11, 24, 16, tzinfo=UTC)


def without_zone() -> bytes:
    return json.dumps(EVENT | {"timestamp": "2025-11-24T16:00:00"}).encode()


def one_too_many() -> str:
    return " ".join(["v1a,AA"] * 8 + [delivered()["WEBHOOK-SIGNATURE"]])


def test_one_good_signature_of_several_is_enough() -> None:
    good, bad = delivered()["WEBHOOK-SIGNATURE"], delivered(key=STATEMENT_KEY)["WEBHOOK-SIGNATURE"]
    headers = delivered() | {"WEBHOOK-SIGNATURE": f"v1,AAAA {bad} v1a,~ {good}"}
    assert verify_webhook(headers, BODY, key_set(), now=AT).id == "msg_1"


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_a_webhook_is_believed_within_the_window(age_s: int) -> None:
    assert verify_webhook(delivered(), BODY, key_set(), now=AT + timedelta(seconds=age_s))


@pytest.mark.parametrize("age_s", [-301, 301, 86_400])
def test_a_replayed_webhook_is_refused(age_s: int) -> None:
    with pytest.raises(ProofRefusedError, match="WEBHOOK_TOO_OLD"):
        verify_webhook(delivered(), BODY, key_set(), now=AT + timedelta(seconds=age_s))


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, BODY, "WEBHOOK_UNSIGNED"),
        ({name: value for name, value in delivered().items() if name != "WEBHOOK-SIGNATURE"}, BODY, "WEBHOOK_UNSIGNED"),
        (delivered(), BODY + b" ", "SIGNATURE_INVALID"),
        (delivered() | {"Webhook-Id": "msg_2"}, BODY, "SIGNATURE_INVALID"),
        (delivered() | {"webhook-timestamp": str(NOW + 1)}, BODY, "SIGNATURE_INVALID"),
        (delivered(key=Ed25519PrivateKey.generate()), BODY, "SIGNATURE_INVALID"),
        (delivered(key=STATEMENT_KEY), BODY, "SIGNATURE_INVALID"),
        (delivered() | {"WEBHOOK-SIGNATURE": "v1," + delivered()["WEBHOOK-SIGNATURE"][4:]}, BODY, "SIGNATURE_INVALID"),
        (delivered() | {"WEBHOOK-SIGNATURE": ""}, BODY, "SIGNATURE_INVALID"),
        (delivered() | {"WEBHOOK-SIGNATURE": one_too_many()}, BODY, "SIGNATURE_INVALID"),
        (delivered(timestamp="soon"), BODY, "WEBHOOK_MALFORMED"),
        (delivered(timestamp=f"-{NOW}"), BODY, "WEBHOOK_MALFORMED"),
        (delivered(timestamp="٣"), BODY, "WEBHOOK_MALFORMED"),
        (delivered(b"[]"), b"[]", "WEBHOOK_MALFORMED"),
        (delivered(b"{"), b"{", "WEBHOOK_MALFORMED"),
        (delivered(b'{"data": {}}'), b'{"data": {}}', "WEBHOOK_MALFORMED"),
        (delivered(without_zone()), without_zone(), "WEBHOOK_MALFORMED"),
        (delivered(b" " * 70_000), b" " * 70_000, "WEBHOOK_MALFORMED"),
    ],
)  # fmt: skip
def test_a_webhook_is_refused(headers: dict[str, str], body: bytes, reason: str) -> None:
    with pytest.raises(ProofRefusedError) as caught:
        verify_webhook(headers, body, key_set(), now=AT)
    assert caught.value.reason == reason
