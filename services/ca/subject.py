"""The subject of a certificate: of a person, of a person who acts for an organisation, of the authority itself.

Kazakhstan's conventions: serialNumber=IIN and 12 digits; O and OU=BIN and 12 digits for a legal entity.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from mesh.errors import Code, FinIdError
from mesh.facts import Release

# RFC 5280 appendix A: ub-common-name, in characters; surname and given name may be far longer (ub-name). Many read it
# as octets, of which a Cyrillic letter takes two, so what can be left out is left out by that measure.
_MAX_COMMON_NAME = 64
# ub-organization-name.
_MAX_ORGANIZATION = 64
_BIN_DIGITS = 12


class SubjectUnusableError(FinIdError):
    """The person's name does not fit into a certificate."""

    code = Code.FAILED_PRECONDITION
    reason = "SUBJECT_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Organization:
    """A legal entity: its name and its BIN of 12 digits. Raises SubjectUnusableError for others."""

    name: str
    bin: str

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= _MAX_ORGANIZATION or not _is_bin(self.bin):
            raise SubjectUnusableError("the organisation's name or BIN does not fit into a certificate")


def _is_bin(text: str) -> bool:
    """12 digits of which the last is the control digit: a weighted sum modulo 11, weighted anew if that gives 10."""
    if len(text) != _BIN_DIGITS or not text.isascii() or not text.isdigit():
        return False
    digits = [int(digit) for digit in text]
    for weights in (range(1, 12), (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)):
        control = sum(weight * digit for weight, digit in zip(weights, digits, strict=False)) % 11
        if control < 10:  # noqa: PLR2004  a digit
            return control == digits[-1]
    return False


def of_legal_entity(release: Release, organization: Organization) -> x509.Name:
    """`of_person`, and O, OU=BIN and 12 digits. Raises SubjectUnusableError."""
    own = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization.name, _validate=False),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"BIN{organization.bin}"),
    ]
    return x509.Name([*of_person(release), *own])


def of_person(release: Release) -> x509.Name:
    """C=KZ, serialNumber=IIN and 12 digits, SN, GN, CN; the patronymic is in CN alone, where it fits.

    Raises SubjectUnusableError when a name is missing or too long.
    """
    names = (release.family_name, release.given_name)
    common_name = " ".join(filter(None, (*names, release.patronymic)))
    if len(common_name.encode("utf-8")) > _MAX_COMMON_NAME:
        common_name = " ".join(names)
    if not all(names) or len(common_name) > _MAX_COMMON_NAME:
        raise SubjectUnusableError("the person's name is missing or longer than a certificate can hold")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "KZ"),
            # cryptography is one of those who count octets; the lint counts characters.
            x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False),
            x509.NameAttribute(NameOID.SURNAME, release.family_name),
            x509.NameAttribute(NameOID.GIVEN_NAME, release.given_name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"IIN{release.iin}"),
        ]
    )


def of_authority(organization: str, common_name: str) -> x509.Name:
    """C=KZ, O, CN of one of the authority's own certificates."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "KZ"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
