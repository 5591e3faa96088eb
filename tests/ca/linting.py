"""pkilint as the judge of revocation lists. Certificates are judged by the authority's own lint, `services.ca.lint`."""

from pkilint import loader, pkix
from pkilint.pkix import crl as pkix_crl
from pkilint.pkix import extension, name
from pkilint.validation import ValidationFindingSeverity

_CRL_VALIDATOR = pkix_crl.create_pkix_crl_validator_container(
    [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ],
    [
        pkix_crl.create_issuer_validator_container([]),
        pkix_crl.create_validity_validator_container([]),
        pkix_crl.create_extensions_validator_container([]),
    ],
)


def crl_findings(crl_der: bytes) -> list[str]:
    """The codes of what is wrong with a list (warning or worse)."""
    return [
        described.finding.code
        for result in _CRL_VALIDATOR.validate(loader.load_der_crl(crl_der, "crl").root)
        for described in result.finding_descriptions
        if described.finding.severity <= ValidationFindingSeverity.WARNING
    ]
