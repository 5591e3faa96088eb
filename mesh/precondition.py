"""The two-factor precondition: whether a bundle of transaction and receipts permits one act for one person.

Pure, without I/O. Signer, CA and registry each call `authorize` with their own pins and floors and act only on the
`Grant` it returns, so that no compromised gateway, spoke or database beside them can bring the act about. Single use is
theirs to keep, by UNIQUE(txn).

`STEPS` is the whole argument, in order. Each step refuses for reasons of its own and needs no other step, so that a
test can take one away and show what would then pass.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TypeVar

from mesh import receipts, signed_attributes
from mesh import transaction as transactions
from mesh.facts import FaceMatch, Factor, Facts, KeyAttestation, Liveness, Preparation, SmsOtp, StateRecord
from mesh.floors import Floor, Floors
from mesh.pins import Pins
from mesh.receipts import Receipt
from mesh.refusal import PreconditionError, Refusal, refuse_unless
from mesh.transaction import Binding, Openings, Purpose, Transaction, TransactionError

__all__ = ["STEPS", "Grant", "PreconditionError", "Refusal", "authorize"]

_SEAL = object()
F = TypeVar("F", bound=Facts)


@dataclass(frozen=True, slots=True)
class Grant:
    """The permission to act once for `txn`. Only `authorize` makes one.

    `digests_sha256` are the digests to sign, in order (empty unless SIGN); `receipts` are one per factor, in the order
    in which they were confirmed.
    """

    transaction: Transaction
    txn: bytes
    iin: str = field(repr=False)
    phone: str = field(repr=False)
    digests_sha256: tuple[bytes, ...]
    receipts: tuple[Receipt[Facts], ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Grant is made by precondition.authorize alone")

    def facts(self, kind: type[F]) -> F:
        """Return the facts of `kind`. Raises LookupError if its factor was not required."""
        return _facts(self.receipts, kind)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a step looks at: the parsed bundle, the consumer's pins and floor for the purpose, and the time."""

    expected_purpose: Purpose
    transaction: Transaction
    txn: bytes
    openings: Openings
    receipts: tuple[Receipt[Facts], ...]
    pins: Pins
    floor: Floor
    now: int

    def facts(self, kind: type[F]) -> F:
        """Return the facts of the first receipt of `kind`."""
        return _facts(self.receipts, kind)


def authorize(
    expected_purpose: Purpose,
    transaction_bytes: bytes,
    openings: Openings,
    receipt_tokens: Sequence[str],
    pins: Pins,
    floors: Floors,
    now: int,
) -> Grant:
    """Return the grant for one act of `expected_purpose`, or raise PreconditionError with the reason.

    `receipt_tokens` are compact JWS in any order; `pins` and `floors` are the consumer's own; `now` is Unix seconds.
    """
    bundle = _read(expected_purpose, transaction_bytes, openings, receipt_tokens, pins, floors, now)
    for step in STEPS:
        step(bundle)
    return Grant(
        transaction=bundle.transaction,
        txn=bundle.txn,
        iin=openings.iin,
        phone=openings.phone,
        digests_sha256=tuple(document.digest_sha256 for document in bundle.transaction.documents),
        receipts=tuple(sorted(bundle.receipts, key=lambda receipt: _ORDER.index(receipt.factor))),
        seal=_SEAL,
    )


def _read(
    expected_purpose: Purpose,
    transaction_bytes: bytes,
    openings: Openings,
    receipt_tokens: Sequence[str],
    pins: Pins,
    floors: Floors,
    now: int,
) -> Bundle:
    """Parse everything strictly. Nothing is believed yet."""
    floor = floors.get(expected_purpose)
    if floor is None:
        raise PreconditionError(Refusal.PURPOSE_NOT_SERVED)
    try:
        transaction = transactions.parse(transaction_bytes)
    except TransactionError as error:
        raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
    return Bundle(
        expected_purpose=expected_purpose,
        transaction=transaction,
        txn=transactions.txn_of(transaction_bytes),
        openings=openings,
        receipts=tuple(map(receipts.parse, receipt_tokens)),
        pins=pins,
        floor=floor,
        now=now,
    )


def one_receipt_for_each_factor(bundle: Bundle) -> None:
    """1. Exactly one receipt for each required factor, and no other: one factor cannot stand in for another."""
    found = Counter(receipt.factor for receipt in bundle.receipts)
    refuse_unless(set(found) >= set(bundle.floor.factors), Refusal.FACTOR_MISSING)
    refuse_unless(set(found) <= set(bundle.floor.factors), Refusal.FACTOR_UNEXPECTED)
    refuse_unless(found.total() == len(found), Refusal.FACTOR_REPEATED)


def receipts_are_of_pinned_keys(bundle: Bundle) -> None:
    """2. Each receipt is signed by a key pinned for its factor, issuer and environment, valid when it was issued."""
    for receipt in bundle.receipts:
        receipts.require_pinned(receipt, bundle.pins)


def purpose_is_expected(bundle: Bundle) -> None:
    """3. The person confirmed what this consumer is asked to do."""
    refuse_unless(bundle.transaction.purpose is bundle.expected_purpose, Refusal.PURPOSE_MISMATCH)


