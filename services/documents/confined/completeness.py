"""Checking that evidence is complete before it goes into a signature: later nobody can be asked any more."""

from collections.abc import Sequence
from datetime import datetime

from asn1crypto import crl, ocsp, x509
from pyhanko.sign.general import CMSExtractionError, extract_certificate_info
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import PathBuildingError, PathValidationError

from services.documents.confined import pdf, time_stamp, trust
from services.documents.confined.pdf_extension import Store
from services.documents.errors import EvidenceInsufficientError


def check(store: Store, tokens: Sequence[bytes], *, anchors: Sequence[x509.Certificate], now: datetime) -> None:
    """Check that the store shows its first certificate, and each token's signer, to be good now, up to an anchor.

    Raises EvidenceInsufficientError, TimeStampMalformedError.
    """
    try:
        signer, *others = (x509.Certificate.load(item, strict=True) for item in store.certificates)
        subjects = [signer]
        for token in tokens:
            found = extract_certificate_info(time_stamp.read(token)[0])
            subjects.append(found.signer_cert)
            others += found.other_certs
        for subject in {subject.dump(): subject for subject in subjects}.values():
            trust.run(CertificateValidator(subject, others, _context(store, anchors, now)).async_validate_path())
    except (PathBuildingError, PathValidationError) as error:
        raise EvidenceInsufficientError(
            "the revocation status does not show signer and time stamp authority to be good now",
            metadata={"cause": type(error).__name__},
        ) from error
    except (*pdf.MALFORMED, CMSExtractionError) as error:
        raise EvidenceInsufficientError("a certificate or its revocation status cannot be read") from error


def _context(store: Store, anchors: Sequence[x509.Certificate], now: datetime) -> ValidationContext:
    return ValidationContext(
        trust_roots=list(anchors),
        ocsps=[ocsp.OCSPResponse.load(item, strict=True) for item in store.ocsp_responses],
        crls=[crl.CertificateList.load(item, strict=True) for item in store.crls],
        allow_fetching=False,
        revocation_mode="require",
        moment=now,
    )
