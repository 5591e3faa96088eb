"""What the sandbox's consumers accept at least, per purpose: written to a file for each, which only it reads.

The numbers are the consumers' own word, apart from the policies that the spokes judge by: a spoke that lowered its
thresholds would be refused here.
"""

import json
from pathlib import Path
from typing import Final

from deploy.local.assets import manifest
from deploy.local.state import State
from mesh import base64url
from mesh.facts import Factor
from mesh.floors import MAX_OTP_AGE_S, MIN_KEYFRAMES, required_factors
from mesh.transaction import Channel, Purpose

# Liveness and facematch both know these, in their policies.toml.
POLICY: Final = "sandbox-standard"
POLICIES: Final = (POLICY, "sandbox-strict")
_MIN_SIMILARITY_PPM: Final = 425_000  # one false match in 10,000 comparisons; services/facematch/policies.toml says how
# As services/liveness/policies.toml, which says what the numbers come from.
_MIN_PASSIVE_PPM: Final = 500_000
_MIN_PROMPTS_PPM: Final = 500_000  # by liveness's scale, the least clear prompt just answered
_MODELS: Final = {
    Factor.LIVENESS: ("models/face_landmarker.task", "models/fr_liveness_fused.onnx", "models/FaceAntiSpoofing.tflite"),
    Factor.FACE_MATCH: (
        "models/face_detection_yunet_2023mar_fused.onnx",
        "models/face_recognition_sface_2021dec_fused.onnx",
    ),
}
_SERVED: Final = {
    "registry": (Purpose.IDENTIFY, Purpose.ISSUE, Purpose.REISSUE),
    "signer": (
        Purpose.ISSUE,
        Purpose.REISSUE,
        Purpose.SIGN,
        Purpose.REVOKE,
        Purpose.SUSPEND,
        Purpose.RESUME,
    ),
    "ca": (Purpose.ISSUE, Purpose.REISSUE, Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME),
}
_MAKES_KEY: Final = frozenset({Purpose.ISSUE, Purpose.REISSUE})
# A code to a phone that the caller may name freely proves nothing of the person: one part that lies about the face
# would be enough for the person's data (tests/security/test_absent_victim.py). Who lost it must be able to revoke and
# to suspend.
_NEEDS_TRUSTED_PHONE: Final = frozenset(Purpose) - {Purpose.REVOKE, Purpose.SUSPEND}


def floors_files(state: State) -> dict[str, Path]:
    """Return each consumer's floors by the consumer's name."""
    digests = _digests()
    return {
        consumer: state.write(
            f"keys/floors-{consumer}.json",
            json.dumps({purpose.value: _floor(consumer, purpose, digests) for purpose in purposes}, indent=2),
            mode=0o444,
        )
        for consumer, purposes in _SERVED.items()
    }


def _floor(consumer: str, purpose: Purpose, digests: dict[str, str]) -> dict[str, object]:
    attested = {Factor.KEY_ATTESTATION} if consumer == "ca" and purpose in _MAKES_KEY else set()
    return {
        "factors": sorted(required_factors(purpose) | attested),
        "channels": sorted(Channel) if purpose is Purpose.IDENTIFY else [Channel.HOSTED],
        "policies": list(POLICIES),
        "min_passive_ppm": _MIN_PASSIVE_PPM,
        "min_prompts_ppm": _MIN_PROMPTS_PPM,
        "min_keyframes": MIN_KEYFRAMES,
        "min_similarity_ppm": _MIN_SIMILARITY_PPM,
        "min_threshold_ppm": _MIN_SIMILARITY_PPM,
        "models": {factor: [digests[path] for path in paths] for factor, paths in _MODELS.items()},
        "phone_trusted": purpose in _NEEDS_TRUSTED_PHONE,
        "otp_max_age_s": MAX_OTP_AGE_S,
    }


def _digests() -> dict[str, str]:
    """SHA-256 (base64url) of every asset by its path."""
    known = manifest.load()
    pairs = [(file.path, file.sha256) for file in known.files]
    pairs += [(made.path, made.sha256) for made in (*known.folded, *known.fused)]
    return {path: base64url.encode(bytes.fromhex(sha256)) for path, sha256 in pairs}
