"""Settings of the hub."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mesh.settings import Address, KeyFile, MeshSettings, PublicFile, SecretFile


class Settings(MeshSettings):
    """Where the spokes are, and what the hub keeps secrets with."""

    database_url_file: SecretFile
    gateway_key_file: KeyFile
    """Field encryption, capture tokens, request digests and pseudonyms derive from it."""
    pins_file: PublicFile
    """Published as JWK Set, so that anybody can verify receipts; the hub itself trusts no receipt."""
    page_uri: str = Field(pattern=r"^https://[^\s#]+$")
    """The hosted page, for example https://id.example.kz/capture; the link's token goes behind it as fragment."""
    token_issuer: str = Field(min_length=1)
    """`iss` of the portal's access tokens."""
    policies: tuple[str, ...] = Field(default=("sandbox-standard", "sandbox-strict"), min_length=1)
    """The biometric policies that an application may have: those that liveness, facematch and the consumers' floors all
    know. JSON, as in ["sandbox-standard"]."""
    consents_file: PublicFile = Path(__file__).with_name("consents.toml")
    expiry_notice_days: tuple[Annotated[int, Field(ge=1, le=366)], ...] = (30, 7)
    """So many days before a certificate ends its owner is told by SMS. JSON, as in [30, 7]; [] tells nobody."""
    expiry_notice_every_s: int = Field(default=3600, ge=1, le=86_400)
    """How often certificates that end soon are looked for."""
    peer_liveness: Address
    peer_facematch: Address
    peer_otp: Address
    peer_registry: Address
    peer_documents: Address
    peer_ca: Address
    peer_signer: Address
    peer_portal: Address
