"""Settings of the authority: what its ceremony and its service share, and what each needs beside."""

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from mesh.hsm import KeyAlgorithm, RsaScheme
from mesh.settings import EnvironmentSettings, FieldKeySettings, MeshSettings, PublicFile, SecretFile
from services.ca.profiles import Practice

# Reserved for documentation (RFC 5612): right for a sandbox, refused in production.
DOCUMENTATION_ARC = "1.3.6.1.4.1.32473.398"
_HOST = re.compile(r"([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+")


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or parts.query or parts.fragment or value.endswith("/"):
        raise ValueError("must be http(s)://host[:port]/path without a slash at its end")
    if parts.hostname is None or _HOST.fullmatch(parts.hostname) is None:
        raise ValueError(
            "its host must be an IPv4 address or a name with a dot: certificates with others fail the lint"
        )
    return value


PublicUrl = Annotated[str, AfterValidator(_public_url)]
TokenLabel = Annotated[str, StringConstraints(min_length=1, max_length=32)]
Oid = Annotated[str, StringConstraints(pattern=r"^[0-2](\.(0|[1-9][0-9]{0,9})){2,20}$")]


class AuthoritySettings(EnvironmentSettings):
    """Where the authority's token, certificates and public addresses are."""

    pkcs11_module: PublicFile
    token_label: TokenLabel
    token_pin_file: SecretFile
    ca_pki_folder: Path
    """What the ceremony writes and the service reads: certificates, the root's CRL, transcripts."""
    ca_pki_url: PublicUrl
    """Where relying parties fetch issuing.crl, root.crl, issuing.cer and ask ocsp; it stands in every certificate."""
    ca_rsa_scheme: RsaScheme = RsaScheme.PKCS1_V15
    """How RSA keys, where the ceremony made some, sign certificates, lists and status."""
    ca_policy_arc: Oid = DOCUMENTATION_ARC
    ca_cps_url: PublicUrl | None = None
    """Where the practice statement is published; certificates name none if not set."""

    @model_validator(mode="after")
    def _refuse_documentation_arc_in_production(self) -> Self:
        if self.env == "production" and self.ca_policy_arc == DOCUMENTATION_ARC:
            raise ValueError("FINID_CA_POLICY_ARC: must be an arc of the operator's own in production")
        return self

    @property
    def practice(self) -> Practice:
        """What of this stands in certificates."""
        return Practice(self.ca_policy_arc, self.ca_pki_url, self.ca_cps_url)


class CaSettings(AuthoritySettings, MeshSettings, FieldKeySettings):
    """What the service needs to know beside what every service does. Its field key seals certificates."""

    ca_clock_must_be_synchronized: bool = False
    """Refuse time stamps unless the kernel calls its clock synchronized; production always does."""
    ca_crl_file: Path | None = None
    """Where the last revocation list is kept, so that it serves through a restart while the database is away."""
    database_url_file: SecretFile
    pins_file: PublicFile
    floors_file: PublicFile
    orderers_file: PublicFile
    """Which keys may order revocations and suspensions for the Operator or the authority; from the ceremony."""


class CeremonySettings(AuthoritySettings):
    """What the ceremony needs to know. The root's token may be away unless the root has to sign."""

    ca_root_token_label: TokenLabel
    ca_root_token_pin_file: Path
    ca_root_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P384
    ca_issuing_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P384
    ca_ocsp_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256
    ca_tsa_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256
    """Of keys that are yet to be generated; a key that the token holds stays what it is."""
    ca_organization: Annotated[str, Field(min_length=1, max_length=64)] = "FinID sandbox"

    @model_validator(mode="after")
    def _keep_the_root_apart(self) -> Self:
        if self.ca_root_token_label == self.token_label:
            raise ValueError("FINID_CA_ROOT_TOKEN_LABEL: the root's key must be in a token of its own")
        return self
