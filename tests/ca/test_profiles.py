"""What the authority's certificates say, and what the lint thinks of them."""

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from mesh.facts import Release
from mesh.hsm import KeyAlgorithm
from services.ca import lint, profiles, subject
from services.ca.lint import LintError
from services.ca.profiles import SUBJECTS
from services.ca.signing import Signing
from services.ca.subject import Organization, SubjectUnusableError
from tests.bundles import IIN
from tests.ca.authorities import PRACTICE, MemoryAuthority, now

PERSON = Release(
    iin=IIN,
    family_name="Серікова",
    given_name="Айгерім",
    patronymic="Нұрланқызы",
    family_name_latin="SERIKOVA",
    given_name_latin="AIGERIM",
    birth_date="1990-01-01",
    email="",
)


def person(**changed: str) -> Release:
    return replace(PERSON, **changed)


@pytest.fixture(scope="module")
def memory() -> MemoryAuthority:
    return MemoryAuthority()


def leaf(
    memory: MemoryAuthority, name: x509.Name | None = None, profile: str = "individual-sign"
) -> x509.CertificateBuilder:
    return profiles.builder(
        SUBJECTS[profile],
        PRACTICE,
        memory.authority.issuer,
        name or subject.of_person(PERSON),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        serial=profiles.serial_number(secrets.token_bytes(20)),
        now=now(),
    )


def test_individual_certificate_says_what_the_kazakh_profile_wants(memory: MemoryAuthority) -> None:
    certificate = leaf(memory).sign(memory.issuing_key.key, hashes.SHA384())
    shown = {attribute.oid: attribute.value for attribute in certificate.subject}
    assert shown == {
        NameOID.COUNTRY_NAME: "KZ",
        NameOID.COMMON_NAME: "Серікова Айгерім Нұрланқызы",
        NameOID.SURNAME: "Серікова",
        NameOID.GIVEN_NAME: "Айгерім",
        NameOID.SERIAL_NUMBER: f"IIN{IIN}",
    }
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.content_commitment) == (True, True)
    assert not usage.value.key_cert_sign
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in extended] == ["1.2.398.3.3.4.1.1"]
    (policy,) = extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policy.policy_identifier.dotted_string == f"{PRACTICE.policy_arc}.1.1"
    assert policy.policy_qualifiers == [PRACTICE.cps_url]
    (point,) = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    assert [location.value for location in point.full_name] == [f"{PRACTICE.pki_url}/issuing.crl"]
    information = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [description.access_location.value for description in information] == [
        f"{PRACTICE.pki_url}/ocsp",
        f"{PRACTICE.pki_url}/issuing.cer",
    ]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc + timedelta(seconds=1)
    assert lifetime == timedelta(days=365)


def test_certificate_for_authentication_commits_to_no_content(memory: MemoryAuthority) -> None:
    extensions = leaf(memory, profile="individual-auth").sign(memory.issuing_key.key, hashes.SHA384()).extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.content_commitment) == (True, False)
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in extended] == ["1.3.6.1.5.5.7.3.2", "1.2.398.3.3.4.1.1"]
    (policy,) = extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policy.policy_identifier.dotted_string == f"{PRACTICE.policy_arc}.1.2"


