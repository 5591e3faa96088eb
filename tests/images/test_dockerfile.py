"""The Dockerfile says what docs/images.md promises, and its reader passes over nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.images import dockerfile
from deploy.images.build import Builder, Image
from deploy.images.context import Context, parse_ignore
from deploy.images.dockerfile import Arg, Copy, DockerfileError, Entrypoint, Label, Run, Stage, User, parse
from deploy.images.releases import IMAGES, build_context, read_dockerfile
from deploy.local.ports import SERVICES
from deploy.local.state import CHECKOUT

OURS = read_dockerfile()
TARGETS = sorted({image.target for image in IMAGES})


def ancestry(target: str) -> Iterator[Stage]:
    """The stages that a target's file system consists of, without those that it only copies from."""
    names = {stage.name for stage in OURS.stages}
    while target in names:
        yield OURS.stage(target)
        target = OURS.stage(target).base


def base_of(target: str) -> str:
    return list(ancestry(target))[-1].base


def test_the_base_is_named_by_digest_and_the_placeholder_exists_nowhere() -> None:
    assert OURS.arguments == {"BASE": f"debian:bookworm-slim@sha256:{'0' * 64}"}
    assert {stage.base for stage in OURS.stages} - {stage.name for stage in OURS.stages} == {"${BASE}", "scratch"}


def test_a_service_is_what_is_built_when_no_target_is_named() -> None:
    assert OURS.stages[-1].name == "service"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_65532_without_a_shell(target: str) -> None:
    last = OURS.stage(target).instructions
    assert last[-2] == User(65532, 65532)
    assert isinstance(last[-1], Entrypoint)
    assert "sh" not in last[-1].command


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_is(target: str) -> None:
    labels = {name for label in OURS.stage(target).of_kind(Label) for name in label.values}
    assert labels >= {f"org.opencontainers.image.{name}" for name in ("title", "description", "licenses")}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_installs_neither_pip_nor_a_compiler(target: str) -> None:
    stages = list(ancestry(target))
    assert "installer" not in {stage.name for stage in stages}
    for run in (run for stage in stages for run in stage.of_kind(Run)):
        assert not {"gcc", "build-essential", "python3-venv", "python3-pip", "python3-dev"} & set(run.command.split())


def test_an_image_of_files_has_no_debian() -> None:
    assert base_of("models") == base_of("pkcs11-module") == "scratch"


def test_packages_are_checked_against_the_lock_and_the_installer_against_its_digest() -> None:
    commands = [run.command for stage in OURS.stages for run in stage.of_kind(Run)]
    installs = [command for command in commands if " sync " in command or "pip install" in command]
    assert len(installs) == 3
    assert all("--locked" in command or "--require-hashes" in command for command in installs)


def test_every_service_may_be_built() -> None:
    (choice,) = (run.command for run in OURS.stage("native").of_kind(Run))
    named = {word.strip("()") for word in choice.replace("|", " ").split()}
    assert named >= set(SERVICES)


def test_what_it_copies_exists_and_reaches_the_builder() -> None:
    context = build_context()
    assert context.ignore is not None
    for copy in (copy for stage in OURS.stages for copy in stage.of_kind(Copy) if copy.origin is None):
        for source in copy.sources:
            for path in [source.replace("${SERVICE}", service) for service in SERVICES]:
                assert (CHECKOUT / path).exists(), path
                assert context.ignore.allows(path.rstrip("/")), path


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "var/images/base", "tests/conftest.py", "mesh/__pycache__/pins.pyc"]
)
def test_the_rest_of_a_checkout_does_not_reach_the_builder(path: str) -> None:
    context = build_context()
    assert context.ignore is not None
    assert not context.ignore.allows(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no FROM"),
        ("COPY a /a", "line 1: COPY before FROM"),
        ("FROM a", "line 1: write FROM image AS name"),
        ("FROM a AS b\nFROM a AS b", "line 2: a second stage b"),
        ("FROM a AS b\nADD c /c", "line 2: ADD is not understood here"),
        ("FROM a AS b\nHEALTHCHECK NONE", "line 2: HEALTHCHECK is not understood here"),
        ("FROM a AS b\n\n# comment\nUSER root", "line 4: write USER as two numbers"),
        (
            "FROM a AS b\nENTRYPOINT python -m c",
            "line 2: write ENTRYPOINT as a JSON list: a shell would stand",
        ),
        ("FROM a AS b\nENTRYPOINT []", "line 2: write ENTRYPOINT as a JSON list"),
        ("FROM a AS b\nCOPY *.py /c/", "line 2: COPY knows --from here, and neither patterns nor JSON"),
        ("FROM a AS b\nCOPY --chown=1:1 c /c", "line 2: COPY knows --from here"),
        ("FROM a AS b\nCOPY --link c /c", "line 2: COPY knows --from here"),
        ("FROM a AS b\nCOPY c", "line 2: COPY what, and to where?"),
        ('FROM a AS b\nRUN ["c"]', "line 2: RUN knows cache mounts and the shell form here"),
        ("FROM a AS b\nRUN --network=none c", "line 2: RUN knows --mount=type=cache,target=… here"),
        ("FROM a AS b\nRUN --mount=type=secret,id=c d", "line 2: RUN knows --mount=type=cache,target=… here"),
        ("FROM a AS b\nENV c d", "line 2: write name=value"),
        ("FROM a AS b\nRUN c \\", "line 2: it is continued by nothing"),
    ],
)
def test_what_the_reader_does_not_know_it_refuses(text: str, says: str) -> None:
    with pytest.raises(DockerfileError) as refused:
        parse(text)
    assert str(refused.value).startswith(says)


