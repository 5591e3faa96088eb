"""docs/certificate-policy.md: the whole outline of RFC 3647, and the values that the code has."""

import re
from datetime import timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from finid.esign.v1.esign_pb2 import RevocationReason

from mesh.order import MAX_LIFETIME_S, REASONS, Kind
from services.auth_gateway.servicer import pki_caching
from services.ca import ceremony, clock, crl, ledger, ocsp, profiles, timestamp
from services.ca.profiles import SUBJECTS, Profile
from services.ca.settings import DOCUMENTATION_ARC
from services.signer.settings import SignerSettings
from services.signer.subject_keys import OFFERED
from tests.docs.page import DOCS, Row, tables_of

PAGE = (DOCS / "certificate-policy.md").read_text(encoding="utf-8")
# One line for each thing said, wherever the page breaks its lines.
TEXT = " ".join(PAGE.split())
TABLES = tables_of("certificate-policy.md")
# RFC 3647 section 6: how many second-level sections each chapter has.
CHAPTERS = {1: 6, 2: 4, 3: 4, 4: 12, 5: 8, 6: 8, 7: 3, 8: 6, 9: 17}

ROLES = {"root": ceremony.ROOT, "issuing": ceremony.ISSUING, "ocsp": ceremony.OCSP, "tsa": ceremony.TSA}
PROFILES: dict[str, Profile] = {name: role.profile for name, role in ROLES.items()} | SUBJECTS
# The names of RFC 5280 section 4.2.1.3, in its order.
KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}


def table(heading: str) -> dict[str, Row]:
    return {row[0].strip("`"): row for row in TABLES[heading]}


def list_of(cell: str) -> list[str]:
    return [item.strip().strip("`") for item in cell.split(",") if item.strip()]


def tail(policy: tuple[int, ...]) -> str:
    return "".join(f".{number}" for number in policy)


def test_outline_is_that_of_rfc_3647() -> None:
    found = re.findall(r"^#{1,2} (\d+)(?:\.(\d+))?\.? ", PAGE, flags=re.MULTILINE)
    expected = []
    for chapter, sections in CHAPTERS.items():
        expected += [(str(chapter), ""), *((str(chapter), str(section)) for section in range(1, sections + 1))]
    assert found == expected


def test_every_section_says_something() -> None:
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        assert body.partition("\n# ")[0].strip(), heading


@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_as_the_code_makes_it(name: str) -> None:
    profile = PROFILES[name]
    _, days, renewed, usage, extended, policies, crl_file, addresses = table("7.1 Certificate profile")[name]
    assert timedelta(days=int(days)) == profile.lifetime
    assert renewed == (str(ROLES[name].renewed_before.days) if name in ROLES else "")
    assert list_of(usage) == [said for key, said in KEY_USAGES.items() if key in profile.key_usage]
    assert list_of(extended) == [oid.dotted_string for oid in profile.extended_key_usage]
    assert list_of(policies) == (["anyPolicy"] if profile.any_policy else list_of(tail(profile.policy)))
    assert (crl_file, addresses) == (profile.crl, "yes" if profile.points_to_issuer else "")


def test_every_profile_is_on_the_page_and_no_other() -> None:
    assert set(table("7.1 Certificate profile")) == set(PROFILES)
    assert [name for name, profile in PROFILES.items() if profile.is_ca] == ["root", "issuing"]
    assert [PROFILES[name].path_length for name in ("root", "issuing")] == [None, 0]
    assert [name for name, profile in PROFILES.items() if profile.ocsp_no_check] == ["ocsp"]
    assert PROFILES["tsa"].extended_key_usage == (ExtendedKeyUsageOID.TIME_STAMPING,)
    assert "root CA without a path length, issuing CA with path length 0" in TEXT


def test_policies_are_those_of_certificates_and_stamps() -> None:
    said = {name: row[1].strip("`") for name, row in table("1.2 Document name and identification").items()}
    assert said == {
        **{name: tail(profile.policy) for name, profile in SUBJECTS.items()},
        "time stamp authority's certificate": tail(profiles.TSA.policy),
        "time stamps": tail(profiles.TIME_STAMP_POLICY),
    }
    assert f"`{DOCUMENTATION_ARC}`" in TEXT


def test_keys_are_of_the_algorithms_that_profiles_allow() -> None:
    said = {name: set(list_of(row[1])) for name, row in table("6.1 Key pair generation and installation").items()}
    names = {
        "root": "root",
        "issuing CA": "issuing",
        "OCSP responder": "ocsp",
        "time stamp authority": "tsa",
        "subject": "individual-sign",
    }
    for row, name in names.items():
        assert said.pop(row) == {algorithm.value for algorithm in PROFILES[name].key_algorithms}
    assert not said
    assert {algorithm.value for algorithm in OFFERED} == {"EC_P256", "EC_P384"}
    chosen = {name: ceremony.ALGORITHMS[role].value for name, role in ROLES.items()}
    assert chosen == {"root": "EC_P384", "issuing": "EC_P384", "ocsp": "EC_P256", "tsa": "EC_P256"}


