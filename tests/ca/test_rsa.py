"""An authority of RSA keys, by PKCS#1 v1.5 and by PSS: the same judges accept what it makes."""

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.hsm import KeyAlgorithm, RsaScheme, TokenPool
from services.ca import authority, lint
from services.ca.ceremony import ALGORITHMS, ISSUING, OCSP, ROOT, TSA
from services.ca.crl import RevocationList
from services.ca.ocsp import Responder
from tests.ca import openssl
from tests.ca.authorities import CeremonyPlace, MemoryAuthority, now
from tests.ca.test_issue import Room
from tests.ca.test_timestamp import stamps
from tests.softhsm import SoftHsm


@pytest.fixture(scope="module", params=[RsaScheme.PKCS1_V15, RsaScheme.PSS])
def memory(request: pytest.FixtureRequest) -> MemoryAuthority:
    return MemoryAuthority.of_rsa(request.param)


async def test_openssl_accepts_certificate_list_and_status(memory: MemoryAuthority, tmp_path: Path) -> None:
    room = Room(memory)
    memory.write(tmp_path)
    issued = await room.issue.issue(room.hub.issue())
    assert lint.findings(issued.certificate_der) == []
    crl = tmp_path / "issuing.crl"
    crl.write_bytes(await RevocationList(authority=memory.authority, ledger=room.ledger, now=room.now).current())
    accepted, said = openssl.verify(tmp_path, issued.certificate_der, crl, tmp_path / "root.crl")
    assert accepted, said
    leaf, asked, answered = tmp_path / "judged.pem", tmp_path / "request.der", tmp_path / "ocsp.der"
    openssl.run("ocsp", "-issuer", tmp_path / "issuing.pem", "-cert", leaf, "-reqout", asked)
    responder = Responder(authority=memory.authority, ledger=room.ledger, now=room.now)
    response = await responder.answer(asked.read_bytes())
    judge = (
        *("ocsp", "-issuer", tmp_path / "issuing.pem", "-cert", leaf, "-no_nonce", "-respin", answered),
        *("-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "issuing.pem"),
    )
    answered.write_bytes(response)
    accepted, said = openssl.run(*judge)
    assert (accepted, "Response verify OK" in said, "judged.pem: good" in said) == (True, True, True), said
    answered.write_bytes(openssl.flipped(response, at=len(response) - 60))
    assert "Response verify OK" not in openssl.run(*judge)[1]


async def test_openssl_accepts_time_stamps_by_pkcs1(memory: MemoryAuthority, tmp_path: Path) -> None:
    memory.write(tmp_path)
    digest = hashlib.sha256(b"contract").digest()
    token = tmp_path / "token.der"
    token.write_bytes(await stamps(memory=memory).stamp_digest(digest))
    accepted, said = openssl.run(
        *("ts", "-verify", "-in", token, "-token_in", "-digest", digest.hex()),
        *("-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "issuing.pem"),
    )
    assert accepted, said


@pytest.mark.hsm
async def test_ceremony_makes_rsa_keys_in_the_token_and_the_service_takes_them_up(
    tmp_path: Path, softhsm: SoftHsm
) -> None:
    place = CeremonyPlace.create(tmp_path / "pki", softhsm)
    place.algorithms = {
        ROOT: KeyAlgorithm.EC_P384,
        ISSUING: KeyAlgorithm.RSA_3072,
        OCSP: KeyAlgorithm.RSA_3072,
        TSA: KeyAlgorithm.EC_P256,
    }
    assert place.algorithms.keys() == ALGORITHMS.keys()
    place.run()
    pool = TokenPool(place.ca_token.open())
    ours = await authority.take_up(authority.read(place.folder), pool, now())
    room = Room()
    room.memory.authority = ours
    issued = await room.issue.issue(room.hub.issue())
    crl = place.folder / "issuing.crl"
    crl.write_bytes(await RevocationList(authority=ours, ledger=room.ledger, now=room.now).current())
    accepted, said = openssl.verify(place.folder, issued.certificate_der, crl, place.folder / "root.crl")
    assert accepted, said
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert certificate.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.11"
    response = Responder(authority=ours, ledger=room.ledger, now=room.now)
    leaf, asked = place.folder / "judged.pem", place.folder / "request.der"
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))
    openssl.run("ocsp", "-issuer", place.folder / "issuing.pem", "-cert", leaf, "-reqout", asked)
    assert (await response.answer(asked.read_bytes()))[:2] == b"\x30\x82"
    pool.close()
