"""Settings of the documents room."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from cryptography.x509 import load_pem_x509_certificates
from obstore.store import LocalStore, ObjectStore, S3Store
from pydantic import AfterValidator, Field, model_validator

from mesh.egress import Egress, rule_of
from mesh.settings import FieldKeySettings, MeshSettings, PublicFile, SecretFile, read_secret

if TYPE_CHECKING:  # obstore has it for type checkers only
    from obstore.store import S3Config

_CONNECT_TIMEOUT = timedelta(seconds=2)
_REQUEST_TIMEOUT = timedelta(seconds=10)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("is no folder")
    return path


def _anchors(path: Path) -> Path:
    load_pem_x509_certificates(path.read_bytes())
    return path


class DocumentsSettings(MeshSettings, FieldKeySettings):
    """What this room needs besides the mesh's own settings.

    The field key seals the keys of stored documents; page tokens are signed, and people found, under keys derived from
    it.
    """

    database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Ed25519, PKCS#8 PEM."""
    trust_anchors_file: Annotated[PublicFile, AfterValidator(_anchors)]
    """Root certificates (PEM) that signatures and time stamps must lead to."""

    documents_dir: Annotated[Path, AfterValidator(_folder)] | None = None
    """Where objects are kept, as files; or else FINID_DOCUMENTS_URL."""
    documents_url: Annotated[str, Field(pattern=r"^s3://[a-z0-9.-]+(/[A-Za-z0-9._/-]*)?$")] | None = None
    """s3://bucket/prefix"""
    documents_s3_endpoint: Annotated[str, Field(pattern=r"^https://")] | None = None
    """Of an S3 that is not Amazon's."""
    documents_s3_region: str | None = None
    documents_s3_key_id: str | None = None
    documents_s3_secret_file: SecretFile | None = None
    """Beside `documents_s3_key_id`; without both, the platform's own credentials are used."""

    documents_verification_url: Annotated[str, Field(pattern=r"^https://[^\s{}]+\{document\}[^\s{}]*$")] | None = None
    """Where a visible signature's QR code leads, with {document} for the document's id; without it there is no code."""
    documents_font_file: PublicFile = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    """TrueType, for visible signatures: it must have the Cyrillic of Kazakh."""

    documents_fetch_hosts: Annotated[str, Field(max_length=4096)] = ""
    """Where revocation and issuers of uploaded documents may be fetched from, by the addresses in their certificates:
    "" nowhere, "*" any public host, or hosts with commas between them. Only public addresses, ports 80 and 443."""
    documents_fetch_networks: Annotated[str, Field(max_length=1024)] = ""
    """Networks besides that are not public, with any port, for tests; production refuses it."""

    documents_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that read uploads; each serves one call at a time."""

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if (self.documents_dir is None) == (self.documents_url is None):
            raise ValueError("exactly one of FINID_DOCUMENTS_DIR and FINID_DOCUMENTS_URL must be set")
        if (self.documents_s3_key_id is None) != (self.documents_s3_secret_file is None):
            raise ValueError("FINID_DOCUMENTS_S3_KEY_ID and FINID_DOCUMENTS_S3_SECRET_FILE belong together")
        return self

    @model_validator(mode="after")
    def _fetches_as_it_may(self) -> Self:
        rule_of(self.documents_fetch_hosts, self.documents_fetch_networks)
        if self.documents_fetch_networks and self.env == "production":
            raise ValueError("FINID_DOCUMENTS_FETCH_NETWORKS is for tests; production refuses it")
        return self

    def egress(self) -> Egress | None:
        """Return the way out that the settings open, None when they open none."""
        rule = rule_of(self.documents_fetch_hosts, self.documents_fetch_networks)
        return None if rule is None else Egress(rule)

    def object_store(self) -> ObjectStore:
        """Return the store that the settings name."""
        if self.documents_url is None:
            return LocalStore(prefix=self.documents_dir)
        config: S3Config = {}
        if self.documents_s3_endpoint is not None:
            config["endpoint"] = self.documents_s3_endpoint
        if self.documents_s3_region is not None:
            config["region"] = self.documents_s3_region
        if self.documents_s3_key_id is not None and self.documents_s3_secret_file is not None:
            config["access_key_id"] = self.documents_s3_key_id
            config["secret_access_key"] = read_secret(self.documents_s3_secret_file)
        return S3Store.from_url(
            self.documents_url,
            config=config,
            client_options={"connect_timeout": _CONNECT_TIMEOUT, "timeout": _REQUEST_TIMEOUT},
            retry_config={"max_retries": 2, "retry_timeout": _REQUEST_TIMEOUT},
        )
