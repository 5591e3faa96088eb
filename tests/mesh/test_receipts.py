"""A receipt says one thing, in one way, under one key."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh import base64url, receipts
from mesh.facts import FACTS_OF, FaceMatch, Factor, KeyAttestation, Release, SmsOtp
from mesh.pins import key_id
from mesh.receipts import MAX_RECEIPT_CHARS, ReceiptSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Purpose
from tests.bundles import ISSUER_OF, NOW, POLICY, World, digest_of, facts_of, sign_jws, transaction_of

WORLD = World()
PINS = WORLD.pins()
TRANSACTION = transaction_of(Purpose.ISSUE)
TXN = digest_of("txn")
# The order of the group of Ed25519 (RFC 8032, 5.1): S and S + L are the same to a verifier that does not look.
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def token_of(factor: Factor, **changed: Any) -> str:
    if factor is Factor.RELEASE:
        return WORLD.release(TXN, **changed)
    return WORLD.receipt(facts_of(factor, TRANSACTION, **changed), txn=TXN)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(base64url.decode(header)), json.loads(base64url.decode(claims))


def resigned(factor: Factor, header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None) -> str:
    """A receipt whose header or claims are changed, signed by the right key; None leaves the member out."""
    old_header, old_claims = parts_of(token_of(factor))
    key = WORLD.keys[ISSUER_OF[factor]]
    return sign_jws(old_header | (header or {}), old_claims | (claims or {}), key)


def refusal_of(token: str, factor: Factor, now: int | None = NOW) -> Refusal:
    with pytest.raises(PreconditionError) as caught:
        receipts.verify(token, FACTS_OF[factor], PINS, txn=TXN, now=now)
    return caught.value.refusal


@pytest.mark.parametrize("factor", Factor)
def test_a_receipt_reads_back_as_it_was_signed(factor: Factor) -> None:
    stated = receipts.parse(token_of(factor)).facts
    signer = WORLD.signer_of(factor)
    read = receipts.verify(
        signer.sign(stated, txn=TXN, policy=POLICY, now=NOW), FACTS_OF[factor], PINS, txn=TXN, now=NOW
    )
    assert (read.facts, read.txn, read.policy, read.env) == (stated, TXN, POLICY, Env.SANDBOX)
    assert (read.issued_at, read.expires_at) == (NOW, NOW + 600)


@pytest.mark.parametrize("factor", Factor)
def test_header_and_claims_are_those_of_the_contract(factor: Factor) -> None:
    header, claims = parts_of(token_of(factor))
    assert header["alg"] == "EdDSA"
    assert header["typ"] == f"finid-{factor.value.lower().replace('_', '-')}+jwt"
    assert set(header) == {"alg", "kid", "typ"}
    common = {"iss", "aud", "env", "factor", "txn", "jti", "iat", "exp", "result", "policy"}
    facts = {
        Factor.PREPARATION: "preparation documents_sha256",
        Factor.STATE_RECORD: "iin_commitment phone_commitment phone_trusted phone_trusted_since photo_sha256",
        Factor.LIVENESS: "session attempt script keyframes_sha256 quality_pose quality_eyes "
        "quality_sharpness quality_light quality_contrast quality_size score_passive_ppm score_prompts_ppm signals "
        "signals_ppm thresholds_ppm flash flash_ppm flash_shifted_ppm flash_least_ppm models_sha256 channel",
        Factor.FACE_MATCH: "probes_sha256 reference_sha256 similarities_ppm threshold_ppm models_sha256 "
        "quality_sharpness quality_illumination_uniformity quality_luminance_mean "
        "quality_under_exposure_prevention quality_over_exposure_prevention quality_dynamic_range "
        "quality_natural_colour quality_compression_artifacts quality_inter_eye_distance "
        "quality_head_pose_yaw quality_head_pose_roll quality_head_size quality_face_margins "
        "quality_background_uniformity "
        "quality_single_face_present",
        Factor.SMS_OTP: "phone_commitment text_sha256 sent_at verified_at",
        Factor.KEY_ATTESTATION: "credential subject_hmac phone_hmac public_key_sha256 wrapped_sha256",
        Factor.KEY_DESTRUCTION: "credential public_key_sha256 wrapped_sha256 ending destroyed_at",
        Factor.RELEASE: "iin family_name given_name patronymic family_name_latin given_name_latin birth_date email",
    }
    assert set(claims) == common | set(facts[factor].split())
    assert all(type(value) in {str, int} for value in claims.values())
    apart = {Factor.RELEASE: "finid-release", Factor.KEY_DESTRUCTION: "finid-destruction"}
    assert claims["aud"] == apart.get(factor, "finid-precondition")


def test_lists_are_joined_by_one_space() -> None:
    _, claims = parts_of(token_of(Factor.FACE_MATCH, similarities_ppm=(700_000, -1, 0)))
    assert claims["similarities_ppm"] == "700000 -1 0"
    assert len(claims["probes_sha256"].split(" ")) == 3


MALFORMED: dict[str, tuple[Factor, dict[str, Any], dict[str, Any]]] = {
    "alg none": (Factor.SMS_OTP, {"alg": "none"}, {}),
    "alg HS256": (Factor.SMS_OTP, {"alg": "HS256"}, {}),
    "alg in another case": (Factor.SMS_OTP, {"alg": "eddsa"}, {}),
    "typ of another factor": (Factor.SMS_OTP, {"typ": "finid-liveness+jwt"}, {}),
    "typ of no factor": (Factor.SMS_OTP, {"typ": "JWT"}, {}),
    "typ in another case": (Factor.SMS_OTP, {"typ": "finid-sms-otp+JWT"}, {}),
    "no typ": (Factor.SMS_OTP, {"typ": None}, {}),
    "no kid": (Factor.SMS_OTP, {"kid": None}, {}),
    "kid that is a number": (Factor.SMS_OTP, {"kid": 1}, {}),
    "jwk in the header": (Factor.SMS_OTP, {"jwk": {"kty": "OKP"}}, {}),
    "jku in the header": (Factor.SMS_OTP, {"jku": "https://evil.example/keys"}, {}),
    "crit in the header": (Factor.SMS_OTP, {"crit": ["exp"]}, {}),
    "another issuer": (Factor.SMS_OTP, {}, {"iss": "liveness"}),
    "another audience": (Factor.SMS_OTP, {}, {"aud": "finid-release"}),
    "list of audiences": (Factor.SMS_OTP, {}, {"aud": ["finid-precondition"]}),
    "factor unlike typ": (Factor.SMS_OTP, {}, {"factor": "LIVENESS"}),
    "unknown env": (Factor.SMS_OTP, {}, {"env": "staging"}),
    "result FAIL": (Factor.SMS_OTP, {}, {"result": "FAIL"}),
    "unknown claim": (Factor.SMS_OTP, {}, {"note": "x"}),
    "claim of another factor": (Factor.SMS_OTP, {}, {"attempt": 1}),
    "missing fact": (Factor.SMS_OTP, {}, {"text_sha256": None}),
    "missing exp": (Factor.SMS_OTP, {}, {"exp": None}),
    "exp as text": (Factor.SMS_OTP, {}, {"exp": str(NOW + 10)}),
    "lives too long": (Factor.SMS_OTP, {}, {"exp": NOW + 10_000}),
    "ends before it begins": (Factor.SMS_OTP, {}, {"exp": NOW - 10_000}),
    "txn too short": (Factor.SMS_OTP, {}, {"txn": base64url.encode(b"x")}),
    "txn padded": (Factor.SMS_OTP, {}, {"txn": base64url.encode(TXN) + "="}),
    "txn as hex": (Factor.SMS_OTP, {}, {"txn": TXN.hex()}),
    "jti of another shape": (Factor.SMS_OTP, {}, {"jti": "1"}),
    "negative time": (Factor.SMS_OTP, {}, {"sent_at": -1}),
    "true for a number": (Factor.STATE_RECORD, {}, {"phone_trusted": True}),
    "two for a yes": (Factor.STATE_RECORD, {}, {"phone_trusted": 2}),
    "digest too short": (Factor.STATE_RECORD, {}, {"photo_sha256": base64url.encode(b"x")}),
    "score of more than everything": (Factor.LIVENESS, {}, {"score_passive_ppm": 1_000_001}),
    "float score": (Factor.LIVENESS, {}, {"score_passive_ppm": 0.9}),
    "unknown channel": (Factor.LIVENESS, {}, {"channel": "PIGEON"}),
    "two spaces in a list": (Factor.LIVENESS, {}, {"models_sha256": base64url.encode(TXN) + "  "}),
    "list as a list": (Factor.LIVENESS, {}, {"models_sha256": [base64url.encode(TXN)]}),
    "number of many digits": (Factor.FACE_MATCH, {}, {"similarities_ppm": "9" * 5000}),
    "number with a plus": (Factor.FACE_MATCH, {}, {"similarities_ppm": "+700000 700000 700000"}),
    "number with a leading zero": (Factor.FACE_MATCH, {}, {"similarities_ppm": "0700000"}),
    "number of other digits": (Factor.FACE_MATCH, {}, {"similarities_ppm": "٧٠٠"}),
    "not a number": (Factor.FACE_MATCH, {}, {"similarities_ppm": "NaN"}),
    "more items than allowed": (Factor.FACE_MATCH, {}, {"similarities_ppm": " ".join(["1"] * 65)}),
}


@pytest.mark.parametrize(("factor", "header", "claims"), MALFORMED.values(), ids=MALFORMED)
def test_a_receipt_of_another_shape_is_refused_though_the_right_key_signed_it(
    factor: Factor, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    assert refusal_of(resigned(factor, header, claims), factor) is Refusal.RECEIPT_MALFORMED


def signed_text(header: str, claims: str) -> str:
    """A receipt of JSON texts as they stand, signed by otp's key."""
    signed = f"{base64url.encode(header.encode())}.{base64url.encode(claims.encode())}"
    return f"{signed}.{base64url.encode(WORLD.keys['otp'].sign(signed.encode()))}"


