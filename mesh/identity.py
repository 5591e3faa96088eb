"""Who a service is to the others: certificate, key, and the roots that it believes. Rotated without a restart.

A server shows at each handshake what holds then; a channel is opened anew (`mesh.channel`). What has run out is
refused: by TLS at the handshake, by the server (`not_after_of`) on a connection that was opened before.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mesh.mounted import Mounted, UnusableFilesError
from mesh.settings import MeshSettings, secret_file


@dataclass(frozen=True, slots=True)
class Identity:
    """One set of PEM files that belong together."""

    certificate_chain: bytes
    key: bytes = field(repr=False)
    roots: bytes
    uris: frozenset[str]
    not_before: datetime
    not_after: datetime


def mounted(settings: MeshSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Mounted[Identity]:
    """Return the identity that the settings' files hold. Raises ValueError for files that do not belong together."""

    def succeeds(earlier: Identity, later: Identity) -> None:
        _require_vouched(later)
        if earlier.uris != later.uris:
            raise UnusableFilesError("NAMES_ANOTHER_SERVICE", "the certificate names another service")
        if not later.not_before <= now() < later.not_after:
            raise UnusableFilesError("NOT_VALID_NOW", "the certificate is not valid now")

    def require(file: object) -> None:
        if file == settings.tls_key_file:
            secret_file(settings.tls_key_file)

    return Mounted(
        "certificate",
        [settings.tls_certificate_file, settings.tls_key_file, settings.tls_ca_file],
        _parse,
        every_s=settings.reload_every_s,
        require=require,
        succeeds=succeeds,
    )


def server_credentials(identity: Mounted[Identity]) -> grpc.ServerCredentials:
    """Return mTLS credentials that require a certificate of the mesh's roots, as they are at each handshake."""
    shown = identity()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        found = identity()
        if found is shown:
            return None
        shown = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        changed,  # type: ignore[arg-type]  # its documentation: None for no change
        require_client_authentication=True,
    )


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Return what a channel shows and believes."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.roots, private_key=identity.key, certificate_chain=identity.certificate_chain
    )


@functools.lru_cache(maxsize=64)
def not_after_of(certificate_pem: bytes) -> datetime:
    """Return when a peer's certificate runs out. Raises ValueError for anything else."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate_chain)], root_certificates=identity.roots
    )


def _parse(contents: Sequence[bytes]) -> Identity:
    chain, key, roots = contents
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        x509.load_pem_x509_certificates(roots)
        own = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise UnusableFilesError("NOT_PEM", "a file is not the PEM that it should be") from error
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_bytes(*spki) != leaf.public_key().public_bytes(*spki):
        raise UnusableFilesError("KEY_OF_ANOTHER_CERTIFICATE", "the key is not the certificate's")
    return Identity(
        certificate_chain=chain,
        key=key,
        roots=roots,
        uris=_uris(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _uris(leaf: x509.Certificate) -> frozenset[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.get_values_for_type(x509.UniformResourceIdentifier))


def _require_vouched(identity: Identity) -> None:
    """Refuse a chain that the roots beside it do not vouch for: every peer would refuse it too."""
    chain = x509.load_pem_x509_certificates(identity.certificate_chain)
    roots = x509.load_pem_x509_certificates(identity.roots)
    linked = all(_issued(issuer, child) for child, issuer in itertools.pairwise(chain))
    if not linked or not any(chain[-1] == root or _issued(root, chain[-1]) for root in roots):
        raise UnusableFilesError("ROOT_UNKNOWN", "the mesh's roots do not vouch for the certificate")


def _issued(issuer: x509.Certificate, child: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
