"""Archive time stamps on CMS signatures (ETSI EN 319 122-1, 5.5.3): what they cover, and since when it exists."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asn1crypto import algos, cms, core, tsp

from services.documents.confined import cms_parts, pdf, stamps
from services.documents.confined.evidence import Evidence
from services.documents.report import TimeStamp, TimeStampKind

_HASH_INDEX_V3: Final = "0.4.0.19122.1.5"
_MAX_ARCHIVE_TIME_STAMPS: Final = 8
_COVERED_FIELDS: Final = 6
"""Of SignerInfo: version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm, signature."""
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


@dataclass(frozen=True, slots=True)
class Proof:
    """That the signature and the pieces with these digests (SHA-256 of their DER) existed when the stamp was made."""

    time_stamp: TimeStamp
    covered_sha256: frozenset[bytes]


def proofs(signed_data: cms.SignedData, evidence: Evidence, *, valid_only: bool = True) -> list[Proof]:
    """What the archive time stamps of a signature prove, the oldest first; with `valid_only` those that prove it."""
    tokens = cms_parts.values(signed_data["signer_infos"][0], cms_parts.ARCHIVE_TIME_STAMP_V3)
    found = []
    for token, _ in zip(tokens, range(_MAX_ARCHIVE_TIME_STAMPS), strict=False):
        try:
            found.append(_proof(signed_data, _signed_data(token.dump()), evidence))
        except pdf.MALFORMED:
            continue
    found.sort(key=lambda proof: proof.time_stamp.at)
    return [proof for proof in found if proof.time_stamp.valid or not valid_only]


def _signed_data(token_der: bytes) -> cms.SignedData:
    return cms.ContentInfo.load(token_der, strict=True)["content"]


def _proof(signed_data: cms.SignedData, token: cms.SignedData, evidence: Evidence) -> Proof:
    index_value = next(cms_parts.values(token["signer_infos"][0], _HASH_INDEX_V3), None)
    if index_value is None:
        raise ValueError("an archive time stamp without its index")
    index_der = index_value.dump()
    index = _HashIndex.load(index_der, strict=True)
    stamped = token["encap_content_info"]["content"].parsed
    if not isinstance(stamped, tsp.TSTInfo):
        raise TypeError("no TSTInfo")
    imprint = _imprint(signed_data, index_der, stamped["message_imprint"]["hash_algorithm"]["algorithm"].native)
    judged = stamps.judge(token, lambda _: imprint, evidence.with_embedded_of(token))
    described = stamps.described(token, TimeStampKind.ARCHIVE, judged)
    return Proof(described, frozenset(_covered(signed_data, index)))


def _imprint(signed_data: cms.SignedData, index_der: bytes, algorithm: str) -> bytes:
    signer_info = signed_data["signer_infos"][0]
    if algorithm not in _DIGESTS or signer_info["digest_algorithm"]["algorithm"].native != algorithm:
        raise ValueError("the content's digest is not known under the stamp's algorithm")
    content = next(cms_parts.values(signer_info, "message_digest", signed=True)).native
    fields = list(cms_parts.elements(signer_info.dump()))[:_COVERED_FIELDS]
    content_type = signed_data["encap_content_info"]["content_type"].dump()
    return hashlib.new(algorithm, b"".join((content_type, content, *fields, index_der))).digest()


def _covered(signed_data: cms.SignedData, index: _HashIndex) -> Iterator[bytes]:
    """Digests of the certificates, CRLs and OCSP responses that the index names."""
    algorithm = index["algorithm"]["algorithm"].native
    if algorithm not in _DIGESTS:
        raise ValueError("an index under an algorithm that is not accepted")
    named = {value.native for part in ("certificates", "crls") for value in index[part]}
    for choice in cms_parts.choices(signed_data["certificates"]):
        if hashlib.new(algorithm, choice.dump()).digest() in named:
            yield hashlib.sha256(choice.chosen.dump()).digest()
    for choice in cms_parts.choices(signed_data["crls"]):
        if hashlib.new(algorithm, choice.dump()).digest() in named:
            yield hashlib.sha256(cms_parts.evidence_in(choice)).digest()
    values = {value.native for value in index["unsigned_attribute_values"]}
    for attribute in cms_parts.choices(signed_data["signer_infos"][0]["unsigned_attrs"]):
        for value in attribute["values"]:
            if hashlib.new(algorithm, attribute["type"].dump() + value.dump()).digest() in values:
                yield from _covered_in(attribute, value)


def _covered_in(attribute: cms.CMSAttribute, value: core.Asn1Value) -> Iterator[bytes]:
    """What stands inside an attribute that is covered as a whole."""
    if attribute["type"].native == "signature_time_stamp_token":
        inside = value["content"]
        pieces = (*cms_parts.certificates_der(inside), *cms_parts.crls_der(inside), *cms_parts.ocsps_der(inside))
    else:
        pieces = tuple(cms_parts.pieces_of_value(attribute["type"].dotted, value.dump()))
    for piece in pieces:
        yield hashlib.sha256(piece).digest()