def texts_of_otp() -> tuple[str, str]:
    header, claims, _ = token_of(Factor.SMS_OTP).split(".")
    return base64url.decode(header).decode(), base64url.decode(claims).decode()


def test_a_claim_given_twice_is_refused() -> None:
    header, claims = texts_of_otp()
    assert receipts.parse(signed_text(header, claims))
    for doubled in (claims[:-1] + ',"result":"PASS"}', '{"result":"FAIL",' + claims[1:]):
        assert refusal_of(signed_text(header, doubled), Factor.SMS_OTP) is Refusal.RECEIPT_MALFORMED
    assert refusal_of(signed_text(header[:-1] + ',"alg":"EdDSA"}', claims), Factor.SMS_OTP) is Refusal.RECEIPT_MALFORMED


def test_the_order_of_claims_means_nothing() -> None:
    header, claims = (json.dumps(dict(reversed(json.loads(text).items()))) for text in texts_of_otp())
    assert receipts.verify(signed_text(header, claims), SmsOtp, PINS, txn=TXN, now=NOW).txn == TXN


TOKEN = token_of(Factor.SMS_OTP)
HEADER, CLAIMS, SIGNATURE = TOKEN.split(".")
NOT_TOKENS = {
    "nothing": "",
    "two parts": f"{HEADER}.{CLAIMS}",
    "four parts": f"{TOKEN}.{SIGNATURE}",
    "no signature": f"{HEADER}.{CLAIMS}.",
    "signature too short": f"{HEADER}.{CLAIMS}.{base64url.encode(b'x' * 63)}",
    "padding": f"{TOKEN}==",
    "white space": f"{HEADER}.{CLAIMS}.{SIGNATURE}\n",
    "ordinary base64": f"{HEADER}.{CLAIMS}.{'+' * 86}",
    "not ASCII": f"{HEADER}.{CLAIMS}.{'é' * 86}",
    "claims that are no object": f"{HEADER}.{base64url.encode(b'[]')}.{SIGNATURE}",
    "claims that are no JSON": f"{HEADER}.{base64url.encode(b'{')}.{SIGNATURE}",
    "claims in UTF-16": f"{HEADER}.{base64url.encode('{}'.encode('utf-16'))}.{SIGNATURE}",
    "brackets without end": f"{HEADER}.{base64url.encode(b'[' * 5000)}.{SIGNATURE}",
    "too long": f"{HEADER}.{'A' * MAX_RECEIPT_CHARS}.{SIGNATURE}",
}


