"""The demonstration: one authentication, a certificate, signatures, what relying parties fetch, and four refusals.

It talks to Envoy and knows the public API; only the three attacks on the signer go round the gateway, in its name.
"""

import asyncio
import base64
import json
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from deploy.demo.camera import Person
from deploy.demo.contract import contract_pdf
from deploy.demo.evidence import write_evidence
from deploy.demo.hosted import confirm
from deploy.demo.intruder import Intruder, NotRefusedError
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Edge, Participant, Pkce
from deploy.demo.stream import Device
from mesh.settings import MeshSettings

_TITLE = "Agreement No. 2026-11"
_FORMATS = (("SIGNATURE_FORMAT_PADES", "contract.signed.pdf"), ("SIGNATURE_FORMAT_CADES_DETACHED", "contract.p7s"))


@dataclass(frozen=True, slots=True)
class SandboxPerson:
    """A person of the sandbox's state record."""

    iin: str
    phone: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the demonstration is given: where FinID is, credentials, phones, and the stolen identity of the gateway."""

    edge: Edge
    grpc_target: str
    client_id: str
    client_secret: str
    redirect_uri: str
    outbox: Path
    live: SandboxPerson
    """Whose face is before the camera."""
    other: SandboxPerson
    """Somebody else, whose identity the live person claims."""
    camera: Callable[[], Person]
    gateway: MeshSettings
    signer_address: str


Say = Callable[[str, Any], None]


class DemonstrationFailedError(Exception):
    """A step did not end as it must."""


@dataclass(slots=True)
class _Run:
    given: Surroundings
    out: Path
    say: Say
    log: RequestLog
    bank: Participant

    def write(self, name: str, content: bytes) -> None:
        (self.out / name).write_bytes(content)


async def walk(given: Surroundings, out: Path, say: Say) -> None:
    """Do it all, leaving files in the folder `out`. Raises DemonstrationFailedError when a step ends otherwise."""
    log = RequestLog()
    bank = await Participant.login(given.edge, log, given.client_id, given.client_secret)
    run = _Run(given, out, say, log, bank)
    try:
        async with asyncio.TaskGroup() as group:
            # An impostor is at another device meanwhile; what comes of it is shown at its place.
            impostor = group.create_task(_impostor(run))
            say("stage", "One FinID authentication, over one gRPC stream")
            await _identify(run)
            say("stage", "A registration certificate, through the hosted page")
            certificate = await _certificate(run)
            say("stage", "Cloud signatures on a contract, through the hosted page")
            evidence = await _sign(run, certificate)
            say("stage", "What must be refused")
            await _attacks(run, evidence)
            say("refusal", ("a live person who claims another's identity", *await impostor))
        say("stage", "What relying parties fetch")
        await _public_files(run, certificate)
    finally:
        log.write(out / "requests.http")
        await bank.close()


async def _identify(run: _Run) -> None:
    given = run.given
    started = time.monotonic()
    device = Device(given.edge, given.grpc_target, run.bank.access_token)
    phone = Phone(given.live.phone, given.outbox)
    result = await device.authenticate(given.live.iin, phone, given.camera(), run.say)
    run.say("verdict", (result, time.monotonic() - started))
    _require(result.get("verdict") == "VERDICT_SUCCESS", f"the authentication failed: {result.get('reason')}")
    run.write("result.json", (json.dumps(result, ensure_ascii=False, indent=2) + "\n").encode())
    write_evidence(run.out, await run.bank.call("GET", f"/v1/{result['name']}/evidence"))
    run.write("jwks.json", await run.bank.fetch("GET", "/pki/receipt-keys.json"))


async def _confirmed(run: _Run, order: dict[str, Any], pkce: Pkce, state: str) -> dict[str, Any]:
    """Let the person confirm on the hosted page; return the result that the bank then reads."""
    given = run.given
    started = time.monotonic()
    authentication = order["authentication"]
    phone = Phone(given.live.phone, given.outbox)
    back = await confirm(given.edge, run.log, authentication["captureUri"], given.camera(), phone, run.say)
    result = await run.bank.read_result(authentication["name"], back, pkce, state)
    run.say("verdict", (result, time.monotonic() - started))
    _require(result["verdict"] == "VERDICT_SUCCESS", f"the authentication failed: {result['reason']}")
    return result


def _create(run: _Run, pkce: Pkce, state: str, person: SandboxPerson) -> dict[str, Any]:
    """Return what every create call for the hosted page says."""
    return {
        "requestId": secrets.token_hex(16),
        "subject": {"iin": person.iin, "phone": person.phone},
        "returnTo": {"redirectUri": run.given.redirect_uri, "state": state, "codeChallenge": pkce.challenge},
        "language": "LANGUAGE_EN",
    }


async def _certificate(run: _Run) -> dict[str, Any]:
    pkce, state = Pkce(), secrets.token_urlsafe(16)
    body = _create(run, pkce, state, run.given.live) | {"profile": "individual-sign"}
    order = await run.bank.call("POST", "/v1/certificateOrders", body)
    await _confirmed(run, order, pkce, state)
    done = await run.bank.call("GET", f"/v1/{order['name']}")
    _require(done["state"] == "OPERATION_STATE_DONE", "the certificate was not issued")
    certificate: dict[str, Any] = done["certificate"]
    signer = x509.load_der_x509_certificate(base64.b64decode(certificate["certificateDer"]))
    run.write("signer.pem", signer.public_bytes(Encoding.PEM))
    run.write("chain.pem", await run.bank.fetch("GET", "/pki/chain.pem"))
    run.say("certificate", (certificate["name"], signer.not_valid_after_utc))
    return certificate


async def _sign(run: _Run, certificate: dict[str, Any]) -> dict[str, Any]:
    contract = contract_pdf()
    run.write("contract.pdf", contract)
    pkce, state = Pkce(), secrets.token_urlsafe(16)
    documents = [
        {
            "title": _TITLE,
            "content": base64.b64encode(contract).decode(),
            "format": signature_format,
            "level": "SIGNATURE_LEVEL_B_T",
        }
        for signature_format, _ in _FORMATS
    ]
    body = _create(run, pkce, state, run.given.live) | {"certificate": certificate["name"], "documents": documents}
    order = await run.bank.call("POST", "/v1/signatures", body)
    phone = Phone(run.given.live.phone, run.given.outbox)
    result = await _confirmed(run, order, pkce, state)
    run.say("notice", await phone.next_notice())
    evidence = await run.bank.call("GET", f"/v1/{result['name']}/evidence")
    write_evidence(run.out / "signing", evidence)
    done = await run.bank.call("GET", f"/v1/{order['name']}")
    _require(len(done["documents"]) == len(_FORMATS), "a signed document is missing")
    for document, (_, name) in zip(done["documents"], _FORMATS, strict=True):
        signed = await run.bank.fetch("GET", f"/v1/{document['name']}:download")
        run.write(name, signed)
        await _verified(run, name, signed, contract)
    listed = await run.bank.call("GET", "/v1/documents?pageSize=10")
    run.say("listed", len(listed["documents"]))
    return evidence


async def _verified(run: _Run, name: str, signed: bytes, contract: bytes) -> None:
    """Have FinID validate a signed document, and the same with one bit flipped."""
    body = {"signed": base64.b64encode(signed).decode()}
    if name.endswith(".p7s"):
        body["content"] = base64.b64encode(contract).decode()
        changed = body | {"content": base64.b64encode(_flipped(contract)).decode()}
    else:
        changed = {"signed": base64.b64encode(_flipped(signed)).decode()}
    report = await run.bank.call("POST", "/v1/documents:verify", body)
    broken = await run.bank.call("POST", "/v1/documents:verify", changed)
    run.say("validated", (name, report["signatures"][0], broken["indication"]))
    _require(report["indication"] == "INDICATION_TOTAL_PASSED", f"{name} does not validate")
    _require(broken["indication"] == "INDICATION_TOTAL_FAILED", f"a flipped bit in {name} was not noticed")


def _flipped(content: bytes) -> bytes:
    """Return a PDF with one bit changed in the size of its page: it opens as before and shows something else."""
    at = content.index(b"/MediaBox") + len(b"/MediaBox [ 0 0 ")
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


async def _attacks(run: _Run, evidence: dict[str, Any]) -> None:
    intruder = Intruder(run.given.gateway, run.given.signer_address, evidence)
    try:
        for attack in (intruder.without_the_code, intruder.another_digest, intruder.a_second_time):
            refusal = await attack()
            run.say("refusal", (refusal.tried, refusal.reason, refusal.message))
    except NotRefusedError as error:
        raise DemonstrationFailedError(f"the signer did not refuse: {error}") from error
    finally:
        await intruder.close()


async def _impostor(run: _Run) -> tuple[str, str]:
    """The live person before the camera, with another's IIN and phone; return reason and explanation."""
    given = run.given
    device = Device(given.edge, given.grpc_target, run.bank.access_token)
    phone = Phone(given.other.phone, given.outbox)
    result = await device.authenticate(given.other.iin, phone, given.camera(), lambda _kind, _value: None)
    _require(result.get("verdict") == "VERDICT_FAILURE", "another's identity was accepted")
    return str(result["reason"]), "no code was sent, no data released"


