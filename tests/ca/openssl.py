"""openssl as the judge of what the authority makes."""

import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def run(*arguments: str | Path) -> tuple[bool, str]:
    """Whether openssl says yes, and what it says."""
    ended = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=30, check=False)
    return ended.returncode == 0, (ended.stdout + ended.stderr).decode()


def verify(folder: Path, certificate: bytes | Path, *crls: Path, purpose: str = "any") -> tuple[bool, str]:
    """`openssl verify -x509_strict -crl_check_all` of a certificate under root.pem and issuing.pem of a folder."""
    if isinstance(certificate, bytes):
        path = folder / "judged.pem"
        path.write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
        certificate = path
    crl_arguments = [argument for crl in crls for argument in ("-CRLfile", crl)]
    return run(
        *("verify", "-x509_strict", "-crl_check_all", "-purpose", purpose),
        *("-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem"),
        *crl_arguments,
        certificate,
    )


def flipped(data: bytes, at: int) -> bytes:
    """The same bytes with one bit changed, `at` bytes from the end."""
    changed = bytearray(data)
    changed[-at] ^= 0x01
    return bytes(changed)
