"""Time stamps, with openssl and asn1crypto as judges."""

import asyncio
import hashlib
import secrets
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import metrics
from mesh.hsm import TokenUnavailableError
from services.ca import der, profiles
from services.ca.clock import MAX_ERROR_US, TOLERANCE_NS, TimeNotAvailableError
from services.ca.profiles import TIME_STAMP_POLICY
from services.ca.timestamp import TimeStamps
from tests.ca import openssl
from tests.ca.authorities import PRACTICE, MemoryAuthority, now
from tests.measured import Grown

MEMORY = MemoryAuthority()
POLICY = f"{PRACTICE.policy_arc}.{'.'.join(map(str, TIME_STAMP_POLICY))}"
CONTENT = b"contract"
GENERALIZED_TIME = 0x18
# Without parameters, as RFC 5754 section 2 wants it written; asn1crypto by itself writes NULL.
SHA256 = cms.DigestAlgorithm.load(bytes.fromhex("300b0609608648016503040201"))


@pytest.fixture(autouse=True)
def token_is_there() -> None:
    MEMORY.tsa_key.fails_with = None


def stamps(later: timedelta = timedelta(), *, memory: MemoryAuthority = MEMORY) -> TimeStamps:
    return TimeStamps(
        authority=memory.authority, practice=PRACTICE, now=lambda: now() + later, random_bytes=secrets.token_bytes
    )


def request(
    algorithm: str = "sha256", digest: bytes | None = None, *, wants_certificate: bool = True, **fields: object
) -> bytes:
    digest = hashlib.new(algorithm, CONTENT).digest() if digest is None else digest
    encoded: bytes = tsp.TimeStampReq(
        {
            "version": "v1",
            "message_imprint": {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest},
            "cert_req": wants_certificate,
            **fields,
        }
    ).dump()
    return encoded


def token_of(response: bytes) -> cms.SignedData:
    parsed = tsp.TimeStampResp.load(response, strict=True)
    assert parsed["status"]["status"].native == "granted"
    return parsed["time_stamp_token"]["content"]


def rejection_of(response: bytes) -> set[str]:
    info = der.Reader(response).inside(der.SEQUENCE)
    status = tsp.PKIStatusInfo.load(info.element(der.SEQUENCE)[0], strict=True)
    info.end()
    assert status["status"].native == "rejection"
    assert status["status_string"].native
    failure: set[str] = status["fail_info"].native
    return failure


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
async def test_openssl_accepts_a_stamp_and_refuses_a_flipped_bit(tmp_path: Path, algorithm: str) -> None:
    MEMORY.write(tmp_path)
    content, asked, answered = tmp_path / "contract", tmp_path / "request.tsq", tmp_path / "timestamp.tsr"
    content.write_bytes(CONTENT)
    made, said = openssl.run(*("ts", "-query", "-data", content, f"-{algorithm}", "-cert", "-out", asked))
    assert made, said
    response = await stamps().stamp(asked.read_bytes())
    answered.write_bytes(response)
    trust = ("-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "issuing.pem")
    for by in (("-queryfile", asked), ("-data", content)):
        accepted, said = openssl.run("ts", "-verify", "-in", answered, *by, *trust)
        assert accepted, said
    for at in (5, len(response) - 120):
        answered.write_bytes(openssl.flipped(response, at=at))
        accepted, _ = openssl.run("ts", "-verify", "-in", answered, "-data", content, *trust)
        assert not accepted
    answered.write_bytes(response)
    content.write_bytes(b"another contract")
    accepted, _ = openssl.run("ts", "-verify", "-in", answered, "-data", content, *trust)
    assert not accepted


async def test_stamp_says_what_rfc_3161_wants() -> None:
    before = now().replace(microsecond=0)
    signed_data = token_of(await stamps().stamp(request(nonce=2**80 + 1, req_policy=POLICY)))
    info = signed_data["encap_content_info"]["content"].parsed
    assert info["version"].native == "v1"
    assert info["policy"].native == POLICY
    assert info["message_imprint"]["hashed_message"].native == hashlib.sha256(CONTENT).digest()
    assert info["nonce"].native == 2**80 + 1
    assert info["accuracy"]["seconds"].native == 1
    assert before <= info["gen_time"].native <= now()
    (signer,) = signed_data["signer_infos"]
    attributes = {attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]}
    assert set(attributes) == {"content_type", "message_digest", "signing_certificate_v2"}
    (ess,) = attributes["signing_certificate_v2"][0]["certs"]
    assert ess["cert_hash"].native == hashlib.sha256(MEMORY.authority.tsa.der).digest()
    (certificate,) = signed_data["certificates"]
    assert certificate.chosen.dump() == MEMORY.authority.tsa.der
    assert signer["sid"].chosen["serial_number"].native == MEMORY.authority.tsa.certificate.serial_number


