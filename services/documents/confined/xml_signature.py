"""XML signatures (XMLDSig core): which bytes a signature covers, and whether its digests and its value hold.

Stricter than the standard, since what is not understood or not covered is how signatures are wrapped around other
content (XSW): only the transforms below, every id once, nothing in a ds:Signature that nobody asked for, and the
answer says what is covered. Written on lxml's canonicalisation: signxml's verifier takes the first signature of a
document for the only one, and passes over transforms that it does not know.
"""

import base64
import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from lxml import etree

from services.documents.report import FoundFormat, Indication

DS: Final = "http://www.w3.org/2000/09/xmldsig#"
MAX_REFERENCES: Final = 32
_C14N: Final = {
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315": False,
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments": False,
    "http://www.w3.org/2006/12/xml-c14n11": False,
    "http://www.w3.org/2006/12/xml-c14n11#WithComments": False,
    "http://www.w3.org/2001/10/xml-exc-c14n#": True,
    "http://www.w3.org/2001/10/xml-exc-c14n#WithComments": True,
}
"""Algorithm → exclusive."""
_DEFAULT_C14N: Final = next(iter(_C14N))
_INCLUSIVE_NAMESPACES: Final = "{http://www.w3.org/2001/10/xml-exc-c14n#}InclusiveNamespaces"
_ENVELOPED: Final = f"{DS}enveloped-signature"
_XPATH: Final = "http://www.w3.org/TR/1999/REC-xpath-19991116"
_WITHOUT_SIGNATURES: Final = "not(ancestor-or-self::{}:Signature)"
DIGESTS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_HASHES: Final[Mapping[str, Callable[[], hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_ECDSA: Final = {f"{_MORE}ecdsa-{name}": name for name in _HASHES}
_RSA: Final = {f"{_MORE}rsa-{name}": name for name in _HASHES}
_PSS: Final = {f"{_MORE_2007}{name}-rsa-MGF1": name for name in _HASHES}
_ID_ATTRIBUTES: Final = ("Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id")


class RefusalError(ValueError):
    """A signature that does not pass; the message says why when there is more to say than the sub-indication."""

    indication = Indication.TOTAL_FAILED
    sub_indication = "FORMAT_FAILURE"


class FormatError(RefusalError):
    """The signature is not well-formed, or not in the way that is accepted."""


class AlgorithmError(RefusalError):
    """An algorithm that is not accepted."""

    indication = Indication.INDETERMINATE
    sub_indication = "CRYPTO_CONSTRAINTS_FAILURE"


class HashError(RefusalError):
    """What a reference names has another digest."""

    sub_indication = "HASH_FAILURE"


class SignatureValueError(RefusalError):
    """The signature value does not verify."""

    sub_indication = "SIG_CRYPTO_FAILURE"


class ContentMissingError(RefusalError):
    """The signature is over content that was not given."""

    indication = Indication.INDETERMINATE
    sub_indication = "SIGNED_DATA_NOT_FOUND"


class NoSignerError(RefusalError):
    """No certificate is there, or not the one that was signed for."""

    indication = Indication.INDETERMINATE
    sub_indication = "NO_SIGNING_CERTIFICATE_FOUND"


@dataclass(frozen=True, slots=True)
class Reference:
    """A ds:Reference whose digest holds: its target within the document, and the very bytes that are digested."""

    target: etree._Element | None
    octets: bytes | None


@dataclass(frozen=True, slots=True)
class XmlSignature:
    """A ds:Signature in its document."""

    element: etree._Element
    signed_info: etree._Element
    value: etree._Element
    key_info: etree._Element | None
    objects: tuple[etree._Element, ...]

    @property
    def root(self) -> etree._Element:
        """The document's root."""
        return self.element.getroottree().getroot()


def ds(name: str) -> str:
    """A name in the namespace of XML signatures."""
    return f"{{{DS}}}{name}"


def structure_of(element: etree._Element) -> XmlSignature:
    """Take a ds:Signature apart. Raises FormatError when anything else than the schema foresees is in it."""
    children = [child for child in element if isinstance(child.tag, str)]
    names = [child.tag for child in children]
    head, rest = names[:2], names[2:]
    has_key_info = bool(rest) and rest[0] == ds("KeyInfo")
    objects = children[2 + has_key_info :]
    if head != [ds("SignedInfo"), ds("SignatureValue")] or any(child.tag != ds("Object") for child in objects):
        raise FormatError("a ds:Signature with other parts than a signature has")
    return XmlSignature(element, children[0], children[1], children[2] if has_key_info else None, tuple(objects))


def certificates_der(signature: XmlSignature) -> Iterator[bytes]:
    """Certificates in ds:KeyInfo."""
    if signature.key_info is not None:
        for found in signature.key_info.iter(ds("X509Certificate")):
            yield decoded(found)


def decoded(element: etree._Element) -> bytes:
    """The base64 text of an element. Raises FormatError."""
    text = "".join((element.text or "").split())
    if len(element):
        raise FormatError("elements where base64 is expected")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FormatError("no base64 where it is expected") from error


def canonical(
    element: etree._Element | etree._ElementTree, method: etree._Element | None = None, *, comments: bool = True
) -> bytes:
    """Canonical XML of an element or a whole document, by a ds:CanonicalizationMethod or ds:Transform.

    Without a method plain C14N; `comments` are kept where the method keeps them. Raises AlgorithmError.
    """
    algorithm = _DEFAULT_C14N if method is None else method.get("Algorithm", "")
    if algorithm not in _C14N:
        raise AlgorithmError("a canonicalisation that is not accepted")
    prefixes: list[str] = []
    for parameter in () if method is None else method:
        if parameter.tag != _INCLUSIVE_NAMESPACES or not _C14N[algorithm]:
            raise AlgorithmError("a canonicalisation with parameters that are not accepted")
        prefixes = parameter.get("PrefixList", "").split()
    return bytes(
        etree.tostring(
            element,
            method="c14n",
            exclusive=_C14N[algorithm],
            with_comments=comments and algorithm.endswith("#WithComments"),
            inclusive_ns_prefixes=prefixes or None,
        )
    )


def references(signature: XmlSignature, content_digests: Mapping[str, bytes]) -> tuple[Reference, ...]:
    """Check every reference of a signature, in order.

    `content_digests` are those of the detached content, empty when none was given.
    Raises FormatError, AlgorithmError, HashError, ContentMissingError.
    """
    found = signature.signed_info.findall(ds("Reference"))
    others = [child.tag for child in signature.signed_info if isinstance(child.tag, str)]
    if others[:2] != [ds("CanonicalizationMethod"), ds("SignatureMethod")] or len(others) != len(found) + 2:
        raise FormatError("a ds:SignedInfo with other parts than it has")
    if not 1 <= len(found) <= MAX_REFERENCES:
        raise FormatError(f"not 1 to {MAX_REFERENCES} references in one signature")
    external = [reference for reference in found if not (reference.get("URI") or "#").startswith("#")]
    unnamed = [reference for reference in found if reference.get("URI") is None]
    if len(external) + len(unnamed) > 1:
        raise ContentMissingError("a signature over several contents")
    return tuple(_checked(signature, reference, content_digests) for reference in found)


def verify_value(signature: XmlSignature, certificate: x509.Certificate) -> None:
    """Check the signature value under a certificate's key. Raises AlgorithmError, FormatError, SignatureValueError."""
    algorithm = _one(signature.signed_info, "SignatureMethod").get("Algorithm", "")
    signed = canonical(signature.signed_info, _one(signature.signed_info, "CanonicalizationMethod"))
    value = decoded(signature.value)
    key = certificate.public_key()
    try:
        if algorithm in _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_ecdsa_der(value, key), signed, ec.ECDSA(_HASHES[_ECDSA[algorithm]]()))
        elif algorithm in _RSA and isinstance(key, rsa.RSAPublicKey):
            key.verify(value, signed, padding.PKCS1v15(), _HASHES[_RSA[algorithm]]())
        elif algorithm in _PSS and isinstance(key, rsa.RSAPublicKey):
            digest = _HASHES[_PSS[algorithm]]()
            key.verify(value, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        else:
            raise AlgorithmError("a signature algorithm that is not accepted, or a key of another kind")
    except InvalidSignature as error:
        raise SignatureValueError from error


def coverage(signature: XmlSignature, checked: tuple[Reference, ...], own: frozenset[etree._Element]) -> FoundFormat:
    """How the signature and the document belong together.

    `own` are ds:Objects of the signature that hold what is about it (XAdES properties) and no content.
    Raises FormatError when the document, or anything in the signature, is not covered: it could be anybody's.
    """
    targets = [reference.target for reference in checked]
    root = signature.root
    covered = {target for target in targets if target is not None}
    for element in signature.objects:
        if element not in own and element not in covered:
            raise FormatError("a ds:Object that the signature does not cover")
    if root is signature.element:
        if None in targets:
            return FoundFormat.XADES_DETACHED
        if any(element in covered for element in signature.objects if element not in own):
            return FoundFormat.XADES_ENVELOPING
        raise FormatError("the signature covers no content")
    if root not in covered:
        raise FormatError("the signature covers a part of the document only; the rest could be anybody's")
    if None in targets:
        raise FormatError("one signature over the document around it and over content beside it")
    return FoundFormat.XADES_ENVELOPED


def _one(parent: etree._Element, name: str) -> etree._Element:
    found = parent.findall(ds(name))
    if len(found) != 1:
        raise FormatError(f"not exactly one ds:{name}")
    return found[0]


def _checked(signature: XmlSignature, reference: etree._Element, content_digests: Mapping[str, bytes]) -> Reference:
    algorithm = DIGESTS.get(_one(reference, "DigestMethod").get("Algorithm", ""))
    if algorithm is None:
        raise AlgorithmError("a digest algorithm that is not accepted")
    wanted = decoded(_one(reference, "DigestValue"))
    transforms = [transform for part in reference.findall(ds("Transforms")) for transform in part]
    uri = reference.get("URI")
    if uri is None or (uri and not uri.startswith("#")):
        if transforms:
            raise AlgorithmError("a transform of content outside the document is not accepted")
        if algorithm not in content_digests:
            raise ContentMissingError
        if content_digests[algorithm] != wanted:
            raise HashError
        return Reference(None, None)
    target = signature.root if not uri else _by_id(signature.root, uri[1:])
    octets = _transformed(signature, target, transforms, whole=not uri)
    if hashlib.new(algorithm, octets).digest() != wanted:
        raise HashError
    return Reference(target, octets)


def _by_id(root: etree._Element, identifier: str) -> etree._Element:
    """The one element that carries an id under any of the names that signers use for ids."""
    found = [
        element
        for element in root.iter(etree.Element)
        if any(element.get(attribute) == identifier for attribute in _ID_ATTRIBUTES)
    ]
    if len(found) != 1:
        raise FormatError("a reference to an id that is not there exactly once")
    return found[0]


def _transformed(
    signature: XmlSignature, target: etree._Element, transforms: list[etree._Element], *, whole: bool
) -> bytes:
    """The bytes that a reference to this document digests; comments are never among them (XMLDSig 4.4.3.3)."""
    method: etree._Element | None = None
    removed: set[etree._Element] = set()
    for transform in transforms:
        algorithm = transform.get("Algorithm", "")
        if transform.tag != ds("Transform") or method is not None:
            raise AlgorithmError("a transform after the canonicalisation is not accepted")
        if algorithm == _ENVELOPED:
            removed.add(signature.element)
        elif algorithm == _XPATH and _excludes_signatures(transform):
            removed.update(signature.root.iter(ds("Signature")))
        elif algorithm in _C14N:
            method = transform
        else:
            raise AlgorithmError("a transform that is not accepted")
    if removed and signature.element in set(target.iterancestors()) | {target}:
        raise FormatError("a signature that leaves out what it is over")
    copied, element = _without(target, removed)
    return canonical(copied if whole else element, method, comments=False)


def _without(target: etree._Element, removed: set[etree._Element]) -> tuple[etree._ElementTree, etree._Element]:
    """A copy of the document, and the target in it, without some signatures; the text behind them stays."""
    tree = target.getroottree()
    if not removed:
        return tree, target
    paths = [_path(element) for element in removed]
    target_path = _path(target)
    copied = copy.deepcopy(tree)
    root = copied.getroot()
    element = _at(root, target_path)
    for gone in [_at(root, path) for path in paths]:
        parent = gone.getparent()
        if parent is not None:
            _remove(parent, gone)
    return copied, element


def _path(element: etree._Element) -> list[int]:
    path = []
    parent = element.getparent()
    while parent is not None:
        path.append(parent.index(element))
        element, parent = parent, parent.getparent()
    return path[::-1]


def _at(root: etree._Element, path: list[int]) -> etree._Element:
    for index in path:
        root = root[index]
    return root


def _remove(parent: etree._Element, gone: etree._Element) -> None:
    tail = gone.tail or ""
    before = gone.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    gone.tail = None
    parent.remove(gone)


def _excludes_signatures(transform: etree._Element) -> bool:
    expressions = transform.findall(ds("XPath"))
    if len(expressions) != 1 or len(transform) != 1:
        return False
    [expression] = expressions
    text = "".join((expression.text or "").split())
    prefixes = [prefix for prefix, uri in expression.nsmap.items() if uri == DS and prefix]
    return any(text == _WITHOUT_SIGNATURES.format(prefix) for prefix in prefixes)


def _ecdsa_der(value: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """r ‖ s (RFC 4050) as DER."""
    size = (key.key_size + 7) // 8
    if len(value) != 2 * size:
        raise FormatError("an ECDSA value of another length than its key asks for")
    return utils.encode_dss_signature(int.from_bytes(value[:size]), int.from_bytes(value[size:]))
