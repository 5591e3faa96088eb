"""The subject of a person's certificate, from what the registry released."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from mesh.errors import Code, FinIdError
from mesh.facts import Release

# RFC 5280 appendix A: ub-common-name, in characters; surname and given name may be far longer (ub-name). Many read it
# as octets, of which a Cyrillic letter takes two, so what can be left out is left out by that measure.
_MAX_COMMON_NAME = 64


class SubjectUnusableError(FinIdError):
    """The person's name does not fit into a certificate."""

    code = Code.FAILED_PRECONDITION
    reason = "SUBJECT_UNUSABLE"


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
