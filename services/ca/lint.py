"""Linting a certificate before it is signed: RFC 5280's rules, by pkilint, over a copy that a throw-away key signed.

A certificate that breaks a rule cannot be called back once it has left, only revoked (CA/Browser Forum and boulder do
the same). About 5 ms a certificate.
"""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader
from pkilint.pkix import certificate, extension, name
from pkilint.validation import ValidationFindingSeverity

from mesh.errors import Code, FinIdError
from services.ca.signing import SignBuilt, Signing

# NOTICE, INFO and DEBUG describe; these say that something is wrong.
_WRONG = frozenset(
    {ValidationFindingSeverity.FATAL, ValidationFindingSeverity.ERROR, ValidationFindingSeverity.WARNING}
)

_VALIDATOR = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)


class LintError(FinIdError):
    """The certificate would break a rule of RFC 5280; metadata names the rules. Nothing was signed."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_LINT_FAILED"


def findings(certificate_der: bytes) -> list[str]:
    """The codes of what is wrong with a certificate, sorted; [] when nothing is."""
    root = loader.load_der_certificate(certificate_der, "certificate").root
    return sorted(
        {
            described.finding.code
            for result in _VALIDATOR.validate(root)
            for described in result.finding_descriptions
            if described.finding.severity in _WRONG
        }
    )


def require_clean(certificate: x509.Certificate) -> None:
    """Raise LintError when anything is wrong with a certificate."""
    broken = findings(certificate.public_bytes(Encoding.DER))
    if broken:
        raise LintError("the certificate would break its profile", metadata={"findings": " ".join(broken)[:512]})


def linted_copy(sign_copy: SignBuilt, signing: Signing) -> x509.Certificate:
    """Lint what `sign_copy` makes with a throw-away key that signs as the issuer's does; give that copy.

    Raises LintError.
    """
    copy = sign_copy(signing.throw_away_key())
    require_clean(copy)
    return copy
