"""`python -m deploy.demo`: starts the mesh, demonstrates it on the sample person, leaves the files, stops all."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import services.registry
from deploy.demo.narrator import Narrator
from deploy.demo.person import SamplePerson
from deploy.demo.rest import CallRefusedError, Edge
from deploy.demo.walk import DemonstrationFailedError, SandboxPerson, Surroundings, walk
from deploy.local.display import Display
from deploy.local.floors import POLICY
from deploy.local.mesh import Mesh, running_mesh
from deploy.local.ports import HOST
from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, LocalMeshError
from mesh.settings import MeshSettings, read_secret
from services.portal.sandbox import CLIENT_ID, DEFAULT_REDIRECT_URI

FOLDER = CHECKOUT / "var" / "demo"
_PEOPLE = Path(services.registry.__path__[0]) / "sandbox_people.json"
_LIVE, _OTHER = "woman", "man"


def surroundings(mesh: Mesh) -> Surroundings:
    """Return what the demonstration may know of a running mesh."""
    parts = mesh.parts
    people = {item["portrait"]: item for item in json.loads(_PEOPLE.read_text(encoding="utf-8"))["people"]}
    gateway = parts.identities["auth_gateway"]
    return Surroundings(
        edge=Edge(parts.web_url, parts.pki_url, parts.web.root),
        grpc_target=f"localhost:{parts.ports['envoy https']}",
        client_id=CLIENT_ID,
        client_secret=read_secret(mesh.client_secret_file),
        redirect_uri=DEFAULT_REDIRECT_URI,
        outbox=parts.outbox,
        live=SandboxPerson(people[_LIVE]["iin"], people[_LIVE]["phone"]),
        other=SandboxPerson(people[_OTHER]["iin"], people[_OTHER]["phone"]),
        camera=lambda: SamplePerson(parts.assets),
        gateway=MeshSettings(
            env="sandbox",
            listen=f"{HOST}:{parts.ports['auth_gateway']}",
            health_listen=f"{HOST}:{parts.ports['auth_gateway health']}",
            tls_certificate_file=gateway.certificate,
            tls_key_file=gateway.key,
            tls_ca_file=gateway.root,
        ),
        signer_address=f"{HOST}:{parts.ports['signer']}",
    )


async def demonstrate(settings: LocalSettings, display: Display) -> None:
    """Run the mesh, walk, and stop it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    async with running_mesh(settings, display) as mesh:
        display.say(f"  policy    {POLICY}: three random prompts after a neutral face, passive detection, face match")
        await walk(surroundings(mesh), FOLDER, Narrator(display).say)
    display.say(f"\nAll processes are stopped. The files are in {FOLDER.relative_to(CHECKOUT)}:")
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            display.say(f"  {path.relative_to(FOLDER)}  ({path.stat().st_size} bytes)")


def main() -> int:
    """Return 0 when every step ended as it must."""
    failures: list[BaseException] = []
    try:
        asyncio.run(demonstrate(LocalSettings.from_environment(), Display()))
    except* (LocalMeshError, DemonstrationFailedError, CallRefusedError) as group:
        failures.extend(group.exceptions)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
