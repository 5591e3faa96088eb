"""A mesh root and service certificates for tests, and settings that point to them."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.settings import MeshSettings
from tests.ports import free_port

_START = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
_END = _START + datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A root of its own in `folder`, issuing certificates with the SANs that the mesh looks at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        # A name of its own: where two roots are believed, the name tells which one is meant.
        name = _name(f"test root {folder.name}")
        self._root = (
            x509.CertificateBuilder(name, name, self._key.public_key(), 1, _START, _END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root_file = folder / "root.pem"
        self.root_file.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue(self, service: str, *, ends: datetime.datetime = _END) -> tuple[Path, Path]:
        """Return certificate and key files of a service, new each time, and in their places at once."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(f"spiffe://finid/{service}"),
                x509.DNSName(f"{service.replace('_', '-')}.finid.internal"),
            ]
        )
        certificate = (
            x509.CertificateBuilder(
                self._root.subject, _name(service), key.public_key(), x509.random_serial_number(), _START, ends
            )
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file, key_file = self._folder / f"{service}.pem", self._folder / f"{service}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file

    def settings(self, service: str) -> MeshSettings:
        """Return settings of a service on free loopback ports."""
        certificate_file, key_file = self.issue(service)
        return MeshSettings(
            env="sandbox",
            listen=f"127.0.0.1:{free_port()}",
            health_listen=f"127.0.0.1:{free_port()}",
            tls_certificate_file=certificate_file,
            tls_key_file=key_file,
            tls_ca_file=self.root_file,
            drain_s=0.5,
        )
