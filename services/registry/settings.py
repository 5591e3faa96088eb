"""Settings of the registry."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mesh.settings import FieldKeySettings, MeshSettings, PublicFile, SecretFile


class RegistrySettings(MeshSettings, FieldKeySettings):
    """What the registry needs to know beside what every service does."""

    database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Ed25519, PKCS#8 PEM."""
    pins_file: PublicFile
    floors_file: PublicFile
    photo_recipient_file: PublicFile
    """facematch's public key: JWK of P-256."""
    state_source: Literal["sandbox"] = "sandbox"
    inquiries_per_hour: int = Field(default=30, ge=1)
    """How often one IIN may be attested, over all applications together."""

    @model_validator(mode="after")
    def _refuse_sandbox_in_production(self) -> Self:
        if self.env == "production" and self.state_source == "sandbox":
            raise ValueError("FINID_STATE_SOURCE: the sandbox's people are no state source; production refuses them")
        return self
