"""`python -m deploy.images check`: builds every image without Docker, judges it, and runs the mesh out of them.

`build` does the first half (of the images named), `mesh` the second; `list` prints how Docker builds each.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.images import enter, judge
from deploy.images.build import Builder, BuildError, Image, debootstrap
from deploy.images.context import Context
from deploy.images.dockerfile import DockerfileError
from deploy.images.mesh import ImageMesh, out_of_images
from deploy.images.releases import DEBIAN_RELEASE, IMAGES, Named, arguments_of, build_context, read_dockerfile
from deploy.local import ports
from deploy.local.assets.prepare import default_folder
from deploy.local.display import Display
from deploy.local.mesh import prepare
from deploy.local.services import ROOMS
from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, LocalMeshError, State
from mesh.errors import leaves

_MIB = 1024 * 1024
WORK = CHECKOUT / "var" / "images"


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def build(only: list[str]) -> bool:
    """Build images and judge them; whether nothing is wrong with any. Raises BuildError or DockerfileError."""
    if os.geteuid() != 0:
        raise BuildError("chroot needs root: run as root, or in a container (it needs no privileges)")
    mounting = "allowed" if enter.mounts_allowed() else "refused: no /proc, roots read-only by ownership alone"
    say(f"images of this checkout, into {WORK}; mounting is {mounting}")
    wanted = [image for image in IMAGES if not only or image.short_name in only]
    if unknown := set(only) - {image.short_name for image in wanted}:
        raise BuildError(f"no image is called {', '.join(sorted(unknown))}")
    base = debootstrap(WORK / "base", DEBIAN_RELEASE, say)
    assets = {"assets": Context(default_folder())}
    builder = Builder(read_dockerfile(), build_context(), assets, base, WORK / "roots", say)
    problems = []
    images: list[Image] = []
    for image in wanted:
        images.append(made := _build(builder, image))
        builder.keep_only(images)
        made.write(WORK / f"{image.short_name}.json")
        problems += [f"{image.name}: {problem}" for problem in judge.problems_of(made, image.service)]
    for problem in problems:
        say(f"  WRONG: {problem}")
    return not problems


def built() -> dict[str, Image]:
    """The images that were built last, by short name. Raises BuildError when one was not."""
    try:
        return {image.short_name: Image.read(WORK / f"{image.short_name}.json") for image in IMAGES}
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename} is missing: build all images first") from None


def _build(builder: Builder, image: Named) -> Image:
    started = time.monotonic()
    made = builder.build(image.target, arguments_of(image))
    size = sum(path.lstat().st_size for path in made.root.rglob("*"))
    took = time.monotonic() - started
    say(f"  {image.name}: {size // _MIB} MiB, {took:.0f} s; runs {' '.join(made.entrypoint)} as {made.uid}")
    return made


async def run_mesh(images: Mapping[str, Image]) -> None:
    """Start the whole mesh out of the images and wait until each service answers SERVING; then stop it."""
    folder = Path(tempfile.mkdtemp(prefix="finid-images-", dir="/var/tmp"))
    display = Display()
    settings = LocalSettings.from_environment({"FINID_STATE": str(folder), "FINID_PORT_BASE": str(ports.free_base())})
    state = State.open(folder)
    try:
        with state.locked():
            prepared = await asyncio.to_thread(prepare, settings, state, display)
            mesh = ImageMesh(out_of_images(prepared, images), display, images["migrate"])
            try:
                async with asyncio.TaskGroup() as group:
                    await mesh.launch()
                    watcher = group.create_task(mesh.watch())
                    await mesh.bring_up()
                    _tell_where_they_run(images)
                    watcher.cancel()
            finally:
                await mesh.stop()
    finally:
        shutil.rmtree(folder)


def _tell_where_they_run(images: Mapping[str, Image]) -> None:
    """Say of each service's process its root, its user and how its root is closed, as the kernel has it."""
    for room in ROOMS:
        root = images[room.replace("_", "-")].root
        process = _process_of(room, root)
        status = (process / "status").read_text()
        uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
        mounted = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        options = [words[5].split(",") for words in mounted if words[4] == "/"]
        closed = "a read-only mount" if options and "ro" in options[-1] else "closed by ownership"
        say(f"  {room}: process {process.name}, user {uid}, root {root.relative_to(CHECKOUT)}, {closed}")
        if uid != str(judge.USER):
            raise BuildError(f"{room} runs as {uid}, not as {judge.USER}")


def _process_of(room: str, root: Path) -> Path:
    """The folder in /proc of a service's process whose root is `root`. Raises BuildError when there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if f"-mservices.{room}".encode() in command and (process / "root").samefile(root):
                return process
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise BuildError(f"{room} does not run in {root}")


def listing() -> None:
    """Print how Docker builds each image."""
    for image in IMAGES:
        service = f" --build-arg SERVICE={image.service}" if image.service else f" --target {image.target}"
        assets_from = f" --build-context assets={default_folder()}" if image.target == "models" else ""
        version = arguments_of(image)["VERSION"]
        say(f"docker build -f deploy/images/Dockerfile{service}{assets_from} -t {image.name}:{version} .")


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=__doc__)
    parser.add_argument("command", choices=["build", "check", "list", "mesh"])
    parser.add_argument("only", nargs="*", help="what to build, by name (ca, auth-gateway, models); all without")
    arguments = parser.parse_args()
    if arguments.command == "list":
        listing()
        return 0
    failures: list[Exception] = []
    right = True
    try:
        if arguments.command in {"build", "check"}:
            right = build(arguments.only)
        if arguments.command in {"mesh", "check"} and right:
            asyncio.run(run_mesh(built()))
    except* (BuildError, DockerfileError, LocalMeshError) as group:
        failures = leaves(group)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures or not right else 0


if __name__ == "__main__":
    sys.exit(main())
