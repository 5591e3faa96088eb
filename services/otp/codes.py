"""Sending and checking one-time codes."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mesh import telemetry
from mesh.admission import admit
from mesh.errors import Code, FinIdError
from mesh.facts import SmsOtp
from mesh.names import new_id
from mesh.receipts import ReceiptSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, commit_to_phone
from services.otp.challenge import Challenges, ChallengeUnknownError, CodeWrongError, Delivery, Limits, NewChallenge
from services.otp.code import MASK, KeyedHash, new_code
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsProvider, SmsUnavailableError
from services.otp.text import Language, render

_KAZAKH = re.compile(r"\+7[0-9]{10}")


class CountryNotAllowedError(FinIdError):
    """Codes are not sent to numbers of this country."""

    code = Code.FAILED_PRECONDITION
    reason = "PHONE_COUNTRY_NOT_ALLOWED"


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
        provider: SmsProvider,
        keyed_hash: KeyedHash,
        signer: ReceiptSigner,
        limits: Limits,
        allowed_prefixes: tuple[str, ...],
        origin: str | None,
        now: Callable[[], datetime],
        make_code: Callable[[], str] = new_code,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._env = env
        self._challenges = challenges
        self._provider = provider
        self._keyed_hash = keyed_hash
        self._signer = signer
        self._limits = limits
        self._allowed_prefixes = allowed_prefixes
        self._origin = origin
        self._now = now
        self._make_code = make_code
        self._make_id = make_id

    async def send(self, transaction_bytes: bytes, phone: str, phone_salt: bytes, language: Language) -> Sent:
        """Send a new code, which ends the earlier one.

        Raises PreconditionError for a transaction that is not ours, not valid now or not of this phone;
        CountryNotAllowedError; a SendRefusedError, CheckLimitError or AlreadyVerifiedError; PhoneUnreachableError or
        SmsUnavailableError.
        """
        now = self._now()
        admitted = admit(transaction_bytes, self._env, int(now.timestamp()))
        transaction = admitted.transaction
        if commit_to_phone(phone, phone_salt) != transaction.phone_commitment:
            raise PreconditionError(Refusal.PHONE_NOT_OPENED)
        if not phone.startswith(self._allowed_prefixes):
            raise CountryNotAllowedError("Codes are not sent to numbers of this country.")
        code, challenge = self._make_code(), self._make_id()
        masked_text = render(transaction, language, MASK, self._origin)
        new = NewChallenge(
            txn=admitted.txn,
            challenge=challenge,
            code_hmac=self._keyed_hash.of_code(admitted.txn, challenge, code),
            phone_hmac=self._keyed_hash.of_phone(phone),
            phone_commitment=transaction.phone_commitment,
            text_sha256=hashlib.sha256(masked_text.encode()).digest(),
            policy=transaction.policy,
            provider=self._provider.name,
            sent_at=now,
            expires_at=min(now + self._limits.ttl, datetime.fromtimestamp(transaction.expires_at, UTC)),
        )
        # Recorded before it is sent: whatever dies in between, no phone holds a code that the record does not know,
        # and no code goes out twice, because a further one counts as a further send.
        resend_at = await self._challenges.record(new, self._limits)
        await self._deliver(new, phone, render(transaction, language, code, self._origin))
        return Sent(challenge, mask(phone), new.expires_at, resend_at)

    async def _deliver(self, new: NewChallenge, phone: str, text: str) -> None:
        valid_s = max(1, int((new.expires_at - new.sent_at).total_seconds()))
        try:
            accepted = await self._provider.send(phone, text, valid_s)
        except (PhoneUnreachableError, SmsUnavailableError):
            await self._challenges.settle(new.txn, new.challenge, Delivery.FAILED, "")
            raise
        except DeliveryUnknownError as error:
            # The SMS may well arrive, and then its code is good; if not, the person asks for another.
            telemetry.logger().warning("sms delivery unknown", provider=self._provider.name, error_class=_cause(error))
            return
        await self._challenges.settle(new.txn, new.challenge, Delivery.SENT, accepted.reference)

    async def verify(self, txn: bytes, challenge: str, code: str) -> str:
        """Return the SMS_OTP receipt for the right code, the same one however often it comes within its life.

        Raises CodeWrongError, CodeExpiredError, CheckLimitError or ChallengeUnknownError.
        """
        check = await self._challenges.count_check(txn, challenge, self._now(), self._limits)
        if not self._keyed_hash.is_code(check.code_hmac, txn, challenge, code):
            raise CodeWrongError("The code is wrong.", metadata={"checks_left": str(check.checks_left)})
        if check.receipt is not None:
            return check.receipt
        verified_at = self._now()
        facts = SmsOtp(
            phone_commitment=check.phone_commitment,
            text_sha256=check.text_sha256,
            sent_at=int(check.sent_at.timestamp()),
            verified_at=int(verified_at.timestamp()),
        )
        receipt = self._signer.sign(facts, txn=txn, policy=check.policy, now=int(verified_at.timestamp()))
        kept = await self._challenges.use(txn, challenge, verified_at, receipt)
        if kept is None:
            raise ChallengeUnknownError("A later code took this one's place.")
        return kept


def mask(phone: str) -> str:
    """Return an E.164 number as its owner knows it again and nobody else learns it: "+7 700 *** ** 01"."""
    if _KAZAKH.fullmatch(phone):
        return f"{phone[:2]} {phone[2:5]} *** ** {phone[-2:]}"
    return f"{phone[:3]} {'*' * (len(phone) - 5)} {phone[-2:]}"


def _cause(error: BaseException) -> str:
    return type(error.__cause__).__name__ if error.__cause__ else "none"
