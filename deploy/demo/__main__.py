"""`python -m deploy.demo`: starts the mesh, demonstrates it on the sample person, leaves the files, stops all."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grpc.aio import AioRpcError

import services.registry
from deploy.demo.narrator import Narrator
from deploy.demo.person import SamplePerson
from deploy.demo.rest import CallRefusedError, Edge
from deploy.demo.walk import DemonstrationFailedError, SandboxPerson, Surroundings, walk
from deploy.local.__main__ import addresses
from deploy.local.assets.prepare import default_folder
from deploy.local.certificates import mesh_identities
from deploy.local.display import Display
from deploy.local.floors import POLICY
from deploy.local.mesh import running_mesh
from deploy.local.ports import HOST
from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, LocalMeshError, State
from mesh.errors import leaves
from mesh.settings import MeshSettings, read_secret
from services.portal.sandbox import DEFAULT_REDIRECT_URI

FOLDER = CHECKOUT / "var" / "demo"
_PEOPLE = Path(services.registry.__path__[0]) / "sandbox_people.json"
_LIVE, _OTHER = "woman", "man"


def surroundings(folder: Path, addresses: Mapping[str, Any]) -> Surroundings:
    """Return what the demonstration may know of the mesh whose state is in `folder` and that says these addresses."""
    people = {item["portrait"]: item for item in json.loads(_PEOPLE.read_text(encoding="utf-8"))["people"]}
    gateway = mesh_identities(State.open(folder), ["auth_gateway"], datetime.now(UTC))["auth_gateway"]
    ports = addresses["ports"]
    return Surroundings(
        edge=Edge(addresses["web_url"], addresses["pki_url"], Path(addresses["web_root_file"])),
        grpc_target=f"localhost:{ports['envoy https']}",
        client_id=addresses["client_id"],
        client_secret=read_secret(Path(addresses["client_secret_file"])),
        redirect_uri=DEFAULT_REDIRECT_URI,
        outbox=Path(addresses["outbox"]),
        live=SandboxPerson(people[_LIVE]["iin"], people[_LIVE]["phone"]),
        other=SandboxPerson(people[_OTHER]["iin"], people[_OTHER]["phone"]),
        camera=lambda: SamplePerson(default_folder()),
        gateway=MeshSettings(
            env="sandbox",
            listen=f"{HOST}:{ports['auth_gateway']}",
            health_listen=f"{HOST}:{ports['auth_gateway health']}",
            tls_certificate_file=gateway.certificate,
            tls_key_file=gateway.key,
            tls_ca_file=gateway.root,
        ),
        signer_address=f"{HOST}:{ports['signer']}",
    )


async def demonstrate(settings: LocalSettings, display: Display) -> None:
    """Run the mesh, walk, and stop it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    async with running_mesh(settings, display) as mesh:
        display.say(
            f"  policy    {POLICY}: three random prompts after a neutral face, colours on the hosted page's screen,"
            " passive detection, face match"
        )
        await walk(surroundings(settings.state_folder, addresses(mesh)), FOLDER, Narrator(display).say)
    display.say(f"\nAll processes are stopped. The files are in {FOLDER.relative_to(CHECKOUT)}:")
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            display.say(f"  {path.relative_to(FOLDER)}  ({path.stat().st_size} bytes)")


def main() -> int:
    """Return 0 when every step ended as it must."""
    failures: list[Exception] = []
    try:
        asyncio.run(demonstrate(LocalSettings.from_environment(), Display()))
    except* (LocalMeshError, DemonstrationFailedError, CallRefusedError, AioRpcError) as group:
        failures = leaves(group)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
