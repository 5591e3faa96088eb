"""Sending and checking one-time codes."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mesh import metrics, telemetry
from mesh.admission import admit
from mesh.errors import Code, FinIdError
from mesh.facts import SmsOtp
from mesh.names import new_id
from mesh.receipts import CurrentSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, commit_to_phone
from services.otp.challenge import (
    Challenges,
    ChallengeUnknownError,
    CheckLimitError,
    CodeExpiredError,
    CodeWrongError,
    Limits,
    NewChallenge,
)
from services.otp.code import MASK, KeyedHash, new_code
from services.otp.segments import count_segments
from services.otp.sending import Sending
from services.otp.sends import NewSend, Sms
from services.otp.text import Language, render

_KAZAKH = re.compile(r"\+7[0-9]{10}")
# Country and operator: +7 701. Sends are counted by it, and no more of a phone is kept in clear.
_PREFIX_CHARACTERS = 5


class CountryNotAllowedError(FinIdError):
    """Codes are not sent to numbers of this country."""

    code = Code.FAILED_PRECONDITION
    reason = "PHONE_COUNTRY_NOT_ALLOWED"


class TextTooLongError(FinIdError):
    """The text would go out as more SMS than one send may be."""

    code = Code.FAILED_PRECONDITION
    reason = "TEXT_TOO_LONG"


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom and from where a code is asked for, as far as the caller says; "" counts against nobody.

    `subject` is a pseudonym of the person that is the same over all applications, `address` the network address of the
    person's own browser. `known` is the challenge that the caller believes to be live, "" for none; None when it does
    not say.
    """

    subject: str = ""
    address: str = ""
    known: str | None = None


