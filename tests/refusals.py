"""The table of refusals: one row per way to have a bundle accepted that should not be.

`tests/mesh/test_precondition.py` holds `authorize` to it, the consumers hold themselves to it: none of the rows may
bring any of them to act. A row that names a step is refused by that step alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh import precondition
from mesh.facts import Factor
from mesh.pins import Pins
from mesh.precondition import Refusal, Step
from mesh.transaction import Channel, Env, Purpose
from tests.bundles import (
    KEYFRAMES,
    LIVENESS_MODEL,
    MATCH_MODEL,
    NOW,
    SentBundle,
    World,
    digest_of,
    document,
    factors_of,
    facts_of,
    sandbox_openings,
    transaction_of,
)

WORLD = World()
OTHER_SALT = digest_of("another salt")


@dataclass(frozen=True)
class Row:
    attack: str
    bundle: Callable[[], SentBundle]
    refusal: Refusal
    step: Step | None = None
    expected_purpose: Purpose = Purpose.SIGN


def sign(**knobs: Any) -> SentBundle:
    return WORLD.bundle(Purpose.SIGN, **knobs)


def with_facts(factor: Factor, **changed: Any) -> Callable[[], SentBundle]:
    return lambda: sign(facts={factor: changed})


def with_claims(factor: Factor, **changed: Any) -> Callable[[], SentBundle]:
    return lambda: sign(claims={factor: changed})


def with_transaction(**changed: Any) -> Callable[[], SentBundle]:
    return lambda: sign(transaction=changed)


def receipt_of_another_transaction(factor: Factor) -> SentBundle:
    mine, other = sign(), sign()
    return mine.without(factor).also(other.receipts[factor])


def after_authorization(change: Callable[[bytes], bytes]) -> SentBundle:
    """The transaction is changed once all its receipts are there."""
    bundle = sign()
    return replace(bundle, transaction_bytes=change(bundle.transaction_bytes))


def swapped_digest() -> SentBundle:
    bundle = sign()
    forged = replace(bundle.transaction, documents=(document("forged"), *bundle.transaction.documents[1:]))
    return replace(bundle, transaction_bytes=forged.encode())


def reversed_documents() -> SentBundle:
    bundle = sign()
    return replace(
        bundle,
        transaction_bytes=replace(bundle.transaction, documents=tuple(reversed(bundle.transaction.documents))).encode(),
    )


def another_credential() -> SentBundle:
    bundle = sign()
    other = replace(bundle.transaction, credential=transaction_of(Purpose.SIGN).credential)
    return replace(bundle, transaction_bytes=other.encode())


def openings_of(**changed: Any) -> Callable[[], SentBundle]:
    return lambda: replace(sign(), openings=replace(sandbox_openings(), **changed))


def victims_photo_in_one_keyframe() -> SentBundle:
    """The attacker is live; facematch is asked about the victim's photo in place of one of the attacker's keyframes."""
    probes = (KEYFRAMES[0], digest_of("victim's photo"), KEYFRAMES[2])
    return sign(facts={Factor.FACE_MATCH: {"probes_sha256": probes}})


def one_otp_for_liveness() -> SentBundle:
    bundle = sign()
    second = WORLD.receipt(facts_of(Factor.SMS_OTP, bundle.transaction), txn=bundle.txn)
    return bundle.without(Factor.LIVENESS).also(second)


def otp_twice() -> SentBundle:
    bundle = sign()
    return bundle.also(WORLD.receipt(facts_of(Factor.SMS_OTP, bundle.transaction), txn=bundle.txn))


def fewer_keyframes() -> SentBundle:
    return sign(
        facts={
            Factor.LIVENESS: {"keyframes_sha256": KEYFRAMES[:2]},
            Factor.FACE_MATCH: {"probes_sha256": KEYFRAMES[:2], "similarities_ppm": (700_000, 700_000)},
        }
    )


def one_keyframe_thrice() -> SentBundle:
    keyframes = (KEYFRAMES[0],) * 3
    return sign(
        facts={Factor.LIVENESS: {"keyframes_sha256": keyframes}, Factor.FACE_MATCH: {"probes_sha256": keyframes}}
    )


def with_code(bundle: SentBundle) -> SentBundle:
    return bundle.also(WORLD.receipt(facts_of(Factor.SMS_OTP, bundle.transaction), txn=bundle.txn))


def certificate_as_signature() -> SentBundle:
    """With the receipt that only a signature needs."""
    bundle = WORLD.bundle(Purpose.ISSUE)
    return bundle.also(WORLD.receipt(facts_of(Factor.PREPARATION, bundle.transaction), txn=bundle.txn))


def bundle_of_production_under_sandbox_keys() -> SentBundle:
    production = {"env": "production"}
    return sign(transaction={"env": Env.PRODUCTION}, claims=dict.fromkeys(factors_of(Purpose.SIGN), production))


def key_of_another_issuer() -> SentBundle:
    """A pin that names another service than the one whose receipts the factor has."""
    bundle = sign()
    pins = tuple(replace(pin, issuer="portal") if pin.factor is Factor.SMS_OTP else pin for pin in bundle.pins.pins)
    return replace(bundle, pins=Pins(Env.SANDBOX, pins))


def retired_key() -> SentBundle:
    bundle = sign()
    pins = tuple(replace(pin, not_after=NOW - 1_000) for pin in bundle.pins.pins)
    return replace(bundle, pins=Pins(Env.SANDBOX, pins))


def key_confusion() -> SentBundle:
    """A compromised liveness signs an SMS_OTP receipt with its own key, under its own kid."""
    bundle = sign()
    liveness = WORLD.signer_of(Factor.LIVENESS)
    forged = liveness.sign(
        facts_of(Factor.SMS_OTP, bundle.transaction), txn=bundle.txn, policy=bundle.transaction.policy, now=NOW - 10
    )
    return bundle.without(Factor.SMS_OTP).also(forged)


def unsigned() -> SentBundle:
    bundle = sign()
    token = bundle.receipts[Factor.SMS_OTP]
    return bundle.without(Factor.SMS_OTP).also(token.rpartition(".")[0] + ".")


def attested(**changed: Any) -> Callable[[], SentBundle]:
    return lambda: WORLD.bundle(Purpose.ISSUE, attested=True, facts={Factor.KEY_ATTESTATION: changed})


def stream_for_sign() -> SentBundle:
    return sign(transaction={"channel": Channel.STREAM})


def without_service_for(purpose: Purpose) -> SentBundle:
    bundle = WORLD.bundle(purpose)
    return replace(bundle, floors={key: floor for key, floor in bundle.floors.items() if key is not purpose})


STEP = precondition
ROWS = (
    # One factor in place of another, left out, or twice.
    *(
        Row(f"{factor.value} left out", lambda factor=factor: sign().without(factor), Refusal.FACTOR_MISSING)  # type: ignore[misc]
        for factor in factors_of(Purpose.SIGN)
    ),
    Row("no receipt at all", lambda: replace(sign(), tokens=()), Refusal.FACTOR_MISSING),
    Row("a second code in place of liveness", one_otp_for_liveness, Refusal.FACTOR_MISSING),
    Row("two codes", otp_twice, Refusal.FACTOR_REPEATED, STEP.one_receipt_for_each_factor),
    Row(
        "the same receipt twice",
        lambda: sign().also(sign().receipts[Factor.SMS_OTP]),
        Refusal.FACTOR_REPEATED,
    ),
    Row(
        "a receipt of no required factor",
        lambda: sign().also(WORLD.release(digest_of("x"))),
        Refusal.FACTOR_UNEXPECTED,
    ),
    # Receipts that are not what they say.
    Row(
        "signed by an invented key",
        lambda: sign(keys={Factor.SMS_OTP: Ed25519PrivateKey.generate()}),
        Refusal.SIGNATURE_INVALID,
        STEP.receipts_are_of_pinned_keys,
    ),
    Row("signed by another spoke's key", key_confusion, Refusal.KEY_NOT_PINNED, STEP.receipts_are_of_pinned_keys),
    Row("pinned for another service", key_of_another_issuer, Refusal.KEY_NOT_PINNED, STEP.receipts_are_of_pinned_keys),
    Row("signed after its key had retired", retired_key, Refusal.KEY_NOT_VALID_THEN, STEP.receipts_are_of_pinned_keys),
    Row("unsigned", unsigned, Refusal.RECEIPT_MALFORMED),
    Row("alg none", lambda: sign(headers={Factor.SMS_OTP: {"alg": "none"}}), Refusal.RECEIPT_MALFORMED),
    Row("alg HS256", lambda: sign(headers={Factor.SMS_OTP: {"alg": "HS256"}}), Refusal.RECEIPT_MALFORMED),
    Row("another typ", lambda: sign(headers={Factor.SMS_OTP: {"typ": "JWT"}}), Refusal.RECEIPT_MALFORMED),
    Row(
        "liveness' typ on a code",
        lambda: sign(headers={Factor.SMS_OTP: {"typ": "finid-liveness+jwt"}}),
        Refusal.RECEIPT_MALFORMED,
    ),
    Row(
        "its own key inside", lambda: sign(headers={Factor.SMS_OTP: {"jwk": {"kty": "OKP"}}}), Refusal.RECEIPT_MALFORMED
    ),
    Row(
        "a score that compares with nothing",
        with_claims(Factor.LIVENESS, score_passive_ppm="NaN"),
        Refusal.RECEIPT_MALFORMED,
    ),
    Row("a failed attempt", with_claims(Factor.LIVENESS, result="FAIL"), Refusal.RECEIPT_MALFORMED),
    # Another purpose, environment, transaction.
    Row(
        "confirmed for a certificate, used for a signature",
        certificate_as_signature,
        Refusal.PURPOSE_MISMATCH,
        STEP.purpose_is_expected,
    ),
    Row(
        "confirmed for a signature, used for a revocation",
        lambda: sign().without(Factor.PREPARATION),
        Refusal.PURPOSE_MISMATCH,
        STEP.purpose_is_expected,
        expected_purpose=Purpose.REVOKE,
    ),
    # The face alone suspends, and does nothing else.
    *(
        Row(
            f"confirmed by the face alone, used to {purpose.value}",
            lambda: WORLD.bundle(Purpose.SUSPEND),
            Refusal.FACTOR_MISSING,
            expected_purpose=purpose,
        )
        for purpose in Purpose
        if purpose is not Purpose.SUSPEND
    ),
    *(
        Row(
            f"a suspension without {factor.value}",
            lambda factor=factor: WORLD.bundle(Purpose.SUSPEND).without(factor),  # type: ignore[misc]
            Refusal.FACTOR_MISSING,
            expected_purpose=Purpose.SUSPEND,
        )
        for factor in factors_of(Purpose.SUSPEND)
    ),
    Row(
        "confirmed for a revocation, used for a suspension",
        lambda: WORLD.bundle(Purpose.REVOKE).without(Factor.SMS_OTP),
        Refusal.PURPOSE_MISMATCH,
        STEP.purpose_is_expected,
        expected_purpose=Purpose.SUSPEND,
    ),
    Row(
        "a suspension with a code, which nobody would check",
        lambda: with_code(WORLD.bundle(Purpose.SUSPEND)),
        Refusal.FACTOR_UNEXPECTED,
        expected_purpose=Purpose.SUSPEND,
    ),
    Row(
        "a suspension by another face",
        lambda: WORLD.bundle(Purpose.SUSPEND, facts={Factor.FACE_MATCH: {"similarities_ppm": (424_999,) * 3}}),
        Refusal.SIMILARITY_TOO_LOW,
        STEP.similarities_suffice,
        expected_purpose=Purpose.SUSPEND,
    ),
    Row(
        "a suspension whose match is older than its liveness",
        lambda: WORLD.bundle(Purpose.SUSPEND, claims={Factor.FACE_MATCH: {"iat": NOW - 61, "exp": NOW + 60}}),
        Refusal.OUT_OF_ORDER,
        STEP.factors_are_in_order,
        expected_purpose=Purpose.SUSPEND,
    ),
    Row(
        "a resumption with a phone that is not the person's",
        lambda: WORLD.bundle(Purpose.RESUME, facts={Factor.STATE_RECORD: {"phone_trusted": False}}),
        Refusal.PHONE_NOT_TRUSTED,
        STEP.phone_is_trusted,
        expected_purpose=Purpose.RESUME,
    ),
    Row(
        "a purpose that the consumer does not serve",
        lambda: without_service_for(Purpose.SIGN),
        Refusal.PURPOSE_NOT_SERVED,
    ),
    Row(
        "a transaction of production",
        with_transaction(env=Env.PRODUCTION),
        Refusal.ENV_MISMATCH,
        STEP.environment_is_ours,
    ),
    Row(
        "a receipt of production",
        with_claims(Factor.SMS_OTP, env="production"),
        Refusal.ENV_MISMATCH,
        STEP.environment_is_ours,
    ),
    Row(
        "all of production, under keys of the sandbox",
        bundle_of_production_under_sandbox_keys,
        Refusal.ENV_MISMATCH,
        STEP.environment_is_ours,
    ),
    *(
        Row(
            f"{factor.value} of another transaction",
            lambda factor=factor: receipt_of_another_transaction(factor),  # type: ignore[misc]
            Refusal.RECEIPT_OF_ANOTHER_TRANSACTION,
            STEP.receipts_are_of_this_transaction,
        )
        for factor in factors_of(Purpose.SIGN)
    ),
    Row(
        "a digest swapped after authorization",
        swapped_digest,
        Refusal.RECEIPT_OF_ANOTHER_TRANSACTION,
    ),
    Row(
        "documents in another order",
        reversed_documents,
        Refusal.RECEIPT_OF_ANOTHER_TRANSACTION,
    ),
    Row(
        "a key swapped after authorization",
        another_credential,
        Refusal.RECEIPT_OF_ANOTHER_TRANSACTION,
        STEP.receipts_are_of_this_transaction,
    ),
    Row(
        "a title that reads otherwise",
        lambda: after_authorization(lambda spelled: spelled.replace("Демо".encode(), "Мода".encode())),
        Refusal.RECEIPT_OF_ANOTHER_TRANSACTION,
        STEP.receipts_are_of_this_transaction,
    ),
    Row("white space in the transaction", lambda: after_authorization(lambda s: s + b" "), Refusal.TRANSACTION_INVALID),
    # Another person, phone, photo.
    Row("another IIN beside", openings_of(iin="900101300018"), Refusal.IIN_NOT_OPENED, STEP.commitments_open),
    Row("another salt of the IIN", openings_of(iin_salt=OTHER_SALT), Refusal.IIN_NOT_OPENED, STEP.commitments_open),
    Row("another phone beside", openings_of(phone="+77019999999"), Refusal.PHONE_NOT_OPENED, STEP.commitments_open),
    Row(
        "another salt of the phone", openings_of(phone_salt=OTHER_SALT), Refusal.PHONE_NOT_OPENED, STEP.commitments_open
    ),
    Row(
        "the record of another person",
        with_facts(Factor.STATE_RECORD, iin_commitment=digest_of("x")),
        Refusal.RECORD_OF_ANOTHER_PERSON,
        STEP.record_is_of_this_person,
    ),
    Row(
        "a record that judged another phone",
        with_facts(Factor.STATE_RECORD, phone_commitment=digest_of("x")),
        Refusal.RECORD_OF_ANOTHER_PHONE,
        STEP.record_is_of_this_person,
    ),
    Row(
        "an invented phone",
        with_facts(Factor.STATE_RECORD, phone_trusted=False),
        Refusal.PHONE_NOT_TRUSTED,
        STEP.phone_is_trusted,
    ),
    Row(
        "a code sent elsewhere",
        with_facts(Factor.SMS_OTP, phone_commitment=digest_of("x")),
        Refusal.CODE_TO_ANOTHER_PHONE,
        STEP.code_went_to_this_phone,
    ),
    Row(
        "an invented photo",
        with_facts(Factor.FACE_MATCH, reference_sha256=digest_of("attacker's own photo")),
        Refusal.REFERENCE_NOT_OF_RECORD,
        STEP.reference_is_of_the_record,
    ),
    Row(
        "the victim's photo in one keyframe of a live attacker",
        victims_photo_in_one_keyframe,
        Refusal.PROBES_NOT_KEYFRAMES,
        STEP.faces_compared_are_the_live_ones,
    ),
    Row(
        "keyframes judged in another order",
        with_facts(Factor.FACE_MATCH, probes_sha256=KEYFRAMES[::-1]),
        Refusal.PROBES_NOT_KEYFRAMES,
        STEP.faces_compared_are_the_live_ones,
    ),
    Row(
        "one keyframe not judged",
        with_facts(Factor.FACE_MATCH, probes_sha256=KEYFRAMES[:2], similarities_ppm=(700_000, 700_000)),
        Refusal.PROBES_NOT_KEYFRAMES,
        STEP.faces_compared_are_the_live_ones,
    ),
    Row("too few keyframes", fewer_keyframes, Refusal.TOO_FEW_KEYFRAMES, STEP.keyframes_suffice),
    Row("one keyframe for three prompts", one_keyframe_thrice, Refusal.KEYFRAME_REPEATED, STEP.keyframes_suffice),
    # Lowered thresholds.
    Row(
        "passive score just below the floor",
        with_facts(Factor.LIVENESS, score_passive_ppm=499_999),
        Refusal.PASSIVE_SCORE_TOO_LOW,
        STEP.liveness_scores_suffice,
    ),
    Row(
        "prompts score just below the floor",
        with_facts(Factor.LIVENESS, score_prompts_ppm=899_999),
        Refusal.PROMPTS_SCORE_TOO_LOW,
        STEP.liveness_scores_suffice,
    ),
    Row(
        "facematch's threshold lowered",
        with_facts(Factor.FACE_MATCH, threshold_ppm=424_999),
        Refusal.THRESHOLD_TOO_LOW,
        STEP.similarities_suffice,
    ),
    Row(
        "one face below the floor",
        with_facts(Factor.FACE_MATCH, similarities_ppm=(700_000, 424_999, 700_000)),
        Refusal.SIMILARITY_TOO_LOW,
        STEP.similarities_suffice,
    ),
    Row(
        "one face below facematch's own threshold",
        with_facts(Factor.FACE_MATCH, similarities_ppm=(700_000, 499_999, 700_000), threshold_ppm=500_000),
        Refusal.SIMILARITY_TOO_LOW,
        STEP.similarities_suffice,
    ),
    Row(
        "one face without a similarity",
        with_facts(Factor.FACE_MATCH, similarities_ppm=(700_000, 700_000)),
        Refusal.SIMILARITY_TOO_LOW,
        STEP.similarities_suffice,
    ),
    Row(
        "no similarities",
        with_facts(Factor.FACE_MATCH, similarities_ppm=()),
        Refusal.SIMILARITY_TOO_LOW,
        STEP.similarities_suffice,
    ),
    Row(
        "an unknown liveness model",
        with_facts(Factor.LIVENESS, models_sha256=(LIVENESS_MODEL, MATCH_MODEL)),
        Refusal.MODEL_NOT_ACCEPTED,
        STEP.models_are_accepted,
    ),
    Row(
        "an unknown match model",
        with_facts(Factor.FACE_MATCH, models_sha256=(digest_of("x"),)),
        Refusal.MODEL_NOT_ACCEPTED,
        STEP.models_are_accepted,
    ),
    Row(
        "no model named",
        with_facts(Factor.FACE_MATCH, models_sha256=()),
        Refusal.MODEL_NOT_ACCEPTED,
        STEP.models_are_accepted,
    ),
    Row(
        "a weaker policy, by all spokes",
        lambda: sign(
            transaction={"policy": "lenient"},
            claims={factor: {"policy": "lenient"} for factor in factors_of(Purpose.SIGN)},
        ),
        Refusal.POLICY_TOO_LOW,
        STEP.policy_is_accepted,
    ),
    Row(
        "a weaker policy, by one spoke",
        with_claims(Factor.LIVENESS, policy="lenient"),
        Refusal.POLICY_MISMATCH,
        STEP.policy_is_accepted,
    ),
    Row("a channel for identification alone", stream_for_sign, Refusal.CHANNEL_TOO_LOW, STEP.channel_is_accepted),
    Row(
        "liveness over another channel",
        with_facts(Factor.LIVENESS, channel=Channel.STREAM),
        Refusal.CHANNEL_MISMATCH,
        STEP.channel_is_accepted,
    ),
    # Too early, too late, out of order.
    Row(
        "an expired transaction",
        with_transaction(expires_at=NOW),
        Refusal.TRANSACTION_EXPIRED,
        STEP.nothing_has_expired,
    ),
    Row(
        "a transaction of the future",
        lambda: replace(sign(), now=NOW - 126),
        Refusal.RECEIPT_NOT_YET_VALID,
        STEP.nothing_has_expired,
    ),
    Row(
        "an expired receipt",
        with_claims(Factor.STATE_RECORD, exp=NOW),
        Refusal.RECEIPT_EXPIRED,
        STEP.nothing_has_expired,
    ),
    Row(
        "a receipt of the future",
        with_claims(Factor.SMS_OTP, iat=NOW + 6, exp=NOW + 60),
        Refusal.RECEIPT_NOT_YET_VALID,
        STEP.nothing_has_expired,
    ),
    *(
        Row(attack, with_claims(factor, iat=iat, exp=NOW + 60), Refusal.OUT_OF_ORDER, STEP.factors_are_in_order)
        for attack, factor, iat in (
            ("documents prepared before the transaction", Factor.PREPARATION, NOW - 121),
            ("documents prepared after the code was sent", Factor.PREPARATION, NOW - 39),
            ("a record older than the transaction", Factor.STATE_RECORD, NOW - 121),
            ("liveness before the record", Factor.LIVENESS, NOW - 111),
            ("match before liveness", Factor.FACE_MATCH, NOW - 61),
            ("code before it was entered", Factor.SMS_OTP, NOW - 11),
        )
    ),
    Row(
        "code sent before the match",
        with_facts(Factor.SMS_OTP, sent_at=NOW - 56),
        Refusal.OUT_OF_ORDER,
        STEP.factors_are_in_order,
    ),
    Row(
        "code entered before it was sent",
        with_facts(Factor.SMS_OTP, sent_at=NOW - 20, verified_at=NOW - 21),
        Refusal.OUT_OF_ORDER,
        STEP.factors_are_in_order,
    ),
    Row(
        "key attested before the code",
        lambda: WORLD.bundle(
            Purpose.ISSUE, attested=True, claims={Factor.KEY_ATTESTATION: {"iat": NOW - 11, "exp": NOW + 60}}
        ),
        Refusal.OUT_OF_ORDER,
        STEP.factors_are_in_order,
        expected_purpose=Purpose.ISSUE,
    ),
    Row("a code entered long ago", lambda: replace(sign(), now=NOW + 111), Refusal.CODE_TOO_OLD, STEP.code_is_fresh),
    # What is signed, and by which key.
    Row(
        "a digest that documents did not prepare",
        with_facts(Factor.PREPARATION, documents_sha256=digest_of("x")),
        Refusal.DOCUMENTS_NOT_PREPARED,
        STEP.documents_are_prepared,
    ),
    Row(
        "a digest that is not of the content shown",
        with_transaction(documents=(replace(document("shown"), content_sha256=digest_of("another")),)),
        Refusal.DIGEST_NOT_REBUILT,
        STEP.digests_are_rebuilt,
    ),
    Row(
        "a digest under another certificate",
        with_transaction(documents=(document("shown", certificate_sha256=digest_of("another")),)),
        Refusal.DIGEST_NOT_REBUILT,
        STEP.digests_are_rebuilt,
    ),
    Row(
        "a digest of another signing time",
        with_transaction(documents=(document("shown", signing_time=NOW),)),
        Refusal.DIGEST_NOT_REBUILT,
        STEP.digests_are_rebuilt,
    ),
    Row(
        "the attestation of another credential",
        attested(credential=transaction_of(Purpose.ISSUE).credential),
        Refusal.ATTESTED_ANOTHER_CREDENTIAL,
        STEP.attested_key_is_of_this_credential,
        expected_purpose=Purpose.ISSUE,
    ),
)
