"""Carries out a Dockerfile into folders, where no Docker engine runs: the same lines, each stage a root file system.

Needs root, `chroot` and debootstrap, and no more: where mounting is refused (a container without privileges), RUN goes
without /proc and without its caches. A stage is made once for each set of the arguments that it or what it is built on
declares.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from deploy.images import enter
from deploy.images.context import Context
from deploy.images.dockerfile import (
    Arg,
    Copy,
    Dockerfile,
    DockerfileError,
    Entrypoint,
    Env,
    Instruction,
    Label,
    Run,
    Stage,
    User,
    Workdir,
    expand,
)

# What a build may take over from this machine to reach the registries, as Docker takes its proxies.
_REACHING_OUT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_BUILD_CERTIFICATES = "run/build-certificates.pem"
_RUN_TIMEOUT_S = 1800


class BuildError(Exception):
    """A step failed; the message says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Image:
    """A root file system and how to run it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    workdir: str = "/"
    uid: int = 0
    gid: int = 0

    def write(self, file: Path) -> None:
        """Keep what is known of it beside its root."""
        file.write_text(json.dumps({**asdict(self), "root": str(self.root)}, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Image":
        """What `write` kept. Raises FileNotFoundError."""
        known = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{**known, "root": Path(known["root"]), "entrypoint": tuple(known["entrypoint"])})


class Builder:
    """Builds stages of one Dockerfile under `work`. `base` is the root that stands for what ${BASE} names."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        context: Context,
        named: Mapping[str, Context],
        base: Path,
        work: Path,
        say: Callable[[str], None],
    ) -> None:
        self._dockerfile = dockerfile
        self._context = context
        self._named = named
        self._base = base
        self._work = work
        self._say = say
        self._made: dict[tuple[str, tuple[tuple[str, str], ...]], Image] = {}
        self._mounts = enter.mounts_allowed()

    def build(self, target: str, arguments: Mapping[str, str]) -> Image:
        """The image of a stage. Raises BuildError or DockerfileError."""
        stage = self._dockerfile.stage(target)
        declared = self._declared(stage)
        key = (target, tuple(sorted((name, value) for name, value in arguments.items() if name in declared)))
        if key not in self._made:
            service = dict(key[1]).get("SERVICE")
            self._made[key] = self._make(stage, arguments, f"{target}-{service}" if service else target)
        return self._made[key]

    def keep_only(self, images: Sequence[Image]) -> None:
        """Remove the roots of stages that were made for arguments, but for those of `images`."""
        kept = {image.root for image in images}
        for key, made in list(self._made.items()):
            if key[1] and made.root not in kept:
                del self._made[key]
                shutil.rmtree(made.root)

    def _declared(self, stage: Stage) -> set[str]:
        names = {each.name for each in stage.of_kind(Arg)}
        stages = {each.name for each in self._dockerfile.stages}
        for used in {stage.base, *(each.origin for each in stage.of_kind(Copy))} & stages:
            names |= self._declared(self._dockerfile.stage(str(used)))
        return names

    def _make(self, stage: Stage, arguments: Mapping[str, str], name: str) -> Image:
        image = self._start(stage, arguments, self._work / name)
        values: dict[str, str] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, Arg):
                value = arguments.get(instruction.name, instruction.default)
                if value is not None:
                    values[instruction.name] = value
            else:
                image = self._carry_out(instruction, image, values, arguments)
        self._say(f"    {name}")
        return image

    def _start(self, stage: Stage, arguments: Mapping[str, str], root: Path) -> Image:
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        if stage.base == "scratch":
            root.mkdir()
            return Image(root)
        if stage.base == "${BASE}":
            image = Image(self._base)
        else:
            parent = self.build(stage.base, arguments)
            image = replace(parent, entrypoint=(), labels=dict(parent.labels))
        # Devices and owners as they are; no byte is written twice where the file system can share it.
        _must(["cp", "--archive", "--reflink=auto", str(image.root), str(root)], f"FROM {stage.base}")
        return replace(image, root=root)

    def _carry_out(
        self, instruction: Instruction, image: Image, values: Mapping[str, str], arguments: Mapping[str, str]
    ) -> Image:
        known = {**values, **image.environment}
        match instruction:
            case Copy():
                self._copy(instruction, image.root, known, arguments)
            case Run():
                self._run(instruction, image, values)
            case Env():
                added = {name: expand(value, known) for name, value in instruction.values.items()}
                return replace(image, environment={**image.environment, **added})
            case Label():
                added = {name: expand(value, known) for name, value in instruction.values.items()}
                return replace(image, labels={**image.labels, **added})
            case User():
                return replace(image, uid=instruction.uid, gid=instruction.gid)
            case Workdir():
                path = expand(instruction.path, known)
                (image.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
                return replace(image, workdir=path)
            case Entrypoint():
                return replace(image, entrypoint=instruction.command)
        return image

    def _copy(self, copy: Copy, root: Path, known: Mapping[str, str], arguments: Mapping[str, str]) -> None:
        destination = expand(copy.destination, known)
        if not destination.startswith("/"):
            raise DockerfileError(f"COPY … {destination}: name the whole path")
        into = root / destination.lstrip("/")
        is_folder = destination.endswith("/") or len(copy.sources) > 1
        for source in copy.sources:
            context = self._origin(copy.origin, arguments)
            context.copy(expand(source, known).strip("/"), into, into_folder=is_folder)

    def _origin(self, name: str | None, arguments: Mapping[str, str]) -> Context:
        if name is None:
            return self._context
        if name in self._named:
            return self._named[name]
        return Context(self.build(name, arguments).root)

    def _run(self, run: Run, image: Image, values: Mapping[str, str]) -> None:
        root = image.root
        (root / "run").mkdir(exist_ok=True)
        # What a container's engine puts there while a step runs.
        resolver, kept = root / "etc" / "resolv.conf", Path("/etc/resolv.conf").read_bytes()
        resolver.write_bytes(kept)
        certificates = Path(os.environ.get("SSL_CERT_FILE", _CERTIFICATES))
        environment = {name: os.environ[name] for name in _REACHING_OUT if name in os.environ}
        if certificates.exists():
            shutil.copyfile(certificates, root / _BUILD_CERTIFICATES)
            environment |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), f"/{_BUILD_CERTIFICATES}")
        environment |= {"DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        binds = {}
        for target in run.caches if self._mounts else ():
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            kept_folder = self._work.parent / "caches" / target.strip("/").replace("/", "-")
            kept_folder.mkdir(parents=True, exist_ok=True)
            binds[target] = str(kept_folder)
        entry = enter.Entry(
            root=str(root),
            command=["/bin/sh", "-c", run.command],
            workdir=image.workdir,
            uid=image.uid,
            gid=image.gid,
            mounts=self._mounts,
            binds=binds,
        )
        enter_it = [sys.executable, "-I", enter.__file__, str(entry.write(root.with_suffix(".json")))]
        _must(enter_it, f"RUN {run.command[:100]} …", {**environment, **image.environment, **values})
        (root / _BUILD_CERTIFICATES).unlink(missing_ok=True)
        resolver.write_bytes(b"")


def debootstrap(folder: Path, release: str, say: Callable[[str], None]) -> Path:
    """A minimal Debian in `folder`, as debian:<release>-slim is made; one that is there is kept. Raises BuildError."""
    if folder.exists():
        return folder
    if shutil.which("debootstrap") is None:
        raise BuildError("debootstrap is missing: install Debian's package of that name")
    say(f"  debootstrap: a minimal Debian {release}, once")
    partial = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    _must(["debootstrap", "--variant=minbase", release, str(partial)], "debootstrap")
    for archive in (partial / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        archive.unlink()
    mirror = (partial / "etc" / "apt" / "sources.list").read_text(encoding="utf-8").split()[1]
    security = mirror.replace("/debian", "/debian-security")
    (partial / "etc" / "apt" / "sources.list").write_text(
        f"deb {mirror} {release} main\ndeb {mirror} {release}-updates main\ndeb {security} {release}-security main\n"
    )
    (partial / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    partial.rename(folder)
    return folder


def _must(command: list[str], step: str, environment: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=_RUN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{step}: not done in {_RUN_TIMEOUT_S} s") from error
    if done.returncode:
        raise BuildError(f"{step}: exit code {done.returncode}\n" + "\n".join(done.stdout.splitlines()[-20:]))
