"""Reading uploaded XML: no document type, no entities, no network, in UTF-8, and not deeper or wider than is followed.

expat reads first and stops at the first thing that is not wanted, before a tree is made; then libxml2 makes the tree.
"""

from typing import Final
from xml.parsers import expat

from lxml import etree

from services.documents.errors import DocumentTooComplexError, XmlDoctypeError

MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000
"""Elements, attributes, namespace declarations and processing instructions together."""
_ENCODINGS: Final = {None, "utf-8", "us-ascii"}


class XmlError(ValueError):
    """Not well-formed XML, or not in UTF-8."""


def read(content: bytes) -> etree._Element:
    """Return the root of a document.

    Raises XmlDoctypeError, DocumentTooComplexError, XmlError.
    """
    survey(content)
    return parse(content)


def survey(content: bytes, *, max_nodes: int = MAX_NODES) -> int:
    """Go through a document once without keeping anything of it; return the position of the tag that ends it.

    Raises XmlDoctypeError, DocumentTooComplexError, XmlError.
    """
    return _Survey(max_nodes).read(content)


def parse(content: bytes) -> etree._Element:
    """Make the tree of a document that was surveyed. Raises XmlDoctypeError, XmlError."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        collect_ids=False,
        remove_blank_text=False,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.LxmlError, ValueError) as error:
        raise XmlError("not well-formed XML") from error
    document = root.getroottree().docinfo
    if document.internalDTD is not None:
        raise XmlDoctypeError("XML with a document type is not read")
    if (document.encoding or "utf-8").lower() not in _ENCODINGS | {"ascii"}:
        raise XmlError("XML in another encoding than UTF-8")
    return root


class _Survey:
    def __init__(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._depth = 0
        self._nodes = 0
        self._end = -1
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartNamespaceDeclHandler = self._instruction
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._ends
        self._parser.ProcessingInstructionHandler = self._instruction

    def read(self, content: bytes) -> int:
        try:
            self._parser.Parse(content, True)
        except XmlError:
            raise
        except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an encoding that nobody knows
            raise XmlError("not well-formed XML") from error
        return self._end

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise XmlError("XML in another encoding than UTF-8")

    def _doctype(self, *_: object) -> None:
        raise XmlDoctypeError("XML with a document type is not read")

    def _start(self, _name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count(1 + len(attributes))
        if self._depth > MAX_DEPTH:
            raise DocumentTooComplexError("the document nests deeper than is followed")

    def _ends(self, _name: str) -> None:
        self._depth -= 1
        if not self._depth:
            self._end = self._parser.CurrentByteIndex

    def _instruction(self, *_: object) -> None:
        self._count(1)

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._max_nodes:
            raise DocumentTooComplexError(f"more than {self._max_nodes} elements and attributes in one document")
