"""OCSP (RFC 6960): what stands of serials of the issuing CA, signed by a delegated responder.

A request may ask for several serials. Its nonce, if it has one, is echoed (RFC 9654). What was never issued is unknown.

Answers about one serial without a nonce are kept (RFC 5019, 6960 section 2.5) and signed anew in the background while
somebody asks. A change in the ledger drops them: at once where it was made, within `CAUGHT_UP_EVERY_S` on every other
replica. With the database away, kept answers serve until they end.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh import metrics, telemetry
from mesh.errors import DependencyUnavailableError
from mesh.hsm import TokenError
from services.ca import der
from services.ca.authority import Authority
from services.ca.ledger import Ledger, State, Status
from services.ca.signing import key_bits

MAX_REQUEST_BYTES = 4096
MAX_SERIALS = 16
# How long a relying party may go by an answer.
LIFETIME = timedelta(hours=1)
# A kept answer is made anew when so little of its life has gone that a relying party always has some of it.
RENEWED_AFTER = timedelta(minutes=30)
CAUGHT_UP_EVERY_S = 0.25
_MAX_KEPT = 10_000
_RENEWED_AT_ONCE = 32

_NONCE = "1.3.6.1.5.5.7.48.1.2"
_MAX_NONCE_BYTES = 128  # RFC 9654 section 2.1
_BASIC_RESPONSE = der.oid("1.3.6.1.5.5.7.48.1.1")
_HASHES: dict[str, Callable[[bytes], "hashlib._Hash"]] = {
    "1.3.14.3.2.26": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "2.16.840.1.101.3.4.2.1": hashlib.sha256,
}
_GOOD = frozenset({State.ISSUED, State.WAITING})
# Values of OCSPResponseStatus (RFC 6960 section 4.2.1).
_SUCCESSFUL, _MALFORMED_REQUEST, _UNAUTHORIZED = 0, 1, 6
# Values of CRLReason (RFC 5280 section 5.3.1) that statuses can have; unspecified is left out.
_REASONS = {
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
}


@dataclass(frozen=True, slots=True)
class _CertId:
    """One certificate asked about: its CertID as sent, and what is in it."""

    encoded: bytes
    hash_algorithm: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(slots=True)
class _Kept:
    """A signed answer about one certificate, and what it says; `asked_at` is when somebody last asked."""

    about: _CertId
    said: str
    response_der: bytes
    made_at: datetime
    asked_at: datetime


class Responder:
    """Answers for one authority."""

    def __init__(self, *, authority: Authority, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._authority = authority
        self._ledger = ledger
        self._now = now
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        # The last change of the ledger that the kept answers know of; nothing is kept before the first is known.
        self._caught_up: int | None = None
        issuing = authority.issuing.certificate
        name = issuing.subject.public_bytes()
        key = key_bits(issuing)
        self._issuer = {oid: (digest(name).digest(), digest(key).digest()) for oid, digest in _HASHES.items()}
        responder_key = key_bits(authority.ocsp.certificate)
        by_key = der.tlv(der.OCTET_STRING, hashlib.sha1(responder_key, usedforsecurity=False).digest())
        self._responder_id = der.tlv(der.context(2), by_key)
        self._signature_algorithm = authority.ocsp.signing.sha256_identifier
        self._certificates = der.tlv(der.context(0), der.sequence(authority.ocsp.der))

    async def answer(self, request_der: bytes) -> bytes:
        """Return an OCSPResponse (DER): malformedRequest and unauthorized are answers too.

        Raises TokenError, DependencyUnavailableError.
        """
        try:
            asked, nonce = _parse(request_der)
        except der.MalformedError:
            metrics.OCSP_RESPONSES.add(status="malformed")
            return _failure(_MALFORMED_REQUEST)
        for cert_id in asked:
            issuer = self._issuer.get(cert_id.hash_algorithm)
            if issuer != (cert_id.issuer_name_hash, cert_id.issuer_key_hash):
                # RFC 6960 section 2.3: this responder cannot speak for that issuer.
                metrics.OCSP_RESPONSES.add(status="unauthorized")
                return _failure(_UNAUTHORIZED)
        if len(asked) == 1 and not nonce:
            kept = await self._kept_or_made(asked[0])
            metrics.OCSP_RESPONSES.add(status=kept.said)
            return kept.response_der
        known = await self._known(asked)
        response_der = await self._respond(asked, known, nonce)
        for item in asked:
            metrics.OCSP_RESPONSES.add(status=self._word(item.serial, known.get(item.serial)))
        return response_der

    async def catch_up(self) -> None:
        """Drop what the ledger's changes have made untrue. Raises DependencyUnavailableError."""
        last = await self._ledger.last_change()
        if self._caught_up is None:
            self._caught_up = last
        if last == self._caught_up:
            return
        changed = set(await self._ledger.changed_since(self._caught_up))
        for key in [key for key, kept in self._kept.items() if kept.about.serial in changed]:
            del self._kept[key]
        self._caught_up = max(last, self._caught_up)

    async def keep_fresh(self) -> None:
        """Follow the ledger, and sign anew what is still asked for, for ever."""
        while True:
            try:
                await self.catch_up()
                await self._renew()
            except (DependencyUnavailableError, TokenError) as error:
                telemetry.logger().debug("kept status is not followed", error_class=type(error).__name__)
            await asyncio.sleep(CAUGHT_UP_EVERY_S)

    async def _renew(self) -> None:
        now = self._now()
        old = [kept for kept in self._kept.values() if kept.made_at + RENEWED_AFTER <= now]
        for kept in old[:_RENEWED_AT_ONCE]:
            if kept.asked_at + LIFETIME <= now:
                self._kept.pop(kept.about.encoded, None)
            else:
                await self._make_and_keep(kept.about, kept.asked_at)

    async def _kept_or_made(self, about: _CertId) -> _Kept:
        now = self._now()
        kept = self._kept.get(about.encoded)
        if kept is None:
            return await self._make_and_keep(about, now)
        kept.asked_at = now
        self._kept.move_to_end(about.encoded)
        if now < kept.made_at + RENEWED_AFTER:
            return kept
        try:
            return await self._make_and_keep(about, now)
        except (DependencyUnavailableError, TokenError):
            if now < kept.made_at + LIFETIME:
                return kept
            raise

    async def _make_and_keep(self, about: _CertId, asked_at: datetime) -> _Kept:
        """Only of what was issued: strangers can invent serials without end."""
        caught_up, made_at = self._caught_up, self._now()
        known = await self._known([about])
        said = self._word(about.serial, known.get(about.serial))
        made = _Kept(about, said, await self._respond([about], known, b""), made_at, asked_at)
        issued = about.serial in self._authority.issued_serials or about.serial in known
        # What changed between reading the status and now may have been caught up with already: then it is not kept.
        if issued and caught_up is not None and caught_up == self._caught_up:
            self._kept[about.encoded] = made
            self._kept.move_to_end(about.encoded)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return made

    async def _known(self, asked: list[_CertId]) -> dict[int, Status]:
        """Statuses by serial. An intent that is still worked on has not been issued yet, so it is not known either."""
        found = await self._ledger.statuses({item.serial for item in asked})
        return {status.serial: status for status in found if status.state is not State.INTENDED}

    async def _respond(self, asked: list[_CertId], known: dict[int, Status], nonce: bytes) -> bytes:
        now = self._now()
        answers = [self._single(item, known.get(item.serial), now) for item in asked]
        extensions = der.tlv(der.context(1), der.sequence(nonce)) if nonce else b""
        response_data = der.sequence(self._responder_id, der.generalized_time(now), der.sequence(*answers), extensions)
        signature = await self._authority.ocsp.sign_digest(hashlib.sha256(response_data).digest())
        basic = der.sequence(response_data, self._signature_algorithm, der.bit_string(signature), self._certificates)
        response = der.sequence(_BASIC_RESPONSE, der.tlv(der.OCTET_STRING, basic))
        return der.sequence(der.integer(_SUCCESSFUL, der.ENUMERATED), der.tlv(der.context(0), response))

    def _single(self, asked: _CertId, status: Status | None, now: datetime) -> bytes:
        """SingleResponse."""
        return der.sequence(
            asked.encoded,
            self._status(asked.serial, status),
            der.generalized_time(now),
            der.tlv(der.context(0), der.generalized_time(now + LIFETIME)),
        )

    def _word(self, serial: int, status: Status | None) -> str:
        """What is said of a certificate, in a word."""
        if serial in self._authority.issued_serials or (status is not None and status.state in _GOOD):
            return "good"
        return "unknown" if status is None or status.revoked_at is None else "revoked"

    def _status(self, serial: int, status: Status | None) -> bytes:
        """CertStatus."""
        word = self._word(serial, status)
        if word == "good":
            return der.tlv(der.context(0, constructed=False))
        if status is None or status.revoked_at is None:
            return der.tlv(der.context(2, constructed=False))
        reason = b""
        if status.reason in _REASONS:
            reason = der.tlv(der.context(0), der.integer(_REASONS[status.reason], der.ENUMERATED))
        return der.tlv(der.context(1), der.generalized_time(status.revoked_at), reason)


