"""The providers' file: what it may say, and that what is wrong is refused by its place, never by its value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.otp.providers import HttpTable, Providers, ProvidersFileError, SmppTable, TwilioTable

GOOD = """
[breaker]
failures = 3
open_s = 20

[[provider]]
name = "kcell"
kind = "smpp"
host = "smsc.example.kz"
port = 3550
system_id = "finid"
password_file = "{secret}"
source = "FinID"
long_texts = "udh"

[[provider]]
name = "twilio"
kind = "twilio"
account_sid = "AC00000000000000000000000000000000"
api_key_sid = "SK00000000000000000000000000000000"
api_key_secret_file = "{secret}"
messaging_service_sid = "MG00000000000000000000000000000000"
status_url = "https://api.example.kz/v1/sms/twilio/status"
auth_token_file = "{secret}"

[[provider]]
name = "smsc_kz"
kind = "http"
url = "https://gateway.example.kz/sys/send.php"
fields = {{ login = "finid", phones = "{{phone_digits}}", mes = "{{text}}", charset = "utf-8", fmt = "3" }}
secret_fields = {{ psw = "{secret}" }}
secret_headers = {{ Authorization = "{secret}" }}
taken = '"id"'
refused = '"error_code"'
reference = ["id"]

[[route]]
prefix = "+7701"
providers = ["kcell", "smsc_kz"]

[[route]]
prefix = "+77"
providers = ["smsc_kz", "twilio"]
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Providers]:
    """Reads the good file with some text of it replaced."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o400)

    def read_changed(old: str = "", new: str = "") -> Providers:
        file = tmp_path / "providers.toml"
        text = GOOD.format(secret=secret)
        assert old in text
        file.write_text(text.replace(old, new, 1) if old else text)
        return Providers.read(file)

    return read_changed


def test_what_a_good_file_says(read: Callable[..., Providers]) -> None:
    providers = read()
    kinds: list[type[Any]] = [type(table) for table in providers.provider]
    assert kinds == [SmppTable, TwilioTable, HttpTable]
    assert {route.prefix: route.providers for route in providers.route} == {
        "+7701": ("kcell", "smsc_kz"),
        "+77": ("smsc_kz", "twilio"),
    }
    assert (providers.limits.failures, providers.limits.open_s) == (3, 20)
    assert not providers.has_development_kind()


def test_secrets_come_from_files_and_are_in_no_representation(read: Callable[..., Providers]) -> None:
    (table,) = (each for each in read().provider if isinstance(each, HttpTable))
    template = table.template()
    assert (template.fields["psw"], template.headers["Authorization"]) == ("s3cret", "s3cret")
    assert template.filled({"phone_digits": "77010000001", "text": "{phone}"})["mes"] == "{phone}"
    assert "s3cret" not in repr(table) + repr(template)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "twilio"', 'name = "kcell"', "two providers of one name"),
        ('prefix = "+77"', 'prefix = "+7701"', "two routes for one prefix"),
        ('["smsc_kz", "twilio"]', '["smsc_kz", "pigeon"]', "no other"),
        ('["smsc_kz", "twilio"]', '["smsc_kz"]', "name every provider"),
        ('["smsc_kz", "twilio"]', '["smsc_kz", "twilio", "twilio"]', "twice"),
        ('["smsc_kz", "twilio"]', "[]", "route.1.providers"),
        ('prefix = "+77"', 'prefix = "77"', "route.1.prefix"),
        ('kind = "smpp"', 'kind = "pigeon"', "provider.0"),
        ("port = 3550", "port = 0", "provider.0.smpp.port"),
        ("port = 3550", "prot = 3550", "provider.0.smpp.prot"),
        ("https://gateway", "http://gateway", "provider.2.http.url"),
        ("{phone_digits}", "{phon}", "no such place"),
        ("taken = '\"id\"'", "taken = '('", "no regular expression"),
        ("auth_token_file", "# auth_token_file", "go together"),
        ("/v1/sms/twilio/status", "/elsewhere", "provider.1.twilio.status_url"),
        ("[breaker]", "[braeker]", "braeker"),
        ("failures = 3", "failures = 0", "breaker.failures"),
        ("[breaker]", "[breaker", "no readable TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_the_place(read: Callable[..., Providers], old: str, new: str, said: str) -> None:
    with pytest.raises(ProvidersFileError) as refused:
        read(old, new)
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProvidersFileError):
        Providers.read(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('long_texts = "udh"', "tls = false"),
        ('status_url = "https://api', 'base_url = "http://127.0.0.1:1"\nstatus_url = "https://api'),
    ],
)
def test_what_is_for_development_only_is_known(read: Callable[..., Providers], old: str, new: str) -> None:
    assert read(old, new).has_development_kind()
