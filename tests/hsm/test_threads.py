"""The initialisation that python-pkcs11 does alone crashes SoftHSM under threads; ours does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.hsm import KeyAlgorithm
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace

pytestmark = pytest.mark.hsm

# Both programs do the same work: four threads, each with its own session, sign with one key of the token.
PLAIN = """
import sys, threading, pkcs11
module, label, pin_file = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
login = token.open(user_pin=open(pin_file).read())
failures = []
def work():
    try:
        key = token.open().get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="k")
        for _ in range(300):
            key.sign(bytes(32), mechanism=pkcs11.Mechanism.ECDSA)
    except pkcs11.PKCS11Error as error:
        failures.append(error)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(len(failures))
"""
OURS = """
import pathlib, sys, threading
from mesh.hsm import TokenError, open_token
module, label, pin_file = sys.argv[1:]
token = open_token(pathlib.Path(module), label, pathlib.Path(pin_file))
failures = []
def work():
    try:
        for _ in range(300):
            token.sign_digest("k", bytes(32))
    except TokenError as error:
        failures.append(error)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(len(failures))
"""


@pytest.fixture(scope="module")
def token_with_key(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    place.open(writable=True).generate_key_pair("k", KeyAlgorithm.EC_P256)
    return place


def signs_everything(program: str, place: TokenPlace, softhsm: SoftHsm, *, timeout_s: float) -> bool:
    """Whether the program made every signature: no error, no crash, no hang."""
    command = [sys.executable, "-c", program, str(MODULE_PATH), place.label, str(place.pin_file)]
    environment = os.environ | {"SOFTHSM2_CONF": str(softhsm.configuration_file)}
    repository = Path(__file__).parents[2]
    try:
        ended = subprocess.run(
            command, env=environment, cwd=repository, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def test_plain_initialisation_fails_under_threads(softhsm: SoftHsm, token_with_key: TokenPlace) -> None:
    # Says that the work is hard enough to tell the two apart. The first run has always failed; five are allowed.
    assert not all(signs_everything(PLAIN, token_with_key, softhsm, timeout_s=10) for _ in range(5))


def test_our_initialisation_holds_under_threads(softhsm: SoftHsm, token_with_key: TokenPlace) -> None:
    assert all(signs_everything(OURS, token_with_key, softhsm, timeout_s=60) for _ in range(5))
