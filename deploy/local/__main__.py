"""`python -m deploy.local run`: the whole mesh until Ctrl-C."""

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.local.display import Display
from deploy.local.mesh import Mesh, running_mesh
from deploy.local.ports import HOST, SERVICES
from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, READY_FILE, LocalMeshError
from mesh.errors import leaves
from services.portal.sandbox import APPLICATION, CLIENT_ID, DEFAULT_REDIRECT_URI

_MIB = 1024 * 1024
# The first of services/registry/sandbox_people.json, and the challenge of RFC 7636 appendix B.
_PERSON = {"iin": "930514400420", "phone": "+77000000001"}
_CODE_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def run(settings: LocalSettings, display: Display) -> None:
    """Run the mesh until SIGINT or SIGTERM. Raises LocalMeshError, alone or in a group."""
    _cancel_at_first_signal()
    display.say("FinID on this machine: made-up people, development tokens, and an SMS outbox of files")
    try:
        async with running_mesh(settings, display) as mesh:
            mesh.parts.state.write(f"run/{READY_FILE}", json.dumps(addresses(mesh)), mode=0o600)
            client_env = mesh.parts.state.write("run/client.env", _client_environment(mesh), mode=0o600)
            display.say(_summary(mesh, client_env))
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        display.say("stopped; nothing is left running")


def _cancel_at_first_signal() -> None:
    """Turn SIGINT and SIGTERM into an orderly stop, once: a second one ends this process, and the kernel the rest."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        if task is not None:
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, stop)


def addresses(mesh: Mesh) -> dict[str, Any]:
    """What another process needs to talk to the mesh."""
    parts = mesh.parts
    return {
        "pid": os.getpid(),  # tells this file from one that a killed mesh left
        "web_url": parts.web_url,
        "web_root_file": str(parts.web.root),
        "pki_url": parts.pki_url,
        "client_id": CLIENT_ID,
        "client_secret_file": str(mesh.client_secret_file),
        "redirect_uri": parts.loopback_redirect_uri,
        "outbox": str(parts.outbox),
        "ports": dict(parts.ports),
        "ready_after_s": round(mesh.ready_after_s, 1),
        "resident_mib": mesh.resident_bytes // _MIB,
    }


def _client_environment(mesh: Mesh) -> str:
    """What a shell sources before it uses FinID as the sandbox's participant; docs/quickstart.md begins with it."""
    parts = mesh.parts
    settings = {
        "FINID_ADDRESS": parts.web_url,
        "FINID_CA_FILE": parts.web.root,
        "FINID_CLIENT_ID": CLIENT_ID,
        "FINID_CLIENT_SECRET_FILE": mesh.client_secret_file,
        "FINID_REDIRECT_URI": parts.loopback_redirect_uri,
        "FINID_APPLICATION": APPLICATION,
        "FINID_STATE": parts.state.folder,
        "FINID_SCHEMA": CHECKOUT / "gen" / "descriptors.binpb",
    }
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in settings.items()]
    return "\n".join([*lines, f"export PATH={shlex.quote(str(CHECKOUT / '.venv' / 'bin'))}:$PATH", ""])


def _link_line(root: Path, web_url: str) -> str:
    """A line for a shell: begins an authentication and prints the link that a bank sends a person to."""
    body = {
        "requestId": "'$(openssl rand -hex 16)'",
        "subject": _PERSON,
        "channel": "CHANNEL_HOSTED",
        "scopes": ["SCOPE_NAME"],
        "returnTo": {"redirectUri": DEFAULT_REDIRECT_URI, "state": "state", "codeChallenge": _CODE_CHALLENGE},
    }
    return (
        f'LINK=$(curl -s --cacert {root} -H "Authorization: Bearer $TOKEN" {web_url}/v1/authentications'
        f" -d '{json.dumps(body)}'"
        """ | sed 's/.*"captureUri":"\\([^"]*\\)".*/\\1/'); echo $LINK"""
    )


def _metrics_line(numbers: Mapping[str, int]) -> str:
    shown = [numbers[f"{service} metrics"] for service in SERVICES]
    return f"http://{HOST}:{shown[0]}/metrics to {shown[-1]}   ({SERVICES[0]} to {SERVICES[-1]}; docs/telemetry.md)"


def _summary(mesh: Mesh, client_env: Path) -> str:
    parts, root = mesh.parts, mesh.parts.web.root
    token = (
        f"TOKEN=$(curl -s --cacert {root} -u {CLIENT_ID}:$(cat {mesh.client_secret_file})"
        f" -d grant_type=client_credentials {parts.web_url}/oauth2/token"
        """ | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""
    )
    curl = f'curl -s --cacert {root} -H "Authorization: Bearer $TOKEN" {parts.web_url}/v1/documents'
    buf, schema = CHECKOUT / ".venv" / "bin" / "buf", CHECKOUT / "gen" / "descriptors.binpb"
    grpc = (
        f"{buf} curl --protocol grpc --cacert {root} --schema {schema}"
        f""" -H "Authorization: Bearer $TOKEN" -d '{{}}' {parts.web_url}/finid.esign.v1.ESignService/ListDocuments"""
    )
    return f"""
All are ready after {mesh.ready_after_s:.1f} s; resident memory {mesh.resident_bytes // _MIB} MiB.

  REST and gRPC     {parts.web_url}   (root certificate: {root})
  reference         {parts.web_url}/reference   (OpenAPI 3.1: {parts.web_url}/openapi.json)
  hosted page       {parts.page_url}/capture   (the last line below makes a link; the browser warns of the root)
  CRL, OCSP, TSA    {parts.pki_url}
  client id         {CLIENT_ID}
  client secret     in {mesh.client_secret_file}
  SMS               {parts.outbox}
  metrics           {_metrics_line(parts.ports)}
  logs              {mesh.log_of("auth_gateway").parent}

Lines to paste into another terminal: what docs/quickstart.md and the command `finid` need; a token, a REST call, a gRPC
call, a link to the hosted page.

. {client_env}
{token}
{curl}
{grpc}
{_link_line(root, parts.web_url)}

Ctrl-C stops everything.
"""


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.parse_args()
    failures: list[Exception] = []
    try:
        asyncio.run(run(LocalSettings.from_environment(), Display()))
    except* LocalMeshError as group:
        failures = leaves(group)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
