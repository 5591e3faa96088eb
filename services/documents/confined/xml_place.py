"""Reading uploaded XML for a signature inside it (XMLDSIG, Canonical XML 1.0).

Nothing is expanded, loaded or fetched: a document with a DTD is refused before anything else looks at it, and without
one there are no entities, no default attributes and no external parts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lxml import etree

from services.documents.confined import xml
from services.documents.errors import XmlBrokenError, XmlDoctypeError, XmlLockedError
from services.documents.xades import NOT_SIGNATURES

_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_SIGNATURE: Final = f"{_DS}Signature"
_PROBE: Final = b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"></ds:Signature>'
MAX_NODES: Final = xml.MAX_NODES - 10_000
"""Less than validation reads: what was signed here, by several people too, must not be too large to be validated."""
# Filters that take every signature out, also one that is added later. The last is what XML Signature Filter 2.0 has.
_LEAVES_SIGNATURES_OUT: Final = {NOT_SIGNATURES, "/descendant::ds:Signature"}


def read(content: bytes) -> tuple[bytes, int]:
    """Return the canonical form of a document without its signatures, and the position of the tag that ends it.

    Raises XmlBrokenError, XmlLockedError, DocumentTooComplexError.
    """
    with _refusing_broken():
        at = xml.survey(content, max_nodes=MAX_NODES)
    tree = _parse(content)
    if content[at : at + 2] != b"</":
        raise XmlBrokenError("the XML has nothing between its outermost tags")
    for reference in tree.iter(f"{_DS}Reference"):
        _refuse_locked(reference)
    canonical = _canonical(tree)
    # Two parsers read the document: what the one found must be a place inside what the other one canonicalises.
    probed = _parse(content[:at] + _PROBE + content[at:])
    if probed.getroot()[-1].tag != _SIGNATURE or _canonical(probed) != canonical:
        raise XmlBrokenError("there is no place for a signature in the XML")
    return canonical, at


@contextmanager
def _refusing_broken() -> Iterator[None]:
    try:
        yield
    except XmlDoctypeError as error:
        raise XmlBrokenError("the XML has a DTD: send it without") from error
    except xml.XmlError as error:
        raise XmlBrokenError("the XML is not well-formed, or not in UTF-8") from error


def _parse(content: bytes) -> "etree._ElementTree":
    with _refusing_broken():
        return xml.parse(content).getroottree()


def _canonical(tree: "etree._ElementTree") -> bytes:
    """Inclusive C14N 1.0 without comments of everything but signatures; takes them out of the tree."""
    root = tree.getroot()
    if root.tag == _SIGNATURE:
        raise XmlBrokenError("the XML is a signature, and no document to sign")
    for signature in list(root.iter(_SIGNATURE)):
        parent = signature.getparent()
        if parent is not None:
            _remove(parent, signature)
    try:
        return bytes(etree.tostring(tree, method="c14n", exclusive=False, with_comments=False))
    except etree.LxmlError as error:
        raise XmlBrokenError("the XML has no canonical form") from error


def _remove(parent: "etree._Element", child: "etree._Element") -> None:
    """Take an element out and leave the text behind it where it is."""
    if child.tail:
        before = child.getprevious()
        if before is None:
            parent.text = (parent.text or "") + child.tail
        else:
            before.tail = (before.tail or "") + child.tail
    parent.remove(child)


def _refuse_locked(reference: "etree._Element") -> None:
    """Refuse a document whose signature covers what a further signature changes: the document as a whole."""
    uri = reference.get("URI", "")
    root = reference.getroottree().getroot()
    if uri and uri.lstrip("#") not in {root.get(name) for name in ("Id", "ID", "id")} and uri != "#xpointer(/)":
        return
    expressions = {"".join(item.itertext()).strip() for item in reference.iter() if str(item.tag).endswith("}XPath")}
    if not expressions & _LEAVES_SIGNATURES_OUT:
        raise XmlLockedError("an earlier signature covers the whole document; another signature would break it")
