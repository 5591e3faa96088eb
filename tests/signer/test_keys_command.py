"""What operators see of `services.signer.keys`: plans, confirmations, transcripts, refusals, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pkcs11 import KeyType, Mechanism, MechanismFlag

from deploy.local.database import Database as Provisioned
from mesh import ceremony
from mesh.hsm import KekName, Token
from services.signer.subject_keys import KEK_LABEL
from tests.operators import CHECKOUT, ceremony_command, confirm, write_ceremony_files
from tests.signer.keys_tool import NEW, OLD, Tool
from tests.softhsm import SoftHsm

pytestmark = [pytest.mark.hsm, pytest.mark.postgres]


@pytest.fixture
async def tool(softhsm: SoftHsm, database: Callable[..., Provisioned], tmp_path: Path) -> Tool:
    made = await Tool.set_up(softhsm, database("signer"), tmp_path)
    write_ceremony_files(tmp_path)
    return made


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the token pass for a certified device, as production wants one."""
    monkeypatch.setattr(Token, "is_development_token", property(lambda _: False))


def with_operators(tool: Tool) -> list[object]:
    return ["--operators", tool.folder / "operators.json"]


def with_transcript(tool: Tool, name: str = "transcript.json") -> list[object]:
    return ["--transcript", tool.folder / name, "--transcript-key", tool.folder / "tool.pem"]


async def planned(tool: Tool, *command: object, name: str = "plan.json") -> Path:
    """Have the tool plan a command for the operators."""
    plan = tool.folder / name
    status, said = await tool.run(*command, "--dry-run", "--plan", plan, *with_operators(tool))
    assert (status, "dry run, nothing is changed" in said) == (0, True), said
    return plan


PRODUCTION = {"FINID_ENV": "production"}


