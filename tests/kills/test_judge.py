"""The judge of the kill rounds finds each thing that may not be, and nothing in what may."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finid.signer.v1 import signer_pb2 as pb

from tests.bundles import digest_of
from tests.kills.judge import Kept, of_answers
from tests.kills.told import Told

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "anybody")])
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENROLLED, SIGNED, DIGEST = digest_of("enrolled"), digest_of("signed"), digest_of("document")
PROOF = "proof"


def certificate(serial: int) -> bytes:
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), serial, NOW, NOW + timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def revocation_list(number: int, serials: Sequence[int], *, hold: bool = False) -> bytes:
    builder = x509.CertificateRevocationListBuilder(NAME, NOW, NOW + timedelta(days=1))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial, NOW)
        if hold:
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.certificate_hold), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def sign(digest: bytes) -> bytes:
    return KEY.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@dataclass
class Case:
    """What is kept and what was told of one person who got a certificate and signed once."""

    kept: Kept
    told: Told

    @classmethod
    def good(cls) -> "Case":
        der, signature = certificate(7), sign(DIGEST)
        lists = {
            1: revocation_list(1, []),
            2: revocation_list(2, [5]),
            3: revocation_list(3, [5, 6]),
        }
        credential = {
            "credential": "mine",
            "txn": ENROLLED,
            "csr_der": b"csr",
            "public_key_der": PUBLIC,
            "state": "ACTIVE",
            "destruction_proof": "",
            "wrapped_key": b"blob",
        }
        signing = {
            "txn": SIGNED,
            "credential": "mine",
            "state": "RECORDED",
            "digests_sha256": [DIGEST],
            "signatures": [signature],
        }
        issued = {
            "txn": ENROLLED,
            "serial": (7).to_bytes(20),
            "certificate_sha256": hashlib.sha256(der).digest(),
            "public_key_sha256": digest_of("key"),
            "subject_hmac": b"person",
            "profile": "individual-sign",
            "state": "ISSUED",
        }
        told = Told(
            keys={ENROLLED: pb.GenerateKeyResponse(credential="mine", csr_der=b"csr")},
            signatures={SIGNED: (signature,)},
            certificates={ENROLLED: der},
            lists={2: lists[2]},
        )
        return cls(Kept({"mine": credential}, [signing], [issued], lists), told)

    @property
    def credential(self) -> dict[str, Any]:
        return self.kept.credentials["mine"]

    def another_signing(self, **changed: Any) -> None:
        self.kept.signings.append(self.kept.signings[0] | {"txn": digest_of("another")} | changed)

    def another_certificate(self, **changed: Any) -> None:
        fresh = {"txn": digest_of("another"), "serial": (8).to_bytes(20), "public_key_sha256": digest_of("another key")}
        self.kept.certificates.append(self.kept.certificates[0] | fresh | {"subject_hmac": b"another"} | changed)


def _tell_another_certificate(case: Case) -> None:
    case.another_certificate(serial=(7).to_bytes(20), certificate_sha256=hashlib.sha256(certificate(7)).digest())
    case.told.certificates[digest_of("another")] = certificate(7)
    case.kept.certificates[-1]["certificate_sha256"] = hashlib.sha256(
        case.told.certificates[digest_of("another")]
    ).digest()


BROKEN: dict[str, Callable[[Case], object]] = {
    "a signature left that is not recorded": lambda case: case.kept.signings.clear(),
    "a recorded signature does not verify": lambda case: case.another_signing(
        signatures=[sign(digest_of("else"))], digests_sha256=[digest_of("another document")]
    ),
    "an intent to sign never ended": lambda case: case.another_signing(state="INTENT", signatures=[]),
    "1 times the same signature": lambda case: case.another_signing(state="ABORTED"),
    "1 times the same signed digest": lambda case: case.another_signing(signatures=[sign(DIGEST)]),
    "a key was attested that is not in the database": lambda case: case.credential.update(csr_der=b"another"),
    "a key that was proven destroyed is not": lambda case: case.told.proofs.update(mine=PROOF),
    "a revocation was forgotten by the signer": lambda case: case.told.disabled.add("mine"),
    "1 times the same public key": lambda case: case.kept.credentials.update(other=case.credential | {"txn": b""}),
    "a certificate left that is not recorded": lambda case: case.kept.certificates.clear(),
    "a certificate has another serial than its record": lambda case: case.kept.certificates[0].update(
        serial=(9).to_bytes(20)
    ),
    "1 times the same serial": _tell_another_certificate,
    "1 times the same certified key": lambda case: case.another_certificate(public_key_sha256=digest_of("key")),
    "1 times the same certificate in force": lambda case: case.another_certificate(subject_hmac=b"person"),
    "an intent to issue never ended": lambda case: case.another_certificate(state="INTENDED"),
    "a certificate left whose serial was abandoned": lambda case: case.kept.certificates[0].update(state="ABANDONED"),
    "a revocation was forgotten by the CA": lambda case: case.told.revoked.add(digest_of("revoked")),
    "list 2 was served and is not the one recorded": lambda case: case.told.lists.update({2: b"another"}),
    "list 3 bears another number": lambda case: case.kept.lists.update({3: revocation_list(4, [5, 6])}),
    "list 3 lacks what an earlier one lists for good": lambda case: case.kept.lists.update(
        {3: revocation_list(3, [6])}
    ),
    "the numbers of lists have gaps": lambda case: case.kept.lists.pop(1),
}


def test_nothing_is_found_where_all_is_well() -> None:
    case = Case.good()
    assert of_answers(case.kept, case.told) == []


@pytest.mark.parametrize("finding", BROKEN)
def test_each_thing_that_may_not_be_is_found_and_named(finding: str) -> None:
    case = Case.good()
    BROKEN[finding](case)
    assert of_answers(case.kept, case.told) == [finding]


def test_a_serial_that_was_on_hold_may_leave_the_list() -> None:
    case = Case.good()
    case.kept.lists.update({2: revocation_list(2, [5], hold=True), 3: revocation_list(3, [6])})
    case.told.lists.clear()
    assert of_answers(case.kept, case.told) == []


@pytest.mark.parametrize("answers", [{}, {SIGNED: ("first",)}], ids=["first", "repeat"])
def test_an_answer_after_the_transaction_was_given_up_is_told_against(answers: dict[bytes, tuple[str, ...]]) -> None:
    told = Told(left_behind={SIGNED: "SIGNATURE_ABORTED"})
    told.keep(answers, SIGNED, ("first",), "a signing")
    assert told.against == ["a signing was answered after it was given up"]


def test_two_answers_that_differ_are_told_against() -> None:
    told, answers = Told(), dict[bytes, str]()
    told.keep(answers, SIGNED, "one", "a signing")
    told.keep(answers, SIGNED, "one", "a signing")
    assert told.against == []
    told.keep(answers, SIGNED, "other", "a signing")
    assert told.against == ["a signing was answered twice, and not the same"]
