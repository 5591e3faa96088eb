"""Certificates of the local mesh: one root for mTLS between services, another for what Envoy shows to the world.

A service is who the URI in its certificate says (`spiffe://finid/<service>`). The two roots are apart, so that trusting
the one a browser needs trusts nothing inside. Both roots' keys stay in the state folder, to renew what runs out: this
is a development set-up, and a cluster brings certificates of its own.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.local.state import State

_ROOT_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)
_WEB_NAMES: Final[Sequence[x509.GeneralName]] = (
    x509.DNSName("localhost"),
    *(x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of one certificate: what a process shows, its key, and the root it believes."""

    certificate: Path
    key: Path
    root: Path


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: Path


def mesh_identities(state: State, services: Sequence[str], now: datetime) -> dict[str, Identity]:
    """Return each service's certificate for mTLS, made or renewed where it is missing or runs out."""
    root = _authority(state, "tls/mesh-root", "FinID sandbox mesh root", now)
    return {
        service: _identity(state, f"tls/{service}", service, root, _mesh_names(service), now) for service in services
    }


def replaced_mesh_identity(state: State, service: str, now: datetime, lifetime: timedelta = _LEAF_LIFETIME) -> Identity:
    """Return a service's certificate for mTLS, made anew: who runs takes it up from the same files."""
    root = _authority(state, "tls/mesh-root", "FinID sandbox mesh root", now)
    return _new_identity(state, f"tls/{service}", service, root, _mesh_names(service), now, lifetime)


def replaced_web_identity(state: State, now: datetime) -> Identity:
    """Return the certificate that Envoy shows to the world, made anew."""
    root = _authority(state, "tls/web-root", "FinID sandbox web root", now)
    return _new_identity(state, "tls/web", "localhost", root, _WEB_NAMES, now, _LEAF_LIFETIME)


def web_identity(state: State, now: datetime) -> Identity:
    """Return the certificate that Envoy shows to the world, under a root of its own."""
    root = _authority(state, "tls/web-root", "FinID sandbox web root", now)
    return _identity(state, "tls/web", "localhost", root, _WEB_NAMES, now)


def uri_of(service: str) -> str:
    """The name of a service in its certificate."""
    return f"spiffe://finid/{service}"


def _mesh_names(service: str) -> list[x509.GeneralName]:
    return [
        x509.UniformResourceIdentifier(uri_of(service)),
        x509.DNSName(f"{service.replace('_', '-')}.finid.internal"),
        x509.DNSName("localhost"),
    ]


def _authority(state: State, relative: str, common_name: str, now: datetime) -> _Authority:
    certificate_path, key_path = _paths(state, relative)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and _is_good(certificate, key, certificate, now):
            return _Authority(certificate, key, certificate_path)
    except (FileNotFoundError, ValueError):
        pass  # the first start, or one that was cut short: make it anew, and with it all that hangs on it
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    certificate = (
        _builder(name, name, key, now, _ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(state, relative, certificate, key)
    return _Authority(certificate, key, certificate_path)


def _identity(
    state: State, relative: str, common_name: str, root: _Authority, names: Sequence[x509.GeneralName], now: datetime
) -> Identity:
    certificate_path, key_path = _paths(state, relative)
    identity = Identity(certificate_path, key_path, root.path)
    try:
        found = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        found_key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        stated = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if (
            isinstance(found_key, ec.EllipticCurvePrivateKey)
            and _is_good(found, found_key, root.certificate, now)
            and list(stated) == list(names)
        ):
            return identity
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        pass
    return _new_identity(state, relative, common_name, root, names, now, _LEAF_LIFETIME)


def _new_identity(
    state: State,
    relative: str,
    common_name: str,
    root: _Authority,
    names: Sequence[x509.GeneralName],
    now: datetime,
    lifetime: timedelta,
) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(_name(common_name), root.certificate.subject, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    _write(state, relative, certificate, key)
    return Identity(*_paths(state, relative), root.path)


def _is_good(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, now: datetime
) -> bool:
    """Tell whether a certificate belongs to the key, was signed by the issuer, and lasts a while yet."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    return certificate.public_key() == key.public_key() and now + _RENEW_BEFORE < certificate.not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _paths(state: State, relative: str) -> tuple[Path, Path]:
    return state.folder / f"{relative}.pem", state.folder / f"{relative}.key"


def _write(state: State, relative: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    state.write(f"{relative}.key", private)
    state.write(f"{relative}.pem", certificate.public_bytes(encoding), mode=0o444)