def test_certificate_of_a_legal_entity_names_it_and_the_person(memory: MemoryAuthority) -> None:
    name = subject.of_legal_entity(PERSON, Organization("ТОО «Пример»", "123456789013"))
    certificate = leaf(memory, name, "legal-entity-sign").sign(memory.issuing_key.key, hashes.SHA384())
    shown = {attribute.oid: attribute.value for attribute in certificate.subject}
    assert shown[NameOID.SERIAL_NUMBER] == f"IIN{IIN}"
    assert shown[NameOID.ORGANIZATION_NAME] == "ТОО «Пример»"
    assert shown[NameOID.ORGANIZATIONAL_UNIT_NAME] == "BIN123456789013"
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in extended] == ["1.2.398.3.3.4.1.2"]
    assert lint.findings(certificate.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize(
    ("name", "bin_"),
    [
        ("", "123456789013"),
        ("x" * 65, "123456789013"),
        ("ТОО", "123456789014"),
        ("ТОО", "12345678902"),
        ("ТОО", "１23456789021"),
        ("ТОО", "BIN456789021"),
    ],
)
def test_organisation_without_name_or_with_a_wrong_bin_is_refused(name: str, bin_: str) -> None:
    with pytest.raises(SubjectUnusableError):
        Organization(name, bin_)


@given(st.integers(0, 10**11 - 1))
def test_control_digit_of_a_bin_is_one_digit_or_none(number: int) -> None:
    digits = f"{number:011d}"
    first = sum(weight * int(digit) for weight, digit in zip(range(1, 12), digits, strict=True)) % 11
    second = sum(weight * int(digit) for weight, digit in zip([*range(3, 12), 1, 2], digits, strict=True)) % 11
    control = first if first < 10 else second
    for last in range(10):
        if last == control:
            assert Organization("ТОО", f"{digits}{last}").bin
        else:
            with pytest.raises(SubjectUnusableError):
                Organization("ТОО", f"{digits}{last}")


def test_certificate_never_outlives_its_issuer(memory: MemoryAuthority) -> None:
    ends = now().replace(microsecond=0) + timedelta(days=3)
    made = profiles.builder(
        SUBJECTS["individual-sign"],
        PRACTICE,
        memory.authority.issuer,
        subject.of_person(PERSON),
        memory.ocsp_key.key.public_key(),
        serial=1,
        now=now(),
        not_after=ends,
    ).sign(memory.issuing_key.key, hashes.SHA384())
    assert made.not_valid_after_utc == ends


def test_delegates_may_do_their_one_thing(memory: MemoryAuthority) -> None:
    for certified, purpose, critical in (
        (memory.authority.ocsp, ExtendedKeyUsageOID.OCSP_SIGNING, False),
        (memory.authority.tsa, ExtendedKeyUsageOID.TIME_STAMPING, True),
    ):
        extension = certified.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(extension.value) == [purpose]
        assert extension.critical is critical
    ocsp = memory.authority.ocsp.certificate.extensions
    assert ocsp.get_extension_for_oid(ExtensionOID.OCSP_NO_CHECK)


def test_every_certificate_of_the_authority_passes_the_lint(memory: MemoryAuthority) -> None:
    authority = memory.authority
    for certificate in (
        authority.root,
        authority.issuing.certificate,
        authority.ocsp.certificate,
        authority.tsa.certificate,
        *(leaf(memory, profile=profile).sign(memory.issuing_key.key, hashes.SHA384()) for profile in SUBJECTS),
    ):
        assert lint.findings(certificate.public_bytes(Encoding.DER)) == []


@given(st.binary(min_size=20, max_size=20))
def test_serials_are_positive_and_of_20_octets(drawn: bytes) -> None:
    serial = profiles.serial_number(drawn)
    assert serial.bit_length() == 159
    assert serial.to_bytes(20)[1:] == drawn[1:]


def test_serials_need_20_random_bytes() -> None:
    with pytest.raises(ValueError, match="20"):
        profiles.serial_number(b"short")


@pytest.mark.parametrize(
    ("changed", "common_name"),
    [
        ({"patronymic": ""}, "Серікова Айгерім"),
        ({"patronymic": "Ж" * 17}, "Серікова Айгерім"),
        ({"family_name": "Ж" * 32, "given_name": "Ж" * 31}, f"{'Ж' * 32} {'Ж' * 31}"),
    ],
)
@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_patronymic_is_left_out_where_it_does_not_fit(
    memory: MemoryAuthority, changed: dict[str, str], common_name: str
) -> None:
    name = subject.of_person(person(**changed))
    (shown,) = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert shown.value == common_name
    certificate = leaf(memory, name).sign(memory.issuing_key.key, hashes.SHA384())
    assert lint.findings(certificate.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize(
    "changed", [{"family_name": ""}, {"given_name": ""}, {"family_name": "Ж" * 40, "given_name": "Ж" * 40}]
)
def test_unusable_name_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(SubjectUnusableError):
        subject.of_person(person(**changed))


def test_lint_refuses_a_certificate_that_breaks_rfc_5280(memory: MemoryAuthority) -> None:
    broken = leaf(memory).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
    wrong_usage = x509.CertificateBuilder(
        issuer_name=memory.authority.issuer.name,
        subject_name=subject.of_person(PERSON),
        public_key=memory.ocsp_key.key.public_key(),
        serial_number=1,
        not_valid_before=now(),
        not_valid_after=now() + timedelta(days=1),
    ).add_extension(
        x509.CRLDistributionPoints(
            [x509.DistributionPoint([x509.UniformResourceIdentifier("not a url")], None, None, None)]
        ),
        critical=False,
    )
    assert lint.linted_copy(lambda key: broken.sign(key, hashes.SHA384()), Signing(KeyAlgorithm.EC_P384))
    with pytest.raises(LintError) as refused:
        lint.linted_copy(lambda key: wrong_usage.sign(key, hashes.SHA384()), Signing(KeyAlgorithm.EC_P384))
    assert "pkix.invalid_uri_syntax" in refused.value.metadata["findings"]
    assert "pkix.authority_key_identifier_extension_absent" in refused.value.metadata["findings"]