@pytest.mark.parametrize("token", NOT_TOKENS.values(), ids=NOT_TOKENS)
def test_what_is_no_compact_jws_is_refused(token: str) -> None:
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.RECEIPT_MALFORMED


def test_another_spelling_of_the_last_character_is_refused() -> None:
    # 64 bytes end in two unused bits: four characters spell the same byte, of which one is canonical.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(SIGNATURE[-1]) + 1]
    assert refusal_of(TOKEN[:-1] + other, Factor.SMS_OTP) is Refusal.RECEIPT_MALFORMED


def test_a_signature_by_another_key_is_refused() -> None:
    token = WORLD.receipt(facts_of(Factor.SMS_OTP, TRANSACTION), txn=TXN, key=Ed25519PrivateKey.generate())
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.SIGNATURE_INVALID


def test_a_signature_made_longer_by_the_order_of_the_group_is_refused() -> None:
    raw = base64url.decode(SIGNATURE)
    longer = int.from_bytes(raw[32:], "little") + GROUP_ORDER
    malleable = raw[:32] + longer.to_bytes(32, "little")
    assert refusal_of(f"{HEADER}.{CLAIMS}.{base64url.encode(malleable)}", Factor.SMS_OTP) is Refusal.SIGNATURE_INVALID


def test_a_key_that_is_not_pinned_is_refused() -> None:
    stranger = World()
    token = stranger.receipt(facts_of(Factor.SMS_OTP, TRANSACTION), txn=TXN)
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.KEY_NOT_PINNED