def environment_is_ours(bundle: Bundle) -> None:
    """4. Transaction and receipts belong to the environment of this consumer."""
    envs = {bundle.transaction.env, *(receipt.env for receipt in bundle.receipts)}
    refuse_unless(envs == {bundle.pins.env}, Refusal.ENV_MISMATCH)


def receipts_are_of_this_transaction(bundle: Bundle) -> None:
    """5. Each receipt names the digest of exactly these transaction bytes."""
    for receipt in bundle.receipts:
        refuse_unless(receipt.txn == bundle.txn, Refusal.RECEIPT_OF_ANOTHER_TRANSACTION)


def commitments_open(bundle: Bundle) -> None:
    """6. The IIN and phone that came beside are those the transaction commits to."""
    transaction, openings = bundle.transaction, bundle.openings
    refuse_unless(openings.iin_commitment() == transaction.iin_commitment, Refusal.IIN_NOT_OPENED)
    refuse_unless(openings.phone_commitment() == transaction.phone_commitment, Refusal.PHONE_NOT_OPENED)


def record_is_of_this_person(bundle: Bundle) -> None:
    """7. The state record is about this IIN, and its word on the phone is about this phone."""
    transaction, record = bundle.transaction, bundle.facts(StateRecord)
    refuse_unless(record.iin_commitment == transaction.iin_commitment, Refusal.RECORD_OF_ANOTHER_PERSON)
    refuse_unless(record.phone_commitment == transaction.phone_commitment, Refusal.RECORD_OF_ANOTHER_PHONE)


def phone_is_trusted(bundle: Bundle) -> None:
    """8. Where the floor asks for it, the phone is the person's trusted one."""
    trusted = bundle.facts(StateRecord).phone_trusted
    refuse_unless(trusted or not bundle.floor.phone_trusted, Refusal.PHONE_NOT_TRUSTED)


def code_went_to_this_phone(bundle: Bundle) -> None:
    """9. Where a code is required, it was sent to the transaction's phone."""
    if Factor.SMS_OTP in bundle.floor.factors:
        sent_to = bundle.facts(SmsOtp).phone_commitment
        refuse_unless(sent_to == bundle.transaction.phone_commitment, Refusal.CODE_TO_ANOTHER_PHONE)


def faces_compared_are_the_live_ones(bundle: Bundle) -> None:
    """10. Facematch judged all keyframes of the live session, in their order, and nothing else."""
    probes = bundle.facts(FaceMatch).probes_sha256
    refuse_unless(probes == bundle.facts(Liveness).keyframes_sha256, Refusal.PROBES_NOT_KEYFRAMES)


def reference_is_of_the_record(bundle: Bundle) -> None:
    """11. They were compared with the photo of the state record."""
    reference = bundle.facts(FaceMatch).reference_sha256
    refuse_unless(reference == bundle.facts(StateRecord).photo_sha256, Refusal.REFERENCE_NOT_OF_RECORD)


def keyframes_suffice(bundle: Bundle) -> None:
    """12. Enough prompts were answered, each with a keyframe of its own."""
    keyframes = bundle.facts(Liveness).keyframes_sha256
    refuse_unless(len(keyframes) >= bundle.floor.min_keyframes, Refusal.TOO_FEW_KEYFRAMES)
    refuse_unless(len(set(keyframes)) == len(keyframes), Refusal.KEYFRAME_REPEATED)


def liveness_scores_suffice(bundle: Bundle) -> None:
    """13. Both liveness scores are at or above the floor."""
    liveness, floor = bundle.facts(Liveness), bundle.floor
    refuse_unless(liveness.score_passive_ppm >= floor.min_passive_ppm, Refusal.PASSIVE_SCORE_TOO_LOW)
    refuse_unless(liveness.score_prompts_ppm >= floor.min_prompts_ppm, Refusal.PROMPTS_SCORE_TOO_LOW)


def similarities_suffice(bundle: Bundle) -> None:
    """14. Facematch's threshold is at or above the floor, and every keyframe reaches both."""
    match, floor = bundle.facts(FaceMatch), bundle.floor
    refuse_unless(match.threshold_ppm >= floor.min_threshold_ppm, Refusal.THRESHOLD_TOO_LOW)
    required_ppm = max(match.threshold_ppm, floor.min_similarity_ppm)
    one_for_each = len(match.similarities_ppm) == len(match.probes_sha256)
    enough = all(similarity >= required_ppm for similarity in match.similarities_ppm)
    refuse_unless(one_for_each and enough, Refusal.SIMILARITY_TOO_LOW)


def models_are_accepted(bundle: Bundle) -> None:
    """15. Each model that judged is one the floor names."""
    for facts in (bundle.facts(Liveness), bundle.facts(FaceMatch)):
        used, accepted = set(facts.models_sha256), set(bundle.floor.models[facts.factor])
        refuse_unless(bool(used) and used <= accepted, Refusal.MODEL_NOT_ACCEPTED)


