"""Other makers' CMS, in whatever encoding they write, keeps every octet when a signature is added beside theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core, parser
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.documents import der
from services.documents.errors import CmsLockedError, EarlierSignatureError
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from services.documents.report import Indication
from tests.documents.authority import Authority, Holder, issue
from tests.documents.gathering import signed
from tests.documents.room import Room
from tests.documents.test_outside_judges import flipped, openssl_cms, run

CONTENT = "Үш жақты шарт\n".encode()


@pytest.fixture(scope="module")
def people(authority: Authority) -> tuple[Holder, ...]:
    return tuple(issue(f"Foreign {number}", authority.issuing) for number in range(2))


@pytest.fixture
def folder(tmp_path: Path, authority: Authority, people: tuple[Holder, ...]) -> Path:
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    (tmp_path / "content").write_bytes(CONTENT)
    for number, person in enumerate(people):
        private = person.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / f"{number}.pem").write_bytes(person.pem + private)
    return tmp_path


def parts(encoded: bytes) -> list[bytes]:
    """The elements of a constructed value, as they are encoded."""
    inside, found = parser.parse(encoded, strict=True)[4], []
    while inside:
        found.append(inside[: parser.peek(inside)])
        inside = inside[parser.peek(inside) :]
    return found


def fields(cms: bytes) -> list[bytes]:
    """The fields of SignedData."""
    return parts(parts(parts(cms)[1])[0])


def certificates(cms: bytes) -> list[bytes]:
    return parts(next(field for field in fields(cms) if field[0] == der.context(0)))


def rebuilt(*body: bytes) -> bytes:
    return der.sequence(der.oid("1.2.840.113549.1.7.2"), der.tlv(der.context(0), der.sequence(*body)))


def by_openssl(folder: Path, *options: str) -> bytes:
    """By two people at once."""
    made = run(
        "openssl", "cms", "-sign", "-binary", "-in", folder / "content", "-outform", "DER", "-md", "sha384", *options,
        "-signer", folder / "0.pem", "-signer", folder / "1.pem", "-out", folder / "foreign.p7s",
    )  # fmt: skip
    assert made.accepted, made.said
    return (folder / "foreign.p7s").read_bytes()


def streamed(folder: Path) -> bytes:
    """With the content inside, in indefinite lengths."""
    made = by_openssl(folder, "-stream", "-nodetach")
    assert made[1] == 0x80
    return made


def in_no_order(folder: Path) -> bytes:
    """Sets whose elements descend."""
    good = by_openssl(folder)
    version, digests, content, _, infos = fields(good)
    reversed_sets = [sorted(elements, reverse=True) for elements in (certificates(good), parts(infos))]
    assert all(len(elements) > 1 for elements in reversed_sets)
    return rebuilt(
        version, digests, content, der.tlv(der.context(0), *reversed_sets[0]), der.tlv(der.SET, *reversed_sets[1])
    )


def long_lengths(folder: Path) -> bytes:
    """SignerInfos whose lengths take more octets than they need."""
    *before, infos = fields(by_openssl(folder))
    lengthened = (
        b"\x30\x84" + len(inside := parser.parse(info)[4]).to_bytes(4, "big") + inside for info in parts(infos)
    )
    return rebuilt(*before, der.set_of(lengthened))


def attributes_in_no_order(folder: Path) -> bytes:
    """Signed attributes in their maker's order, signed so: openssl takes them as they are, DER would sort them."""
    good = by_openssl(folder)
    *before, infos = fields(good)
    return rebuilt(*before, der.set_of(_signed_in_order_found(info, folder) for info in parts(infos)))


def _signed_in_order_found(info: bytes, folder: Path) -> bytes:
    version, sid, digest, attributes, algorithm, _ = parts(info)
    descending = b"".join(sorted(parts(attributes), reverse=True))
    serial = core.Integer.load(parts(sid)[1]).native
    for number in range(2):
        pem = (folder / f"{number}.pem").read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found = run("openssl", "x509", "-in", folder / f"{number}.pem", "-noout", "-serial").said
        if int(found.strip().removeprefix("serial="), 16) == serial:
            value = key.sign(der.tlv(der.SET, descending), ec.ECDSA(hashes.SHA384()))
            return der.sequence(version, sid, digest, der.tlv(der.context(0), descending), algorithm, der.octets(value))
    raise AssertionError("nobody's certificate")


Maker = Callable[[Path], bytes]
MAKERS: dict[str, Maker] = {
    "openssl": by_openssl,
    "indefinite lengths": streamed,
    "sets in no order": in_no_order,
    "lengths longer than needed": long_lengths,
    "signed attributes in no order": attributes_in_no_order,
}


