"""Settings of the hub."""

from pathlib import Path

from mesh.settings import Address, MeshSettings, PublicFile, SecretFile


class Settings(MeshSettings):
    """Where the spokes are, and what the hub keeps secrets with."""

    database_url_file: SecretFile
    gateway_key_file: SecretFile
    """32 bytes as base64url: field encryption, capture tokens, request digests and pseudonyms derive from it."""
    pins_file: PublicFile
    """Published as JWK Set, so that anybody can verify receipts; the hub itself trusts no receipt."""
    page_uri: str
    """The hosted page, for example https://id.example.kz/capture."""
    token_issuer: str
    """`iss` of the portal's access tokens."""
    consents_file: PublicFile = Path(__file__).with_name("consents.toml")
    peer_liveness: Address
    peer_facematch: Address
    peer_otp: Address
    peer_registry: Address
    peer_documents: Address
    peer_ca: Address
    peer_signer: Address
    peer_portal: Address