async def _public_files(run: _Run, certificate: dict[str, Any]) -> None:
    for name in ("issuing.crl", "root.crl"):
        run.write(name, await run.bank.fetch("GET", f"/pki/{name}"))
    signer = x509.load_der_x509_certificate(base64.b64decode(certificate["certificateDer"]))
    issuer = x509.load_der_x509_certificate(base64.b64decode(certificate["chainDer"][0]))
    asked = ocsp.OCSPRequestBuilder().add_certificate(signer, issuer, hashes.SHA256()).build()
    answer = await run.bank.fetch("POST", "/pki/ocsp", asked.public_bytes(Encoding.DER), "application/ocsp-request")
    run.write("ocsp.der", answer)
    run.say("file", ("ocsp.der", ocsp.load_der_ocsp_response(answer).certificate_status.name))
    query = await asyncio.to_thread(_time_stamp_query, run.out / "contract.pdf")
    run.write("timestamp.tsr", await run.bank.fetch("POST", "/pki/tsa", query, "application/timestamp-query"))
    run.say("file", ("timestamp.tsr", "RFC 3161 over contract.pdf"))


def _time_stamp_query(document: Path) -> bytes:
    """Return a DER TimeStampReq, made by openssl as any relying party would."""
    command = ["openssl", "ts", "-query", "-data", str(document), "-sha256", "-cert"]
    return subprocess.run(command, check=True, capture_output=True, timeout=10).stdout  # noqa: S603


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemonstrationFailedError(otherwise)