@pytest.mark.parametrize("level", [Level.B_T, Level.B_LTA])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_every_octet_of_foreign_signatures_stays_and_all_of_them_verify(
    authority: Authority, folder: Path, make: Maker, level: Level
) -> None:
    foreign = make(folder)
    assert openssl_cms(folder, foreign, CONTENT).accepted, "the sample itself is good"
    room = Room(authority)
    [both] = await signed(room, NewDocument("Шарт", CONTENT, Format.CADES_DETACHED, level, foreign))
    verdict = openssl_cms(folder, both, CONTENT)
    assert verdict.accepted, verdict.said

    theirs, all_of_them = parts(fields(foreign)[-1]), parts(fields(both)[-1])
    assert len(theirs) == 2
    assert set(theirs) < set(all_of_them)
    assert len(all_of_them) == 3
    assert set(certificates(foreign)) < set(certificates(both))
    for info in all_of_them:  # openssl stops at the first bad one: each is one it looks at
        value = asn1_cms.SignerInfo.load(info)["signature"].native
        assert not openssl_cms(folder, flipped(both, both.index(value) + 20), CONTENT).accepted
    report = await room.archive.validate(both, CONTENT, authority.crls())
    ours = f"{authority.signer.certificate.serial_number:x}"
    assert [item.indication for item in report.signatures if item.signer_serial == ours] == [Indication.TOTAL_PASSED]


async def test_foreign_revocation_values_stay_as_they_came(authority: Authority, folder: Path) -> None:
    *before, infos = fields(by_openssl(folder))
    crl = authority.crls()[0]
    outside = b"\x30\x84" + len(inside := parser.parse(crl)[4]).to_bytes(4, "big") + inside
    foreign = rebuilt(*before, der.tlv(der.context(1), outside), infos)
    [both] = await signed(Room(authority), NewDocument("Шарт", CONTENT, Format.CADES_DETACHED, Level.B_LT, foreign))
    [revocation] = [field for field in fields(both) if field[0] == der.context(1)]
    assert outside in parts(revocation)
    assert openssl_cms(folder, both, CONTENT).accepted


def _with_unsigned(cms: bytes, kind: str) -> bytes:
    *before, infos = fields(cms)
    first, *others = parts(infos)
    attribute = der.sequence(der.oid(kind), der.set_of((der.sequence(),)))
    first = der.sequence(*parts(first), der.tlv(der.context(1), attribute))
    return rebuilt(*before, der.set_of((first, *others)))


@pytest.mark.parametrize(
    "kind",
    ["1.2.840.113549.1.9.16.2.27", "1.2.840.113549.1.9.16.2.48", "0.4.0.1733.2.2"],
    ids=["archive-time-stamp", "archive-time-stamp-v2", "long-term-validation"],
)
async def test_stamp_that_covers_the_whole_cms_locks_it(room: Room, folder: Path, kind: str) -> None:
    locked = _with_unsigned(by_openssl(folder), kind)
    with pytest.raises(CmsLockedError):
        await signed(room, NewDocument("Шарт", CONTENT, Format.CADES_DETACHED, Level.B_T, locked))
    assert room.stored_objects() == []


Spoil = Callable[[list[bytes]], list[bytes]]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "fields in another order": (lambda found: [*found[:3], found[4], found[3]], "no CMS signature"),
    "a field twice": (lambda found: [*found, found[-1]], "no CMS signature"),
    "no SignerInfos": (lambda found: found[:-1], "no CMS signature"),
    "an unknown version": (lambda found: [der.integer(6), *found[1:]], "unknown version"),
    "content that is no data": (
        lambda found: [*found[:2], der.sequence(der.oid("1.2.840.113549.1.9.16.1.4")), *found[3:]],
        "something else than data",
    ),
    "a SignerInfo that is cut off": (lambda found: [*found[:-1], der.tlv(der.SET, parts(found[-1])[0][:-1])], "no CMS"),
    "no signed attributes": (
        lambda found: [
            *found[:-1],
            der.set_of(der.sequence(*(part for part in parts(info) if part[0] != 0xA0)) for info in parts(found[-1])),
        ],
        "no signed attributes",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT)
async def test_what_cannot_be_taken_over_as_it_is_gets_no_signature_beside_it(
    room: Room, folder: Path, spoil: Spoil, said: str
) -> None:
    spoilt = rebuilt(*spoil(fields(by_openssl(folder))))
    with pytest.raises(EarlierSignatureError, match=said):
        await signed(room, NewDocument("Шарт", CONTENT, Format.CADES_DETACHED, Level.B_T, spoilt))
    assert room.stored_objects() == []
