"""Settings of the hub."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

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
    phone_countries: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...] = Field(
        default=("KZ",), min_length=1
    )
    """Whose phones may be named in requests (ISO 3166-1); otp has its own say on where codes go. JSON."""
    rate_read_per_s: float = Field(default=2000, gt=0)
    """What one application may ask, over all replicas, on average: `get` and `list` calls, results, evidence."""
    rate_step_per_s: float = Field(default=1000, gt=0)
    """Step calls, of all its authentications together."""
    rate_create_per_s: float = Field(default=100, gt=0)
    rate_document_per_s: float = Field(default=50, gt=0)
    """Documents downloaded or verified."""
    quota_starts_per_day: int = Field(default=200_000, ge=1)
    """Authentications that one application may start, of any purpose."""
    consents_file: PublicFile = Path(__file__).with_name("consents.toml")
    peer_liveness: Address
    peer_facematch: Address
    peer_otp: Address
    peer_registry: Address
    peer_documents: Address
    peer_ca: Address
    peer_signer: Address
    peer_portal: Address
