"""One transaction has one spelling, and only one that keeps the rules."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import transaction
from mesh.transaction import MAX_TRANSACTION_BYTES, Consent, Openings, Purpose, TransactionError, txn_of
from tests.bundles import IIN, NOW, PHONE, digest_of, document, transaction_of

SIGN = transaction_of(Purpose.SIGN)
SIGN_JSON: dict[str, Any] = json.loads(SIGN.encode())


@pytest.mark.parametrize("purpose", Purpose)
def test_a_transaction_reads_back_as_it_was_written(purpose: Purpose) -> None:
    made = transaction_of(purpose)
    assert transaction.parse(made.encode()) == made


def test_txn_is_the_digest_of_the_bytes_under_its_own_prefix() -> None:
    # printf 'finid-transaction-v1\0{}' | sha256sum
    assert txn_of(b"{}").hex() == "bb8d1d26d2be78d204b10c0bf26dc217896abc0fbac65b0d3fa3559fb5a97ce5"


def test_the_fields_are_those_of_the_contract() -> None:
    contract = (
        "version env authentication application application_title purpose channel policy iin_commitment "
        "phone_commitment credential certificate_sha256 documents profile key_algorithm superseded reason "
        "digest_algorithm signature_algorithm signing_time consents scopes nonce created_at expires_at"
    )
    assert sorted(SIGN_JSON) == sorted(contract.split())


def spelled_otherwise(text: str) -> list[tuple[str, bytes]]:
    members = text[1:-1]
    return [
        ("white space", text.replace(",", ", ", 1).encode()),
        ("line end", text.encode() + b"\n"),
        ("order of fields", json.dumps(dict(reversed(SIGN_JSON.items())), separators=(",", ":")).encode()),
        ("escaped letter", text.replace('"SIGN"', '"\\u0053IGN"').encode()),
        ("escaped slash", text.replace("credentials/", "credentials\\/").encode()),
        ("field twice, the same", f'{{{members},"version":1}}'.encode()),
        ("field twice, another first", f'{{"purpose":"REVOKE",{members}}}'.encode()),
        ("float that is whole", text.replace('"version":1', '"version":1.0').encode()),
        ("float by exponent", text.replace('"version":1', '"version":1e0').encode()),
        ("negative zero", transaction_of(Purpose.IDENTIFY).encode().replace(b'"signing_time":0', b'"signing_time":-0')),
        ("NaN", text.replace('"version":1', '"version":NaN').encode()),
        ("integer beyond a double", text.replace('"version":1', f'"version":{2**53}').encode()),
        ("byte order mark", b"\xef\xbb\xbf" + text.encode()),
        ("UTF-16", text.encode("utf-16")),
        ("half of a surrogate pair", text.replace('"SIGN"', '"\\ud800"').encode()),
        ("not UTF-8", text.encode().replace(b"SIGN", b"SI\xffN")),
        ("brackets without end", b"[" * 60_000),
        ("too large", text.encode() + b" " * MAX_TRANSACTION_BYTES),
        ("padded base64", text.replace(f'"nonce":"{SIGN_JSON["nonce"]}"', f'"nonce":"{SIGN_JSON["nonce"]}="').encode()),
        ("nothing", b""),
        ("a list", b"[]"),
    ]


SPELLINGS = spelled_otherwise(SIGN.encode().decode())


@pytest.mark.parametrize("spelling", [data for _, data in SPELLINGS], ids=[name for name, _ in SPELLINGS])
def test_parse_refuses_every_other_spelling(spelling: bytes) -> None:
    with pytest.raises(TransactionError):
        transaction.parse(spelling)


@pytest.mark.parametrize("name", sorted(SIGN_JSON))
@pytest.mark.parametrize("wrong", [None, True, 1.5, {}, [None], [[]], "\x00", -1], ids=repr)
def test_parse_refuses_another_type_in_any_field(name: str, wrong: object) -> None:
    with pytest.raises(TransactionError):
        transaction.parse(json.dumps(SIGN_JSON | {name: wrong}, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("name", sorted(SIGN_JSON))
def test_parse_refuses_a_missing_field(name: str) -> None:
    kept = {key: value for key, value in SIGN_JSON.items() if key != name}
    with pytest.raises(TransactionError):
        transaction.parse(rfc8785.dumps(kept))


def test_parse_refuses_an_unknown_field() -> None:
    with pytest.raises(TransactionError):
        transaction.parse(rfc8785.dumps(SIGN_JSON | {"comment": "x"}))


def test_parse_refuses_an_unknown_field_of_a_document() -> None:
    documents = [SIGN_JSON["documents"][0] | {"url": "x"}]
    with pytest.raises(TransactionError):
        transaction.parse(rfc8785.dumps(SIGN_JSON | {"documents": documents}))


NOT_FOR_IDENTIFY: dict[str, Any] = {
    "credential": SIGN.credential,
    "certificate_sha256": digest_of("x"),
    "documents": SIGN.documents,
    "profile": "individual-sign",
    "key_algorithm": "EC_P256",
    "superseded": SIGN.credential,
    "reason": "keyCompromise",
    "digest_algorithm": "SHA256",
    "signature_algorithm": "ECDSA_P256_SHA256",
    "signing_time": NOW,
}

BROKEN: list[tuple[Purpose, str, Any]] = [
    *((Purpose.IDENTIFY, name, value) for name, value in NOT_FOR_IDENTIFY.items()),
    (Purpose.SIGN, "version", 2),
    (Purpose.SIGN, "authentication", "authentications/short"),
    (Purpose.SIGN, "authentication", SIGN.application),
    (Purpose.SIGN, "application", "applications/" + "A" * 26),
    (Purpose.SIGN, "application_title", ""),
    (Purpose.SIGN, "application_title", "x" * 201),
    (Purpose.SIGN, "application_title", "e\u0301 is not in NFC"),
    (Purpose.SIGN, "application_title", "line\nbreak"),
    (Purpose.SIGN, "application_title", "right to left \u202e override"),
    (Purpose.SIGN, "application_title", "zero\u200bwidth"),
    (Purpose.SIGN, "application_title", "line\u2028separator"),
    (Purpose.SIGN, "application_title", " blank before"),
    (Purpose.SIGN, "policy", ""),
    (Purpose.SIGN, "policy", "Not A Slug"),
    (Purpose.SIGN, "iin_commitment", b"x" * 31),
    (Purpose.SIGN, "phone_commitment", b""),
    (Purpose.SIGN, "credential", ""),
    (Purpose.SIGN, "certificate_sha256", b""),
    (Purpose.SIGN, "documents", ()),
    (Purpose.SIGN, "documents", (document("x"),) * 101),
    (Purpose.SIGN, "documents", (replace(document("x"), title="a\tb"),)),
    (Purpose.SIGN, "documents", (replace(document("x"), content_sha256=b"x"),)),
    (Purpose.SIGN, "documents", (replace(document("x"), digest_sha256=b""),)),
    (Purpose.SIGN, "profile", "individual-sign"),
    (Purpose.SIGN, "digest_algorithm", ""),
    (Purpose.SIGN, "digest_algorithm", "SHA1"),
    (Purpose.SIGN, "signature_algorithm", "RSA_SHA256"),
    (Purpose.SIGN, "signing_time", 0),
    (Purpose.SIGN, "signing_time", SIGN.created_at - 901),
    (Purpose.SIGN, "signing_time", SIGN.expires_at + 1),
    (Purpose.SIGN, "consents", (Consent("a", "1", b"x"),)),
    (Purpose.SIGN, "consents", (Consent("a", "1", digest_of("x")), Consent("a", "2", digest_of("x")))),
    (Purpose.SIGN, "consents", tuple(Consent(f"a{n}", "1", digest_of("x")) for n in range(17))),
    (Purpose.SIGN, "scopes", ("name", "name")),
    (Purpose.SIGN, "scopes", ("two words",)),
    (Purpose.SIGN, "nonce", b"x" * 15),
    (Purpose.SIGN, "nonce", b"x" * 65),
    (Purpose.SIGN, "created_at", 0),
    (Purpose.SIGN, "expires_at", SIGN.created_at),
    (Purpose.SIGN, "expires_at", SIGN.created_at + 901),
    (Purpose.ISSUE, "profile", ""),
    (Purpose.ISSUE, "key_algorithm", ""),
    (Purpose.ISSUE, "superseded", SIGN.credential),
    (Purpose.ISSUE, "certificate_sha256", digest_of("x")),
    (Purpose.REISSUE, "superseded", ""),
    (Purpose.REVOKE, "reason", ""),
    (Purpose.REVOKE, "reason", "certificateHold"),
    (Purpose.REVOKE, "certificate_sha256", b""),
    *(
        (purpose, name, value)
        for purpose in (Purpose.SUSPEND, Purpose.RESUME)
        for name, value in (
            ("credential", ""),
            ("certificate_sha256", b""),
            ("reason", "keyCompromise"),
            ("superseded", SIGN.credential),
            ("profile", "individual-sign"),
            ("documents", SIGN.documents),
        )
    ),
]


@pytest.mark.parametrize(("purpose", "name", "value"), BROKEN, ids=[f"{p.value} {n} {v!r:.30}" for p, n, v in BROKEN])
def test_a_transaction_that_breaks_a_rule_is_refused_by_the_name_of_the_field(
    purpose: Purpose, name: str, value: Any
) -> None:
    with pytest.raises(TransactionError) as caught:
        replace(transaction_of(purpose), **{name: value})
    assert name in {violation.field for violation in caught.value.violations}


def test_reissue_of_a_credential_by_itself_is_refused() -> None:
    made = transaction_of(Purpose.REISSUE)
    with pytest.raises(TransactionError, match="rules"):
        replace(made, superseded=made.credential)


def test_a_transaction_that_keeps_its_rules_but_is_too_large_is_refused() -> None:
    long_titles = tuple(replace(document("x"), title="ә" * 196 + f"{number:04}") for number in range(100))
    shorter = replace(SIGN, documents=long_titles[:50])
    assert transaction.parse(shorter.encode()) == shorter
    with pytest.raises(TransactionError, match="larger"):
        replace(SIGN, documents=tuple(replace(item, title="\U00020000" * 200) for item in long_titles)).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iin", "12345678901"),
        ("iin", "12345678901a"),
        ("iin", "١٢٣٤٥٦٧٨٩٠١٢"),
        ("phone", "77010000001"),
        ("phone", "+07010000001"),
        ("phone", "+7701 000001"),
        ("iin_salt", b"short"),
        ("phone_salt", b""),
    ],
)
def test_openings_that_break_a_rule_are_refused_without_quoting_them(name: str, value: Any) -> None:
    openings = Openings(iin=IIN, iin_salt=b"s" * 32, phone=PHONE, phone_salt=b"s" * 32)
    with pytest.raises(TransactionError) as caught:
        replace(openings, **{name: value})
    assert [violation.field for violation in caught.value.violations] == [name]
    assert str(value) not in str(caught.value) + str(caught.value.violations)


def test_openings_do_not_show_personal_data() -> None:
    shown = repr(Openings(iin=IIN, iin_salt=b"s" * 32, phone=PHONE, phone_salt=b"s" * 32))
    assert IIN not in shown
    assert PHONE not in shown


def test_commitments_are_salted_and_apart_from_each_other() -> None:
    one = Openings(iin=IIN, iin_salt=b"a" * 32, phone=PHONE, phone_salt=b"a" * 32)
    other = Openings(iin=IIN, iin_salt=b"b" * 32, phone=PHONE, phone_salt=b"b" * 32)
    commitments = {one.iin_commitment(), one.phone_commitment(), other.iin_commitment(), other.phone_commitment()}
    assert len(commitments) == 4


titles = st.text(min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(title=titles, scopes=st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), unique=True, max_size=5))
def test_whatever_can_be_built_reads_back_from_its_one_spelling(title: str, scopes: list[str]) -> None:
    try:
        made = replace(SIGN, application_title=title, scopes=tuple(scopes))
    except TransactionError:
        return
    assert transaction.parse(made.encode()) == made


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_no_changed_byte_gives_another_spelling_of_the_same_transaction(data: st.DataObject) -> None:
    spelled = bytearray(SIGN.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        spelled[data.draw(st.integers(0, len(spelled) - 1))] = data.draw(st.integers(0, 255))
    if bytes(spelled) == SIGN.encode():
        return
    with contextlib.suppress(TransactionError):
        assert transaction.parse(bytes(spelled)) != SIGN
