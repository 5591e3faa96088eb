"""Reads a Dockerfile, as far as ours goes; whatever it does not know it refuses, so that no line is passed over.

Source: Docker's Dockerfile reference. Known are ARG, COPY (with --from), ENTRYPOINT (exec form), ENV, FROM, LABEL, RUN
(shell form, with cache mounts), USER and WORKDIR. Values may name variables as ${NAME}; in RUN the shell expands them.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

_VARIABLE = re.compile(r"\$(?:\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<other>.))")
_CACHE_MOUNT = re.compile(r"type=cache,target=(?P<target>/[A-Za-z0-9./_-]+)")
_FLAG = re.compile(r"--(?P<name>[a-z]+)=(?P<value>\S+)\s+")


class DockerfileError(Exception):
    """The Dockerfile says something that is not understood here, or is wrong; the message names the line."""


@dataclass(frozen=True, slots=True)
class Arg:
    """A variable that the builder may set; None without a default."""

    name: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Copy:
    """Files from the context, another stage, or a named context."""

    sources: tuple[str, ...]
    destination: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A line for /bin/sh, and folders that may be kept between builds."""

    command: str
    caches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Env:
    """Variables of this stage, those built on it, and the running image."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Label:
    """What the image says of itself."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class User:
    """Who runs what follows: numbers, because names would need a file to look them up in."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Workdir:
    """Where what follows runs."""

    path: str


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """What the image runs, without a shell."""

    command: tuple[str, ...]


_Kind = TypeVar("_Kind", Arg, Copy, Run, Env, Label, User, Workdir, Entrypoint)
Instruction = Arg | Copy | Run | Env | Label | User | Workdir | Entrypoint


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it. `base` may name a variable, another stage, or `scratch`."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def of_kind(self, kind: type[_Kind]) -> list[_Kind]:
        """Its instructions of one kind, in order."""
        return [each for each in self.instructions if isinstance(each, kind)]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Variables that FROM lines may use, and stages in order; the last is what is built by default."""

    arguments: Mapping[str, str | None]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises DockerfileError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise DockerfileError(f"there is no stage {name}")


def parse(text: str) -> Dockerfile:
    """What `text` says. Raises DockerfileError naming the first line that is not understood."""
    arguments: dict[str, str | None] = {}
    stages: list[Stage] = []
    for number, line in _logical_lines(text):
        keyword, _, rest = line.partition(" ")
        rest = rest.strip()
        try:
            if keyword == "FROM":
                stages.append(_stage(rest, {stage.name for stage in stages}))
            elif not stages:
                argument = _argument_before_from(keyword, rest)
                arguments[argument.name] = argument.default
            else:
                stage = stages.pop()
                stages.append(Stage(stage.name, stage.base, (*stage.instructions, _instruction(keyword, rest))))
        except DockerfileError as error:
            raise DockerfileError(f"line {number}: {error}") from None
    if not stages:
        raise DockerfileError("there is no FROM")
    return Dockerfile(arguments, tuple(stages))


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with its ${NAME}s replaced. Raises DockerfileError for an unknown name (Docker would say nothing)."""

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            raise DockerfileError(f"{text!r}: write variables as ${{NAME}}")
        if name not in values:
            raise DockerfileError(f"{text!r}: {name} has no value; declare it with ARG in this stage, and give it one")
        return values[name]

    return _VARIABLE.sub(value, text)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined; with the number of their first line."""
    started, so_far = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        started = started if so_far else number
        if line.endswith("\\"):
            so_far += line[:-1]
        else:
            yield started, (so_far + line).strip()
            so_far = ""
    if so_far:
        raise DockerfileError(f"line {started}: it is continued by nothing")


def _stage(rest: str, known: set[str]) -> Stage:
    words = rest.split()
    if len(words) != 3 or words[1] != "AS":  # noqa: PLR2004 - image AS name
        raise DockerfileError("write FROM image AS name")
    if words[2] in known:
        raise DockerfileError(f"a second stage {words[2]}")
    return Stage(words[2], words[0], ())


def _argument_before_from(keyword: str, rest: str) -> Arg:
    if keyword != "ARG":
        raise DockerfileError(f"{keyword} before FROM")
    return _arg(rest)


def _instruction(keyword: str, rest: str) -> Instruction:
    if keyword not in _PARSERS:
        raise DockerfileError(f"{keyword} is not understood here")
    return _PARSERS[keyword](rest)


def _arg(rest: str) -> Arg:
    name, has_default, default = rest.partition("=")
    return Arg(name, default if has_default else None)


def _user(rest: str) -> User:
    match = re.fullmatch(r"(\d+):(\d+)", rest)
    if match is None:
        raise DockerfileError("write USER as two numbers")
    return User(int(match[1]), int(match[2]))


def _flags(rest: str) -> tuple[list[tuple[str, str]], str]:
    found = []
    while match := _FLAG.match(rest):
        found.append((match["name"], match["value"]))
        rest = rest[match.end() :]
    return found, rest


def _copy(rest: str) -> Copy:
    flags, paths = _flags(rest)
    if any(name != "from" for name, _ in flags) or paths.startswith(("--", "[")) or set("*?") & set(paths):
        raise DockerfileError("COPY knows --from here, and neither patterns nor JSON")
    *sources, destination = paths.split()
    if not sources:
        raise DockerfileError("COPY what, and to where?")
    return Copy(tuple(sources), destination, dict(flags).get("from"))


def _run(rest: str) -> Run:
    flags, command = _flags(rest)
    mounts = [_CACHE_MOUNT.fullmatch(value) if name == "mount" else None for name, value in flags]
    if command.startswith(("--", "[", "<<")) or not command:
        raise DockerfileError("RUN knows cache mounts and the shell form here")
    caches = [mount["target"] for mount in mounts if mount is not None]
    if len(caches) != len(flags):
        raise DockerfileError("RUN knows --mount=type=cache,target=… here")
    return Run(command, tuple(caches))


def _pairs(rest: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in shlex.split(rest)]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise DockerfileError("write name=value")
    return {name: value for name, _, value in pairs}


def _exec_form(rest: str) -> tuple[str, ...]:
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise DockerfileError("write ENTRYPOINT as a JSON list: a shell would stand before the program")
    return tuple(words)


_PARSERS: Mapping[str, Callable[[str], Instruction]] = {
    "ARG": _arg,
    "COPY": _copy,
    "ENTRYPOINT": lambda rest: Entrypoint(_exec_form(rest)),
    "ENV": lambda rest: Env(_pairs(rest)),
    "LABEL": lambda rest: Label(_pairs(rest)),
    "RUN": _run,
    "USER": _user,
    "WORKDIR": Workdir,
}
