"""Evidence verified offline, also years later, by the rules that the HSM's signer itself goes by.

`mesh.precondition` asks whether an act is permitted now. Evidence is older than that: it is judged at the moment when
its last receipt was issued, which the receipts themselves prove, since each is signed with its time. A receipt that had
expired by then, or came out of order, is refused as it was then.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from finid.auth.v1 import auth_pb2 as auth
from google.protobuf import json_format

from finid_client.errors import ProofRefusedError
from mesh import precondition, receipts
from mesh import transaction as transactions
from mesh.facts import FaceMatch, Factor, Facts, Liveness
from mesh.floors import MAX_OTP_AGE_S, MIN_KEYFRAMES, Floor, Floors, required_factors
from mesh.pins import Pins
from mesh.precondition import Grant
from mesh.receipts import Receipt
from mesh.refusal import PreconditionError
from mesh.transaction import Channel, Openings, Purpose, Transaction, TransactionError

_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})
_NEEDS_TRUSTED_PHONE = _MAKES_KEY | {Purpose.SIGN, Purpose.RESUME}


@dataclass(frozen=True, slots=True)
class VerifiedEvidence:
    """What is proven: `grant` holds the transaction, the person's IIN and phone, and every factor's receipt."""

    grant: Grant
    confirmed_at: datetime

    @property
    def transaction(self) -> Transaction:
        """What the person confirmed."""
        return self.grant.transaction


def evidence_of_json(text: bytes | str) -> auth.Evidence:
    """Return the evidence that REST answered. Raises ProofRefusedError (EVIDENCE_MALFORMED)."""
    try:
        return json_format.Parse(text, auth.Evidence(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ProofRefusedError("EVIDENCE_MALFORMED", "this is not the JSON of an Evidence") from error


def verify_evidence(
    evidence: auth.Evidence, pins: Pins, *, purpose: Purpose, floors: Floors | None = None
) -> VerifiedEvidence:
    """Return what `evidence` proves for `purpose`. Raises ProofRefusedError with a reason of docs/errors.md.

    `pins` are the receipts' keys and the environment (`KeySet.pins`). `floors` are the least scores, the policies and
    the models that the verifier accepts (`mesh.floors.parse`); without them everything is verified but these, which
    stand in the receipts for the caller to judge.
    """
    bundle = evidence.bundle
    try:
        opened = bundle.openings
        openings = Openings(opened.iin, opened.iin_salt, opened.phone, opened.phone_salt)
        read = tuple(map(receipts.parse, bundle.receipts))
        if not read:
            raise ProofRefusedError("FACTOR_MISSING", "there is no receipt")
        at = max(receipt.issued_at for receipt in read)
        asked = floors if floors is not None else _least(purpose, transactions.parse(bundle.transaction), read)
        grant = precondition.authorize(purpose, bundle.transaction, openings, list(bundle.receipts), pins, asked, at)
    except (PreconditionError, TransactionError) as error:
        raise ProofRefusedError(error.reason, error.message) from error
    if grant.transaction.authentication != evidence.name:
        raise ProofRefusedError("EVIDENCE_OF_ANOTHER", "the evidence is of another authentication than it is named for")
    return VerifiedEvidence(grant, datetime.fromtimestamp(at, UTC))


def _least(purpose: Purpose, transaction: Transaction, read: tuple[Receipt[Facts], ...]) -> Floors:
    """Floors that ask for every factor and relation, and take scores, policy and models as they were."""
    found = {receipt.factor for receipt in read}
    attested = {Factor.KEY_ATTESTATION} & found if purpose in _MAKES_KEY else set()
    models = {
        kind.factor: tuple(
            digest for receipt in read if isinstance(receipt.facts, kind) for digest in receipt.facts.models_sha256
        )
        for kind in (Liveness, FaceMatch)
    }
    floor = Floor(
        factors=tuple(required_factors(purpose) | attested),
        channels=tuple(Channel) if purpose is Purpose.IDENTIFY else (Channel.HOSTED,),
        policies=(transaction.policy,),
        min_passive_ppm=1,
        min_prompts_ppm=1,
        min_keyframes=MIN_KEYFRAMES,
        min_similarity_ppm=1,
        min_threshold_ppm=1,
        models=models,
        phone_trusted=purpose in _NEEDS_TRUSTED_PHONE,
        otp_max_age_s=MAX_OTP_AGE_S,
    )
    return {purpose: floor}
