"""Settings of the portal."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from mesh.sealing import FieldKeys, read_keys
from mesh.settings import Address, EnvironmentSettings, KeyFile, MeshSettings, PublicFile, SecretFile


class AdminSettings(EnvironmentSettings):
    """What `services.portal.admin` needs."""

    portal_admin_database_url_file: SecretFile
    """Of finid_portal_admin, or of a person's own role that is a member of it."""


class ClientSecretKeySettings(EnvironmentSettings):
    """The key under which client secrets are hashed."""

    client_secret_key_file: KeyFile
    """Whoever loses it must issue all client secrets anew."""
    earlier_client_secret_key_files: tuple[KeyFile, ...] = ()
    """Those before it, the oldest first: what is kept was hashed under each. docs/sre.md says how keys are replaced."""

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        self.client_secret_keys()
        return self

    def client_secret_keys(self) -> FieldKeys:
        """Return the keys, the newest last."""
        return read_keys(self.client_secret_key_file, self.earlier_client_secret_key_files)


class SecretAdminSettings(AdminSettings, ClientSecretKeySettings):
    """What it needs beside to add a client secret."""


class RekeySettings(ClientSecretKeySettings):
    """What `services.portal.rekey` needs."""

    owner_database_url_file: SecretFile


class PortalSettings(MeshSettings, ClientSecretKeySettings):
    """What the portal needs to know beside what every service does."""

    database_url_file: SecretFile
    portal_http_listen: Address
    """HTTPS with mTLS, for Envoy."""
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
