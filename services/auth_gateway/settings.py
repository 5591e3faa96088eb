"""Settings of the hub."""

import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from mesh.egress import Egress, Rule, networks_of
from mesh.sealing import FieldKeys, read_keys
from mesh.settings import Address, EnvironmentSettings, KeyFile, MeshSettings, PublicFile, SecretFile


def _networks(text: str) -> str:
    networks_of(text)
    return text


class GatewayKeySettings(EnvironmentSettings):
    """The key that the hub keeps secrets with."""

    gateway_key_file: KeyFile
    """Field encryption, capture tokens, request digests and pseudonyms derive from it."""
    earlier_gateway_key_files: tuple[KeyFile, ...] = ()
    """Those before it, the oldest first. docs/sre.md says how keys are replaced."""

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        self.gateway_keys()
        return self

    def gateway_keys(self) -> FieldKeys:
        """Return the keys, the newest last."""
        return read_keys(self.gateway_key_file, self.earlier_gateway_key_files)


class RekeySettings(GatewayKeySettings):
    """What `services.auth_gateway.rekey` and `reseal` need: the hub's own role may overwrite neither whom a row is of
    nor what was sealed into it."""

    owner_database_url_file: SecretFile


class Settings(MeshSettings, GatewayKeySettings):
    """Where the spokes are, and what the hub keeps secrets with."""

    database_url_file: SecretFile
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
    streams_per_application: int = Field(default=32, ge=1)
    """`Authenticate` streams that one application may have open at each replica."""
    create_answers_after_s: float = Field(default=0.4, gt=0, le=5)
    """When creating an authentication is answered, be there such a person or not: longer than attesting a record takes,
    so that nobody without one is answered sooner. Set it above what your state source takes."""
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