def test_a_key_pinned_for_another_factor_is_refused() -> None:
    liveness = WORLD.signer_of(Factor.LIVENESS)
    token = ReceiptSigner(liveness.key, Env.SANDBOX).sign(
        facts_of(Factor.SMS_OTP, TRANSACTION), txn=TXN, policy=POLICY, now=NOW
    )
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.KEY_NOT_PINNED


def test_a_receipt_of_another_environment_is_refused() -> None:
    token = resigned(Factor.SMS_OTP, claims={"env": "production"})
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.ENV_MISMATCH


def test_a_receipt_of_another_factor_is_not_taken_for_the_expected_one() -> None:
    with pytest.raises(PreconditionError) as caught:
        receipts.verify(token_of(Factor.LIVENESS), SmsOtp, PINS, txn=TXN, now=NOW)
    assert caught.value.refusal is Refusal.FACTOR_UNEXPECTED


def test_a_receipt_of_another_transaction_is_refused() -> None:
    token = WORLD.receipt(facts_of(Factor.SMS_OTP, TRANSACTION), txn=digest_of("another"))
    assert refusal_of(token, Factor.SMS_OTP) is Refusal.RECEIPT_OF_ANOTHER_TRANSACTION


def test_a_receipt_is_current_from_a_skew_before_it_was_issued_until_it_expires() -> None:
    token = token_of(Factor.SMS_OTP)
    issued_at = NOW - 10
    assert refusal_of(token, Factor.SMS_OTP, now=issued_at - 6) is Refusal.RECEIPT_NOT_YET_VALID
    receipts.verify(token, SmsOtp, PINS, txn=TXN, now=issued_at - 5)
    receipts.verify(token, SmsOtp, PINS, txn=TXN, now=issued_at + 599)
    assert refusal_of(token, Factor.SMS_OTP, now=issued_at + 600) is Refusal.RECEIPT_EXPIRED


def test_a_receipt_kept_as_a_record_is_verified_after_it_expired() -> None:
    read = receipts.verify(token_of(Factor.KEY_ATTESTATION), KeyAttestation, PINS, txn=None, now=None)
    assert read.facts.credential == TRANSACTION.credential


def test_a_key_counts_for_what_was_issued_while_it_was_valid() -> None:
    token = token_of(Factor.KEY_ATTESTATION)
    issued_at = NOW - 5
    for pin_bounds, accepted in (
        ((issued_at, issued_at), True),
        ((issued_at + 1, NOW + 10), False),
        ((0, issued_at - 1), False),
    ):
        pins = replace(
            PINS, pins=tuple(replace(p, not_before=pin_bounds[0], not_after=pin_bounds[1]) for p in PINS.pins)
        )
        if accepted:
            receipts.verify(token, KeyAttestation, pins, txn=TXN, now=None)
            continue
        with pytest.raises(PreconditionError) as caught:
            receipts.verify(token, KeyAttestation, pins, txn=TXN, now=None)
        assert caught.value.refusal is Refusal.KEY_NOT_VALID_THEN


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256R1()), id="P-256"),
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA"),
        pytest.param(ed448.Ed448PrivateKey.generate(), id="Ed448"),
    ],
)
def test_a_receipt_key_is_ed25519_or_refused(key: Any) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="Ed25519"):
        ReceiptSigner.from_pem(pem, Env.SANDBOX)


def test_a_receipt_key_reads_from_its_file() -> None:
    signer = ReceiptSigner.from_pem(WORLD.key_pem("otp"), Env.SANDBOX)
    token = signer.sign(facts_of(Factor.SMS_OTP, TRANSACTION), txn=TXN, policy=POLICY, now=NOW)
    assert receipts.verify(token, SmsOtp, PINS, txn=TXN, now=NOW)


def test_a_spoke_cannot_sign_what_no_verifier_reads() -> None:
    signer = WORLD.signer_of(Factor.FACE_MATCH)
    wrong = facts_of(Factor.FACE_MATCH, TRANSACTION)
    assert isinstance(wrong, FaceMatch)
    with pytest.raises(PreconditionError):
        signer.sign(replace(wrong, threshold_ppm=2_000_000), txn=TXN, policy=POLICY, now=NOW)


def test_no_personal_data_of_a_release_is_shown_in_a_repr() -> None:
    read = receipts.verify(WORLD.release(TXN), Release, PINS, txn=TXN, now=NOW)
    for value in ("SERIKOVA", read.facts.iin, read.token):
        assert value not in repr(read)


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    # RFC 8037 appendix A.3.
    public_key = base64url.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key_id(public_key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_base64url_has_one_spelling() -> None:
    for wrong in ("AA==", "AB", "A", "AA ", "+A", "A\u00e9"):
        with pytest.raises(ValueError, match="base64url"):
            base64url.decode(wrong)
