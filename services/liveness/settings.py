"""Settings of liveness."""

from pathlib import Path

from pydantic import Field

from mesh.settings import FieldKeySettings, KeyFile, MeshSettings, PublicFile, SecretFile


class Settings(MeshSettings, FieldKeySettings):
    """What liveness needs beyond what every service needs. The field key seals keyframes and fingerprints."""

    database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Ed25519, PKCS#8 PEM: signs LIVENESS."""
    script_key_file: KeyFile
    """Writes scripts; the same on every replica. A new key fails the attempts that run."""
    landmarker_file: PublicFile
    """MediaPipe's face_landmarker.task."""
    passive_model_file: PublicFile
    """fr_liveness_fused.onnx: passive model A."""
    spoof_model_file: PublicFile
    """FaceAntiSpoofing.tflite: passive model B."""
    liveness_policies_file: PublicFile = Path(__file__).with_name("policies.toml")
    liveness_attempts_per_day: int = Field(default=10, ge=1)
    """How many attempts to be one person may fail or be abandoned within 24 hours, over all applications."""
    liveness_fingerprint_days: int = Field(default=7, ge=0, le=30)
    """How long it is remembered what an attempt's frames looked like (16 x 17 coarse numbers, sealed); 0 for never."""
    liveness_workers: int = Field(default=1, ge=1, le=64)
    """Worker processes; each uses one core and about 300 MiB."""
    liveness_queue_limit: int = Field(default=32, ge=1, le=1024)
    """How many batches may wait for a worker."""
    liveness_call_timeout_s: float = Field(default=10.0, gt=0, le=60)
    """A batch that takes longer costs the worker its life."""
