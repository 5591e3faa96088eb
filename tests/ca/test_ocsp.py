"""OCSP, with openssl as client and judge."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core
from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st
from pkilint import loader, pkix
from pkilint.pkix import extension, name
from pkilint.pkix import ocsp as pkix_ocsp
from pkilint.validation import ValidationFindingSeverity

from mesh import metrics
from mesh.errors import DependencyUnavailableError
from mesh.hsm import TokenUnavailableError
from mesh.order import ON_HOLD, Kind
from services.ca import der
from services.ca.ledger import ABANDONED_AFTER, State
from services.ca.ocsp import LIFETIME, MAX_SERIALS, RENEWED_AFTER, Responder
from tests.ca import openssl
from tests.ca.authorities import MemoryAuthority, MemoryKey, now
from tests.ca.memory_ledger import Entry, MemoryLedger
from tests.ca.test_crl import change, revoke_one
from tests.ca.test_issue import Room
from tests.measured import Grown

MEMORY = MemoryAuthority()


@pytest.fixture(autouse=True)
def token_is_there() -> None:
    MEMORY.ocsp_key.fails_with = None


@pytest.fixture
def room() -> Room:
    return Room(MEMORY)


def responder(room: Room) -> Responder:
    return Responder(authority=room.memory.authority, ledger=room.ledger, now=room.now)


def request(
    *serials: int, issuer: x509.Certificate | None = None, nonce: bytes = b"", algorithm: str = "sha256"
) -> bytes:
    """An OCSPRequest (DER) as asn1crypto writes it."""
    issuer = issuer or MEMORY.authority.issuing.certificate
    key = asn1_key(issuer)
    digest = hashlib.new(algorithm, issuer.subject.public_bytes()).digest()
    key_digest = hashlib.new(algorithm, key).digest()
    requests = [
        {
            "req_cert": {
                "hash_algorithm": {"algorithm": algorithm},
                "issuer_name_hash": digest,
                "issuer_key_hash": key_digest,
                "serial_number": serial,
            }
        }
        for serial in serials
    ]
    tbs: dict[str, object] = {"request_list": requests}
    if nonce:
        tbs["request_extensions"] = [{"extn_id": "nonce", "extn_value": core.OctetString(nonce)}]
    encoded: bytes = asn1.OCSPRequest({"tbs_request": tbs}).dump()
    return encoded


def asn1_key(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def read(response_der: bytes) -> asn1.ResponseData:
    return asn1.OCSPResponse.load(response_der, strict=True).response_data


def status_of(response_der: bytes) -> str:
    return str(asn1.OCSPResponse.load(response_der, strict=True)["response_status"].native)


async def issue(room: Room) -> x509.Certificate:
    return x509.load_der_x509_certificate((await room.issue.issue(room.hub.issue_to_another())).certificate_der)


async def test_openssl_accepts_a_good_answer_and_refuses_a_flipped_bit(room: Room, tmp_path: Path) -> None:
    certificate = await issue(room)
    room.memory.write(tmp_path)
    leaf, asked, answered = tmp_path / "leaf.pem", tmp_path / "request.der", tmp_path / "ocsp.der"
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))
    made, said = openssl.run(*("ocsp", "-issuer", tmp_path / "issuing.pem", "-sha256", "-cert", leaf, "-reqout", asked))
    assert made, said
    response = await responder(room).answer(asked.read_bytes())
    trust = ("-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "issuing.pem")
    by_request = ("ocsp", "-reqin", asked, "-respin", answered, *trust)
    by_certificate = (
        *("ocsp", "-issuer", tmp_path / "issuing.pem", "-sha256", "-cert", leaf, "-no_nonce"),
        *("-respin", answered, *trust),
    )
    answered.write_bytes(response)
    accepted, said = openssl.run(*by_request)
    assert accepted, said
    assert said.strip() == "Response verify OK", "no warning that the nonce did not come back"
    accepted, said = openssl.run(*by_certificate)
    assert accepted, said
    assert "Response verify OK" in said
    assert "leaf.pem: good" in said

    for at in (len(response) - 60, len(response) // 2):
        answered.write_bytes(openssl.flipped(response, at=at))
        _, said = openssl.run(*by_certificate)
        assert "Response verify OK" not in said


async def test_revoked_abandoned_unknown_and_intended(room: Room) -> None:
    good = (await issue(room)).serial_number
    revoked = await revoke_one(room)
    abandoned, intended = (await issue(room)).serial_number, (await issue(room)).serial_number
    entries = room.ledger.entries
    entries[abandoned] = unrecorded(entries[abandoned])
    await room.ledger.abandon(abandoned, room.now())
    entries[intended] = unrecorded(entries[intended])
    answer = read(await responder(room).answer(request(good, revoked, abandoned, intended, 4711)))
    statuses = [single["cert_status"].name for single in answer["responses"]]
    assert statuses == ["good", "revoked", "revoked", "unknown", "unknown"]
    with_reason, without = (answer["responses"][index]["cert_status"].chosen for index in (1, 2))
    assert with_reason["revocation_reason"].native == "key_compromise"
    assert without["revocation_reason"].native is None


async def test_answers_are_counted_by_what_they_say_kept_ones_too(room: Room) -> None:
    statuses = ("good", "revoked", "unknown", "malformed", "unauthorized")
    counted = [Grown.of(metrics.OCSP_RESPONSES, status=status) for status in statuses]
    good, revoked = (await issue(room)).serial_number, await revoke_one(room)
    answering = await kept(room)
    for _ in range(2):
        await answering.answer(request(good))
    await answering.answer(request(good, revoked, 4711))
    await answering.answer(b"no request")
    await answering.answer(request(good, issuer=room.memory.authority.root))
    assert [one.by() for one in counted] == [3, 1, 1, 1, 1]


def unrecorded(entry: Entry) -> Entry:
    """The entry as it was before its certificate was recorded."""
    return replace(entry, state=State.INTENDED, certificate_der=b"")


async def test_delegates_of_the_ceremony_are_good(room: Room) -> None:
    authority = room.memory.authority
    serials = (authority.tsa.certificate.serial_number, authority.ocsp.certificate.serial_number)
    answer = read(await responder(room).answer(request(*serials)))
    assert [single["cert_status"].name for single in answer["responses"]] == ["good", "good"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_answer_repeats_what_was_asked_and_says_how_long_it_holds(room: Room, algorithm: str) -> None:
    serial = (await issue(room)).serial_number
    response = await responder(room).answer(request(serial, algorithm=algorithm, nonce=b"n" * 32))
    answer = read(response)
    (single,) = answer["responses"]
    asked = asn1.OCSPRequest.load(request(serial, algorithm=algorithm))["tbs_request"]["request_list"][0]["req_cert"]
    assert single["cert_id"].dump() == asked.dump()
    assert single["next_update"].native - single["this_update"].native == LIFETIME
    assert asn1.OCSPResponse.load(response).nonce_value.native == b"n" * 32
    assert answer["version"].native == "v1"
    if algorithm == "sha256":
        parsed = ocsp.load_der_ocsp_response(response)
        assert parsed.responder_key_hash is not None
        (certificate,) = parsed.certificates
        assert certificate == room.memory.authority.ocsp.certificate
        key = room.memory.authority.ocsp.public_key
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(parsed.signature, parsed.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


async def test_answer_passes_the_lint(room: Room) -> None:
    response = await responder(room).answer(request((await issue(room)).serial_number, await revoke_one(room), 5))
    validator = pkix_ocsp.create_pkix_ocsp_response_validator_container(
        [
            pkix_ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    wrong = [
        described.finding
        for result in validator.validate(loader.load_ocsp_response(response, "response").root)
        for described in result.finding_descriptions
        if described.finding.severity <= ValidationFindingSeverity.WARNING
    ]
    assert wrong == []


async def test_another_issuer_is_unauthorized_and_signs_nothing(room: Room) -> None:
    other = MemoryAuthority().authority.issuing.certificate
    before = MEMORY.ocsp_key.calls
    assert status_of(await responder(room).answer(request(1, issuer=other))) == "unauthorized"
    assert status_of(await responder(room).answer(request(1, issuer=room.memory.authority.root))) == "unauthorized"
    assert status_of(await responder(room).answer(request(1, algorithm="sha512"))) == "unauthorized"
    assert MEMORY.ocsp_key.calls == before


def _with_extension(critical: bool, oid: str = "1.2.3.4") -> bytes:
    extension_der = der.sequence(
        der.oid(oid), der.tlv(der.BOOLEAN, b"\xff") if critical else b"", der.tlv(der.OCTET_STRING, b"\x05\x00")
    )
    listed = der.Reader(der.Reader(request(1)).inside(der.SEQUENCE).content(der.SEQUENCE)).content(der.SEQUENCE)
    extensions = der.tlv(der.context(2), der.sequence(extension_der))
    return der.sequence(der.sequence(der.sequence(listed), extensions))


MALFORMED = {
    "nothing": b"",
    "no DER": b"not DER",
    "something behind": request(1) + b"\0",
    "cut off": request(1)[:-1],
    "no serials": request(),
    "too many serials": request(*range(1, MAX_SERIALS + 2)),
    "too large": request(*range(1, 200)),
    "a nonce of 129 bytes": request(1, nonce=b"n" * 129),
    "an unknown critical extension": _with_extension(critical=True),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_request_is_answered_unsigned(room: Room, what: str) -> None:
    before = MEMORY.ocsp_key.calls
    assert status_of(await responder(room).answer(MALFORMED[what])) == "malformed_request"
    assert MEMORY.ocsp_key.calls == before


async def test_unknown_extension_that_is_not_critical_is_passed_over(room: Room) -> None:
    assert status_of(await responder(room).answer(_with_extension(critical=False))) == "successful"


async def test_token_and_database_away_are_typed_errors(room: Room) -> None:
    MEMORY.ocsp_key.fails_with = TokenUnavailableError("away")
    with pytest.raises(TokenUnavailableError):
        await responder(room).answer(request(1))
    room.ledger.away = True
    with pytest.raises(DependencyUnavailableError):
        await responder(room).answer(request(1))


async def kept(room: Room) -> Responder:
    """A responder that follows the ledger."""
    made = responder(room)
    await made.catch_up()
    return made


async def test_answer_without_nonce_is_signed_once_and_kept(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    before = MEMORY.ocsp_key.calls
    first = await following.answer(request(serial))
    room.later = RENEWED_AFTER - timedelta(minutes=1)
    assert await following.answer(request(serial)) == first
    assert MEMORY.ocsp_key.calls == before + 1
    room.later = RENEWED_AFTER + timedelta(minutes=1)
    assert await following.answer(request(serial)) != first


async def test_answer_with_nonce_or_about_several_is_signed_each_time(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    for asked in (request(serial, nonce=b"n" * 32), request(serial, serial)):
        before = MEMORY.ocsp_key.calls
        await following.answer(asked)
        await following.answer(asked)
        assert MEMORY.ocsp_key.calls == before + 2


async def test_what_was_never_issued_is_not_kept(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    room.ledger.entries[serial] = unrecorded(room.ledger.entries[serial])
    for asked in (4711, serial):
        before = MEMORY.ocsp_key.calls
        await following.answer(request(asked))
        await following.answer(request(asked))
        assert MEMORY.ocsp_key.calls == before + 2


async def test_change_drops_the_kept_answer_at_once(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    other = (await issue(room)).serial_number
    untouched = await following.answer(request(other))
    statuses = []
    for kind, reason in ((None, ""), (Kind.SUSPEND, ON_HOLD), (Kind.RESUME, ""), (Kind.REVOKE, "keyCompromise")):
        if kind is not None:
            assert await room.ledger.change(change(room, serial, kind, reason))
        await following.catch_up()
        (single,) = read(await following.answer(request(serial)))["responses"]
        statuses.append(single["cert_status"].name)
    assert statuses == ["good", "revoked", "good", "revoked"]
    assert await following.answer(request(other)) == untouched


async def test_answer_read_before_a_change_is_not_kept_after_it(room: Room) -> None:
    """The change comes between the reading of the status and the signature."""
    serial, following = (await issue(room)).serial_number, await kept(room)
    signing = MEMORY.authority.ocsp

    class Late(MemoryKey):
        async def sign_with(self, sign: Any) -> Any:
            await room.ledger.change(change(room, serial, Kind.REVOKE, "keyCompromise"))
            await following.catch_up()
            return await super().sign_with(sign)

    slow = replace(MEMORY.authority, ocsp=replace(signing, key=Late(MEMORY.ocsp_key.key)))
    following._authority = slow
    (single,) = read(await following.answer(request(serial)))["responses"]
    assert single["cert_status"].name == "good"
    following._authority = MEMORY.authority
    (single,) = read(await following.answer(request(serial)))["responses"]
    assert single["cert_status"].name == "revoked"


async def test_kept_answer_serves_while_database_and_token_are_away_until_it_ends(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    answer = await following.answer(request(serial))
    room.ledger.away = True
    MEMORY.ocsp_key.fails_with = TokenUnavailableError("away")
    room.later = LIFETIME - timedelta(minutes=1)
    assert await following.answer(request(serial)) == answer
    room.later = LIFETIME + timedelta(minutes=1)
    with pytest.raises(DependencyUnavailableError):
        await following.answer(request(serial))


async def test_in_the_background_kept_answers_are_made_anew_while_somebody_asks(room: Room) -> None:
    serial, following = (await issue(room)).serial_number, await kept(room)
    await following.answer(request(serial))
    room.later = RENEWED_AFTER + timedelta(minutes=1)
    before = MEMORY.ocsp_key.calls
    await following._renew()
    await following._renew()
    assert MEMORY.ocsp_key.calls == before + 1
    await following.answer(request(serial))
    assert MEMORY.ocsp_key.calls == before + 1
    for _ in range(4):
        room.later += RENEWED_AFTER
        await following._renew()
    assert MEMORY.ocsp_key.calls <= before + 4
    assert following._kept == {}, "nobody asked for an hour"


async def test_openssl_refuses_an_answer_with_a_stale_nonce(room: Room, tmp_path: Path) -> None:
    certificate = await issue(room)
    room.memory.write(tmp_path)
    leaf, answered = tmp_path / "leaf.pem", tmp_path / "ocsp.der"
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))
    trust = ("-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "issuing.pem")
    asked = [tmp_path / "yesterday.der", tmp_path / "today.der"]
    for path in asked:
        openssl.run(*("ocsp", "-issuer", tmp_path / "issuing.pem", "-cert", leaf, "-nonce", "-reqout", path))
    answered.write_bytes(await responder(room).answer(asked[0].read_bytes()))
    accepted, said = openssl.run("ocsp", "-reqin", asked[0], "-respin", answered, *trust)
    assert accepted, said
    _, said = openssl.run("ocsp", "-reqin", asked[1], "-respin", answered, *trust)
    assert "Nonce Verify error" in said


@pytest.mark.parametrize(("octets", "status"), [(1, "successful"), (32, "successful"), (128, "successful")])
async def test_nonces_of_rfc_9654_are_echoed(room: Room, octets: int, status: str) -> None:
    response = await responder(room).answer(request(1, nonce=b"n" * octets))
    assert status_of(response) == status
    assert asn1.OCSPResponse.load(response).nonce_value.native == b"n" * octets


ANSWERING = Responder(authority=MEMORY.authority, ledger=MemoryLedger(), now=now)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_requests_are_answered_one_way_or_another(data: st.DataObject) -> None:
    encoded = bytearray(request(1, 2, nonce=b"n" * 16))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut])):
        answer = asyncio.run(ANSWERING.answer(damaged))
        assert status_of(answer) in {"malformed_request", "unauthorized", "successful"}


async def test_abandoned_after_a_while_by_the_list_is_revoked_for_ocsp_too(room: Room) -> None:
    serial = (await issue(room)).serial_number
    room.ledger.entries[serial] = unrecorded(room.ledger.entries[serial])
    room.later = ABANDONED_AFTER + timedelta(seconds=1)
    await room.ledger.abandon_older(room.now() - ABANDONED_AFTER, room.now())
    answer = read(await responder(room).answer(request(serial)))
    assert answer["responses"][0]["cert_status"].name == "revoked"
