"""What each receipt says: one frozen dataclass per factor, and their spelling as flat claims.

Claims are strings and integers only; a list is a string whose items are joined by one space. A field's annotation fixes
its spelling, its name fixes its bounds: `_ppm` is within one million either way, every other integer is not negative,
`bytes` are 32 bytes.
"""

import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from mesh import base64url, strict_json
from mesh.strict_json import StrictJsonError
from mesh.transaction import DIGEST_BYTES, Channel

AUDIENCE_PRECONDITION = "finid-precondition"
AUDIENCE_RELEASE = "finid-release"
AUDIENCE_DESTRUCTION = "finid-destruction"
PPM = 1_000_000
_MAX_ITEMS = 64
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")


class Factor(StrEnum):
    """What a receipt confirms.

    RELEASE (personal data for the CA) and KEY_DESTRUCTION (a proof for auditors) are no factors of
    `precondition.authorize`.
    """

    PREPARATION = "PREPARATION"
    STATE_RECORD = "STATE_RECORD"
    LIVENESS = "LIVENESS"
    FACE_MATCH = "FACE_MATCH"
    SMS_OTP = "SMS_OTP"
    KEY_ATTESTATION = "KEY_ATTESTATION"
    RELEASE = "RELEASE"
    KEY_DESTRUCTION = "KEY_DESTRUCTION"

    @property
    def typ(self) -> str:
        """The `typ` of the receipt's header."""
        return f"finid-{self.value.lower().replace('_', '-')}+jwt"


@dataclass(frozen=True, slots=True)
class Facts:
    """Base of all facts: the factor they belong to, and the only service that may state them."""

    factor: ClassVar[Factor]
    issuer: ClassVar[str]
    audience: ClassVar[str] = AUDIENCE_PRECONDITION


@dataclass(frozen=True, slots=True)
class Preparation(Facts):
    """The transaction's documents are exactly those of this preparation, made from the contents named in it.

    `documents_sha256` is `transaction.documents_sha256` of them.
    """

    factor = Factor.PREPARATION
    issuer = "documents"
    preparation: str
    documents_sha256: bytes


@dataclass(frozen=True, slots=True)
class StateRecord(Facts):
    """The state source knows this person, this phone and this photo."""

    factor = Factor.STATE_RECORD
    issuer = "registry"
    iin_commitment: bytes
    phone_commitment: bytes
    phone_trusted: bool
    phone_trusted_since: int
    photo_sha256: bytes


@dataclass(frozen=True, slots=True)
class Liveness(Facts):
    """A live person answered a script of prompts; one keyframe per prompt and some at random moments, re-encoded
    from pixels.

    `quality_*` are 0 to 100, one for each keyframe, in their order.

    `score_passive_ppm` is the product of the deciding signals' scores; `signals` names every signal that was measured,
    and the other two tuples have its score and its least score in the same order, 0 where it is stated and decides
    nothing.

    `flash` is what was concluded of the colours that the screen showed: FOLLOWED by the face; TOO_BRIGHT, so that
    nothing could be concluded and the policy lets it pass; NOT_SHOWN where the policy asks for none. `flash_ppm` is the
    correlation of the face's colours with them, `flash_least_ppm` the least for FOLLOWED, and `flash_shifted_ppm` the
    highest with the same colours at another time.
    """

    factor = Factor.LIVENESS
    issuer = "liveness"
    session: str
    attempt: int
    script: str
    keyframes_sha256: tuple[bytes, ...]
    quality_pose: tuple[int, ...]
    quality_eyes: tuple[int, ...]
    quality_sharpness: tuple[int, ...]
    quality_light: tuple[int, ...]
    quality_contrast: tuple[int, ...]
    quality_size: tuple[int, ...]
    score_passive_ppm: int
    score_prompts_ppm: int
    signals: tuple[str, ...]
    signals_ppm: tuple[int, ...]
    thresholds_ppm: tuple[int, ...]
    flash: str
    flash_ppm: int
    flash_shifted_ppm: int
    flash_least_ppm: int
    models_sha256: tuple[bytes, ...]
    channel: Channel


@dataclass(frozen=True, slots=True)
class FaceMatch(Facts):
    """Every keyframe shows the face of the reference; probes and similarities are in the keyframes' order.

    `quality_*` are components of ISO/IEC 29794-5, 0 to 100: of the reference, then of each keyframe.
    """

    factor = Factor.FACE_MATCH
    issuer = "facematch"
    probes_sha256: tuple[bytes, ...]
    reference_sha256: bytes
    similarities_ppm: tuple[int, ...]
    threshold_ppm: int
    models_sha256: tuple[bytes, ...]
    quality_sharpness: tuple[int, ...]
    quality_illumination_uniformity: tuple[int, ...]
    quality_luminance_mean: tuple[int, ...]
    quality_under_exposure_prevention: tuple[int, ...]
    quality_over_exposure_prevention: tuple[int, ...]
    quality_dynamic_range: tuple[int, ...]
    quality_natural_colour: tuple[int, ...]
    quality_compression_artifacts: tuple[int, ...]
    quality_inter_eye_distance: tuple[int, ...]
    quality_head_pose_yaw: tuple[int, ...]
    quality_head_pose_roll: tuple[int, ...]
    quality_head_size: tuple[int, ...]
    quality_face_margins: tuple[int, ...]
    quality_background_uniformity: tuple[int, ...]
    quality_single_face_present: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SmsOtp(Facts):
    """The code sent to the phone, in a text that says what entering it confirms, was entered."""

    factor = Factor.SMS_OTP
    issuer = "otp"
    phone_commitment: bytes
    text_sha256: bytes
    sent_at: int
    verified_at: int


