"""Checking the signer's certificate before anything is prepared for it."""

from collections.abc import Sequence
from datetime import datetime

from asn1crypto import x509
from pyhanko.sign.validation.generic_cms import validate_cert_usage
from pyhanko_certvalidator import ValidationContext

from services.documents.confined import pdf, trust
from services.documents.errors import SignerCertificateError


def check(certificates_der: Sequence[bytes], *, anchors: Sequence[x509.Certificate], at: datetime) -> None:
    """Check that the first certificate leads to an anchor through the others and may sign documents at that time.

    Revocation is left to the authority and the signer, who disables a revoked credential first.
    Raises SignerCertificateError.
    """
    try:
        signer, *others = (x509.Certificate.load(der, strict=True) for der in certificates_der)
        judgement = trust.judgement(anchors, at=at, certificates=others, revocation=False)
        context: ValidationContext = judgement.spec.cert_validation_policy.build_validation_context(
            judgement.timing, judgement.data()
        )
        paths = context.path_builder.async_build_paths_lazy(signer)
        result = trust.run(validate_cert_usage(signer, context, trust.SIGNER_KEY_USAGE, paths))
    except pdf.MALFORMED as error:
        raise SignerCertificateError("a certificate of the signer's chain cannot be read") from error
    if result.error_subindic is not None:
        cause = str(result.error_subindic.standard_name)
        raise SignerCertificateError(
            "the signer's certificate may not sign documents now", metadata={"sub_indication": cause}
        )
