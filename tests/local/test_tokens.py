"""Development tokens: each opens with its own PIN only, and a half-made one is made anew."""

import subprocess
import sys

import pytest

from deploy.local.state import State
from deploy.local.tokens import DevelopmentToken, ensure_token, inserted

pytestmark = pytest.mark.hsm

# In a process of its own: SoftHSM reads its configuration once per process.
_OPEN = """
import os, pathlib
from mesh.hsm import open_token
token = open_token(
    pathlib.Path(os.environ["FINID_PKCS11_MODULE"]),
    os.environ["FINID_TOKEN_LABEL"],
    pathlib.Path(os.environ["FINID_TOKEN_PIN_FILE"]),
)
print(token.is_development_token, len(token.random(8)))
"""


def open_in_child(token: DevelopmentToken, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin"} | token.environment | changed
    return subprocess.run([sys.executable, "-c", _OPEN], env=environment, capture_output=True, text=True, check=False)


def test_a_token_opens_with_its_pin(own_state: State) -> None:
    done = open_in_child(ensure_token(own_state, "signer"))
    assert done.stdout == "True 8\n", done.stderr


def test_another_tokens_pin_does_not_open_it(own_state: State) -> None:
    signer, ca = ensure_token(own_state, "signer"), ensure_token(own_state, "ca")
    assert open_in_child(signer, FINID_TOKEN_PIN_FILE=str(ca.pin_file)).returncode != 0


def test_one_tokens_configuration_does_not_show_another(own_state: State) -> None:
    signer, ca = ensure_token(own_state, "signer"), ensure_token(own_state, "ca")
    assert open_in_child(signer, SOFTHSM2_CONF=str(ca.configuration)).returncode != 0


def test_pins_are_readable_by_their_owner_only(own_state: State) -> None:
    token = ensure_token(own_state, "ca")
    assert token.pin_file.stat().st_mode & 0o777 == 0o400
    assert token.configuration.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_start_keeps_the_token_and_a_half_made_one_is_made_anew(own_state: State) -> None:
    token = ensure_token(own_state, "ca")
    store = token.configuration.parent / "store"
    made = {path.name for path in store.iterdir()}
    assert {path.name for path in (ensure_token(own_state, "ca").configuration.parent / "store").iterdir()} == made
    store.rename(store.with_name("store.new"))  # as if killed before the last step
    ensure_token(own_state, "ca")
    assert {path.name for path in store.iterdir()} != made
    assert open_in_child(token).returncode == 0


def test_an_offline_token_is_seen_beside_another_only_while_it_is_inserted(own_state: State) -> None:
    root, ca = ensure_token(own_state, "root"), ensure_token(own_state, "ca")
    both = {"SOFTHSM2_CONF": str(ca.configuration)}
    assert open_in_child(root, **both).returncode != 0
    with inserted(root, beside=ca):
        assert open_in_child(root, **both).returncode == 0
        assert open_in_child(ca).returncode == 0
    assert open_in_child(root, **both).returncode != 0
    assert open_in_child(root).returncode == 0


def test_a_token_left_inside_by_a_kill_is_taken_out_the_next_time(own_state: State) -> None:
    root, ca = ensure_token(own_state, "root"), ensure_token(own_state, "ca")
    (folder,) = root.store.iterdir()
    folder.rename(ca.store / folder.name)
    with inserted(root, beside=ca):
        pass
    assert [path.name for path in root.store.iterdir()] == [folder.name]
