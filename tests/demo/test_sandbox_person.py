"""The sample person in an integrator's stead: where she can be told nothing, she says so; where she goes back to."""

from pathlib import Path

import pytest

from deploy.demo import sandbox_person


def test_without_a_running_mesh_it_is_said_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FINID_STATE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["sandbox_person", "https://localhost:1/capture#token"])
    assert sandbox_person.main() == 1
    said = capsys.readouterr()
    assert "make run" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:18479/return?code=c", True), ("http://[::1]:1/", True), ("https://127.0.0.1/", False),
        ("http://localhost:1/", False), ("https://demo-bank.example/return?code=c", False), ("http://10.0.0.1/", False),
    ],
)  # fmt: skip
def test_she_follows_to_this_machine_only(address: str, expected: bool) -> None:
    assert sandbox_person.is_loopback(address) is expected
