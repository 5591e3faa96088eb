"""Taking CMS apart that others made: signatures to which one more is added, and time stamp tokens (RFC 5652)."""

from collections.abc import Mapping
from typing import Final

from asn1crypto import cms, core
from pyhanko.sign.general import CMSExtractionError, find_unique_cms_attribute

from services.documents.confined import pdf, time_stamp
from services.documents.errors import EarlierSignatureError, TimeStampMalformedError

MAX_SIGNERS: Final = 32
_VERSIONS: Final = {"v0": 0, "v1": 1, "v2": 2, "v3": 3, "v4": 4, "v5": 5}
_HASH_INDEX_V3: Final = "0.4.0.1733.2.5"

Sets = tuple[list[bytes], list[bytes], list[bytes], list[bytes]]


class _HashIndexAttribute(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    _fields = [("type", core.ObjectIdentifier), ("values", core.SetOf, {"spec": core.Any})]  # noqa: RUF012


def read(signed: bytes, content_digests: Mapping[str, bytes]) -> tuple[int, Sets]:
    """Return version, digest algorithms, certificates, revocation and SignerInfos of a CMS over the content.

    Raises EarlierSignatureError: unless it is DER, and every signer signed content with these digests.
    """
    try:
        envelope = cms.ContentInfo.load(signed, strict=True)
        if envelope["content_type"].native != "signed_data":
            raise EarlierSignatureError("the earlier signature is no SignedData")
        content = envelope["content"]
        _refuse_other_content(content, content_digests)
        _refuse_other_encoding(content)
        sets = (
            [item.dump() for item in content["digest_algorithms"]],
            [item.dump() for item in content["certificates"] or ()],
            [item.dump() for item in content["crls"] or ()],
            [item.dump() for item in content["signer_infos"]],
        )
        return _VERSIONS[content["version"].native], sets
    except (*pdf.MALFORMED, CMSExtractionError) as error:
        raise EarlierSignatureError("the earlier signature is no CMS signature in DER") from error


def with_hash_index(token_der: bytes, index_der: bytes) -> bytes:
    """Return a token with an ats-hash-index-v3 as its only unsigned attribute (EN 319 122-1, 5.5.2).

    Raises TimeStampMalformedError.
    """
    signed_data, _ = time_stamp.read(token_der)
    try:
        [info] = signed_data["signer_infos"]
        attribute = _HashIndexAttribute({"type": _HASH_INDEX_V3, "values": [core.Any.load(index_der)]})
        info["unsigned_attrs"] = cms.CMSAttributes([cms.CMSAttribute.load(attribute.dump())])
        signed_data["signer_infos"] = [info]
        return bytes(cms.ContentInfo({"content_type": "signed_data", "content": signed_data}).dump())
    except pdf.MALFORMED as error:
        raise TimeStampMalformedError("the time stamp token cannot be taken over") from error


def _refuse_other_content(content: cms.SignedData, digests: Mapping[str, bytes]) -> None:
    infos = content["signer_infos"]
    if not 1 <= len(infos) <= MAX_SIGNERS:
        raise EarlierSignatureError(f"the earlier signature is not by one to {MAX_SIGNERS} signers")
    if content["encap_content_info"]["content_type"].native != "data":
        raise EarlierSignatureError("the earlier signature is over something else than data")
    for info in infos:
        signed = find_unique_cms_attribute(info["signed_attrs"], "message_digest").native
        if digests.get(info["digest_algorithm"]["algorithm"].native) != signed:
            raise EarlierSignatureError("an earlier signature is over another content")


def _refuse_other_encoding(content: cms.SignedData) -> None:
    """The signed attributes are verified as DER: they must be left as they are."""
    for info in content["signer_infos"]:
        attributes = info["signed_attrs"]
        if attributes.untag().dump(force=True) != attributes.untag().dump():
            raise EarlierSignatureError("an earlier signature is not in DER")