async def test_stamps_promise_no_order_beyond_their_accuracy() -> None:
    """`ordering` is FALSE: two replicas' clocks may differ. DER leaves a default out; whoever reads it, reads FALSE."""
    info = token_of(await stamps().stamp(request(nonce=7)))["encap_content_info"]["content"].parsed
    assert info["ordering"].native is False
    fields = der.Reader(info.dump()).inside(der.SEQUENCE)
    # version, policy, messageImprint, serialNumber, genTime, accuracy, nonce: no BOOLEAN among them, nothing behind.
    for tag in (der.INTEGER, der.OID, der.SEQUENCE, der.INTEGER, GENERALIZED_TIME, der.SEQUENCE, der.INTEGER):
        fields.element(tag)
    fields.end()


async def test_structure_is_der_as_asn1crypto_writes_it() -> None:
    response = await stamps().stamp(request(nonce=7))
    assert tsp.TimeStampResp.load(response, strict=True).copy().dump(force=True) == response


async def test_certificate_is_left_out_unless_asked_for() -> None:
    signed_data = token_of(await stamps().stamp(request(wants_certificate=False)))
    assert signed_data["certificates"].native is None


async def test_serials_are_never_the_same() -> None:
    stamper = stamps()
    tokens = [token_of(await stamper.stamp(request())) for _ in range(20)]
    serials = {token["encap_content_info"]["content"].parsed["serial_number"].native for token in tokens}
    assert len(serials) == 20
    assert all(serial.bit_length() == 159 for serial in serials)


async def test_digest_of_the_mesh_is_stamped_with_the_certificate_inside(tmp_path: Path) -> None:
    MEMORY.write(tmp_path)
    digest = hashlib.sha256(CONTENT).digest()
    token = tmp_path / "token.der"
    token.write_bytes(await stamps().stamp_digest(digest))
    accepted, said = openssl.run(
        *("ts", "-verify", "-in", token, "-token_in", "-digest", digest.hex()),
        *("-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "issuing.pem"),
    )
    assert accepted, said


@settings(max_examples=150, deadline=None)
@given(
    algorithm=st.sampled_from(["sha256", "sha384", "sha512"]),
    content=st.binary(max_size=64),
    nonce=st.none() | st.integers(0, 2**500),
    at=st.integers(0, 4 * 365 * 86400 * 10**6).map(lambda later_us: MEMORY.at + timedelta(microseconds=later_us)),
    drawn=st.binary(min_size=20, max_size=20),
    wants_certificate=st.booleans(),
)
def test_token_is_what_asn1crypto_makes_of_the_same_values(
    algorithm: str, content: bytes, nonce: int | None, at: datetime, drawn: bytes, wants_certificate: bool
) -> None:
    """The reference is built field by field and encoded by asn1crypto; only the signature is taken from the token."""
    digest = hashlib.new(algorithm, content).digest()
    fields = {} if nonce is None else {"nonce": nonce}
    stamper = TimeStamps(authority=MEMORY.authority, practice=PRACTICE, now=lambda: at, random_bytes=lambda _: drawn)
    response = asyncio.run(stamper.stamp(request(algorithm, digest, wants_certificate=wants_certificate, **fields)))
    tsa = MEMORY.authority.tsa
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": POLICY,
            "message_imprint": {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest},
            "serial_number": profiles.serial_number(drawn),
            "gen_time": at.replace(microsecond=0),
            "accuracy": {"seconds": 1},
            **fields,
        }
    )
    # asn1crypto writes what it was given, and defaults as well unless they are left out; requests have NULL or not.
    imprint = tsp.TimeStampReq.load(request(algorithm, digest))["message_imprint"]
    info["message_imprint"] = imprint
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {
                "type": "signing_certificate_v2",
                "values": [{"certs": [{"cert_hash": hashlib.sha256(tsa.der).digest()}]}],
            },
            {"type": "message_digest", "values": [hashlib.sha256(info.dump()).digest()]},
        ]
    )
    signature = token_of(response)["signer_infos"][0]["signature"].native
    certificate = asn1x509.Certificate.load(tsa.der)
    signed_data = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [SHA256],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": cms.ParsableOctetString(info.dump(), explicit=0),
            },
            "signer_infos": [
                {
                    "version": "v1",
                    "sid": {
                        "issuer_and_serial_number": {
                            "issuer": certificate.issuer,
                            "serial_number": certificate.serial_number,
                        }
                    },
                    "digest_algorithm": SHA256,
                    "signed_attrs": attributes,
                    "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                    "signature": signature,
                }
            ],
            **({"certificates": [certificate]} if wants_certificate else {}),
        }
    )
    reference = tsp.TimeStampResp(
        {
            "status": {"status": "granted"},
            "time_stamp_token": {"content_type": "signed_data", "content": signed_data},
        }
    )
    assert response == reference.dump()
    key = tsa.public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, attributes.untag().dump(), ec.ECDSA(hashes.SHA256()))


