"""The Operator's people suspend and resume participants and applications and change client secrets, each on record."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from deploy.local import database as local
from mesh import base64url, postgres
from mesh.pseudonyms import require_stamped
from mesh.sealing import FieldKeys
from services.portal import admin
from services.portal.access_token import AccessTokens, TokenKeys
from services.portal.application import Application, State
from services.portal.client_credentials import (
    ClientCredentials,
    Credentials,
    InvalidClientError,
    UnauthorizedClientError,
)
from services.portal.store import ApplicationStore, ClientStore
from tests.bundles import digest_of
from tests.portal.clients import ISSUER, SECRET_HASH, TOKEN_KEY
from tests.portal.test_store import put

pytestmark = pytest.mark.postgres

WHY = ["--by", "Айгерім С.", "--reason", "order 2-118 of the regulator"]
NOBODY = "z" * 26
_T = TypeVar("_T")


@dataclass(frozen=True)
class Desk:
    """Where an operator sits: a database, and files of this test's own."""

    made: local.Database
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def says(self, *words: str) -> str:
        """What a command writes when it does what it was asked."""
        admin.main(words)
        return self.capsys.readouterr().out

    def refuses(self, *words: str) -> str:
        """What a command says when it refuses."""
        with pytest.raises(SystemExit) as refused:
            admin.main(words)
        assert refused.value.code != 0
        return f"{refused.value.code} {self.capsys.readouterr().err}"

    def put(self, secret: str = "secret") -> tuple[Application, str]:
        """A new application and its participant."""
        return asyncio.run(put(self.made, secret))

    def over(self, work: Callable[[postgres.Database], Awaitable[_T]]) -> _T:
        """Do something under the portal's own role."""

        async def opened() -> _T:
            database = await postgres.Database.open(self.made.url("portal"), service="test")
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(opened())

    def state_of(self, application: Application) -> State:
        """What the hub is told of an application at each start."""
        return self.over(lambda room: ApplicationStore(room).get(application.name)).state

    def logs_in(self, application: Application, secret: str) -> None:
        """Ask for an access token as the application does, a little later by the portal's clock."""

        async def granted(room: postgres.Database) -> None:
            def now() -> datetime:
                return datetime.now().astimezone() + timedelta(seconds=1)

            clients = ClientStore(room, max_failures=9, window=timedelta(minutes=5))
            tokens = AccessTokens(keys=TokenKeys(TOKEN_KEY), issuer=ISSUER, now=now)
            grants = ClientCredentials(clients=clients, secret_hash=SECRET_HASH, tokens=tokens, now=now)
            await grants.grant(Credentials(application.client_id, secret, "192.0.2.1"), "")

        self.over(granted)

    def recorded(self, name: str) -> list[tuple[str, str, str, str]]:
        with psycopg.connect(self.made.owner_url) as owner:
            return owner.execute(
                "SELECT act, operator, login, reason FROM portal.administration WHERE name = %s ORDER BY id", [name]
            ).fetchall()


