"""A bank's server on this machine is told by the running mesh, and verifies it as docs/webhooks.md says."""

import os
import queue
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.local.floors import POLICY
from deploy.local.state import CHECKOUT
from tests.bundles import IIN, PHONE
from tests.docs.page import python_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

Message = tuple[dict[str, str], bytes]


@dataclass
class Receiver:
    url: str = ""
    messages: "queue.Queue[Message]" = field(default_factory=queue.Queue)
    answers: list[int] = field(default_factory=lambda: [500])


@contextmanager
def receiving(mesh: RunningMesh) -> Iterator[Receiver]:
    """An HTTPS server for `localhost`, which fails once and takes the message then."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.messages.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.answers.pop() if receiver.answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mesh.folder / "tls" / "web.pem", mesh.folder / "tls" / "web.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"https://localhost:{server.server_port}/finid"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def registered(mesh: RunningMesh, uri: str) -> Iterator[None]:
    """Give the sandbox's application a webhook, and take it away again."""
    command = [sys.executable, "-m", "services.portal.sandbox", "--policy", POLICY]
    environment = {
        "PATH": os.environ["PATH"],
        "FINID_ENV": "sandbox",
        "FINID_CLIENT_SECRET_KEY_FILE": str(mesh.folder / "keys" / "portal.key"),
        "FINID_OWNER_DATABASE_URL_FILE": str(mesh.folder / "secrets" / "owner.url"),
    }

    def put(webhook_uri: str) -> None:
        arguments = ["--secret-file", str(mesh.client_secret_file), "--webhook-uri", webhook_uri]
        subprocess.run([*command, *arguments], env=environment, cwd=CHECKOUT, check=True, timeout=60)

    put(uri)
    try:
        yield
    finally:
        put("")


def test_a_change_of_state_reaches_the_bank_signed_and_again_until_it_is_taken(mesh: RunningMesh) -> None:
    code = python_of("webhooks.md")
    headers = {"authorization": f"Bearer {mesh.access_token_when_possible()}"}
    with receiving(mesh) as receiver, registered(mesh, receiver.url), mesh.client() as bank:
        asked = {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": IIN, "phone": PHONE},
            "channel": "CHANNEL_STEPS",
        }
        name = bank.post("/v1/authentications", json=asked, headers=headers).raise_for_status().json()["name"]
        bank.post(f"/v1/{name}:cancel", json={}, headers=headers).raise_for_status()
        keys = code["webhook_keys"](bank.get("/pki/receipt-keys.json").json())
        first, again = (receiver.messages.get(timeout=30) for _ in range(2))
        for sent, body in (first, again):
            assert code["verified"](sent, body, keys)["data"] == {
                "authentication": name,
                "state": "CANCELLED",
                "operation": "",
            }
        assert first[0]["webhook-id"] == again[0]["webhook-id"]
        id_ = f"webhookDeliveries/{first[0]['webhook-id']}"
        asked_again = bank.post(f"/v1/{id_}:redeliver", json={}, headers=headers).raise_for_status().json()
        assert asked_again["name"] == id_
        sent, body = receiver.messages.get(timeout=30)
        assert (sent["webhook-id"], body) == (first[0]["webhook-id"], first[1])
        listed = bank.get("/v1/webhookDeliveries", headers=headers).raise_for_status().json()["webhookDeliveries"]
        assert [each["authentication"] for each in listed] == [name]
