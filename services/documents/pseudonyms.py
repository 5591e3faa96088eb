"""By what a person's documents are found, without anybody's IIN in the database."""

import re
from typing import Final

from cryptography.x509 import InvalidVersion, load_der_x509_certificate
from cryptography.x509.oid import NameOID

from mesh.pseudonyms import Onion

PERSON_LABEL: Final = "documents-person"
"""Of the keys derived for pseudonyms."""
_IIN: Final = re.compile(r"IIN(\d{12})")
"""serialNumber in the subject of a Kazakh certificate."""


class Pseudonyms:
    """Keyed digests of IINs: without the key nobody tries all twelve digits, or compares with another room's.

    Under several keys, the oldest first, as `mesh.pseudonyms` says.
    """

    def __init__(self, *keys: bytes) -> None:
        self._onion = Onion(keys)

    def of(self, iin: str) -> bytes:
        """The pseudonym of a person."""
        return self._onion.of(b"finid-documents-person-v1\0" + iin.encode("ascii"))

    def lifted(self, person: bytes, since: int) -> bytes:
        """The pseudonym of whom the first `since` keys called so."""
        return self._onion.lifted(person, since)

    def of_certificate(self, certificate_der: bytes) -> bytes | None:
        """The pseudonym of the person whom a certificate names; None when it names none by an IIN."""
        try:
            subject = load_der_x509_certificate(certificate_der).subject
        except (InvalidVersion, ValueError):
            return None
        values = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
        found = [match for match in map(_IIN.fullmatch, values) if match]
        return self.of(found[0][1]) if len(found) == 1 else None
