"""Where FinID is, and which root its certificate must hang from."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from finid_client.errors import ConfigurationError

_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Address:
    """`base_url` is https://host[:port]; with `ca_file` (PEM) its roots are trusted and no other.

    `token_base_url` is where access tokens are, if that is another host.
    """

    base_url: str
    ca_file: Path | None = None
    token_base_url: str | None = None

    def __post_init__(self) -> None:
        _require_https(self.base_url)
        if self.token_base_url is not None:
            _require_https(self.token_base_url)

    @property
    def target(self) -> str:
        """The same for gRPC."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or _HTTPS_PORT}"

    def tls(self) -> ssl.SSLContext:
        """What HTTPS trusts. Raises ConfigurationError."""
        try:
            return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{self.ca_file} holds no root certificate: {error}") from error

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What gRPC trusts. Raises ConfigurationError."""
        try:
            roots = self.ca_file.read_bytes() if self.ca_file else None
        except OSError as error:
            raise ConfigurationError(f"{self.ca_file} cannot be read: {error.strerror}") from error
        return grpc.ssl_channel_credentials(root_certificates=roots)


def _require_https(base_url: str) -> None:
    parts = urlsplit(base_url)
    try:
        is_port = parts.port != 0
    except ValueError:
        is_port = False
    is_bare = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    if parts.scheme != "https" or not parts.hostname or not is_port or not is_bare:
        raise ConfigurationError(f"an address must be https://host[:port], not {base_url!r}")
