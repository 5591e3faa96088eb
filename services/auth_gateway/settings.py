"""Settings of the hub."""

import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from mesh.egress import Egress, Rule, networks_of
from mesh.settings import Address, KeyFile, MeshSettings, PublicFile, SecretFile


def _networks(text: str) -> str:
    networks_of(text)
    return text


class Settings(MeshSettings):
    """Where the spokes are, and what the hub keeps secrets with."""

    database_url_file: SecretFile
    gateway_key_file: KeyFile
    """Field encryption, capture tokens, request digests and pseudonyms derive from it."""
    statement_key_file: SecretFile
    """Ed25519 (PKCS#8 PEM): signs results. Pinned for no factor; its public half is published beside the receipts'."""
    webhook_key_file: SecretFile
    """Ed25519 (PKCS#8 PEM): signs webhooks, and nothing else."""
    earlier_keys_file: PublicFile | None = None
    """A JWK Set of keys that these two replaced, each as /pki/receipt-keys.json had it: they stay published, so that
    what they signed is still verified. A key that is to come may stand there as well, before it signs."""
    webhook_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks with commas between them that webhooks may go to though they are not public, with any port, as in
    127.0.0.0/8: for development; production refuses it."""
    webhook_ca_file: PublicFile | None = None
    """Roots (PEM) that servers of webhooks may have their certificates from, beside the system's."""
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
    peer_liveness: Address
    peer_facematch: Address
    peer_otp: Address
    peer_registry: Address
    peer_documents: Address
    peer_ca: Address
    peer_signer: Address
    peer_portal: Address

    @model_validator(mode="after")
    def _webhooks_go_where_they_may(self) -> Self:
        if self.webhook_networks and self.env == "production":
            raise ValueError("FINID_WEBHOOK_NETWORKS is for development; production refuses it")
        return self

    def webhook_egress(self) -> Egress:
        """Return the way out for webhooks: https alone, to public addresses alone but for those networks."""
        trusted = ssl.create_default_context()
        if self.webhook_ca_file is not None:
            trusted.load_verify_locations(cafile=self.webhook_ca_file)
        rule = Rule(networks=networks_of(self.webhook_networks), schemes=frozenset({"https"}))
        return Egress(rule, timeout_s=10.0, trusted=trusted)
