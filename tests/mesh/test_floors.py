"""No floors file goes below what the law and the design fix."""

import json
from typing import Any

import pytest

from mesh import base64url, floors
from mesh.floors import FloorsError
from mesh.transaction import Purpose
from tests.bundles import digest_of, floor_of

FOUR = ["STATE_RECORD", "LIVENESS", "FACE_MATCH", "SMS_OTP"]
FACE = ["STATE_RECORD", "LIVENESS", "FACE_MATCH"]
TO_SIGN = ["PREPARATION", *FOUR]
MODEL = base64url.encode(digest_of("model"))

WRONG: list[tuple[Purpose, str, Any]] = [
    *((Purpose.SIGN, "factors", [f for f in TO_SIGN if f != left_out]) for left_out in TO_SIGN),
    *((Purpose.IDENTIFY, "factors", [f for f in FOUR if f != left_out]) for left_out in FOUR),
    (Purpose.SIGN, "factors", [*TO_SIGN, "SMS_OTP"]),
    (Purpose.SIGN, "factors", [*TO_SIGN, "KEY_ATTESTATION"]),
    (Purpose.ISSUE, "factors", [*FOUR, "PREPARATION"]),
    (Purpose.ISSUE, "factors", [*FOUR, "RELEASE"]),
    (Purpose.SIGN, "factors", []),
    *((purpose, "channels", ["STREAM"]) for purpose in Purpose if purpose is not Purpose.IDENTIFY),
    *((purpose, "channels", ["HOSTED", "STEPS"]) for purpose in Purpose if purpose is not Purpose.IDENTIFY),
    (Purpose.IDENTIFY, "channels", []),
    (Purpose.SIGN, "policies", []),
    (Purpose.SIGN, "min_passive_ppm", 0),
    (Purpose.SIGN, "min_prompts_ppm", 0),
    (Purpose.SIGN, "min_prompts_ppm", 1_000_001),
    (Purpose.SIGN, "min_keyframes", 2),
    (Purpose.SIGN, "min_similarity_ppm", 0),
    (Purpose.SIGN, "min_threshold_ppm", -1),
    (Purpose.SIGN, "models", {"LIVENESS": [MODEL]}),
    (Purpose.SIGN, "models", {"LIVENESS": [MODEL], "FACE_MATCH": []}),
    (Purpose.SIGN, "models", {"LIVENESS": [MODEL], "FACE_MATCH": ["AAAA"]}),
    (Purpose.SIGN, "models", {"LIVENESS": [MODEL], "FACE_MATCH": [MODEL], "SMS_OTP": [MODEL]}),
    *((purpose, "phone_trusted", False) for purpose in (Purpose.ISSUE, Purpose.REISSUE, Purpose.SIGN, Purpose.RESUME)),
    *((Purpose.RESUME, "factors", [f for f in FOUR if f != left_out]) for left_out in FOUR),
    *((Purpose.SUSPEND, "factors", [f for f in FACE if f != left_out]) for left_out in FACE),
    (Purpose.SUSPEND, "factors", FOUR),
    (Purpose.SIGN, "otp_max_age_s", 121),
    (Purpose.SIGN, "otp_max_age_s", 0),
    (Purpose.SIGN, "min_keyframes", True),
    (Purpose.SIGN, "min_keyframes", "3"),
]


@pytest.mark.parametrize(("purpose", "name", "value"), WRONG, ids=[f"{p.value} {n} {v!r:.40}" for p, n, v in WRONG])
def test_a_floor_below_what_is_fixed_is_refused_by_its_name(purpose: Purpose, name: str, value: Any) -> None:
    with pytest.raises(FloorsError, match=f"{purpose.value}.{name}"):
        floors.parse(json.dumps({purpose.value: floor_of(purpose) | {name: value}}).encode())


def test_an_unknown_purpose_or_field_is_refused() -> None:
    sign = floor_of(Purpose.SIGN)
    wrong: list[Any] = [{"WHATEVER": sign}, {"SIGN": sign | {"note": "x"}}, {"SIGN": sign | {"min_keyframes": 3.0}}, []]
    for file in wrong:
        with pytest.raises(FloorsError):
            floors.parse(json.dumps(file).encode())


def test_floors_may_differ_where_nothing_is_fixed() -> None:
    untrusted = floor_of(Purpose.REVOKE) | {"phone_trusted": False, "otp_max_age_s": 60}
    assert floor_of(Purpose.SUSPEND)["phone_trusted"] is False
    floors.parse(json.dumps({"SUSPEND": floor_of(Purpose.SUSPEND)}).encode())
    attested = floor_of(Purpose.ISSUE, attested=True)
    read = floors.parse(json.dumps({"REVOKE": untrusted, "ISSUE": attested}).encode())
    assert read[Purpose.REVOKE].otp_max_age_s == 60
    assert len(read[Purpose.ISSUE].factors) == 5
    assert Purpose.SIGN not in read