def _failure(status: int) -> bytes:
    return der.sequence(der.integer(status, der.ENUMERATED))


def _parse(request_der: bytes) -> tuple[list[_CertId], bytes]:
    """The CertIDs asked about and the nonce extension as sent (b"" for none). Raises MalformedError.

    A requestor's name and signature are allowed and not looked at: status is open to everybody.
    """
    if len(request_der) > MAX_REQUEST_BYTES:
        raise der.MalformedError("the request is too large")
    outer = der.Reader(request_der)
    request = outer.inside(der.SEQUENCE)
    outer.end()
    tbs = request.inside(der.SEQUENCE)
    if request.more:
        request.content(der.context(0))
        request.end()
    if tbs.is_next(der.context(0)) and tbs.inside(der.context(0)).integer() != 0:
        raise der.MalformedError("the request is not of version 1")
    if tbs.is_next(der.context(1)):
        tbs.content(der.context(1))
    listed = tbs.inside(der.SEQUENCE)
    asked = []
    while listed.more:
        asked.append(_request(listed.inside(der.SEQUENCE)))
    nonce = _extensions(tbs.inside(der.context(2))) if tbs.more else b""
    tbs.end()
    if not 0 < len(asked) <= MAX_SERIALS:
        raise der.MalformedError("the request asks about nothing, or about too many certificates")
    return asked, nonce


