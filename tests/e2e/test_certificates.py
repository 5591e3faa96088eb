"""The life of a person's certificate through the whole mesh: issued, replaced, revoked; each ends the one before."""

import asyncio
import base64

import pytest
from cryptography import x509
from cryptography.x509 import ReasonFlags

from deploy.demo.contract import contract_pdf
from tests.e2e.signer import Signer

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]


async def _revoked(signer: Signer) -> dict[str, ReasonFlags | None]:
    """Every certificate of the public list by its name, and why it is there."""
    crl = x509.load_der_x509_crl(await signer.bank.fetch("GET", "/pki/issuing.crl"))
    found: dict[str, ReasonFlags | None] = {}
    for entry in crl:
        reasons = [extension.value for extension in entry.extensions if isinstance(extension.value, x509.CRLReason)]
        found[f"certificates/{entry.serial_number:x}"] = reasons[0].reason if reasons else None
    return found


def _sign_with(certificate: str) -> dict[str, object]:
    document = {
        "title": "Agreement",
        "content": base64.b64encode(contract_pdf()).decode(),
        "format": "SIGNATURE_FORMAT_CADES_DETACHED",
        "level": "SIGNATURE_LEVEL_B_T",
    }
    return {"certificate": certificate, "documents": [document]}


async def _life(signer: Signer) -> None:
    first = signer.certificate
    signature = await signer.sign()

    change = await signer.suspend()
    assert (change["state"], change["certificate"]) == ("OPERATION_STATE_DONE", first)
    assert (await _revoked(signer))[first] is ReasonFlags.certificate_hold
    assert await signer.not_begun("/v1/signatures", _sign_with(first)) == "CERTIFICATE_STATE"
    await signer.resume()
    assert first not in await _revoked(signer)
    await signer.sign()

    await signer.reissue()
    second = signer.certificate
    assert second != first
    assert await signer.not_begun("/v1/signatures", _sign_with(first)) == "CERTIFICATE_STATE"
    await signer.sign()

    change = await signer.revoke("REVOCATION_REASON_KEY_COMPROMISE")
    assert (change["state"], change["certificate"]) == ("OPERATION_STATE_DONE", second)
    assert (await _revoked(signer))[second] is ReasonFlags.key_compromise
    assert await signer.not_begun("/v1/signatures", _sign_with(second)) == "CERTIFICATE_STATE"

    # What was signed while the first certificate was good still is: its time stamp says when.
    body = {
        "signed": base64.b64encode(signature).decode(),
        "content": base64.b64encode(contract_pdf()).decode(),
    }
    report = await signer.bank.call("POST", "/v1/documents:verify", body)
    assert report["indication"] == "INDICATION_TOTAL_PASSED"

    await signer.enrol()
    await signer.sign()


def test_a_certificate_is_replaced_and_revoked_and_signs_no_more(
    loop: asyncio.AbstractEventLoop, signer: Signer
) -> None:
    loop.run_until_complete(_life(signer))
