"""What must hold after any number of deaths: the clients' answers, the database, the tokens, list and status agree."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from psycopg.rows import DictRow, dict_row

from mesh.postgres import Database
from services.ca import audit
from services.ca.audit import AuditBrokenError
from services.ca.authority import CHAIN_FILE, OCSP_FILE, TSA_FILE
from services.ca.store import LedgerStore
from services.signer.subject_keys import all_verify
from tests.kills.people import status_request
from tests.kills.processes import Processes
from tests.kills.told import Client, Told

_NOT_IN_FORCE = frozenset({"SUSPENDED", "REVOKED", "ABANDONED"})
# Lines of a service's log that tell of an error nobody has foreseen, or of the token used without a reason.
_ALARMS = ("call failed", "unwraps differ from intents", "ended by a background task")


@dataclass(frozen=True, slots=True)
class Kept:
    """All that both services have in the database."""

    credentials: dict[str, DictRow]
    signings: list[DictRow]
    certificates: list[DictRow]
    lists: dict[int, bytes]

    @classmethod
    def read(cls, owner_url: str) -> "Kept":
        with psycopg.connect(owner_url, row_factory=dict_row) as database:
            credentials = database.execute("SELECT * FROM signer.credentials").fetchall()
            return cls(
                credentials={row["credential"]: row for row in credentials},
                signings=database.execute("SELECT * FROM signer.signatures").fetchall(),
                certificates=database.execute("SELECT * FROM ca.certificates ORDER BY serial").fetchall(),
                lists={row["number"]: row["crl_der"] for row in database.execute("SELECT * FROM ca.crls").fetchall()},
            )


async def findings(processes: Processes, client: Client, objects_before: int) -> tuple[list[str], Counter[str]]:
    """Return what does not hold ([] when all does), and counts of what there was. Nothing is going on any more."""
    kept, told = Kept.read(processes.database.owner_url), client.told
    found = [
        *told.against,
        *of_answers(kept, told),
        *_of_stamps(told, _load(processes, TSA_FILE)),
        *await _of_what_is_published(processes, client, kept),
        *await _of_the_audit(processes),
    ]
    if processes.token_objects() != objects_before:
        found.append("a token keeps other objects than before")
    return found, _counts(kept, told)


def of_answers(kept: Kept, told: Told) -> list[str]:
    """What in the database is wrong, or not as the clients were told."""
    return [
        *_of_signatures(kept, told),
        *_of_credentials(kept, told),
        *_of_certificates(kept, told),
        *_of_lists(kept, told),
    ]


def _of_signatures(kept: Kept, told: Told) -> Iterator[str]:
    rows = {row["txn"]: row for row in kept.signings}
    for txn, signatures in told.signatures.items():
        row = rows.get(txn)
        if row is None or row["state"] != "RECORDED" or tuple(row["signatures"]) != signatures:
            yield "a signature left that is not recorded"
    for row in kept.signings:
        key = kept.credentials[row["credential"]]["public_key_der"]
        if row["state"] == "RECORDED" and not all_verify(key, row["digests_sha256"], row["signatures"]):
            yield "a recorded signature does not verify"
        if row["state"] == "INTENT":
            yield "an intent to sign never ended"
    yield from _repeated("signature", [one for row in kept.signings for one in row["signatures"]])
    # Each document has a content of its own: a digest signed twice was signed under two transactions.
    recorded = [row for row in kept.signings if row["state"] == "RECORDED"]
    yield from _repeated("signed digest", [one for row in recorded for one in row["digests_sha256"]])


def _of_credentials(kept: Kept, told: Told) -> Iterator[str]:
    made = {row["txn"]: row for row in kept.credentials.values()}
    for txn, key in told.keys.items():
        row = made.get(txn)
        if row is None or (row["csr_der"], row["credential"]) != (key.csr_der, key.credential):
            yield "a key was attested that is not in the database"
    for credential, proof in told.proofs.items():
        row = kept.credentials[credential]
        if row["state"] != "DESTROYED" or row["destruction_proof"] != proof or row["wrapped_key"]:
            yield "a key that was proven destroyed is not"
    for credential in told.disabled:
        if kept.credentials[credential]["state"] not in {"REVOKED", "DESTROYED"}:
            yield "a revocation was forgotten by the signer"
    yield from _repeated("public key", [row["public_key_der"] for row in kept.credentials.values()])


def _of_certificates(kept: Kept, told: Told) -> Iterator[str]:
    rows = {row["txn"]: row for row in kept.certificates}
    for txn, der in told.certificates.items():
        row, certificate = rows.get(txn), x509.load_der_x509_certificate(der)
        if row is None or row["certificate_sha256"] != hashlib.sha256(der).digest():
            yield "a certificate left that is not recorded"
        elif int.from_bytes(row["serial"]) != certificate.serial_number:
            yield "a certificate has another serial than its record"
    issued = [x509.load_der_x509_certificate(der) for der in told.certificates.values()]
    yield from _repeated("serial", [certificate.serial_number for certificate in issued])
    yield from _repeated("certified key", [row["public_key_sha256"] for row in kept.certificates])
    in_force = [row for row in kept.certificates if row["state"] in {"ISSUED", "SUSPENDED"}]
    yield from _repeated("certificate in force", [(row["subject_hmac"], row["profile"]) for row in in_force])
    for row in kept.certificates:
        if row["state"] == "INTENDED":
            yield "an intent to issue never ended"
        if row["state"] == "ABANDONED" and row["txn"] in told.certificates:
            yield "a certificate left whose serial was abandoned"
    revoked = {row["certificate_sha256"] for row in kept.certificates if row["state"] == "REVOKED"}
    if not told.revoked <= revoked:
        yield "a revocation was forgotten by the CA"


def _of_lists(kept: Kept, told: Told) -> Iterator[str]:
    for number, der in told.lists.items():
        if kept.lists.get(number) != der:
            yield f"list {number} was served and is not the one recorded"
    final: set[int] = set()
    for number in sorted(kept.lists):
        crl = x509.load_der_x509_crl(kept.lists[number])
        if crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number != number:
            yield f"list {number} bears another number"
        listed = {entry.serial_number for entry in crl}
        if not final <= listed:
            yield f"list {number} lacks what an earlier one lists for good"
        final |= {entry.serial_number for entry in crl if not _on_hold(entry)}
    if sorted(kept.lists) != list(range(1, len(kept.lists) + 1)):
        yield "the numbers of lists have gaps"


def _of_stamps(told: Told, tsa: x509.Certificate) -> Iterator[str]:
    serials = []
    for token in told.stamps:
        signed = cms.ContentInfo.load(token)["content"]
        info = tsp.TSTInfo.load(signed["encap_content_info"]["content"].contents)
        serials.append(info["serial_number"].native)
        signer = signed["signer_infos"][0]
        if not _verifies(tsa, signer["signature"].native, signer["signed_attrs"].untag().dump(force=True)):
            yield "a time stamp does not verify"
    yield from _repeated("serial of a time stamp", serials)


async def _of_what_is_published(processes: Processes, client: Client, kept: Kept) -> list[str]:
    """Every serial that ever was: on the list and in OCSP it stands as in the database."""
    found, responder = list[str](), _load(processes, OCSP_FILE)
    (issuing, _) = x509.load_pem_x509_certificates((processes.pki_folder / CHAIN_FILE).read_bytes())
    listed = {entry.serial_number for entry in await client.revocation_list()}
    for row in kept.certificates:
        serial, gone = int.from_bytes(row["serial"]), row["state"] in _NOT_IN_FORCE
        if gone != (serial in listed):
            found.append(f"the list is wrong about a serial that is {row['state']}")
        answer = ocsp.load_der_ocsp_response(await client.status(status_request(serial, issuing)))
        expected = ocsp.OCSPCertStatus.REVOKED if gone else ocsp.OCSPCertStatus.GOOD
        if answer.certificate_status is not expected:
            found.append(f"OCSP says {answer.certificate_status.name} of a serial that is {row['state']}")
        if not _verifies(responder, answer.signature, answer.tbs_response_bytes):
            found.append("an answer of OCSP does not verify")
    return found


async def _of_the_audit(processes: Processes) -> list[str]:
    database = await Database.open(processes.database.url("ca"), service="judge")
    try:
        await audit.verify(LedgerStore(database, processes.field_key).audit)
    except AuditBrokenError as error:
        return [f"audit: {error}"]
    finally:
        await database.close()
    return []


def of_logs(processes: Processes) -> Iterator[str]:
    """What the services' logs tell, once they have ended."""
    for service in (processes.signer, processes.ca):
        for line in "\n".join(service.logs).splitlines():
            if any(alarm in line for alarm in _ALARMS):
                yield f"{service.name} says: {line}"


