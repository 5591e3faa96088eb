"""Settings of facematch."""

from pathlib import Path

from pydantic import Field

from mesh.settings import MeshSettings, PublicFile, SecretFile


class Settings(MeshSettings):
    """What facematch needs beyond what every service needs."""

    receipt_key_file: SecretFile
    """Ed25519, PKCS#8 PEM: signs FACE_MATCH."""
    photo_key_file: SecretFile
    """Private P-256 JWK: opens the reference photos that registry encrypts."""
    face_detector_file: PublicFile
    """YuNet, ONNX, float32."""
    face_embedder_file: PublicFile
    """SFace, ONNX, float32."""
    face_policies_file: PublicFile = Path(__file__).with_name("policies.toml")
    face_workers: int = Field(default=1, ge=1, le=64)
    """Worker processes; each uses one core and about 250 MiB."""
    face_queue_limit: int = Field(default=32, ge=1, le=1024)
    """How many comparisons may wait for a worker."""
    face_call_timeout_s: float = Field(default=10.0, gt=0, le=60)
    """A comparison that takes longer costs the worker its life."""
    face_reference_ttl_s: float = Field(default=300.0, ge=0, le=900)
    """How long the embedding of a reference photo is kept for a retry; 0 keeps none. A transaction lives 900 s."""
    face_reference_limit: int = Field(default=1024, ge=1, le=65536)
    """How many of them are kept at most; each takes about 1 KiB."""
