"""Time stamps (RFC 3161, with ESSCertIDv2 of RFC 5816): a signed statement that a digest existed at a time.

The structure is fixed, so its DER is put together from parts that are made once; asn1crypto reads it in the tests.
`ordering` is FALSE, and so absent in DER (X.690 section 11.5). TRUE would promise that any two stamps of the authority
can be put in order by genTime alone, whatever the accuracy (RFC 3161 section 2.4.2): several replicas make stamps, each
by the clock of its own host, and two hosts may differ by as much as the accuracy says. What is after another for
certain has a genTime that is later by more than twice the accuracy.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from mesh import metrics
from services.ca import der, profiles
from services.ca.authority import Authority, Certified
from services.ca.clock import TimeNotAvailableError
from services.ca.profiles import SERIAL_BYTES, TIME_STAMP_POLICY, Practice

MAX_REQUEST_BYTES = 4096
_MAX_NONCE_OCTETS = 64
# How far genTime may be from UTC: what `clock` lets pass.
_ACCURACY = der.sequence(der.integer(1))

_HASH_BYTES = {
    "2.16.840.1.101.3.4.2.1": 32,  # SHA-256
    "2.16.840.1.101.3.4.2.2": 48,
    "2.16.840.1.101.3.4.2.3": 64,
}
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
_SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
_TST_INFO = der.oid("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE = der.oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = der.oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE_V2 = der.oid("1.2.840.113549.1.9.16.2.47")
# Values of PKIStatus (RFC 3161 section 2.4.2).
_GRANTED, _REJECTION = 0, 2
_GRANTED_STATUS = der.sequence(der.integer(_GRANTED))
# INTEGER of 20 octets: serials have no fewer and no more (`profiles.serial_number`).
_SERIAL_HEADER = bytes((der.INTEGER, SERIAL_BYTES))
_VERSION_AND_DIGESTS = der.integer(3) + der.set_of([_SHA256])


class Failure(IntEnum):
    """PKIFailureInfo (RFC 3161 section 2.4.2), by the number of its bit."""

    BAD_ALG = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16


class RejectedError(Exception):
    """The request is answered with a rejection; carries its PKIFailureInfo and a text for people."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text


@dataclass(frozen=True, slots=True)
class _Request:
    """A TimeStampReq: imprint and nonce are DER as sent, nonce b"" for none; `policy` "" for none."""

    imprint: bytes
    policy: str
    nonce: bytes
    wants_certificate: bool