def _counts(kept: Kept, told: Told) -> Counter[str]:
    signings = Counter(row["state"] for row in kept.signings)
    certificates = Counter(row["state"] for row in kept.certificates)
    return Counter(
        {
            "keys made": len(kept.credentials),
            "signings recorded": signings["RECORDED"],
            "signings left behind and aborted": signings["ABORTED"],
            "signatures": sum(len(row["signatures"]) for row in kept.signings),
            "certificates issued": sum(certificates[state] for state in ("WAITING", "ISSUED", "SUSPENDED", "REVOKED")),
            "serials left behind and revoked": certificates["ABANDONED"],
            "revocation lists": len(kept.lists),
            "time stamps": len(told.stamps),
            "statuses asked": told.statuses.total(),
            "answers given twice and compared": told.repeats,
            "calls that lost their answer": told.lost,
        }
    )


def _repeated(what: str, values: list[object]) -> Iterator[str]:
    repeated = len(values) - len(set(values))
    if repeated:
        yield f"{repeated} times the same {what}"


def _on_hold(entry: x509.RevokedCertificate) -> bool:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return False
    return reason is x509.ReasonFlags.certificate_hold


def _verifies(certificate: x509.Certificate, signature: bytes, signed: bytes) -> bool:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _load(processes: Processes, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((processes.pki_folder / name).read_bytes())
