"""The file that says which SMS providers there are and which numbers go to which; refused by name where it is wrong."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mesh.settings import PublicFile, SecretFile, read_secret
from services.otp.breaker import BreakerLimits
from services.otp.http_gateway import HttpTemplate

PREFIX = r"^\+[1-9][0-9]{0,6}$"
STATUS_URL = r"^(https://[^\s?#]{1,200}/v1/sms/twilio/status)?$"
_NAME = r"^[a-z][a-z_-]{0,31}$"
_MAX_VALUE = 1000


class ProvidersFileError(ValueError):
    """The file is not as it must be; the message names the place, never a value."""


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError("is no regular expression") from error


_Pattern = Annotated[str, StringConstraints(max_length=_MAX_VALUE), AfterValidator(lambda text: _pattern(text).pattern)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Provider(_Table):
    name: Annotated[str, StringConstraints(pattern=_NAME)]
    timeout_s: float = Field(default=8.0, gt=0, le=10)


class TwilioTable(_Provider):
    """A Twilio account."""

    kind: Literal["twilio"]
    account_sid: Annotated[str, StringConstraints(pattern="^AC[0-9a-f]{32}$")]
    api_key_sid: Annotated[str, StringConstraints(pattern="^SK[0-9a-f]{32}$")]
    api_key_secret_file: SecretFile
    messaging_service_sid: Annotated[str, StringConstraints(pattern="^MG[0-9a-f]{32}$")]
    base_url: Annotated[str, StringConstraints(pattern="^https?://")] = "https://api.twilio.com"
    status_url: Annotated[str, StringConstraints(pattern=STATUS_URL)] = ""
    auth_token_file: SecretFile | None = None

    @model_validator(mode="after")
    def _reports_need_both(self) -> Self:
        if bool(self.status_url) is not bool(self.auth_token_file):
            raise ValueError("status_url and auth_token_file go together")
        return self


class SmppTable(_Provider):
    """An SMPP centre."""

    kind: Literal["smpp"]
    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    port: int = Field(ge=1, le=65535)
    tls: bool = True
    system_id: Annotated[str, StringConstraints(min_length=1, max_length=15)]
    password_file: SecretFile
    source: Annotated[str, StringConstraints(min_length=1, max_length=20)]
    source_ton: int = Field(default=5, ge=0, le=6)
    source_npi: int = Field(default=0, ge=0, le=18)
    system_type: Annotated[str, StringConstraints(max_length=12)] = ""
    long_texts: Literal["payload", "udh"] = "payload"


class HttpTable(_Provider):
    """An HTTP gateway. See `http_gateway.HttpTemplate`."""

    kind: Literal["http"]
    url: Annotated[str, StringConstraints(pattern=r"^https://[^\s?#]{1,500}$")]
    body: Literal["form", "json"] = "form"
    fields: dict[str, Annotated[str, StringConstraints(max_length=_MAX_VALUE)]]
    secret_fields: dict[str, SecretFile] = Field(default_factory=dict)
    headers: dict[str, Annotated[str, StringConstraints(max_length=_MAX_VALUE)]] = Field(default_factory=dict)
    secret_headers: dict[str, SecretFile] = Field(default_factory=dict)
    taken: _Pattern | None = None
    refused: _Pattern | None = None
    unreachable: _Pattern | None = None
    reference: tuple[str, ...] = ()
    ca_file: PublicFile | None = None

    @model_validator(mode="after")
    def _template_is_one(self) -> Self:
        HttpTemplate(self.url, self.fields)
        return self

    def template(self) -> HttpTemplate:
        """Return the template with its secrets read."""
        return HttpTemplate(
            url=self.url,
            # A secret is no template: braces in it are its own.
            fields=self.fields | {name: _literal(read_secret(path)) for name, path in self.secret_fields.items()},
            headers=self.headers | {name: read_secret(path) for name, path in self.secret_headers.items()},
            body=self.body,
            taken=_compiled(self.taken),
            refused=_compiled(self.refused),
            unreachable=_compiled(self.unreachable),
            reference=self.reference,
        )


def _literal(secret: str) -> str:
    if re.search(r"\{[a-z_]+\}", secret):
        raise ProvidersFileError("a secret field looks like a place of a template")
    return secret


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


class OutboxTable(_Provider):
    """The development outbox."""

    kind: Literal["outbox"]
    folder: Path


ProviderTable = Annotated[TwilioTable | SmppTable | HttpTable | OutboxTable, Field(discriminator="kind")]


class Route(_Table):
    """Which providers numbers go to that begin so, in order."""

    prefix: Annotated[str, StringConstraints(pattern=PREFIX)]
    providers: tuple[str, ...] = Field(min_length=1)


class _Breaker(_Table):
    failures: int = Field(default=5, ge=1, le=100)
    open_s: float = Field(default=15.0, ge=1, le=600)


class Providers(_Table):
    """The whole file."""

    breaker: _Breaker = _Breaker()
    provider: tuple[ProviderTable, ...] = Field(min_length=1)
    route: tuple[Route, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [provider.name for provider in self.provider]
        prefixes = [route.prefix for route in self.route]
        used = [name for route in self.route for name in route.providers]
        if len(set(names)) < len(names) or len(set(prefixes)) < len(prefixes):
            raise ValueError("two providers of one name, or two routes for one prefix")
        if any(len(set(route.providers)) < len(route.providers) for route in self.route):
            raise ValueError("a route names a provider twice")
        if set(used) != set(names):
            raise ValueError("routes must name every provider, and no other")
        return self

    @property
    def limits(self) -> BreakerLimits:
        """The circuit breakers' limits."""
        return BreakerLimits(self.breaker.failures, self.breaker.open_s)

    def has_development_kind(self) -> bool:
        """Tell whether a provider is for development only."""
        return any(
            provider.kind == "outbox"
            or (provider.kind == "smpp" and not provider.tls)
            or (provider.kind == "twilio" and not provider.base_url.startswith("https://"))
            for provider in self.provider
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises ProvidersFileError."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ProvidersFileError("the file is no readable TOML") from error
        except ValidationError as error:
            places = [".".join(map(str, item["loc"])) + f": {item['msg']}" for item in error.errors()]
            raise ProvidersFileError("; ".join(places)) from None