def _request(one: der.Reader) -> _CertId:
    encoded, content = one.element(der.SEQUENCE)
    if one.more:
        _extensions(one.inside(der.context(0)))
    one.end()
    cert_id = der.Reader(content)
    algorithm = cert_id.inside(der.SEQUENCE)
    oid = algorithm.oid()
    if algorithm.more:
        algorithm.content(der.NULL)
    algorithm.end()
    found = _CertId(
        encoded, oid, cert_id.content(der.OCTET_STRING), cert_id.content(der.OCTET_STRING), cert_id.integer()
    )
    cert_id.end()
    return found


def _extensions(explicit: der.Reader) -> bytes:
    """The nonce extension as sent, b"" for none. Raises MalformedError for an unknown critical one."""
    listed = explicit.inside(der.SEQUENCE)
    explicit.end()
    nonce = b""
    while listed.more:
        encoded, content = listed.element(der.SEQUENCE)
        extension = der.Reader(content)
        oid = extension.oid()
        critical = extension.boolean() if extension.is_next(der.BOOLEAN) else False
        value = der.Reader(extension.content(der.OCTET_STRING))
        extension.end()
        if oid == _NONCE and not nonce:
            size = len(value.content(der.OCTET_STRING))
            value.end()
            if not 0 < size <= _MAX_NONCE_BYTES:
                raise der.MalformedError("the nonce is empty or too long")
            nonce = encoded
        elif oid == _NONCE or critical:
            raise der.MalformedError("an extension is repeated, or critical and unknown")
    return nonce