def policy_is_accepted(bundle: Bundle) -> None:
    """16. The transaction's policy is one the floor names, and every spoke judged by it."""
    policy = bundle.transaction.policy
    refuse_unless(policy in bundle.floor.policies, Refusal.POLICY_TOO_LOW)
    refuse_unless(all(receipt.policy == policy for receipt in bundle.receipts), Refusal.POLICY_MISMATCH)


def channel_is_accepted(bundle: Bundle) -> None:
    """17. The channel is one the floor names, and liveness was shown over it."""
    channel = bundle.transaction.channel
    refuse_unless(channel in bundle.floor.channels, Refusal.CHANNEL_TOO_LOW)
    refuse_unless(bundle.facts(Liveness).channel is channel, Refusal.CHANNEL_MISMATCH)


def nothing_has_expired(bundle: Bundle) -> None:
    """18. Transaction and receipts are valid now. A transaction of the future would need receipts of the future."""
    refuse_unless(bundle.now < bundle.transaction.expires_at, Refusal.TRANSACTION_EXPIRED)
    for receipt in bundle.receipts:
        receipts.require_current(receipt, bundle.now)


def factors_are_in_order(bundle: Bundle) -> None:
    """19. Created, state record, liveness, match, code sent and entered, key attested: none before the one before.

    Documents were prepared before the code was sent that confirms them.
    """
    issued_at = {receipt.factor: receipt.issued_at for receipt in bundle.receipts}
    created_at = bundle.transaction.created_at
    times = [
        created_at,
        issued_at[Factor.STATE_RECORD],
        issued_at[Factor.LIVENESS],
        issued_at[Factor.FACE_MATCH],
    ]
    if Factor.SMS_OTP in bundle.floor.factors:
        code = bundle.facts(SmsOtp)
        prepared_at = issued_at.get(Factor.PREPARATION, created_at)
        refuse_unless(created_at <= prepared_at <= code.sent_at, Refusal.OUT_OF_ORDER)
        times += [code.sent_at, code.verified_at, issued_at[Factor.SMS_OTP]]
    if Factor.KEY_ATTESTATION in bundle.floor.factors:
        times.append(issued_at[Factor.KEY_ATTESTATION])
    refuse_unless(times == sorted(times), Refusal.OUT_OF_ORDER)


def code_is_fresh(bundle: Bundle) -> None:
    """20. Where a code is required, the person entered it a short while ago."""
    if Factor.SMS_OTP in bundle.floor.factors:
        age_s = bundle.now - bundle.facts(SmsOtp).verified_at
        refuse_unless(age_s <= bundle.floor.otp_max_age_s, Refusal.CODE_TOO_OLD)


def documents_are_prepared(bundle: Bundle) -> None:
    """21. Where a preparation is required, it is of the transaction's documents: the gateway chose no digest itself."""
    if Factor.PREPARATION in bundle.floor.factors:
        prepared = bundle.facts(Preparation).documents_sha256
        expected = transactions.documents_sha256(bundle.transaction.documents)
        refuse_unless(prepared == expected, Refusal.DOCUMENTS_NOT_PREPARED)


def digests_are_rebuilt(bundle: Bundle) -> None:
    """22. Where the digest to sign can be rebuilt from the content shown (CAdES), it is the one given."""
    transaction = bundle.transaction
    for document in transaction.documents:
        if document.binding is Binding.REBUILT:
            rebuilt = signed_attributes.digest(
                document.content_sha256, transaction.certificate_sha256, transaction.signing_time
            )
            refuse_unless(document.digest_sha256 == rebuilt, Refusal.DIGEST_NOT_REBUILT)


def attested_key_is_of_this_credential(bundle: Bundle) -> None:
    """23. Where a key attestation is required, it is for the transaction's credential."""
    if Factor.KEY_ATTESTATION in bundle.floor.factors:
        attested = bundle.facts(KeyAttestation).credential
        refuse_unless(attested == bundle.transaction.credential, Refusal.ATTESTED_ANOTHER_CREDENTIAL)


Step = Callable[[Bundle], None]
STEPS: tuple[Step, ...] = (
    one_receipt_for_each_factor,
    receipts_are_of_pinned_keys,
    purpose_is_expected,
    environment_is_ours,
    receipts_are_of_this_transaction,
    commitments_open,
    record_is_of_this_person,
    phone_is_trusted,
    code_went_to_this_phone,
    faces_compared_are_the_live_ones,
    reference_is_of_the_record,
    keyframes_suffice,
    liveness_scores_suffice,
    similarities_suffice,
    models_are_accepted,
    policy_is_accepted,
    channel_is_accepted,
    nothing_has_expired,
    factors_are_in_order,
    code_is_fresh,
    documents_are_prepared,
    digests_are_rebuilt,
    attested_key_is_of_this_credential,
)

_ORDER = tuple(Factor)


def _facts(found: Sequence[Receipt[Facts]], kind: type[F]) -> F:
    for receipt in found:
        if isinstance(receipt.facts, kind):
            return receipt.facts
    raise LookupError(f"no receipt of {kind.factor.value}")
