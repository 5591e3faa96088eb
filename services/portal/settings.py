"""Settings of the portal."""

from typing import Annotated

from pydantic import Field, StringConstraints

from mesh.settings import Address, KeyFile, MeshSettings, PublicFile, SecretFile


class PortalSettings(MeshSettings):
    """What the portal needs to know beside what every service does."""

    database_url_file: SecretFile
    portal_http_listen: Address
    """HTTPS with mTLS, for Envoy."""
    client_secret_key_file: KeyFile
    """Hashes client secrets; whoever loses it must issue all of them anew."""
    token_key_file: SecretFile
    """Signs access tokens: P-256, PKCS#8 PEM."""
    token_next_key_file: PublicFile | None = None
    """Public key (PEM) that will sign next; announce it one token's life before."""
    token_previous_key_file: PublicFile | None = None
    """Public key (PEM) that signed before; announce it for one token's life after."""
    token_issuer: Annotated[str, StringConstraints(pattern=r"^https://[^\s?#]+$")]
    """`iss` of access tokens."""
    login_max_failures: int = Field(default=10, ge=1)
    """How often a client id may fail from one address within the window."""
    login_window_s: int = Field(default=300, ge=1)