async def test_production_does_what_two_operators_confirmed_and_signs_what_it_did(
    tool: Tool, certified: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tool.folder / "plan.json"
    said = (await tool.run("create", "--dry-run", "--plan", plan, *with_operators(tool), settings=PRODUCTION))[1]
    assert "note: the token holds subject-kek-1" in said
    assert "make subject-kek-2 (AES-256, never extractable, what it unwraps is sensitive)" in said
    assert "be confirmed by 2 of anna, berik, dana (operators' file sha256 " in said
    assert tool.token.open().keks(KEK_LABEL) == (OLD,)
    shown = ceremony_command("confirm", plan, "anna", tool.folder / "anna.pem").stderr
    assert "make subject-kek-2" in shown
    assert f"production, token {tool.token.label}" in shown

    confirmed = confirm(tool.folder, plan, "anna", "dana")
    arguments = ["create", "--plan", plan, *with_operators(tool), *confirmed, *with_transcript(tool)]
    status, said = await tool.run(*arguments, settings=PRODUCTION)
    assert (status, "subject-kek-2: made" in said, "alone" in said) == (0, True, False), said
    assert tool.token.open().keks(KEK_LABEL) == (OLD, NEW)
    verify = ("verify", tool.folder / "transcript.json", tool.folder / "tool-public.pem")
    done = ceremony_command(*verify, tool.folder / "operators.json")
    assert done.returncode == 0, done.stderr
    assert "confirmed by: anna, dana" in done.stdout
    assert "subject-kek-2: made" in done.stdout
    assert done.stdout.rstrip().endswith("DONE")

    # The same plan does not make a third one.
    status, said = await tool.run(*arguments[:-4], *with_transcript(tool, "second.json"), settings=PRODUCTION)
    assert (status, "not planned: make subject-kek-3" in said) == (1, True), said
    assert tool.token.open().keks(KEK_LABEL) == (OLD, NEW)


async def test_production_does_nothing_for_one_person(tool: Tool, certified: None) -> None:
    plan = tool.folder / "plan.json"
    assert (await tool.run("create", "--dry-run", "--plan", plan, *with_operators(tool), settings=PRODUCTION))[0] == 0
    one = confirm(tool.folder, plan, "anna")
    everything = ["--plan", plan, *with_operators(tool), *with_transcript(tool)]
    for arguments, says in (
        ([], "production needs --operators, --plan, --transcript, --transcript-key, and two operators'"),
        (["--plan", plan, *one], "production needs --operators"),
        ([*everything[2:], *one], "production needs --plan"),
        ([*everything[:4], *one], "production needs --transcript"),
        (everything, "0 of 2 operators confirmed"),
        ([*everything, *one], "1 of 2 operators confirmed"),
        ([*everything, *one, *one], "1 of 2 operators confirmed"),
    ):
        status, said = await tool.run("create", *arguments, settings=PRODUCTION)
        assert (status, says in said) == (1, True), said
    assert tool.token.open().keks(KEK_LABEL) == (OLD,)
    assert not (tool.folder / "transcript.json").exists()


async def test_production_refuses_a_development_token(tool: Tool) -> None:
    for command in ("status", "check", "create", "rotate"):
        status, said = await tool.run(command, settings=PRODUCTION)
        assert (status, "production refuses it" in said) == (1, True), said


async def test_where_operators_are_named_nobody_goes_around_them(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox too."""
    plan, of_rotate = await planned(tool, "create"), tool.folder / "rotate.json"
    tool.token.open(writable=True).create_kek(NEW)
    assert (await tool.run("rotate", "--dry-run", "--plan", of_rotate, *with_operators(tool)))[0] == 0
    two = confirm(tool.folder, of_rotate, "anna", "berik")
    of_another = confirm(tool.folder, plan, "anna", "berik")
    (tool.folder / "few.json").write_text(
        json.dumps(json.loads((tool.folder / "operators.json").read_text()) | {"required": 1})
    )
    other_operators = json.loads((tool.folder / "operators.json").read_text())
    other_operators["operators"].pop()
    (tool.folder / "others.json").write_text(json.dumps(other_operators))
    operators = with_operators(tool)
    for arguments, says in (
        ([*operators, *two], "give --plan"),
        (["--plan", of_rotate, *two], "confirmations prove nothing without --operators"),
        (["--plan", plan, *operators, *of_another], "the plan is of 'services.signer.keys create'"),
        (["--plan", of_rotate, *operators, *two[:2], *of_another[2:]], "berik confirmed another plan"),
        (["--plan", of_rotate, *operators, *two[:2]], "1 of 2"),
        (["--plan", of_rotate, "--operators", tool.folder / "few.json", *two], "must require 2"),
        (["--plan", of_rotate, "--operators", tool.folder / "others.json", *two], "not planned: be confirmed by"),
        (two, "confirmations prove nothing without --operators"),
        (["--plan", of_rotate, *operators, *two, "--transcript", tool.folder / "t.json"], "go together"),
        (["--plan", tool.folder / "nowhere.json", *operators, *two], "nowhere.json"),
    ):
        status, said = await tool.run("rotate", *arguments)
        assert (status, says in said) == (1, True), (said, says)
    monkeypatch.setattr(ceremony, "MAX_PLAN_AGE_S", -1)
    status, said = await tool.run("rotate", "--plan", of_rotate, *operators, *two)
    assert (status, "the plan is older than" in said) == (1, True), said
    monkeypatch.undo()
    assert (await tool.run("rotate", "--plan", of_rotate, *operators, *two))[0] == 0


async def test_a_plan_is_of_one_token_and_what_it_finds_there(tool: Tool, softhsm: SoftHsm) -> None:
    plan = await planned(tool, "create")
    confirmed = confirm(tool.folder, plan, "anna", "berik")
    other = softhsm.new_token()
    elsewhere = {"FINID_TOKEN_LABEL": other.label, "FINID_TOKEN_PIN_FILE": str(other.pin_file)}
    arguments = ["create", "--plan", plan, *with_operators(tool), *confirmed]
    status, said = await tool.run(*arguments, settings=elsewhere)
    assert (status, "the plan is of" in said) == (1, True), said
    tool.token.open(writable=True).create_kek(NEW)
    status, said = await tool.run(*arguments)
    assert (status, "not planned: make subject-kek-3" in said) == (1, True), said
    assert tool.token.open().keks(KEK_LABEL) == (OLD, NEW)


async def test_a_run_that_stops_says_so_in_its_transcript(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("the device is full")

    monkeypatch.setattr(Token, "create_kek", refuse)
    status, said = await tool.run("create", *with_transcript(tool))
    assert (status, "create stopped: the device is full" in said) == (1, True), said
    public = tool.folder / "tool-public.pem"
    done = ceremony_command("verify", tool.folder / "transcript.json", public)
    assert done.stdout.rstrip().endswith("STOPPED: ValueError"), done
    assert "confirmed by: nobody" in done.stdout
    monkeypatch.undo()
    status, said = await tool.run("create", *with_transcript(tool))
    assert (status, "every run has a transcript of its own" in said) == (1, True), said
    # Nobody confirmed it: with the operators' file the auditor sees that.
    against = ceremony_command("verify", tool.folder / "transcript.json", public, tool.folder / "operators.json")
    assert (against.returncode, "0 of 2 operators confirmed" in against.stderr) == (1, True)


async def test_a_plan_is_not_written_over_another(tool: Tool) -> None:
    plan = await planned(tool, "create")
    status, said = await tool.run("create", "--dry-run", "--plan", plan)
    assert (status, "plan.json" in said) == (1, True), said


async def test_check_tells_what_the_token_and_its_keys_lack(tool: Tool) -> None:
    status, said = await tool.run("check")
    assert (status, "every mechanism and attribute" in said) == (0, True), said
    # As a KEK of before was made: with python-pkcs11 alone.
    bare = tool.token.open(writable=True)
    flags = MechanismFlag.WRAP | MechanismFlag.UNWRAP
    bare._create_secret(NEW.token_label, KeyType.AES, flags, Mechanism.AES_KEY_GEN)
    status, said = await tool.run("check")
    assert (status, "subject-kek-2 LACKS CKA_UNWRAP_TEMPLATE" in said, "subject-kek-1 LACKS" in said) == (
        1,
        True,
        False,
    )
    status, said = await tool.run("rotate")
    assert "no unwrap template guards a key-encryption key" in said


async def test_production_rotates_to_no_kek_that_forces_nothing(tool: Tool, certified: None) -> None:
    bare = tool.token.open(writable=True)
    flags = MechanismFlag.WRAP | MechanismFlag.UNWRAP
    bare._create_secret(NEW.token_label, KeyType.AES, flags, Mechanism.AES_KEY_GEN)
    status, said = await tool.run("rotate", "--dry-run", settings=PRODUCTION)
    assert (status, "subject-kek-2 has no CKA_UNWRAP_TEMPLATE" in said) == (1, True), said


async def test_status_names_a_kek_that_the_token_does_not_hold(tool: Tool) -> None:
    await tool.enrol(2)
    await tool.run("create")
    await tool.enrol(1, KekName(KEK_LABEL, 2))
    tool.token.open(writable=True).destroy_kek(OLD)
    status, said = await tool.run("status")
    assert status == 0, said
    assert "NOT IN THE TOKEN" in said
    assert "subject-kek-2: 1 keys\n  ACTIVE: 1, oldest of " in said
    assert "signings: 0 recorded, 0 aborted, 0 going on, 0 left over" in said


def run_process(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.signer.keys", *arguments]
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=CHECKOUT,
    )


def test_help_says_who_must_confirm_and_what_exit_codes_mean() -> None:
    done = run_process("--help")
    assert done.returncode == 0
    assert "In production two operators" in done.stdout
    assert "Exit codes: 0 done" in done.stdout
    assert "Production: two operators confirm the plan." in " ".join(run_process("create", "--help").stdout.split())


def test_wrong_arguments_and_settings_have_exit_codes_of_their_own() -> None:
    assert run_process("destroy").returncode == 2
    done = run_process("status", FINID_ENV="sandbox")
    assert (done.returncode, "FINID_OWNER_DATABASE_URL_FILE" in done.stderr) == (78, True)
