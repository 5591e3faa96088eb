"""Ceremonies: nothing happens that enough different people did not confirm, and what happened can be shown."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mesh import ceremony, strict_json
from mesh.ceremony import CeremonyRefusedError, Confirmation, Operator, Operators, Plan, Recorder

NOW = 1_764_000_000
KEYS = {name: Ed25519PrivateKey.generate() for name in ("anna", "berik", "dana")}
STRANGER = Ed25519PrivateKey.generate()
TOOL = Ed25519PrivateKey.generate()
STEPS = ("make subject-kek-2", "rewrap 12 keys", "sign the transcript")


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


OPERATORS = Operators(2, tuple(Operator(name, raw(key)) for name, key in KEYS.items()))


def planned(*, now: int = NOW, nonce: bytes = b"n" * 16) -> Plan:
    return ceremony.plan("signer.keys rotate", "finid-signer", STEPS, now=now, random_bytes=lambda _: nonce)


def by(*names: str, plan: Plan | None = None) -> tuple[Confirmation, ...]:
    return tuple(ceremony.confirm(plan or planned(), name, KEYS[name]) for name in names)


def test_two_operators_confirm_a_plan() -> None:
    ceremony.require_confirmed(planned(), by("anna", "dana"), OPERATORS, NOW + 3600)
    ceremony.require_confirmed(planned(), by("anna", "berik", "dana"), OPERATORS, NOW)


REFUSED: list[tuple[str, Callable[[], tuple[Confirmation, ...]], int]] = [
    ("nobody", lambda: (), NOW),
    ("one", lambda: by("anna"), NOW),
    ("one twice", lambda: by("anna", "anna"), NOW),
    ("a stranger", lambda: (*by("anna"), ceremony.confirm(planned(), "eve", STRANGER)), NOW),
    (
        "an operator's name under another key",
        lambda: (*by("anna"), ceremony.confirm(planned(), "berik", STRANGER)),
        NOW,
    ),
    ("one's confirmation under another's name", lambda: (*by("anna"), replace(by("anna")[0], operator="berik")), NOW),
    ("of another plan", lambda: (*by("anna"), *by("berik", plan=planned(nonce=b"m" * 16))), NOW),
    (
        "of another plan, under this one's digest",
        lambda: (*by("anna"), replace(by("berik", plan=planned(nonce=b"m" * 16))[0], plan_sha256=planned().sha256)),
        NOW,
    ),
    ("two and a wrong one", lambda: (*by("anna", "berik"), ceremony.confirm(planned(), "dana", STRANGER)), NOW),
    ("an old plan", lambda: by("anna", "berik"), NOW + 24 * 3600 + 1),
    ("a plan of the future", lambda: by("anna", "berik"), NOW - 6),
]


@pytest.mark.parametrize(("confirmations", "now"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_plan_is_refused_that_is_confirmed_by(
    confirmations: Callable[[], tuple[Confirmation, ...]], now: int
) -> None:
    with pytest.raises(CeremonyRefusedError):
        ceremony.require_confirmed(planned(), confirmations(), OPERATORS, now)


@pytest.mark.parametrize("steps", [STEPS, STEPS[1:], STEPS[::2], ()])
def test_what_is_planned_may_be_done_and_what_is_done_already_may_be_left_out(steps: tuple[str, ...]) -> None:
    ceremony.require_planned(planned(), "signer.keys rotate", "finid-signer", steps)


@pytest.mark.parametrize(
    ("name", "place", "steps"),
    [
        ("signer.keys rotate", "finid-signer", (*STEPS, "destroy subject-kek-1")),
        ("signer.keys rotate", "finid-signer", ("rewrap 13 keys",)),
        ("signer.keys rotate", "finid-signer", STEPS[::-1]),
        ("signer.keys rotate", "finid-signer", (STEPS[0], STEPS[0])),
        ("signer.keys restore", "finid-signer", STEPS),
        ("signer.keys rotate", "another token", STEPS),
    ],
)
def test_what_is_not_planned_is_not_done(name: str, place: str, steps: tuple[str, ...]) -> None:
    with pytest.raises(CeremonyRefusedError):
        ceremony.require_planned(planned(), name, place, steps)


@pytest.mark.parametrize(
    "change",
    [
        {"required": 1},
        {"required": 4},
        {"operators": [*OPERATORS.operators, Operator("anna", raw(STRANGER))]},
        {"operators": [*OPERATORS.operators, Operator("eve", OPERATORS.operators[0].public_key)]},
        {"operators": [Operator("anna", b"short"), OPERATORS.operators[1]]},
        {"operators": []},
    ],
)
def test_an_operators_file_that_lets_one_person_confirm_alone_is_refused(change: dict[str, Any]) -> None:
    shown: Any = strict_json.write(OPERATORS)
    for name, value in change.items():
        shown[name] = strict_json.write(tuple(value)) if isinstance(value, list) else value
    with pytest.raises(CeremonyRefusedError):
        ceremony.parse_operators(json.dumps(shown).encode())


def test_files_read_back() -> None:
    assert ceremony.parse_operators(strict_json.canonical(OPERATORS)) == OPERATORS
    assert ceremony.parse_plan(planned().encode()) == planned()
    (confirmation,) = by("anna")
    assert ceremony.parse_confirmation(strict_json.canonical(confirmation)) == confirmation
    for parse in (ceremony.parse_operators, ceremony.parse_plan, ceremony.parse_confirmation):
        with pytest.raises(CeremonyRefusedError):
            parse(b"{}")


def sealed() -> bytes:
    said: list[str] = []
    recorder = Recorder(planned(), by("anna", "berik"), say=said.append, now=lambda: NOW + 5)
    recorder.say("subject-kek-2: made")
    assert said == ["subject-kek-2: made"]
    return recorder.seal(TOOL)


def test_a_transcript_says_what_was_done_by_which_plan_confirmed_by_whom() -> None:
    found = ceremony.verify(sealed(), raw(TOOL), OPERATORS)
    assert found.plan == planned()
    assert [item.operator for item in found.confirmations] == ["anna", "berik"]
    assert [(line.at, line.text) for line in found.lines] == [(NOW + 5, "subject-kek-2: made")]
    assert found.outcome == "DONE"


@pytest.mark.parametrize(
    "path", [("lines", 0, "text"), ("plan", "place"), ("outcome",), ("confirmations", 1, "operator")]
)
def test_a_changed_transcript_is_refused(path: tuple[str | int, ...]) -> None:
    shown = json.loads(sealed())
    at = shown["transcript"]
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = "changed"
    with pytest.raises(CeremonyRefusedError):
        ceremony.verify(json.dumps(shown).encode(), raw(TOOL), OPERATORS)


def test_a_transcript_of_another_key_or_confirmed_by_one_is_refused() -> None:
    with pytest.raises(CeremonyRefusedError):
        ceremony.verify(sealed(), raw(STRANGER))
    alone = Recorder(planned(), by("anna"), say=lambda _: None, now=lambda: NOW).seal(TOOL)
    assert ceremony.verify(alone, raw(TOOL))
    with pytest.raises(CeremonyRefusedError):
        ceremony.verify(alone, raw(TOOL), OPERATORS)


def test_operators_use_the_command_line(tmp_path: Path) -> None:
    for name, key in KEYS.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(pem)
    public = TOOL.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "tool.pem").write_bytes(public)
    (tmp_path / "plan.json").write_bytes(planned().encode())

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mesh.ceremony", words[0]]
        files = [str(tmp_path / word) if "." in word else word for word in words[1:]]
        return subprocess.run([*command, *files], capture_output=True, text=True, check=False, timeout=60)

    assert json.loads(run("operator", "anna", "anna.pem").stdout)["name"] == "anna"
    confirmations = []
    for name in ("anna", "berik"):
        done = run("confirm", "plan.json", name, f"{name}.pem")
        assert "rewrap 12 keys" in done.stderr
        confirmations.append(ceremony.parse_confirmation(done.stdout.encode()))
    ceremony.require_confirmed(planned(), confirmations, OPERATORS, NOW)

    (tmp_path / "operators.json").write_bytes(strict_json.canonical(OPERATORS))
    (tmp_path / "transcript.json").write_bytes(sealed())
    shown = run("verify", "transcript.json", "tool.pem", "operators.json")
    assert shown.returncode == 0
    assert "confirmed by: anna, berik" in shown.stdout
    assert "subject-kek-2: made" in shown.stdout
    (tmp_path / "transcript.json").write_bytes(sealed().replace(b"made", b"kept"))
    assert "refused" in run("verify", "transcript.json", "tool.pem").stderr
