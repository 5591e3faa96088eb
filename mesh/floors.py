"""The least a consumer accepts, per purpose, from its own pinned file: a gateway cannot ask for less.

{"SIGN": {"factors", "channels", "policies", "min_passive_ppm", "min_prompts_ppm", "min_keyframes",
"min_similarity_ppm", "min_threshold_ppm", "models": {"LIVENESS": [digest], "FACE_MATCH": [digest]}, "phone_trusted",
"otp_max_age_s"}, ...}
A purpose that is absent is not served. `otp_max_age_s` has no meaning for SUSPEND, which needs no code. What the law
and the design fix cannot be lowered by the file either.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mesh import strict_json
from mesh.facts import PPM, Factor
from mesh.strict_json import StrictJsonError
from mesh.transaction import DIGEST_BYTES, Channel, Purpose

MAX_FLOORS_BYTES = 64 * 1024
MIN_KEYFRAMES = 3
MAX_OTP_AGE_S = 120

# Two factors, one of them biometric (the law on cloud signatures), and the state's word on whose face and phone it is.
ALWAYS_REQUIRED = frozenset({Factor.STATE_RECORD, Factor.LIVENESS, Factor.FACE_MATCH, Factor.SMS_OTP})
# To suspend takes a power away and gives none, and a stolen phone must not stand in its way: the face alone, no code.
_REQUIRED_TO_SUSPEND = ALWAYS_REQUIRED - {Factor.SMS_OTP}
# Documents' word on what is signed: the gateway alone could put any digest behind a content (binding DIGEST_ONLY).
_REQUIRED_TO_SIGN = frozenset({Factor.PREPARATION})
_MODEL_FACTORS = frozenset({Factor.LIVENESS, Factor.FACE_MATCH})
_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})
_NEEDS_TRUSTED_PHONE = _MAKES_KEY | {Purpose.SIGN, Purpose.RESUME}


class FloorsError(ValueError):
    """The floors file cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least for one purpose. Scores are parts per million, digests 32 bytes, ages seconds."""

    factors: tuple[Factor, ...]
    channels: tuple[Channel, ...]
    policies: tuple[str, ...]
    min_passive_ppm: int
    min_prompts_ppm: int
    min_keyframes: int
    min_similarity_ppm: int
    min_threshold_ppm: int
    models: dict[Factor, tuple[bytes, ...]]
    phone_trusted: bool
    otp_max_age_s: int


Floors = dict[Purpose, Floor]


def parse(data: bytes) -> Floors:
    """Return the floors of a file's bytes. Raises FloorsError, naming the purpose and the field."""
    try:
        floors: Floors = strict_json.read(Floors, strict_json.parse(data, max_bytes=MAX_FLOORS_BYTES))
    except StrictJsonError as error:
        raise FloorsError(f"floors file: {error}") from error
    for purpose, floor in floors.items():
        for name, rule, holds in _RULES:
            if not holds(purpose, floor):
                raise FloorsError(f"floors file: {purpose.value}.{name} {rule}")
    return floors


def required_factors(purpose: Purpose) -> frozenset[Factor]:
    """Return the factors that no floor of `purpose` may leave out."""
    if purpose is Purpose.SUSPEND:
        return _REQUIRED_TO_SUSPEND
    return ALWAYS_REQUIRED | _REQUIRED_TO_SIGN if purpose is Purpose.SIGN else ALWAYS_REQUIRED


def _is_ppm(value: int) -> bool:
    return 0 < value <= PPM


def _holds_factors(purpose: Purpose, floor: Floor) -> bool:
    required = required_factors(purpose)
    allowed = required | {Factor.KEY_ATTESTATION} if purpose in _MAKES_KEY else required
    return len(set(floor.factors)) == len(floor.factors) and required <= set(floor.factors) <= allowed


def _holds_models(_: Purpose, floor: Floor) -> bool:
    return set(floor.models) == _MODEL_FACTORS and all(
        digests and all(len(digest) == DIGEST_BYTES for digest in digests) for digests in floor.models.values()
    )


_RULES: tuple[tuple[str, str, Callable[[Purpose, Floor], bool]], ...] = (
    ("factors", "must name what the purpose always requires, and only a key attestation beside", _holds_factors),
    (
        "channels",
        "must be HOSTED alone unless for IDENTIFY",
        lambda purpose, floor: (
            bool(floor.channels) and (purpose is Purpose.IDENTIFY or floor.channels == (Channel.HOSTED,))
        ),
    ),
    ("policies", "must name a policy", lambda _, floor: bool(floor.policies)),
    ("min_passive_ppm", "must be 1 to 1000000", lambda _, floor: _is_ppm(floor.min_passive_ppm)),
    ("min_prompts_ppm", "must be 1 to 1000000", lambda _, floor: _is_ppm(floor.min_prompts_ppm)),
    ("min_keyframes", f"must be {MIN_KEYFRAMES} or more", lambda _, floor: floor.min_keyframes >= MIN_KEYFRAMES),
    ("min_similarity_ppm", "must be 1 to 1000000", lambda _, floor: _is_ppm(floor.min_similarity_ppm)),
    ("min_threshold_ppm", "must be 1 to 1000000", lambda _, floor: _is_ppm(floor.min_threshold_ppm)),
    ("models", "must give 32-byte digests for LIVENESS and FACE_MATCH", _holds_models),
    (
        "phone_trusted",
        "must be true",
        lambda purpose, floor: floor.phone_trusted or purpose not in _NEEDS_TRUSTED_PHONE,
    ),
    ("otp_max_age_s", f"must be 1 to {MAX_OTP_AGE_S}", lambda _, floor: 1 <= floor.otp_max_age_s <= MAX_OTP_AGE_S),
)