@pytest.fixture
def desk(
    database: Callable[..., local.Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    made = database("portal")
    files = {
        "FINID_PORTAL_ADMIN_DATABASE_URL_FILE": made.portal_admin_url,
        "FINID_CLIENT_SECRET_KEY_FILE": base64url.encode(digest_of("client secret key")),
    }
    monkeypatch.setenv("FINID_ENV", "sandbox")
    for setting, content in files.items():
        file = tmp_path / setting.lower()
        file.write_text(content)
        file.chmod(0o400)
        monkeypatch.setenv(setting, str(file))
    desk = Desk(made, tmp_path, capsys)
    desk.over(lambda room: require_stamped(room, "portal", FieldKeys((digest_of("client secret key"),))))
    return desk


def test_a_suspended_participants_applications_are_shut_and_get_no_token_until_it_is_resumed(desk: Desk) -> None:
    application, participant = desk.put()
    desk.logs_in(application, "secret")
    said = desk.says("suspend", participant, *WHY)
    assert said.startswith(f"{participant}: ACTIVE -> SUSPENDED\n")
    assert application.name in said
    # The hub refuses what is so (tests/auth_gateway: test_peers.py, test_creation.py).
    assert desk.state_of(application) is State.SUSPENDED
    with pytest.raises(UnauthorizedClientError):
        desk.logs_in(application, "secret")
    desk.says("resume", participant, *WHY)
    assert desk.state_of(application) is State.ACTIVE
    desk.logs_in(application, "secret")
    line = ("Айгерім С.", local.PORTAL_ADMIN, "order 2-118 of the regulator")
    assert desk.recorded(participant) == [("SUSPEND", *line), ("RESUME", *line)]


def test_a_suspended_application_leaves_its_participant_and_the_others_alone(desk: Desk) -> None:
    (application, participant), (another, _) = desk.put(), desk.put()
    desk.says("suspend", application.name, *WHY)
    assert (desk.state_of(application), desk.state_of(another)) == (State.SUSPENDED, State.ACTIVE)
    assert f"{participant} ACTIVE" in desk.says("show", participant)
    assert desk.recorded(participant) == []


def test_an_application_that_is_resumed_under_a_suspended_participant_stays_shut_and_that_is_said(desk: Desk) -> None:
    application, participant = desk.put()
    desk.says("suspend", application.name, *WHY)
    desk.says("suspend", participant, *WHY)
    assert f"stays shut as long as {participant} is SUSPENDED" in desk.says("resume", application.name, *WHY)
    assert desk.state_of(application) is State.SUSPENDED


def test_a_dry_run_says_the_same_and_changes_nothing(desk: Desk) -> None:
    application, participant = desk.put()
    said = desk.says("suspend", participant, "--dry-run", *WHY)
    assert said.startswith(f"dry run, nothing was changed: {participant}: ACTIVE -> SUSPENDED\n")
    assert application.name in said
    assert desk.state_of(application) is State.ACTIVE
    assert desk.recorded(participant) == []


def test_saying_it_again_changes_nothing_and_writes_no_second_line(desk: Desk) -> None:
    _, participant = desk.put()
    desk.says("suspend", participant, *WHY)
    assert "is SUSPENDED already" in desk.says("suspend", participant, *WHY)
    assert len(desk.recorded(participant)) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["suspend", f"participants/{NOBODY}", *WHY], f"refused: there is no participants/{NOBODY}"),
        (["resume", f"applications/{NOBODY}", *WHY], f"refused: there is no applications/{NOBODY}"),
        (["suspend", f"applications/{NOBODY}", "--dry-run", *WHY], f"refused: there is no applications/{NOBODY}"),
        (["show", f"applications/{NOBODY}"], f"refused: there is no applications/{NOBODY}"),
        (["suspend", "Demo Bank", *WHY], "must be participants/… or applications/…, in full"),
        (["suspend", f"participants/{NOBODY}", "--by", "me"], "the following arguments are required: --reason"),
        (["suspend", f"participants/{NOBODY}", "--reason", "x"], "the following arguments are required: --by"),
        (["suspend", f"participants/{NOBODY}", "--by", "me", "--reason", " "], "one line of 1 to 500 characters"),
        (["suspend", f"participants/{NOBODY}", "--by", "a\nb", "--reason", "x"], "one line of 1 to 100 characters"),
        (["secret", "end", "one", *WHY], "invalid UUID value: 'one'"),
        (["secret", "end", "0" * 32, *WHY], "refused: there is no secret 00000000-0000-0000-0000-000000000000"),
        (["secret", "add", f"participants/{NOBODY}", "--secret-file", "x", *WHY], "must be applications/…, in full"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(desk: Desk, words: list[str], why: str) -> None:
    assert why in desk.refuses(*words)


def test_a_second_secret_lives_beside_the_first_until_that_is_ended(desk: Desk) -> None:
    application, _ = desk.put("secret")
    file = desk.folder / "second.secret"
    said = desk.says("secret", "add", application.name, "--secret-file", str(file), *WHY)
    second = file.read_text()
    assert second not in said
    assert file.stat().st_mode & 0o777 == 0o400
    desk.logs_in(application, "secret")
    desk.logs_in(application, second)
    first_id, second_id = re.findall(r"secret ([0-9a-f-]{36}) live", desk.says("show", application.name))
    assert second_id in said
    desk.says("secret", "end", first_id, *WHY)
    with pytest.raises(InvalidClientError):
        desk.logs_in(application, "secret")
    desk.logs_in(application, second)
    assert [act for act, *_ in desk.recorded(application.name)] == ["SECRET_ADD", "SECRET_END"]


def test_a_secret_that_ends_later_lets_in_until_then_and_its_end_only_comes_nearer(desk: Desk) -> None:
    application, _ = desk.put("secret")
    desk.says("secret", "add", application.name, "--secret-file", str(desk.folder / "second"), *WHY)
    first_id, _ = re.findall(r"secret ([0-9a-f-]{36}) live", desk.says("show", application.name))
    desk.says("secret", "end", first_id, "--in-hours", "2", *WHY)
    desk.logs_in(application, "secret")
    assert f"{first_id} live" in desk.says("show", application.name)
    assert "already, which is no later" in desk.says("secret", "end", first_id, "--in-hours", "3", *WHY)
    desk.says("secret", "end", first_id, "--in-hours", "0", *WHY)
    with pytest.raises(InvalidClientError):
        desk.logs_in(application, "secret")
    assert len(desk.recorded(application.name)) == 3


def test_adding_again_with_the_same_file_adds_nothing(desk: Desk) -> None:
    application, _ = desk.put()
    words = ["secret", "add", application.name, "--secret-file", str(desk.folder / "second"), *WHY]
    first = desk.says(*words)
    again = desk.says(*words)
    assert "nothing was changed" in again
    assert re.findall(r"[0-9a-f-]{36}", again) == re.findall(r"[0-9a-f-]{36}", first)
    assert len(desk.recorded(application.name)) == 1


def test_a_third_live_secret_is_refused(desk: Desk) -> None:
    application, _ = desk.put()
    desk.says("secret", "add", application.name, "--secret-file", str(desk.folder / "second"), *WHY)
    refused = desk.refuses("secret", "add", application.name, "--secret-file", str(desk.folder / "third"), *WHY)
    assert "has two live secrets" in refused


def test_a_file_with_a_secret_of_somebodys_own_making_is_refused(desk: Desk) -> None:
    application, _ = desk.put()
    file = desk.folder / "own"
    file.write_text("hunter2")
    assert "holds no secret that was made here" in desk.refuses(
        "secret", "add", application.name, "--secret-file", str(file), *WHY
    )


def test_the_last_secret_is_ended_only_on_express_wish(desk: Desk) -> None:
    application, _ = desk.put("secret")
    (only,) = re.findall(r"secret ([0-9a-f-]{36}) live", desk.says("show", application.name))
    assert "is the last that lets its application in" in desk.refuses("secret", "end", only, *WHY)
    desk.logs_in(application, "secret")
    desk.says("secret", "end", only, "--even-last", *WHY)
    with pytest.raises(InvalidClientError):
        desk.logs_in(application, "secret")


def test_a_dry_run_makes_no_secret_and_ends_none(desk: Desk) -> None:
    application, _ = desk.put("secret")
    file = desk.folder / "second"
    (only,) = re.findall(r"secret ([0-9a-f-]{36}) live", desk.says("show", application.name))
    assert "dry run" in desk.says("secret", "add", application.name, "--secret-file", str(file), "--dry-run", *WHY)
    assert not file.exists()
    assert "dry run" in desk.says("secret", "end", only, "--even-last", "--dry-run", *WHY)
    desk.logs_in(application, "secret")
    assert desk.recorded(application.name) == []


def test_lists_show_everybody_and_what_was_done_but_nothing_of_a_secret(desk: Desk) -> None:
    application, participant = desk.put("a very secret secret")
    desk.says("suspend", application.name, *WHY)
    listed = desk.says("list")
    assert f"{participant} ACTIVE Demo Bank JSC\n  {application.name} SUSPENDED {application.client_id}" in listed
    shown = desk.says("show", application.name)
    for told in (application.client_id, "scopes name birth_date", "https://bank.example/return", *WHY[1::2]):
        assert told in shown
    assert f"SUSPEND {application.name} by Айгерім С. (finid_portal_admin): order 2-118" in desk.says("log")
    kept = SECRET_HASH.of(application.client_id, "a very secret secret")
    assert kept.hex() not in shown
    assert "very" not in shown


def test_a_persons_own_login_stands_on_record_whatever_name_is_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, _ = desk.put()
    role = f"operator_{application.client_id[-8:]}"
    with psycopg.connect(desk.made.admin_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE {local.PORTAL_ADMIN}")
    file = desk.folder / "own.url"
    file.write_text(re.sub(r"//[^@]*@", f"//{role}:x@", desk.made.portal_admin_url))
    file.chmod(0o400)
    monkeypatch.setenv("FINID_PORTAL_ADMIN_DATABASE_URL_FILE", str(file))
    try:
        desk.says("suspend", application.name, "--by", "somebody else", "--reason", "x")
        assert desk.recorded(application.name) == [("SUSPEND", "somebody else", role, "x")]
    finally:
        with psycopg.connect(desk.made.admin_url, autocommit=True) as server:
            server.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE portal.participants SET state = 'SUSPENDED'",
        "UPDATE portal.applications SET state = 'SUSPENDED'",
        "INSERT INTO portal.client_secrets (secret_hmac, client_id, created_at) VALUES ('', 'x', now())",
        "UPDATE portal.client_secrets SET retired_at = now()",
        "SELECT secret_hmac FROM portal.client_secrets",
        "SELECT * FROM portal.login_attempts",
        "INSERT INTO portal.administration (operator, act, name, reason) VALUES ('x', 'RESUME', 'x', 'x')",
        "DELETE FROM portal.administration",
    ],
)
def test_the_admins_role_changes_nothing_past_the_functions_and_reads_no_secret(desk: Desk, statement: str) -> None:
    with psycopg.connect(desk.made.portal_admin_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize(
    "call",
    [
        "portal.change_state('participants/x', 'ACTIVE', 'x', 'x')",
        "portal.add_secret('applications/x', '', 'x', 'x')",
        "portal.end_secret(gen_random_uuid(), 0, true, 'x', 'x')",
    ],
)
def test_the_portal_itself_resumes_nobody_and_adds_no_secret(desk: Desk, call: str) -> None:
    with psycopg.connect(desk.made.url("portal")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT {call}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE portal.administration SET operator = 'nobody'",
        "DELETE FROM portal.administration",
        "TRUNCATE portal.administration",
    ],
)
def test_what_was_done_stays_recorded_even_for_the_owner(desk: Desk, statement: str) -> None:
    application, _ = desk.put()
    desk.says("suspend", application.name, *WHY)
    with (
        psycopg.connect(desk.made.owner_url) as owner,
        pytest.raises(psycopg.errors.RaiseException, match="stays recorded"),
    ):
        owner.execute(statement)
    assert len(desk.recorded(application.name)) == 1


def test_the_portals_own_url_is_refused_by_the_database(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    application, _ = desk.put()
    file = desk.folder / "portal.url"
    file.write_text(desk.made.url("portal"))
    file.chmod(0o400)
    monkeypatch.setenv("FINID_PORTAL_ADMIN_DATABASE_URL_FILE", str(file))
    refused = desk.refuses("suspend", application.name, *WHY)
    assert "refused by the database: permission denied for function change_state" in refused
    assert "finid_portal_admin" in refused


def test_it_runs_as_a_command_and_says_which_setting_is_missing(desk: Desk) -> None:
    application, _ = desk.put()
    command = [sys.executable, "-m", "services.portal.admin", "show", application.name]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"{application.name} ACTIVE")
    environment = dict(os.environ) | {"FINID_PORTAL_ADMIN_DATABASE_URL_FILE": ""}
    bare = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert bare.returncode == 78
    assert "FINID_PORTAL_ADMIN_DATABASE_URL_FILE" in bare.stderr
