"""An order of the Operator, through the running mesh: the key first, then its certificate, whatever dies in between."""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from deploy.local import keys
from deploy.local.state import State
from tests.e2e.signer import Signer
from tests.e2e.test_certificates import _revoked, _sign_with
from tests.e2e.test_run import pid_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]
SIGNER, AUTHORITY = "signer", "ca"
DONE = {SIGNER: "signer: done at ", AUTHORITY: "authority: done at "}


@dataclass
class Desk:
    """The Operator's desk: signs orders, and runs each room's half of one with that room's settings."""

    mesh: RunningMesh

    def environment(self, room: str) -> dict[str, str]:
        """What the room's own process was started with."""
        entries = Path(f"/proc/{pid_of(self.mesh, room)}/environ").read_bytes().split(b"\0")
        return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)

    def order(self, certificate: x509.Certificate, kind: str, reason: str) -> bytes:
        """A signed order about a certificate."""
        key = keys.orderer_key(State.open(self.mesh.folder), "OPERATOR")
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        command = (sys.executable, "-m", "services.ca.admin", "sign", "--key", str(key), "--env", "sandbox")
        said = (kind, digest, reason, "order 2-118")
        return subprocess.run([*command, *said], check=True, capture_output=True, timeout=60).stdout

    def half(self, room: str, order: bytes) -> subprocess.CompletedProcess[bytes]:
        """Do one half."""
        return subprocess.run(
            [sys.executable, "-m", f"services.{room}.admin", "apply"],
            env=self.environment(room),
            input=order,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def pipe(self, order: bytes, *rooms: str) -> dict[str, str]:
        """Do both halves, one after the other, as a pipe does; return what each said, by its room."""
        said, passed_on = {}, order
        for room in rooms:
            done = self.half(room, passed_on)
            assert done.returncode == 0, done.stderr
            said[room], passed_on = done.stderr.decode().strip(), done.stdout
        assert passed_on == order
        return said

    def killed(self, room: str, order: bytes, after_s: float) -> None:
        """Begin one half, and kill it."""
        with subprocess.Popen(
            [sys.executable, "-m", f"services.{room}.admin", "apply"],
            env=self.environment(room),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as begun:
            assert begun.stdin is not None
            begun.stdin.write(order)
            begun.stdin.close()
            time.sleep(after_s)
            os.kill(begun.pid, signal.SIGKILL)

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPResponse:
        """What the public OCSP responder says."""
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA256()).build()
        answer = httpx.post(
            f"{self.mesh.pki_url}/ocsp",
            content=asked.public_bytes(Encoding.DER),
            headers={"Content-Type": "application/ocsp-request"},
            timeout=10,
            trust_env=False,
        )
        return ocsp.load_der_ocsp_response(answer.content)

    def revoked_for(
        self, certificate: x509.Certificate, issuer: x509.Certificate, *, within_s: float
    ) -> x509.ReasonFlags | None:
        """Why the responder says REVOKED, once it has followed the ledger."""
        deadline = time.monotonic() + within_s
        while (answer := self.status(certificate, issuer)).certificate_status is not ocsp.OCSPCertStatus.REVOKED:
            assert time.monotonic() < deadline, answer.certificate_status
            time.sleep(0.1)
        return answer.revocation_reason


async def _certificates(signer: Signer) -> tuple[x509.Certificate, x509.Certificate]:
    """The signer's certificate and its issuer's, out of a signature."""
    signed = cms.ContentInfo.load(await signer.sign())["content"]
    found = [x509.load_der_x509_certificate(one.chosen.dump()) for one in signed["certificates"]]
    (own,) = [one for one in found if f"certificates/{one.serial_number:x}" == signer.certificate]
    (issuer,) = [one for one in found if one.subject == own.issuer]
    return own, issuer


async def _ordered(signer: Signer, desk: Desk) -> None:
    name = signer.certificate
    own, issuer = await _certificates(signer)

    # Whatever dies in between: begun and killed at any moment, the same order again does what is missing, once.
    suspend = desk.order(own, "SUSPEND", "certificateHold")
    for room in (SIGNER, AUTHORITY):
        desk.killed(room, suspend, random.uniform(0.2, 1.5))
    said = desk.pipe(suspend, SIGNER, AUTHORITY)
    assert all(said[room].startswith(DONE[room]) for room in (SIGNER, AUTHORITY))
    assert desk.pipe(suspend, SIGNER, AUTHORITY) == said
    assert (await _revoked(signer))[name] is x509.ReasonFlags.certificate_hold
    assert await signer.not_begun("/v1/signatures", _sign_with(name)) == "CERTIFICATE_STATE"
    desk.pipe(desk.order(own, "RESUME", ""), AUTHORITY, SIGNER)
    assert name not in await _revoked(signer)
    await signer.sign()

    # The key's half alone: nothing is signed any more, and the certificate is still good.
    revoke = desk.order(own, "REVOKE", "privilegeWithdrawn")
    assert desk.half(SIGNER, revoke).returncode == 0
    assert await signer.not_begun("/v1/signatures", _sign_with(name)) == "CERTIFICATE_STATE"
    assert desk.status(own, issuer).certificate_status is ocsp.OCSPCertStatus.GOOD
    desk.pipe(revoke, SIGNER, AUTHORITY)
    assert desk.revoked_for(own, issuer, within_s=5) is x509.ReasonFlags.privilege_withdrawn
    assert (await _revoked(signer))[name] is x509.ReasonFlags.privilege_withdrawn

    refused = desk.half(SIGNER, b"a.b.c")
    assert (refused.returncode, refused.stdout) == (1, b"")


def test_an_order_ends_the_key_before_the_certificate_and_is_gone_on_with(
    loop: asyncio.AbstractEventLoop, signer: Signer, mesh: RunningMesh
) -> None:
    loop.run_until_complete(_ordered(signer, Desk(mesh)))