_NOBODY = Asker()
# As figures name what became of a code that came back.
_OUTCOMES: Mapping[type[FinIdError], str] = {
    CodeWrongError: "wrong",
    CodeExpiredError: "expired",
    CheckLimitError: "too_many",
    ChallengeUnknownError: "unknown",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A code on its way."""

    challenge: str
    masked_phone: str
    expires_at: datetime
    resend_at: datetime


class Codes:
    """Sends codes for transactions and confirms those that come back."""

    def __init__(
        self,
        *,
        env: Env,
        challenges: Challenges,
        sending: Sending,
        keyed_hash: KeyedHash,
        signer: CurrentSigner,
        limits: Limits,
        allowed_prefixes: tuple[str, ...],
        origin: str | None,
        max_segments: int,
        now: Callable[[], datetime],
        make_code: Callable[[], str] = new_code,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._env = env
        self._challenges = challenges
        self._sending = sending
        self._keyed_hash = keyed_hash
        self._signer = signer
        self._limits = limits
        self._allowed_prefixes = allowed_prefixes
        self._origin = origin
        self._max_segments = max_segments
        self._now = now
        self._make_code = make_code
        self._make_id = make_id

    async def send(
        self, transaction_bytes: bytes, phone: str, phone_salt: bytes, language: Language, asker: Asker = _NOBODY
    ) -> Sent:
        """Send a new code, which ends the earlier one.

        A caller that does not know of the live code, because the answer about it got lost, gets that one again as long
        as it is too early for another. Raises PreconditionError for a transaction that is not ours, not valid now or
        not of this phone; CountryNotAllowedError, TextTooLongError; a SendRefusedError, CheckLimitError or
        AlreadyVerifiedError; PhoneUnreachableError or SmsUnavailableError.
        """
        now = self._now()
        admitted = admit(transaction_bytes, self._env, int(now.timestamp()))
        transaction = admitted.transaction
        if commit_to_phone(phone, phone_salt) != transaction.phone_commitment:
            raise PreconditionError(Refusal.PHONE_NOT_OPENED)
        if not phone.startswith(self._allowed_prefixes):
            raise CountryNotAllowedError("Codes are not sent to numbers of this country.")
        code, challenge = self._make_code(), self._make_id()
        expires_at = min(now + self._limits.ttl, datetime.fromtimestamp(transaction.expires_at, UTC))
        sms = Sms(challenge, phone, render(transaction, language, code, self._origin), expires_at)
        segments = count_segments(sms.text)
        if segments > self._max_segments:
            raise TextTooLongError("The text is too long for an SMS.")
        masked_text = render(transaction, language, MASK, self._origin)
        new = NewChallenge(
            txn=admitted.txn,
            challenge=challenge,
            key_id=self._keyed_hash.key_id,
            code_hmac=self._keyed_hash.of_code(admitted.txn, challenge, code),
            phone=self._keyed_hash.phone(phone),
            person=self._keyed_hash.person(asker.subject) if asker.subject else None,
            address=self._keyed_hash.address(asker.address) if asker.address else None,
            phone_commitment=transaction.phone_commitment,
            text_sha256=hashlib.sha256(masked_text.encode()).digest(),
            policy=transaction.policy,
            send=NewSend(transaction.application, phone[:_PREFIX_CHARACTERS], segments, self._sending.sealed(sms)),
            sent_at=now,
            expires_at=expires_at,
            known=asker.known,
        )
        # Recorded before it is sent: whatever dies in between, no phone holds a code that the record does not know,
        # and no code goes out twice, because a further one counts as a further send.
        recorded = await self._challenges.record(new, self._limits)
        if recorded.is_new:
            await self._sending.deliver(sms)
            telemetry.logger().info(
                "code sent", application=new.send.application, prefix=new.send.prefix, count=segments
            )
        return Sent(recorded.challenge, mask(phone), recorded.expires_at, recorded.resend_at)

    async def verify(self, txn: bytes, challenge: str, code: str) -> str:
        """Return the SMS_OTP receipt for the right code, the same one however often it comes within its life.

        Raises CodeWrongError, CodeExpiredError, CheckLimitError or ChallengeUnknownError.
        """
        try:
            receipt, is_first = await self._verify(txn, challenge, code)
        except (CodeWrongError, CodeExpiredError, CheckLimitError, ChallengeUnknownError) as error:
            metrics.CODES_CHECKED.add(outcome=_OUTCOMES[type(error)])
            raise
        if is_first:
            metrics.CODES_CHECKED.add(outcome="right")
        return receipt

    async def _verify(self, txn: bytes, challenge: str, code: str) -> tuple[str, bool]:
        """Return the receipt, and whether it is given for the first time."""
        guess_hmac = self._keyed_hash.of_code(txn, challenge, code)
        check = await self._challenges.count_check(txn, challenge, guess_hmac, self._now(), self._limits)
        if not self._keyed_hash.knows(check.key_id):
            raise CodeExpiredError("The code has expired.")  # with its key, which is gone
        if not self._keyed_hash.is_code(check.code_hmac, txn, challenge, code, check.key_id):
            raise CodeWrongError("The code is wrong.", metadata={"checks_left": str(check.checks_left)})
        if check.receipt is not None:
            return check.receipt, False
        verified_at = self._now()
        facts = SmsOtp(
            phone_commitment=check.phone_commitment,
            text_sha256=check.text_sha256,
            sent_at=int(check.sent_at.timestamp()),
            verified_at=int(verified_at.timestamp()),
        )
        receipt = self._signer().sign(facts, txn=txn, policy=check.policy, now=int(verified_at.timestamp()))
        kept = await self._challenges.use(txn, challenge, verified_at, receipt)
        if kept is None:
            raise ChallengeUnknownError("A later code took this one's place.")
        return kept, kept == receipt


def mask(phone: str) -> str:
    """Return an E.164 number as its owner knows it again and nobody else learns it: "+7 700 *** ** 01"."""
    if _KAZAKH.fullmatch(phone):
        return f"{phone[:2]} {phone[2:5]} *** ** {phone[-2:]}"
    return f"{phone[:3]} {'*' * (len(phone) - 5)} {phone[-2:]}"
