"""DER: written as asn1crypto writes it, read strictly whatever comes."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from services.ca import der
from services.ca.der import MalformedError, Reader

OIDS = st.builds(
    lambda first, second, rest: ".".join(map(str, (first, second, *rest))),
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(0, 2**40), max_size=5),
)


@given(st.integers(0, 2**400))
def test_integers_are_written_as_asn1crypto_writes_them_and_read_back(value: int) -> None:
    written = der.integer(value)
    assert written == core.Integer(value).dump()
    assert Reader(written).integer() == value


@given(st.integers(-(2**200), 2**200))
def test_negative_integers_are_read(value: int) -> None:
    assert Reader(core.Integer(value).dump()).integer() == value


@given(OIDS)
def test_oids_are_written_as_asn1crypto_writes_them_and_read_back(dotted: str) -> None:
    written = der.oid(dotted)
    assert written == core.ObjectIdentifier(dotted).dump()
    assert Reader(written).oid() == dotted


@given(st.binary(max_size=70_000))
def test_lengths_are_written_as_asn1crypto_writes_them(content: bytes) -> None:
    written = der.tlv(der.OCTET_STRING, content)
    assert written == core.OctetString(content).dump()
    assert Reader(written).content(der.OCTET_STRING) == content


@given(st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_times_are_whole_seconds_in_utc(at: datetime) -> None:
    at = at.replace(tzinfo=UTC, microsecond=0)
    assert der.generalized_time(at) == core.GeneralizedTime(at).dump()


@pytest.mark.parametrize("bit", [0, 2, 5, 14, 15, 16, 25])
def test_named_bit_is_the_shortest_bit_string(bit: int) -> None:
    written = core.BitString.load(der.named_bit(bit)).native
    assert [index for index, is_set in enumerate(written) if is_set] == [bit]
    assert len(written) == bit + 1


def test_set_of_ascends() -> None:
    assert der.set_of([b"\x04\x01\x02", b"\x04\x01\x01"]) == b"\x31\x06\x04\x01\x01\x04\x01\x02"


@pytest.mark.parametrize(
    ("what", "read", "encoded"),
    [
        ("nothing", Reader.integer, ""),
        ("a tag alone", Reader.integer, "02"),
        ("another tag", Reader.integer, "040101"),
        ("an end beyond the container", Reader.integer, "020201"),
        ("an indefinite length", lambda reader: reader.content(der.SEQUENCE), "30800000"),
        ("a long form for a short length", lambda reader: reader.content(der.OCTET_STRING), "04810100"),
        ("a length with a leading zero", lambda reader: reader.content(der.OCTET_STRING), "048200ff" + "00" * 255),
        ("a length that is cut off", lambda reader: reader.content(der.OCTET_STRING), "0484ffff"),
        ("an empty integer", Reader.integer, "0200"),
        ("an integer with a leading zero", Reader.integer, "0202007f"),
        ("an integer with a leading one", Reader.integer, "0202ff80"),
        ("an empty OID", Reader.oid, "0600"),
        ("an OID that is cut off", Reader.oid, "06022a86"),
        ("an OID arc with a leading zero", Reader.oid, "06032a8001"),
        ("an OID of 65 octets", Reader.oid, "0641" + "01" * 65),
        ("a boolean of 2", Reader.boolean, "010102"),
        ("something after the end", Reader.end, "00"),
    ],
)
def test_reader_refuses(what: str, read: Callable[[Reader], object], encoded: str) -> None:
    with pytest.raises(MalformedError):
        read(Reader(bytes.fromhex(encoded)))


@given(st.binary(max_size=64))
def test_reader_raises_nothing_else(data: bytes) -> None:
    for read in (Reader.integer, Reader.oid, Reader.boolean, lambda reader: reader.inside(der.SEQUENCE).integer()):
        try:
            read(Reader(data))
        except MalformedError:
            continue
