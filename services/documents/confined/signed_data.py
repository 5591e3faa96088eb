"""Taking CMS apart that others made: signatures to which one more is added, and time stamp tokens (RFC 5652)."""

from collections.abc import Mapping, Sequence
from typing import Final

from asn1crypto import cms, core
from pyhanko.sign.general import CMSExtractionError, find_unique_cms_attribute

from services.documents import der
from services.documents.confined import cms_parts, pdf, time_stamp
from services.documents.errors import CmsLockedError, EarlierSignatureError, TimeStampMalformedError

MAX_SIGNERS: Final = 32
_MAX_VERSION: Final = 5
_HASH_INDEX_V3: Final = der.oid("0.4.0.19122.1.5")
_SIGNED_DATA: Final = der.oid("1.2.840.113549.1.7.2")
_DATA: Final = der.oid("1.2.840.113549.1.7.1")
_CERTIFICATES: Final = der.context(0)
_REVOCATION: Final = der.context(1)
_UNSIGNED_ATTRIBUTES: Final = der.context(1)
# Time stamps over the fields of certificates and of revocation as a whole, so that nothing can be added to either:
# archive-time-stamp, archive-time-stamp-v2 (RFC 5126, 6.4.1) and long-term-validation (TS 101 733 V2.1.1, 6.5).
_COVERING_EVERYTHING: Final = ("1.2.840.113549.1.9.16.2.27", "1.2.840.113549.1.9.16.2.48", "0.4.0.1733.2.2")

Sets = tuple[list[bytes], list[bytes], list[bytes], list[bytes]]


def read(signed: bytes, content_digests: Mapping[str, bytes]) -> tuple[int, Sets]:
    """Return version, digest algorithms, certificates, revocation and SignerInfos of a CMS over the content.

    Each is a slice of what came, BER or DER: makers differ in how they encode and order, signatures and archive time
    stamps hold over their very octets, and a library that writes them anew may break what it cannot see.
    Raises EarlierSignatureError: unless it is a SignedData whose every signer signed content with these digests;
    CmsLockedError when one more signature would break one of them.
    """
    try:
        version, sets = _taken_apart(signed)
        _refuse_other_content(sets[3], content_digests)
        return version, sets
    except (*pdf.MALFORMED, CMSExtractionError) as error:
        raise EarlierSignatureError("the earlier signature is no CMS signature in BER or DER") from error


def _taken_apart(signed: bytes) -> tuple[int, Sets]:
    """The parts of a SignedData as they are encoded, in the order of RFC 5652, section 5.1. Raises ValueError."""
    content_type, content = _elements(signed, der.SEQUENCE)
    if content_type != _SIGNED_DATA:
        raise EarlierSignatureError("the earlier signature is no SignedData")
    [body] = _elements(content, der.context(0))
    fields = iter(_elements(body, der.SEQUENCE))
    version = core.Integer.load(next(fields, b""), strict=True).native
    if not 1 <= version <= _MAX_VERSION:
        raise EarlierSignatureError("the earlier signature is of an unknown version of CMS")
    digest_algorithms = _elements(next(fields, b""), der.SET)
    if _elements(next(fields, b""), der.SEQUENCE)[:1] != [_DATA]:
        raise EarlierSignatureError("the earlier signature is over something else than data")
    rest = list(fields)
    certificates = _elements(rest.pop(0), _CERTIFICATES) if rest and rest[0][0] == _CERTIFICATES else []
    revocation = _elements(rest.pop(0), _REVOCATION) if rest and rest[0][0] == _REVOCATION else []
    [signer_infos] = rest
    return version, (digest_algorithms, certificates, revocation, _elements(signer_infos, der.SET))


def _elements(encoded: bytes, tag: int) -> list[bytes]:
    """What stands inside a constructed value with that tag. Raises ValueError."""
    if encoded[:1] != bytes((tag,)):
        raise ValueError("another tag than the structure has there")
    return list(cms_parts.elements(encoded))


def with_hash_index(token_der: bytes, index_der: bytes) -> bytes:
    """Return a token with an ats-hash-index-v3 as its only unsigned attribute (EN 319 122-1, 5.5.2).

    Raises TimeStampMalformedError.
    """
    time_stamp.read(token_der)
    try:
        content_type, content = _elements(token_der, der.SEQUENCE)
        [body] = _elements(content, der.context(0))
        *fields, signer_infos = _elements(body, der.SEQUENCE)
        [info] = _elements(signer_infos, der.SET)
        signed = (part for part in _elements(info, der.SEQUENCE) if part[0] != _UNSIGNED_ATTRIBUTES)
        index = der.sequence(_HASH_INDEX_V3, der.set_of((index_der,)))
        indexed = der.sequence(*signed, der.set_of((index,), _UNSIGNED_ATTRIBUTES))
        made = der.sequence(*fields, der.set_of((indexed,)))
        return der.sequence(content_type, der.tlv(der.context(0), made))
    except pdf.MALFORMED as error:
        raise TimeStampMalformedError("the time stamp token cannot be taken over") from error


def _refuse_other_content(infos: Sequence[bytes], digests: Mapping[str, bytes]) -> None:
    if not 1 <= len(infos) <= MAX_SIGNERS:
        raise EarlierSignatureError(f"the earlier signature is not by one to {MAX_SIGNERS} signers")
    for info in (cms.SignerInfo.load(encoded, strict=True) for encoded in infos):
        if info["signed_attrs"] is core.VOID or not len(info["signed_attrs"]):
            raise EarlierSignatureError("an earlier signature has no signed attributes, so not the content's digest")
        signed = find_unique_cms_attribute(info["signed_attrs"], "message_digest").native
        if digests.get(info["digest_algorithm"]["algorithm"].native) != signed:
            raise EarlierSignatureError("an earlier signature is over another content")
        if any(cms_parts.has(info, kind) for kind in _COVERING_EVERYTHING):
            raise CmsLockedError("a time stamp of an earlier signature covers the whole CMS; another would break it")
