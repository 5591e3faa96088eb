"""State folder, settings, ports and cleaning: what is refused, and what others may read."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, LocalMeshError, State, default_folder


def test_two_checkouts_have_two_folders() -> None:
    assert default_folder(Path("/a/finid")) != default_folder(Path("/b/finid"))
    assert default_folder(Path("/a/finid")) == default_folder(Path("/a/finid"))


def test_the_folder_is_passed_through_by_others_and_read_by_its_owner_only(own_state: State) -> None:
    assert own_state.folder.stat().st_mode & 0o777 == 0o711
    assert own_state.private("secrets").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalMeshError, match="FINID_STATE"):
        State.open(tmp_path / "link")


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LocalMeshError, match="FINID_STATE"):
        State.open(tmp_path / "open")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(LocalMeshError, match="FINID_STATE"):
        State.open(tmp_path / "theirs")


def test_a_secret_is_made_once(own_state: State) -> None:
    first = own_state.secret("secrets/x").read_text()
    assert own_state.secret("secrets/x").read_text() == first
    assert len(first) >= 40


def test_a_file_is_replaced_whole_and_leaves_no_draft(own_state: State) -> None:
    own_state.write("keys/x", "old")
    path = own_state.write("keys/x", "new")
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["x"]  # noqa: PTH208 - hidden names count too


def test_a_folder_in_use_is_refused_with_the_process_that_has_it(own_state: State) -> None:
    refused = pytest.raises(LocalMeshError, match=f"in use by process {os.getpid()}")
    with own_state.locked(), refused, own_state.locked():
        pass
    with own_state.locked():
        pass


def test_settings_come_from_the_environment() -> None:
    settings = LocalSettings.from_environment({"FINID_STATE": "/srv/finid", "FINID_PORT_BASE": "20000"})
    assert (settings.state_folder, settings.port_base) == (Path("/srv/finid"), 20000)
    assert LocalSettings.from_environment({}).port_base == ports.DEFAULT_BASE


@pytest.mark.parametrize("base", ["", "many", "-1", "1023", "32760"])
def test_a_wrong_port_base_is_named(base: str) -> None:
    with pytest.raises(LocalMeshError, match="FINID_PORT_BASE"):
        LocalSettings.from_environment({"FINID_PORT_BASE": base})


def test_every_port_is_of_one_purpose_and_two_meshes_do_not_meet() -> None:
    first, second = ports.numbers(20000), ports.numbers(20000 + ports.SPAN)
    assert len(set(first.values())) == len(first)
    assert not set(first.values()) & set(second.values())


def test_a_taken_port_is_named_with_its_purpose() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(LocalMeshError, match=f"port {number} \\(otp\\) is taken.*FINID_PORT_BASE"):
            ports.require_free({"otp": number})
    ports.require_free({"otp": number})


def clean(folder: Path) -> subprocess.CompletedProcess[str]:
    # As make does: on any Python, before anything is installed.
    command = [sys.executable, "-S", "-m", "deploy.local.clean"]
    environment = os.environ | {"FINID_STATE": str(folder)}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


def test_cleaning_refuses_a_folder_in_use(own_state: State) -> None:
    with own_state.locked():
        done = clean(own_state.folder)
    assert done.returncode == 1
    assert "in use by process" in done.stderr
    assert own_state.folder.exists()
