"""Settings of the signer and of its ceremony."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mesh.sealing import FieldKeys, read_keys
from mesh.settings import EnvironmentSettings, KeyFile, MeshSettings, PublicFile, SecretFile


class CeremonySettings(EnvironmentSettings):
    """The token, and which of its keys wraps. SOFTHSM2_CONF stands beside for SoftHSM."""

    pkcs11_module: Path
    token_label: str
    token_pin_file: SecretFile
    subject_kek_generation: int = Field(default=1, ge=1, le=0xFFFF)
    """Which generation of the token's key-encryption key wraps new keys; older ones still open theirs."""


class SubjectKeySettings(EnvironmentSettings):
    """The key of the pseudonyms of persons, phones and photos (`mesh.pseudonyms`)."""

    subject_hmac_key_file: KeyFile
    """Ties keys to their persons; whoever loses it makes every credential useless."""
    earlier_subject_hmac_key_files: tuple[KeyFile, ...] = ()
    """Those before it, the oldest first: all of them are needed. docs/sre.md says how the key is replaced."""

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        self.subject_keys()
        return self

    def subject_keys(self) -> FieldKeys:
        """Return the keys, the newest last."""
        return read_keys(self.subject_hmac_key_file, self.earlier_subject_hmac_key_files)


class RekeySettings(SubjectKeySettings):
    """What `services.signer.rekey` needs: no token, since no key is unwrapped."""

    owner_database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Attests rows anew: Ed25519, PKCS#8 PEM."""
    pins_file: PublicFile


class KeysSettings(CeremonySettings):
    """What `services.signer.keys` needs beside the token, where it looks at or changes the record of subject keys."""

    owner_database_url_file: SecretFile
    """Of the role that owns the schema, as for migrations: the signer's own may not overwrite a wrapped key."""
    receipt_key_file: SecretFile
    """Attests rewrapped keys and signs backups: Ed25519, PKCS#8 PEM."""
    pins_file: PublicFile


class BackupSettings(KeysSettings):
    """What backing up and restoring need beside."""

    keys_backup_key_file: KeyFile
    """Seals the backups of wrapped keys; kept apart from them and from the token."""


class RestoreSettings(BackupSettings, SubjectKeySettings):
    """What restoring needs beside: a backup may have been made before the key of the pseudonyms was replaced."""


class AdminSettings(EnvironmentSettings):
    """What it takes to do an order: no token, no key."""

    database_url_file: SecretFile
    orderers_file: PublicFile
    """Which keys may order revocations and suspensions for the Operator or the authority; from the ceremony."""


class SignerSettings(CeremonySettings, MeshSettings, SubjectKeySettings):
    """What the signer needs to know beside what every service does."""

    database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Signs key attestations: Ed25519, PKCS#8 PEM."""
    pins_file: PublicFile
    floors_file: PublicFile
    issuing_ca_file: PublicFile
    """PEM; its first certificate is the CA whose certificates are taken."""
    new_phone_wait_s: int = Field(default=24 * 3600, ge=0, le=30 * 24 * 3600)
    """How long a key made for another phone or photo than the person's last one waits before it may be activated."""
