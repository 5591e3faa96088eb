"""The local mesh, every service started out of its own image's root instead of this checkout."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.images import enter, judge
from deploy.images.build import BuildError, Image
from deploy.local import mesh as local
from deploy.local.database import ensure_roles, provision
from deploy.local.display import Display
from deploy.local.services import ROOMS, ROOMS_WITH_DATABASE
from deploy.local.supervise import Program

_MODELS = "/etc/finid/models"
_PKCS11 = "/etc/finid/pkcs11"


class ImageMesh(local.Mesh):
    """A mesh whose migrations run from the image `migrate`."""

    def __init__(self, prepared: local.Prepared, display: Display, migrate: Image) -> None:
        super().__init__(prepared, display)
        self._migrate_image = migrate

    def _migrate(self) -> None:
        database, image = self._prepared.database, self._migrate_image

        def migrate(room: str, owner_url: str) -> None:
            file = _place(image.root, "/etc/finid/owner/database.url", owner_url.encode())
            done = judge.run(image, [*image.entrypoint, room], {"FINID_OWNER_DATABASE_URL_FILE": file})
            if done.returncode:
                raise BuildError(f"migrate {room}: {done.stdout.decode(errors='replace')[-1500:]}")

        ensure_roles(database.admin_url, database.passwords)
        provision(database, ROOMS_WITH_DATABASE, migrate)


def out_of_images(prepared: local.Prepared, images: Mapping[str, Image]) -> local.Prepared:
    """The same mesh, each room's program replaced by its image's; `images` by the name after finid/."""
    programs = [_program(program, images) if program.name in ROOMS else program for program in prepared.programs]
    return dataclasses.replace(prepared, programs=programs)


def _program(program: Program, images: Mapping[str, Image]) -> Program:
    """Give the image's root what is mounted into a container, at the paths that the settings name, and enter it."""
    image = images[program.name.replace("_", "-")]
    settings, writable = dict(program.environment), []
    for name, value in program.environment.items():
        path = Path(value)
        if name == "FINID_PKCS11_MODULE":
            settings[name] = f"{_PKCS11}/module.so"
            _initialise(images["pkcs11-module"], [_PKCS11], image.root, _PKCS11)
        elif path.parent.name == "models" and path.is_file():
            settings[name] = f"{_MODELS}/{path.name}"
            _initialise(images["models"], [f"{_MODELS}/"], image.root, _MODELS)
        elif not path.is_absolute():
            continue
        elif name in {"FINID_CA_CRL_FILE", "SOFTHSM2_CONF"}:
            writable.append(str(path.parent))
            _mount_copy(path.parent, image.root)
        elif path.exists():
            writable += [value] if name.endswith("_DIR") else []
            _mount_copy(path, image.root)
    mounts = enter.mounts_allowed()
    entry = enter.Entry(
        root=str(image.root),
        command=image.entrypoint,
        uid=image.uid,
        gid=image.gid,
        workdir=image.workdir,
        mounts=mounts,
        read_only=True,
        writable=writable,
    )
    file = entry.write(image.root.with_suffix(".entry.json"))
    # As an engine passes them: the image's own, then the deployment's. A user whom /etc/passwd lacks lives in /;
    # asyncpg may not even look for certificates in another's home, which counts as a database that is away.
    return dataclasses.replace(
        program,
        command=(sys.executable, "-I", enter.__file__, str(file)),
        environment={"HOME": "/", **image.environment, **settings},
    )


def _mount_copy(path: Path, root: Path) -> None:
    """Copy a file or a folder to the same path inside `root`, owned by the image's user, as a volume would be."""
    target = root / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        target.unlink(missing_ok=True)
        shutil.copy2(path, target)
    for each in (target, *target.rglob("*")):
        os.chown(each, judge.USER, judge.USER)


def _place(root: Path, path: str, content: bytes) -> str:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    file.chmod(0o400)
    os.chown(file, judge.USER, judge.USER)
    return path


def _initialise(image: Image, arguments: list[str], root: Path, volume: str) -> None:
    """What an init container does: its entry, with a volume that the service then sees. Done once for each root."""
    inside, target = image.root / volume.lstrip("/"), root / volume.lstrip("/")
    if target.exists():
        return
    inside.mkdir(parents=True, exist_ok=True)
    os.chown(inside, judge.USER, judge.USER)
    done = judge.run(image, [*image.entrypoint, *arguments], {})
    if done.returncode:
        raise BuildError(f"{' '.join(image.entrypoint)}: {done.stdout.decode(errors='replace')[-500:]}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(inside, target)