def test_lines_are_joined_and_comments_left_out() -> None:
    (stage,) = parse("FROM a AS b\nRUN c \\\n# why\n && d\nARG E=1").stages
    assert stage == Stage("b", "a", (Run("c  && d", ()), Arg("E", "1")))


def test_a_variable_without_a_value_is_refused() -> None:
    assert dockerfile.expand("services/${SERVICE}", {"SERVICE": "ca"}) == "services/ca"
    for text in ("services/${SERVICE}", "services/$SERVICE", "${SERVICE:-ca}"):
        with pytest.raises(DockerfileError):
            dockerfile.expand(text, {})


@pytest.mark.parametrize("text", ["", "mesh", "*\n!mesh/*.py", "*\nmesh", "*\n**/a/b"])
def test_an_ignore_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse_ignore(text)


def builder_of(tmp_path: Path, text: str) -> Builder:
    """A builder of stages from scratch, which takes neither root nor a Debian."""
    context = tmp_path / "context"
    for name, content in {"kept/a": "a", "kept/deep/b": "b", "kept/__pycache__/c": "c", "other": "d"}.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(content)
    allowed = Context(context, parse_ignore("*\n!kept\n!rooms\n**/__pycache__"))
    return Builder(parse(text), allowed, {}, tmp_path / "no-base", tmp_path / "roots", lambda _: None)


def build(tmp_path: Path, text: str, target: str, **arguments: str) -> Image:
    return builder_of(tmp_path, text).build(target, arguments)


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_build_copies_what_docker_would(tmp_path: Path) -> None:
    text = """
FROM scratch AS first
ARG NAME
COPY kept /all
COPY kept/a /one/file-${NAME}
COPY kept/a kept/deep/b /several
FROM first AS second
FROM scratch AS last
COPY --from=second /all/deep /
"""
    assert files(build(tmp_path, text, "second", NAME="x").root) == [
        "all/a",
        "all/deep/b",
        "one/file-x",
        "several/a",
        "several/b",
    ]
    assert files(build(tmp_path, text, "last", NAME="x").root) == ["b"]


def test_a_build_keeps_settings_and_forgets_the_entry_of_what_it_is_built_on(tmp_path: Path) -> None:
    text = """
FROM scratch AS first
ARG VERSION=1
ENV A=a
ENV B=${A}b
LABEL version=${VERSION}
USER 1:2
ENTRYPOINT ["x"]
FROM first AS second
WORKDIR /w
"""
    first, second = build(tmp_path, text, "first"), build(tmp_path, text, "second", VERSION="2")
    assert (first.environment, first.labels, first.entrypoint) == ({"A": "a", "B": "ab"}, {"version": "1"}, ("x",))
    assert (second.labels, second.entrypoint, second.workdir) == ({"version": "2"}, (), "/w")
    assert (second.uid, second.gid) == (1, 2)


@pytest.mark.parametrize(
    "copy", ["COPY other /other", "COPY missing /missing", "COPY kept relative", "COPY --from=nowhere a /a"]
)
def test_a_build_refuses_to_copy_what_docker_would_not_find(tmp_path: Path, copy: str) -> None:
    with pytest.raises(DockerfileError):
        build(tmp_path, f"FROM scratch AS only\n{copy}", "only")


def test_a_stage_is_made_once_for_each_argument_and_intermediate_ones_are_removed(tmp_path: Path) -> None:
    text = """
FROM scratch AS shared
COPY kept /all
FROM shared AS between
ARG SERVICE
COPY kept/a /of/${SERVICE}
FROM between AS last
"""
    builder = builder_of(tmp_path, text)
    first, again = builder.build("last", {"SERVICE": "ca"}), builder.build("last", {"SERVICE": "ca"})
    builder.keep_only([first])
    second = builder.build("last", {"SERVICE": "otp"})
    assert again is first
    assert (first.root / "of" / "ca").exists()
    assert (second.root / "of" / "otp").exists()
    assert {path.name for path in (tmp_path / "roots").iterdir()} == {"shared", "last-ca", "last-otp", "between-otp"}