class TimeStamps:
    """The time stamp authority."""

    def __init__(
        self,
        *,
        authority: Authority,
        practice: Practice,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`now` is `SteadyClock.now`: it raises TimeNotAvailableError rather than give a wrong time."""
        self._authority = authority
        self._now = now
        self._random_bytes = random_bytes
        self._policy = practice.policy(TIME_STAMP_POLICY).dotted_string
        self._parts = _Parts.of(authority.tsa, self._policy)
        tsa = authority.tsa.certificate
        self._valid_from, self._valid_until = tsa.not_valid_before_utc, tsa.not_valid_after_utc

    async def stamp(self, request_der: bytes) -> bytes:
        """Return a TimeStampResp (DER): a token, or a rejection that says why. Raises TokenError."""
        try:
            request = self._read(request_der)
            now = self._time()
        except der.MalformedError:
            metrics.TIME_STAMPS.add(outcome="rejected")
            return _rejection(RejectedError(Failure.BAD_DATA_FORMAT, "the request does not parse"))
        except TimeNotAvailableError as error:
            return _rejection(RejectedError(Failure.TIME_NOT_AVAILABLE, error.message))
        except RejectedError as error:
            metrics.TIME_STAMPS.add(outcome="rejected")
            return _rejection(error)
        token = await self._token(request, now)
        metrics.TIME_STAMPS.add(outcome="granted")
        return der.tlv(der.SEQUENCE, _GRANTED_STATUS, token)

    async def stamp_digest(self, digest_sha256: bytes) -> bytes:
        """Return a TimeStampToken (DER) for a digest, the authority's certificate inside.

        Raises TimeNotAvailableError, TokenError.
        """
        imprint = der.sequence(_SHA256, der.tlv(der.OCTET_STRING, digest_sha256))
        token = await self._token(_Request(imprint, policy="", nonce=b"", wants_certificate=True), self._time())
        metrics.TIME_STAMPS.add(outcome="granted")
        return token

    def _read(self, request_der: bytes) -> _Request:
        request = _parse(request_der)
        if request.policy not in ("", self._policy):
            raise RejectedError(Failure.UNACCEPTED_POLICY, "the authority has another policy")
        return request

    def _time(self) -> datetime:
        """The time, if there is one to be vouched for. Raises TimeNotAvailableError."""
        try:
            return self._vouched_for()
        except TimeNotAvailableError:
            metrics.TIME_STAMPS.add(outcome="no_time")
            raise

    def _vouched_for(self) -> datetime:
        now = self._now()
        if not self._valid_from <= now <= self._valid_until:
            raise TimeNotAvailableError("the authority's certificate is not valid now")
        return now

    async def _token(self, request: _Request, now: datetime) -> bytes:
        """TimeStampToken: SignedData around a TSTInfo; imprint, serial, time, nonce, digests and signature change."""
        parts = self._parts
        serial = profiles.serial_number(self._random_bytes(SERIAL_BYTES))
        info = der.tlv(
            der.SEQUENCE,
            parts.version_and_policy,
            request.imprint,
            _SERIAL_HEADER,
            serial.to_bytes(SERIAL_BYTES),
            der.generalized_time(now),
            _ACCURACY,
            request.nonce,
        )
        attributes = parts.before_digest + hashlib.sha256(info).digest() + parts.after_digest
        # RFC 5652 section 5.4: signed with the tag of a SET OF, sent with an implicit one.
        signed = hashlib.sha256(der.tlv(der.SET, attributes)).digest()
        signature = await self._authority.tsa.sign_digest(signed)
        signer_info = der.tlv(
            der.SEQUENCE,
            parts.signer,
            der.tlv(der.context(0), attributes),
            parts.signature_algorithm,
            der.tlv(der.OCTET_STRING, signature),
        )
        content = der.tlv(der.context(0), der.tlv(der.OCTET_STRING, info))
        signed_data = der.tlv(
            der.SEQUENCE,
            _VERSION_AND_DIGESTS,
            der.tlv(der.SEQUENCE, _TST_INFO, content),
            parts.certificates if request.wants_certificate else b"",
            der.tlv(der.SET, signer_info),
        )
        return der.tlv(der.SEQUENCE, _SIGNED_DATA, der.tlv(der.context(0), signed_data))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is the same in every token of one authority, DER."""

    version_and_policy: bytes
    before_digest: bytes
    after_digest: bytes
    signer: bytes
    signature_algorithm: bytes
    certificates: bytes

    @classmethod
    def of(cls, tsa: Certified, policy: str) -> "_Parts":
        certificate = tsa.certificate
        # The hash algorithm of ESSCertIDv2 is SHA-256, which is the default and so absent in DER.
        certificate_hash = der.tlv(der.OCTET_STRING, hashlib.sha256(tsa.der).digest())
        blank = bytes(hashlib.sha256().digest_size)
        attributes = [
            _attribute(_CONTENT_TYPE, _TST_INFO),
            _attribute(_SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(der.sequence(certificate_hash)))),
            _attribute(_MESSAGE_DIGEST, der.tlv(der.OCTET_STRING, blank)),
        ]
        # Their order in the SET OF is decided by their lengths, whatever the digest is.
        before, found, after = b"".join(sorted(attributes)).partition(blank)
        if not found or len({attribute[1] for attribute in attributes}) != len(attributes):
            raise AssertionError("the order of the signed attributes depends on a digest")
        identifier = der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))
        return cls(
            version_and_policy=der.integer(1) + der.oid(policy),
            before_digest=before,
            after_digest=after,
            signer=der.integer(1) + identifier + _SHA256,
            signature_algorithm=tsa.signing.sha256_identifier,
            certificates=der.tlv(der.context(0), tsa.der),
        )


def _attribute(oid: bytes, value: bytes) -> bytes:
    return der.sequence(oid, der.set_of([value]))


def _rejection(error: RejectedError) -> bytes:
    text = der.sequence(der.tlv(der.UTF8_STRING, error.text.encode("utf-8")))
    return der.sequence(der.sequence(der.integer(_REJECTION), text, der.named_bit(error.failure)))


def _parse(request_der: bytes) -> _Request:
    """Read a TimeStampReq. Raises MalformedError when it is none, RejectedError when it asks for what is not done."""
    if len(request_der) > MAX_REQUEST_BYTES:
        raise der.MalformedError("the request is too large")
    outer = der.Reader(request_der)
    request = outer.inside(der.SEQUENCE)
    outer.end()
    if request.integer() != 1:
        raise RejectedError(Failure.BAD_REQUEST, "the request is not of version 1")
    imprint, content = request.element(der.SEQUENCE)
    _check_imprint(der.Reader(content))
    policy = request.oid() if request.is_next(der.OID) else ""
    nonce = request.element(der.INTEGER)[0] if request.is_next(der.INTEGER) else b""
    wants_certificate = request.boolean() if request.is_next(der.BOOLEAN) else False
    if request.is_next(der.context(0)):
        raise RejectedError(Failure.UNACCEPTED_EXTENSION, "extensions are not taken")
    request.end()
    if nonce:
        if len(der.Reader(nonce).content(der.INTEGER)) > _MAX_NONCE_OCTETS:
            raise RejectedError(Failure.BAD_REQUEST, "the nonce is too long")
        der.Reader(nonce).integer()
    return _Request(imprint, policy, nonce, wants_certificate)


def _check_imprint(imprint: der.Reader) -> None:
    algorithm = imprint.inside(der.SEQUENCE)
    hash_bytes = _HASH_BYTES.get(algorithm.oid())
    if hash_bytes is None:
        raise RejectedError(Failure.BAD_ALG, "the digest must be of SHA-256, SHA-384 or SHA-512")
    if algorithm.more and algorithm.content(der.NULL):
        raise der.MalformedError("the parameters of a hash algorithm are not NULL")
    algorithm.end()
    digest = imprint.content(der.OCTET_STRING)
    imprint.end()
    if len(digest) != hash_bytes:
        raise RejectedError(Failure.BAD_DATA_FORMAT, "the digest is not of its algorithm's length")