def hours(duration: timedelta) -> str:
    return f"{duration // timedelta(hours=1)} h"


def test_lists_and_answers_live_as_long_as_it_says() -> None:
    said = table("2.3 Time or frequency of publication")
    issuing, root = said["revocation list of the issuing CA"], said["revocation list of the root"]
    assert (issuing[1], issuing[2].rpartition(" after ")[2]) == (hours(crl.LIFETIME), hours(crl.REFRESHED_AFTER))
    assert root[1] == f"{ceremony.ROOT_CRL_LIFETIME.days} days"
    # `_root_crl` of the ceremony: at half of its life, which tests/ca/test_ceremony.py shows.
    assert root[2].endswith(f"{ceremony.ROOT_CRL_LIFETIME.days // 2} days")
    kept, fresh = said["OCSP answer without a nonce"], said["OCSP answer with a nonce"]
    assert kept[1] == fresh[1] == hours(ocsp.LIFETIME)
    assert f"after {ocsp.RENEWED_AFTER // timedelta(minutes=1)} min" in kept[2]
    assert f"for {hours(crl.GRACE)} at least" in TEXT
    assert f"every {crl._CHECKED_EVERY_S:.0f} s whether a list is due" in TEXT
    assert f"within {ocsp.CAUGHT_UP_EVERY_S} s" in TEXT
    assert f"for {pki_caching._MAX_AGE // timedelta(minutes=1)} minutes" in TEXT


def test_stamps_are_what_it_says() -> None:
    said = {name: row[1] for name, row in table("6.8 Time-stamping").items()}
    assert said["policy"] == f"arc and `{tail(profiles.TIME_STAMP_POLICY)}`"
    # SEQUENCE { INTEGER 1 }: Accuracy of one second.
    assert (timestamp._ACCURACY, said["accuracy"]) == (bytes.fromhex("3003020101"), "1 s")
    assert said["ordering"].startswith("FALSE")
    assert said["hashes taken"].startswith("SHA-256, SHA-384, SHA-512;")
    assert sorted(timestamp._HASH_BYTES.values()) == [32, 48, 64]
    assert f"{clock.TOLERANCE_NS // 10**6} ms" in said["clock steps by more"]
    assert f"{clock.SETTLED_AFTER_NS // 10**9} s" in said["clock steps by more"]
    assert said["kernel's error at most"].startswith(f"{clock.MAX_ERROR_US // 10**6} s,")


def test_reasons_are_those_that_are_taken() -> None:
    said = {name: set(list_of(row[1])) for name, row in table("4.9 Certificate revocation and suspension").items()}
    assert said == {
        "the person": {_camel(name) for name in dict(RevocationReason.items())},
        "an order": set(REASONS[Kind.REVOKE]),
    }


def _camel(name: str) -> str:
    """REVOCATION_REASON_KEY_COMPROMISE as RFC 5280 spells it."""
    first, *rest = name.removeprefix("REVOCATION_REASON_").lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def test_the_rest_of_its_numbers() -> None:
    wait_s = SignerSettings.model_fields["new_phone_wait_s"].default
    for sentence in (
        f"`FINID_NEW_PHONE_WAIT_S`, {wait_s // 3600} hours by default",
        f"current for {MAX_LIFETIME_S // 3600} hours at most",
        f"after {ledger.ABANDONED_AFTER // timedelta(seconds=1)} s it stands as revoked",
        f"Valid from {profiles.BACKDATED // timedelta(seconds=1)} s before issuance",
        f"Serials of {profiles.SERIAL_BYTES} octets",
        f"at most {ocsp.MAX_SERIALS} serials and {ocsp.MAX_REQUEST_BYTES} bytes a request",
        f"Nonces of 1 to {ocsp._MAX_NONCE_BYTES} octets",
    ):
        assert sentence in TEXT, sentence


def test_what_is_not_done_is_called_so() -> None:
    for number in ("8.1", "8.2", "8.3", "8.4", "8.5", "8.6", "9.2"):
        body = PAGE.partition(f"\n## {number} ")[2].partition("\n## ")[0]
        assert "**not done" in body.lower(), number
    for missing in ("Authority to act for an organisation: **not done**", "no certified device", "not accredited"):
        assert missing in TEXT