async def test_stamps_claim_no_order_and_no_more_accuracy_than_the_clock_has() -> None:
    info = token_of(await stamps().stamp(request()))["encap_content_info"]["content"].parsed
    assert info["ordering"].native is False
    assert info["accuracy"].native == {"seconds": 1, "millis": None, "micros": None}
    assert TOLERANCE_NS / 1e9 <= 1
    assert MAX_ERROR_US / 1e6 <= 1


async def test_no_stamp_while_the_clock_cannot_be_vouched_for() -> None:
    def jumped() -> datetime:
        raise TimeNotAvailableError("the clock has jumped")

    stamper = TimeStamps(authority=MEMORY.authority, practice=PRACTICE, now=jumped, random_bytes=secrets.token_bytes)
    before = MEMORY.tsa_key.calls
    assert rejection_of(await stamper.stamp(request())) == {"time_not_available"}
    with pytest.raises(TimeNotAvailableError):
        await stamper.stamp_digest(bytes(32))
    assert MEMORY.tsa_key.calls == before


async def test_stamps_are_counted_by_their_outcome() -> None:
    outcomes = ("granted", "rejected", "no_time")
    counted = [Grown.of(metrics.TIME_STAMPS, outcome=outcome) for outcome in outcomes]
    await stamps().stamp(request())
    await stamps().stamp_digest(bytes(32))
    await stamps().stamp(request("sha1"))
    await stamps(timedelta(days=6 * 365)).stamp(request())
    assert [one.by() for one in counted] == [2, 1, 1]


REJECTIONS = {
    "SHA-1": (request("sha1"), "bad_alg"),
    "an unknown hash": (request("md5"), "bad_alg"),
    "a digest of another length": (request(digest=b"short"), "bad_data_format"),
    "another policy": (request(req_policy="1.2.3.4"), "unaccepted_policy"),
    "an extension": (
        request(extensions=[{"extn_id": "1.2.3.4", "critical": False, "extn_value": b"\x05\x00"}]),
        "unaccepted_extensions",
    ),
    "version 2": (request().replace(b"\x02\x01\x01", b"\x02\x01\x02", 1), "bad_request"),
    "a nonce of 65 bytes": (request(nonce=2**520), "bad_request"),
    "nothing": (b"", "bad_data_format"),
    "no DER": (b"not DER at all", "bad_data_format"),
    "something behind": (request() + b"\0", "bad_data_format"),
    "too large": (b"0\x82\x20\x00" + b"\0" * 8192, "bad_data_format"),
}


@pytest.mark.parametrize("what", REJECTIONS)
async def test_rejects(what: str) -> None:
    asked, failure = REJECTIONS[what]
    before = MEMORY.tsa_key.calls
    assert rejection_of(await stamps().stamp(asked)) == {failure}
    assert MEMORY.tsa_key.calls == before


async def test_openssl_reads_a_rejection(tmp_path: Path) -> None:
    answered = tmp_path / "rejection.tsr"
    answered.write_bytes(await stamps().stamp(request("sha1")))
    _, said = openssl.run("ts", "-reply", "-in", answered, "-text")
    assert "Status: Rejected" in said
    assert "unrecognized or unsupported algorithm identifier" in said


async def test_stamps_nothing_beyond_the_certificates_life() -> None:
    late = stamps(timedelta(days=6 * 365))
    assert rejection_of(await late.stamp(request())) == {"time_not_available"}
    with pytest.raises(TimeNotAvailableError):
        await late.stamp_digest(bytes(32))


async def test_token_away_is_a_typed_error() -> None:
    MEMORY.tsa_key.fails_with = TokenUnavailableError("away")
    with pytest.raises(TokenUnavailableError):
        await stamps().stamp(request())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_requests_are_answered_one_way_or_another(data: st.DataObject) -> None:
    encoded = bytearray(request(nonce=2**64, req_policy=POLICY))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut])):
        assert asyncio.run(stamps().stamp(damaged))
