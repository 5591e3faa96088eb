"""A pins file that could mean two things, or nothing, is refused before anything is believed by it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mesh import pins
from mesh.facts import Factor
from mesh.pins import PinsError
from mesh.transaction import Env
from tests.bundles import World

WORLD = World()
GOOD: dict[str, Any] = json.loads(WORLD.pins_json())


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    copy = json.loads(json.dumps(GOOD))
    change(copy)
    return json.dumps(copy).encode()


WRONG = {
    "not JSON": b"{",
    "unknown field of the file": changed(lambda file: file.update(note="x")),
    "unknown field of a pin": changed(lambda file: file["pins"][0].update(note="x")),
    "missing field": changed(lambda file: file["pins"][0].pop("not_after")),
    "unknown factor": changed(lambda file: file["pins"][0].update(factor="PALM")),
    "unknown env": changed(lambda file: file["pins"][0].update(env="staging")),
    "key of another length": changed(lambda file: file["pins"][0].update(public_key="AAAA")),
    "key of another pin": changed(lambda file: file["pins"][0].update(public_key=file["pins"][1]["public_key"])),
    "kid of one's own choice": changed(lambda file: file["pins"][0].update(kid="registry-1")),
    "valid backwards": changed(lambda file: file["pins"][0].update(not_before=file["pins"][0]["not_after"] + 1)),
    "pinned twice": changed(lambda file: file["pins"].append(file["pins"][0])),
    "time as a float": changed(lambda file: file["pins"][0].update(not_after=1.5)),
    "too large": json.dumps(GOOD).encode() + b" " * pins.MAX_PINS_BYTES,
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_a_wrong_pins_file_is_refused(data: bytes) -> None:
    with pytest.raises(PinsError):
        pins.parse(data, Env.SANDBOX)


def test_a_pin_is_found_for_its_factor_in_the_environment_of_the_consumer() -> None:
    read = pins.parse(json.dumps(GOOD).encode(), Env.SANDBOX)
    kid = next(pin.kid for pin in read.pins if pin.factor is Factor.STATE_RECORD)
    found = read.find(kid, Factor.STATE_RECORD)
    assert found is not None
    assert found.issuer == "registry"
    assert read.find(kid, Factor.SMS_OTP) is None
    assert read.find("unknown", Factor.STATE_RECORD) is None
    assert pins.parse(json.dumps(GOOD).encode(), Env.PRODUCTION).find(kid, Factor.STATE_RECORD) is None
