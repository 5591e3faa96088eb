"""What each kind of certificate says, as data, and the builder that makes it say so.

Sources: RFC 5280 (profile), RFC 6960 section 4.2.2.2 (OCSP responders), RFC 3161 section 2.3 (time stamp authorities),
and the conventions of Kazakhstan's national certification authority for extended key usages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from mesh.hsm import KeyAlgorithm
from services.ca.signing import PublicKey

# Registration certificate of an individual, and of a legal entity (held by somebody who acts for it).
KZ_INDIVIDUAL = x509.ObjectIdentifier("1.2.398.3.3.4.1.1")
KZ_LEGAL_ENTITY = x509.ObjectIdentifier("1.2.398.3.3.4.1.2")

# RFC 5280 section 4.2.1.4: the CA may issue under every policy of its operator.
_ANY_POLICY = x509.ObjectIdentifier("2.5.29.32.0")

# A relying party's clock may be behind ours.
BACKDATED = timedelta(seconds=60)
SERIAL_BYTES = 20


class Holder(Enum):
    """Whom a certificate names."""

    AUTHORITY = "one of the authority's own parts"
    INDIVIDUAL = "a person"
    LEGAL_ENTITY = "a person who acts for an organisation, and the organisation"


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of certificate. `policy` is the tail of its policy's OID under the authority's arc, () for none.

    `crl` is the file below the PKI's URL that says whether it is revoked, "" for none; `points_to_issuer` adds the
    addresses of OCSP and of the issuing CA's certificate.
    """

    lifetime: timedelta
    key_usage: frozenset[str]
    extended_key_usage: tuple[x509.ObjectIdentifier, ...] = ()
    key_algorithms: frozenset[KeyAlgorithm] = frozenset({KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384})
    holder: Holder = Holder.AUTHORITY
    is_ca: bool = False
    path_length: int | None = None
    any_policy: bool = False
    policy: tuple[int, ...] = ()
    crl: str = ""
    points_to_issuer: bool = False
    ocsp_no_check: bool = False


_CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_RSA = frozenset({KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096})
_CA_ALGORITHMS = _RSA | {KeyAlgorithm.EC_P384}
_DELEGATE_ALGORITHMS = _RSA | {KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384}
_YEAR = timedelta(days=365)

ROOT = Profile(lifetime=20 * _YEAR, key_usage=_CA_USAGE, key_algorithms=_CA_ALGORITHMS, is_ca=True)
ISSUING = Profile(
    lifetime=10 * _YEAR,
    key_usage=_CA_USAGE,
    key_algorithms=_CA_ALGORITHMS,
    is_ca=True,
    path_length=0,
    any_policy=True,
    crl="root.crl",
)
# RFC 6960 section 4.2.2.2.1: a responder that nobody can revoke lives shortly.
OCSP = Profile(
    lifetime=timedelta(days=90),
    key_usage=frozenset({"digital_signature"}),
    extended_key_usage=(ExtendedKeyUsageOID.OCSP_SIGNING,),
    key_algorithms=_DELEGATE_ALGORITHMS,
    ocsp_no_check=True,
)
TSA = Profile(
    lifetime=5 * _YEAR,
    key_usage=frozenset({"digital_signature", "content_commitment"}),
    extended_key_usage=(ExtendedKeyUsageOID.TIME_STAMPING,),
    key_algorithms=_DELEGATE_ALGORITHMS,
    policy=(1, 9),
    crl="issuing.crl",
    points_to_issuer=True,
)
_INDIVIDUAL_SIGN = Profile(
    lifetime=_YEAR,
    key_usage=frozenset({"digital_signature", "content_commitment"}),
    extended_key_usage=(KZ_INDIVIDUAL,),
    holder=Holder.INDIVIDUAL,
    policy=(1, 1),
    crl="issuing.crl",
    points_to_issuer=True,
)
# What people get, by the profile id of the transaction. A key that authenticates commits to no content (RFC 5280,
# section 4.2.1.3).
SUBJECTS = {
    "individual-sign": _INDIVIDUAL_SIGN,
    "individual-auth": replace(
        _INDIVIDUAL_SIGN,
        key_usage=frozenset({"digital_signature"}),
        extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH, KZ_INDIVIDUAL),
        policy=(1, 2),
    ),
    "legal-entity-sign": replace(
        _INDIVIDUAL_SIGN, extended_key_usage=(KZ_LEGAL_ENTITY,), holder=Holder.LEGAL_ENTITY, policy=(1, 3)
    ),
}
# The policy of the time stamps themselves (TSTInfo), under the authority's arc.
TIME_STAMP_POLICY = (2, 1)


