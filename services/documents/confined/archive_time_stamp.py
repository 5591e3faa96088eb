"""Archive time stamps on CMS signatures (ETSI EN 319 122-1, 5.5.3): what they cover, and since when it exists."""

import hashlib
from collections.abc import Iterator
from typing import Final

from asn1crypto import algos, cms, core, tsp

from services.documents.confined import cms_parts, pdf
from services.documents.confined.past import Stamp
from services.documents.report import TimeStampKind

_HASH_INDEX_V3: Final = "0.4.0.19122.1.5"
_MAX_ARCHIVE_TIME_STAMPS: Final = 8
_COVERED_FIELDS: Final = 6
"""Of SignerInfo: version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm, signature."""
_PARTS: Final = ("certificates", "crls", "unsigned_attribute_values")
_DIGESTS: Final = frozenset({"sha256", "sha384", "sha512"})


class _Hashes(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.OctetString


class _HashIndex(core.Sequence):  # type: ignore[misc]
    """ATSHashIndexV3"""

    _fields = [  # noqa: RUF012 - asn1crypto's own way
        ("algorithm", algos.DigestAlgorithm),
        ("certificates", _Hashes),
        ("crls", _Hashes),
        ("unsigned_attribute_values", _Hashes),
    ]


def stamps(signed_data: cms.SignedData) -> list[Stamp]:
    """The archive time stamps of a signature; one that cannot be read, or is over nothing known, proves nothing."""
    tokens = cms_parts.values(signed_data["signer_infos"][0], cms_parts.ARCHIVE_TIME_STAMP_V3)
    found = []
    for token, _ in zip(tokens, range(_MAX_ARCHIVE_TIME_STAMPS), strict=False):
        try:
            found.append(_stamp(signed_data, cms.ContentInfo.load(token.dump(), strict=True)["content"]))
        except pdf.MALFORMED:
            continue
    return found


def _stamp(signed_data: cms.SignedData, token: cms.SignedData) -> Stamp:
    index_value = next(cms_parts.values(token["signer_infos"][0], _HASH_INDEX_V3), None)
    if index_value is None:
        raise ValueError("an archive time stamp without its index")
    index_der = index_value.dump()
    index = _HashIndex.load(index_der, strict=True)
    stamped = token["encap_content_info"]["content"].parsed
    if not isinstance(stamped, tsp.TSTInfo):
        raise TypeError("no TSTInfo")
    imprint = _imprint(signed_data, index_der, stamped["message_imprint"]["hash_algorithm"]["algorithm"].native)
    return Stamp(token, TimeStampKind.ARCHIVE, lambda _: imprint, frozenset(_covered(signed_data, index)))


def _imprint(signed_data: cms.SignedData, index_der: bytes, algorithm: str) -> bytes:
    signer_info = signed_data["signer_infos"][0]
    if algorithm not in _DIGESTS or signer_info["digest_algorithm"]["algorithm"].native != algorithm:
        raise ValueError("the content's digest is not known under the stamp's algorithm")
    content = next(cms_parts.values(signer_info, "message_digest", signed=True)).native
    fields = list(cms_parts.elements(signer_info.dump()))[:_COVERED_FIELDS]
    content_type = signed_data["encap_content_info"]["content_type"].dump()
    return hashlib.new(algorithm, b"".join((content_type, content, *fields, index_der))).digest()


def _covered(signed_data: cms.SignedData, index: _HashIndex) -> Iterator[bytes]:
    """Digests of the signature's value, and of certificates, CRLs, OCSP responses and stamps that the index names."""
    algorithm = index["algorithm"]["algorithm"].native
    if algorithm not in _DIGESTS:
        raise ValueError("an index under an algorithm that is not accepted")
    yield cms_parts.value_sha256(signed_data)
    missing = {value.native for part in _PARTS for value in index[part]}

    def is_named(encoded: bytes, part: str) -> bool:
        digest = hashlib.new(algorithm, encoded).digest()
        missing.discard(digest)
        return any(value.native == digest for value in index[part])

    for choice in cms_parts.choices(signed_data["certificates"]):
        if is_named(choice.dump(), "certificates"):
            yield hashlib.sha256(choice.chosen.dump()).digest()
    for choice in cms_parts.choices(signed_data["crls"]):
        if is_named(choice.dump(), "crls"):
            yield hashlib.sha256(cms_parts.evidence_in(choice)).digest()
    for attribute in cms_parts.choices(signed_data["signer_infos"][0]["unsigned_attrs"]):
        for value in attribute["values"]:
            if is_named(attribute["type"].dump() + value.dump(), "unsigned_attribute_values"):
                yield from _covered_in(attribute, value)
    if missing:
        raise ValueError("an index that names what is not there")


def _covered_in(attribute: cms.CMSAttribute, value: core.Asn1Value) -> Iterator[bytes]:
    """What stands inside an attribute that is covered as a whole."""
    if attribute["type"].native == "signature_time_stamp_token":
        yield from cms_parts.pieces_sha256(value["content"])
    elif attribute["type"].dotted == cms_parts.ARCHIVE_TIME_STAMP_V3:
        yield from cms_parts.pieces_sha256(cms.ContentInfo.load(value.dump(), strict=True)["content"])
    else:
        for piece in cms_parts.pieces_of_value(attribute["type"].dotted, value.dump()):
            yield hashlib.sha256(piece).digest()
