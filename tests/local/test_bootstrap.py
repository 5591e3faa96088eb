"""Set-up from nothing: what it says when it cannot go on. That it works is shown by every run of make."""

import ast
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import bootstrap
from deploy.local.state import CHECKOUT

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(bootstrap.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("os_release", "release"),
    [(DEBIAN, "bookworm"), ('ID="alpine"\n', "alpine"), ("", "unknown"), ('VERSION_CODENAME="trixie"\n', "trixie")],
)
def test_the_release_is_read(os_release: str, release: str) -> None:
    assert bootstrap._debian_release(os_release) == release


def test_installed_packages_are_told_from_missing_ones() -> None:
    wanted = {"dpkg": "", "surely-no-such-package": ""}
    assert bootstrap._installed_packages(wanted) == {"dpkg"}


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


UNPRIVILEGED = """
import os, pathlib, sys
os.geteuid = lambda: 1000
from deploy.local import bootstrap
bootstrap.CHECKOUT = pathlib.Path(sys.argv[1])
sys.exit(bootstrap.main())
"""


def test_without_root_and_sudo_the_exact_command_is_said(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    fake(tools, "dpkg-query", "exit 1")
    command = [sys.executable, "-c", UNPRIVILEGED, str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run as root: apt-get install --yes --no-install-recommends" in done.stderr
    assert "softhsm2" in done.stderr


def test_every_package_says_what_needs_it() -> None:
    assert all(reason for packages in bootstrap.OS_PACKAGES.values() for reason in packages.values())


def test_the_installer_is_pinned_by_digest() -> None:
    pin = bootstrap.INSTALLER_PIN.read_text()
    assert "uv==" in pin
    assert "--hash=sha256:" in pin


def test_what_would_run_as_a_service_is_unpacked_and_not_installed() -> None:
    installed, unpacked = (
        {name for packages in table.values() for name in packages}
        for table in (bootstrap.OS_PACKAGES, bootstrap.UNPACKED_PACKAGES)
    )
    assert unpacked
    assert not unpacked & installed
    assert all((bootstrap.UNPACKED / name / "usr").is_dir() for name in unpacked)


UNPACKING = """
import pathlib, sys
from deploy.local import bootstrap
bootstrap.CHECKOUT = pathlib.Path(sys.argv[1])
bootstrap.UNPACKED = bootstrap.CHECKOUT / "var" / "debian"
print(bootstrap._unpack_os_packages())
"""


@pytest.mark.parametrize("index", ["fresh", "old"])
def test_a_package_is_downloaded_and_unpacked_after_an_update_where_it_takes_one(tmp_path: Path, index: str) -> None:
    tools, done = tmp_path / "bin", tmp_path / "done"
    tools.mkdir()
    if index == "fresh":
        (tmp_path / "updated").touch()
    fake(
        tools,
        "apt-get",
        f'echo "$1" >> {done}; if [ "$1" = update ]; then touch {tmp_path}/updated; '
        f"else test -e {tmp_path}/updated && touch prometheus_1.deb; fi",
    )
    fake(tools, "dpkg-deb", 'mkdir -p "$3/usr"')
    command = [sys.executable, "-c", UNPACKING, str(tmp_path)]
    environment = {"PATH": f"{tools}:/usr/bin:/bin"}
    ran = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("True\n")
    assert done.read_text().split() == (["download"] if index == "fresh" else ["download", "update", "download"])
    assert [path.name for path in (tmp_path / "var" / "debian").iterdir()] == ["prometheus"]
    again = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == "False\n"