@dataclass(frozen=True, slots=True)
class KeyAttestation(Facts):
    """The signer made this key for this credential, subject and phone, and keeps it as this wrapped blob."""

    factor = Factor.KEY_ATTESTATION
    issuer = "signer"
    credential: str
    subject_hmac: bytes
    phone_hmac: bytes
    public_key_sha256: bytes
    wrapped_sha256: bytes


@dataclass(frozen=True, slots=True)
class Release(Facts):
    """The personal data the purpose needs; what it does not need or the source does not have is ''."""

    factor = Factor.RELEASE
    issuer = "registry"
    audience = AUDIENCE_RELEASE
    iin: str = field(repr=False)
    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    patronymic: str = field(repr=False)
    family_name_latin: str = field(repr=False)
    given_name_latin: str = field(repr=False)
    birth_date: str = field(repr=False)
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyDestruction(Facts):
    """The signer erased this credential's wrapped key: nobody can sign with it again.

    `ending` is why it could go: REVOKED, SUPERSEDED, CANCELLED (before it had a certificate) or EXPIRED;
    `destroyed_at` is in Unix seconds.
    """

    factor = Factor.KEY_DESTRUCTION
    issuer = "signer"
    audience = AUDIENCE_DESTRUCTION
    credential: str
    public_key_sha256: bytes
    wrapped_sha256: bytes
    ending: str
    destroyed_at: int


FACTS_OF: dict[Factor, type[Facts]] = {
    kind.factor: kind
    for kind in (Preparation, StateRecord, Liveness, FaceMatch, SmsOtp, KeyAttestation, Release, KeyDestruction)
}


_FIELD_TYPES: dict[Factor, dict[str, Any]] = {
    factor: {f.name: get_type_hints(kind)[f.name] for f in fields(kind)} for factor, kind in FACTS_OF.items()
}


def to_claims(facts: Facts) -> dict[str, str | int]:
    """Return the claims that spell `facts`."""
    return {f.name: _spell(getattr(facts, f.name)) for f in fields(facts)}


def claim_names(kind: type[Facts]) -> frozenset[str]:
    """Return the names of the claims that spell facts of `kind`."""
    return frozenset(_FIELD_TYPES[kind.factor])


def from_claims(kind: type[Facts], claims: dict[str, object]) -> Facts:
    """Return the facts that `claims`, which have all names of `kind`, spell. Raises StrictJsonError."""
    return kind(**{name: _read(hint, claims[name], name) for name, hint in _FIELD_TYPES[kind.factor].items()})


def _spell(value: object) -> str | int:
    if isinstance(value, tuple):
        return " ".join(str(_spell(item)) for item in value)
    if isinstance(value, bytes):
        return base64url.encode(value)
    if isinstance(value, int):
        return int(value)
    return str(value)


def _read(kind: Any, value: object, name: str) -> object:
    if get_origin(kind) is not tuple:
        return _read_one(kind, value, name)
    text = strict_json.string(value, name)
    items = text.split(" ") if text else []
    if len(items) > _MAX_ITEMS:
        raise StrictJsonError(name, f"must have at most {_MAX_ITEMS} items")
    item_kind = get_args(kind)[0]
    return tuple(_read_one(item_kind, _number(item, name) if item_kind is int else item, name) for item in items)


def _read_one(kind: Any, value: object, name: str) -> object:
    if kind is bytes:
        data = strict_json.octets(value, name)
        if len(data) != DIGEST_BYTES:
            raise StrictJsonError(name, f"must be {DIGEST_BYTES} bytes")
        return data
    if kind is bool:
        return bool(_within(strict_json.integer(value, name), 0, 1, name))
    if kind is int:
        lowest, highest = (-PPM, PPM) if name.endswith("_ppm") else (0, 2**53)
        return _within(strict_json.integer(value, name), lowest, highest, name)
    if kind is str:
        return strict_json.string(value, name)
    return strict_json.member(kind, value, name)


def _number(text: str, name: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise StrictJsonError(name, "must be integers")
    return int(text)


def _within(value: int, lowest: int, highest: int, name: str) -> int:
    if not lowest <= value <= highest:
        raise StrictJsonError(name, f"must be {lowest} to {highest}")
    return value
