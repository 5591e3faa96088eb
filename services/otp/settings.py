"""Settings of the otp service."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mesh.settings import KeyFile, MeshSettings, PublicFile, SecretFile
from services.otp.challenge import MAX_TTL, Limits
from services.otp.providers import PREFIX, STATUS_URL, OutboxTable, Providers, ProvidersFileError, Route, TwilioTable
from services.otp.pumping import PumpingLimits

_HOST = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


class OtpSettings(MeshSettings):
    """What the otp service needs to know beside what every service does."""

    database_url_file: SecretFile
    receipt_key_file: SecretFile
    """Ed25519, PKCS#8 PEM."""
    otp_hmac_key_file: KeyFile
    """Hashes codes, phones, persons and addresses, and seals SMS until they are sent."""
    otp_earlier_hmac_key_files: tuple[KeyFile, ...] = ()
    """The keys before it: they check codes that are still live, and bring along what phones got lately. A day after a
    new key, the one before it is not needed any more."""
    otp_provider: Literal["twilio", "outbox", "file"]
    """One provider for all numbers; or "file": several, as the file says."""
    otp_providers_file: PublicFile | None = None
    """Providers and routes (docs/sms.md); it names secrets by their files and holds none."""
    otp_outbox_dir: Path | None = None
    """Folder of mode 0700 for the development outbox."""
    otp_origin: Annotated[str, StringConstraints(pattern=_HOST)] | None = None
    """Host of the hosted page, so that browsers fill a code in there only."""
    otp_allowed_prefixes: tuple[Annotated[str, StringConstraints(pattern=PREFIX)], ...] = ("+77",)
    """Codes go only to numbers that begin so."""
    otp_ttl_s: int = Field(default=300, ge=30, le=int(MAX_TTL.total_seconds()))
    otp_max_checks: int = Field(default=5, ge=1, le=5)
    """How many codes may be tried for one transaction, over all its sends."""
    otp_max_sends: int = Field(default=5, ge=1, le=5)
    otp_resend_after_s: int = Field(default=30, ge=0)
    """Wait before the second send; doubles with every further one."""
    otp_per_phone_hour: int = Field(default=10, ge=1)
    otp_per_phone_day: int = Field(default=20, ge=1)
    otp_per_person_hour: int = Field(default=10, ge=1)
    otp_per_person_day: int = Field(default=20, ge=1)
    otp_per_address_hour: int = Field(default=100, ge=1)
    """Of the person's own browser. A mobile operator puts many people behind one address."""
    otp_per_address_day: int = Field(default=500, ge=1)
    otp_per_application_hour: int = Field(default=10_000, ge=1)
    otp_pumping_window_s: int = Field(default=1800, ge=300)
    otp_pumping_min_asked: int = Field(default=50, ge=1)
    """Transactions of one application to numbers of one beginning (+7 701), within the window."""
    otp_pumping_min_entered_percent: int = Field(default=20, ge=0, le=100)
    """When fewer of their codes are entered, sending is paused there; 0 never pauses."""
    otp_pumping_pause_s: int = Field(default=900, ge=60)
    otp_max_segments: int = Field(default=5, ge=1, le=10)
    """How many SMS one text may be."""
    twilio_account_sid: Annotated[str, StringConstraints(pattern="^(AC[0-9a-f]{32})?$")] = ""
    twilio_api_key_sid: Annotated[str, StringConstraints(pattern="^(SK[0-9a-f]{32})?$")] = ""
    twilio_api_key_secret_file: SecretFile | None = None
    twilio_messaging_service_sid: Annotated[str, StringConstraints(pattern="^(MG[0-9a-f]{32})?$")] = ""
    twilio_base_url: str = "https://api.twilio.com"
    twilio_status_url: Annotated[str, StringConstraints(pattern=STATUS_URL)] = ""
    """Where Twilio reaches the edge's /v1/sms/twilio/status from outside; "" asks for no reports."""
    twilio_auth_token_file: SecretFile | None = None
    """Checks Twilio's reports: it signs them with the account's own token, not with an API key."""

    @property
    def limits(self) -> Limits:
        """The limits that the settings describe."""
        return Limits(
            ttl=timedelta(seconds=self.otp_ttl_s),
            max_checks=self.otp_max_checks,
            max_sends=self.otp_max_sends,
            first_resend_after=timedelta(seconds=self.otp_resend_after_s),
            max_per_phone_hour=self.otp_per_phone_hour,
            max_per_phone_day=self.otp_per_phone_day,
            max_per_person_hour=self.otp_per_person_hour,
            max_per_person_day=self.otp_per_person_day,
            max_per_address_hour=self.otp_per_address_hour,
            max_per_address_day=self.otp_per_address_day,
            max_per_application_hour=self.otp_per_application_hour,
        )

    @property
    def pumping(self) -> PumpingLimits:
        """When sending is paused."""
        return PumpingLimits(
            window=timedelta(seconds=self.otp_pumping_window_s),
            min_asked=self.otp_pumping_min_asked,
            min_entered_percent=self.otp_pumping_min_entered_percent,
            pause=timedelta(seconds=self.otp_pumping_pause_s),
        )

    @property
    def providers(self) -> Providers:
        """The providers and routes that the settings describe. Raises ProvidersFileError."""
        if self.otp_providers_file is not None and self.otp_provider == "file":
            return Providers.read(self.otp_providers_file)
        table: TwilioTable | OutboxTable
        if self.otp_provider == "outbox" and self.otp_outbox_dir is not None:
            table = OutboxTable(name="outbox", kind="outbox", folder=self.otp_outbox_dir)
        elif self.otp_provider == "twilio" and self.twilio_api_key_secret_file is not None:
            table = TwilioTable(
                name="twilio",
                kind="twilio",
                account_sid=self.twilio_account_sid,
                api_key_sid=self.twilio_api_key_sid,
                api_key_secret_file=self.twilio_api_key_secret_file,
                messaging_service_sid=self.twilio_messaging_service_sid,
                base_url=self.twilio_base_url,
                status_url=self.twilio_status_url,
                auth_token_file=self.twilio_auth_token_file,
            )
        else:
            raise AssertionError("settings without a provider do not load")
        routes = tuple(Route(prefix=prefix, providers=(table.name,)) for prefix in self.otp_allowed_prefixes)
        return Providers(provider=(table,), route=routes)

    @model_validator(mode="after")
    def _require_what_the_provider_needs(self) -> Self:
        if self.otp_provider == "file":
            self._require_a_good_file()
            return self
        if self.otp_provider == "outbox":
            if self.env == "production":
                raise ValueError("FINID_OTP_PROVIDER: the outbox shows every code; production refuses it")
            if self.otp_outbox_dir is None:
                raise ValueError("FINID_OTP_OUTBOX_DIR: the outbox needs a folder")
            return self
        needed = {
            "FINID_TWILIO_ACCOUNT_SID": self.twilio_account_sid,
            "FINID_TWILIO_API_KEY_SID": self.twilio_api_key_sid,
            "FINID_TWILIO_API_KEY_SECRET_FILE": self.twilio_api_key_secret_file,
            "FINID_TWILIO_MESSAGING_SERVICE_SID": self.twilio_messaging_service_sid,
        }
        if missing := [name for name, value in needed.items() if not value]:
            raise ValueError(f"twilio needs {', '.join(missing)}")
        if bool(self.twilio_status_url) is not bool(self.twilio_auth_token_file):
            raise ValueError("FINID_TWILIO_STATUS_URL and FINID_TWILIO_AUTH_TOKEN_FILE go together")
        if self.env == "production" and not self.twilio_base_url.startswith("https://"):
            raise ValueError("FINID_TWILIO_BASE_URL: production needs https")
        return self

    def _require_a_good_file(self) -> None:
        if self.otp_providers_file is None:
            raise ValueError("FINID_OTP_PROVIDERS_FILE: the provider is to be found in a file, and none is named")
        try:
            providers = Providers.read(self.otp_providers_file)
        except ProvidersFileError as error:
            raise ValueError(f"FINID_OTP_PROVIDERS_FILE: {error}") from None
        routed = tuple(route.prefix for route in providers.route)
        if missing := [prefix for prefix in self.otp_allowed_prefixes if not prefix.startswith(routed)]:
            raise ValueError(f"FINID_OTP_PROVIDERS_FILE: no route for {', '.join(missing)}")
        if self.env == "production" and providers.has_development_kind():
            raise ValueError("FINID_OTP_PROVIDERS_FILE: production refuses the outbox and what is not encrypted")