@dataclass(frozen=True, slots=True)
class Practice:
    """What the operator of an authority decides: the arc of its policies and where relying parties find things.

    `pki_url` has no slash at its end. `cps_url` stands in certificates only if a practice statement is published there.
    """

    policy_arc: str
    pki_url: str
    cps_url: str | None = None

    def policy(self, tail: Sequence[int]) -> x509.ObjectIdentifier:
        """The OID of one policy under the arc."""
        return x509.ObjectIdentifier(".".join([self.policy_arc, *map(str, tail)]))


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: its name and public key."""

    name: x509.Name
    public_key: PublicKey


def serial_number(random_20: bytes) -> int:
    """A positive serial of exactly 20 octets with 158 random bits (RFC 5280, 4.1.2.2: at most 20 octets)."""
    if len(random_20) != SERIAL_BYTES:
        raise ValueError("a serial number is made of 20 random bytes")
    return int.from_bytes(bytes([random_20[0] & 0x7F | 0x40, *random_20[1:]]))


def builder(
    profile: Profile,
    practice: Practice,
    issuer: Issuer,
    subject: x509.Name,
    public_key: PublicKey,
    *,
    serial: int,
    now: datetime,
    not_after: datetime | None = None,
) -> x509.CertificateBuilder:
    """A certificate of `profile`, to be signed by `issuer`; it ends at `not_after` if that comes before its lifetime.

    Its last second counts (RFC 5280 section 4.1.2.5), so that a lifetime of 365 days is not one second longer.
    """
    not_before = now.replace(microsecond=0) - BACKDATED
    ends = not_before + profile.lifetime - timedelta(seconds=1)
    made = x509.CertificateBuilder(
        issuer_name=issuer.name,
        subject_name=subject,
        public_key=public_key,
        serial_number=serial,
        not_valid_before=not_before,
        not_valid_after=min(ends, not_after) if not_after else ends,
    )
    for extension in extensions(profile, practice, issuer, public_key):
        made = made.add_extension(extension.value, extension.critical)
    return made


def extensions(
    profile: Profile, practice: Practice, issuer: Issuer, public_key: PublicKey
) -> list[x509.Extension[x509.ExtensionType]]:
    """The extensions of a certificate of `profile`, in their order."""
    found: list[tuple[x509.ExtensionType, bool]] = []
    if profile.is_ca:
        found.append((x509.BasicConstraints(ca=True, path_length=profile.path_length), True))
    found.append((_key_usage(profile.key_usage), True))
    if profile.extended_key_usage:
        # RFC 3161 section 2.3: a time stamp authority's must be critical, and the only one.
        stamps = ExtendedKeyUsageOID.TIME_STAMPING in profile.extended_key_usage
        found.append((x509.ExtendedKeyUsage(profile.extended_key_usage), stamps))
    if profile.ocsp_no_check:
        found.append((x509.OCSPNoCheck(), False))
    found.append((x509.SubjectKeyIdentifier.from_public_key(public_key), False))
    if issuer.public_key != public_key:
        found.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key), False))
    if profile.any_policy:
        found.append((x509.CertificatePolicies([x509.PolicyInformation(_ANY_POLICY, None)]), False))
    if profile.policy:
        policy = x509.PolicyInformation(
            practice.policy(profile.policy), [practice.cps_url] if practice.cps_url else None
        )
        found.append((x509.CertificatePolicies([policy]), False))
    if profile.crl:
        location = x509.UniformResourceIdentifier(f"{practice.pki_url}/{profile.crl}")
        found.append((x509.CRLDistributionPoints([x509.DistributionPoint([location], None, None, None)]), False))
    if profile.points_to_issuer:
        found.append((_authority_information(practice), False))
    return [x509.Extension(value.oid, critical, value) for value, critical in found]


def _key_usage(usages: frozenset[str]) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{usage: usage in usages for usage in every})


def _authority_information(practice: Practice) -> x509.AuthorityInformationAccess:
    def at(method: x509.ObjectIdentifier, file: str) -> x509.AccessDescription:
        return x509.AccessDescription(method, x509.UniformResourceIdentifier(f"{practice.pki_url}/{file}"))

    return x509.AuthorityInformationAccess(
        [at(AuthorityInformationAccessOID.OCSP, "ocsp"), at(AuthorityInformationAccessOID.CA_ISSUERS, "issuing.cer")]
    )
