"""Ceremonies that several people answer for: a plan, their confirmations of it, and a signed transcript.

A tool's dry run writes a plan: the steps it would take, as lines that people can read. Operators look at it, each on a
machine of their own, and sign its digest with their Ed25519 key. The tool does what the plan says, and nothing else,
once enough different operators of its own file have signed; then it signs what was done.

    openssl genpkey -algorithm ed25519 -out anna.pem
    python -m mesh.ceremony operator anna anna.pem                         # her entry in the operators' file
    python -m mesh.ceremony confirm plan.json anna anna.pem > anna.json    # shows the plan, signs it
    python -m mesh.ceremony verify transcript.json tool-public.pem operators.json

The operators' file: {"required": 2, "operators": [{"name", "public_key"}, ...]}, keys are base64url of 32 bytes.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mesh import strict_json
from mesh.strict_json import StrictJsonError

T = TypeVar("T")

MAX_PLAN_AGE_S = 24 * 3600
MIN_OPERATORS = 2
_MAX_BYTES = 1024 * 1024
_MAX_SKEW_S = 5
_KEY_BYTES = 32
_NONCE_BYTES = 16
# Different first bytes for what one key might sign twice; none begins a JWS.
_PLAN = b"finid-ceremony-plan-v1\0"
_CONFIRMATION = b"finid-ceremony-confirmation-v1\0"
_TRANSCRIPT = b"finid-ceremony-transcript-v1\0"


class CeremonyRefusedError(Exception):
    """A plan, a confirmation or a transcript is not in order; says why. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a ceremony would do, made by its dry run.

    `ceremony` names the tool and its command, `place` what it changes (a token's label, a folder), `created_at` is in
    Unix seconds. `nonce` makes each plan another, so that a confirmation serves one only.
    """

    version: int
    ceremony: str
    place: str
    steps: tuple[str, ...]
    nonce: bytes
    created_at: int

    def __post_init__(self) -> None:
        texts = (self.ceremony, self.place, *self.steps)
        if self.version != 1 or len(self.nonce) != _NONCE_BYTES or not all(text.isprintable() for text in texts):
            raise CeremonyRefusedError("the plan is none of this version")

    def encode(self) -> bytes:
        """Return its one spelling (RFC 8785)."""
        return strict_json.canonical(self)

    @property
    def sha256(self) -> bytes:
        """The 32 bytes that operators confirm."""
        return hashlib.sha256(_PLAN + self.encode()).digest()


def plan(ceremony: str, place: str, steps: Sequence[str], *, now: int, random_bytes: Callable[[int], bytes]) -> Plan:
    """Return a plan made at `now` (Unix seconds)."""
    return Plan(1, ceremony, place, tuple(steps), random_bytes(_NONCE_BYTES), now)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who may confirm: a name and an Ed25519 public key of 32 bytes."""

    name: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Operators:
    """The operators, and how many different ones a plan needs."""

    required: int
    operators: tuple[Operator, ...]

    def __post_init__(self) -> None:
        names, keys = ({getattr(item, field) for item in self.operators} for field in ("name", "public_key"))
        if not MIN_OPERATORS <= self.required <= len(self.operators):
            raise CeremonyRefusedError(f"the operators' file must require {MIN_OPERATORS} of its operators or more")
        if len(names) != len(self.operators) or len(keys) != len(self.operators):
            raise CeremonyRefusedError("the operators' file has a name or a key twice")
        if not all(len(item.public_key) == _KEY_BYTES and item.name.isprintable() for item in self.operators):
            raise CeremonyRefusedError("the operators' file has a name or a key that is none")


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One operator's signature on a plan."""

    operator: str
    plan_sha256: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """Something a ceremony did, in Unix seconds."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a ceremony did, by which plan, confirmed by whom. `outcome` is DONE, or why it stopped."""

    version: int
    plan: Plan
    confirmations: tuple[Confirmation, ...]
    lines: tuple[Line, ...]
    outcome: str


@dataclass(frozen=True, slots=True)
class SignedTranscript:
    """A transcript and the tool's Ed25519 signature on it."""

    transcript: Transcript
    signature: bytes


def parse_plan(data: bytes) -> Plan:
    """Return the plan of a file's bytes. Raises CeremonyRefusedError."""
    return _parse(Plan, data, "plan")


def parse_operators(data: bytes) -> Operators:
    """Return the operators of a file's bytes. Raises CeremonyRefusedError."""
    return _parse(Operators, data, "operators' file")


def parse_confirmation(data: bytes) -> Confirmation:
    """Return the confirmation of a file's bytes. Raises CeremonyRefusedError."""
    return _parse(Confirmation, data, "confirmation")


def confirm(confirmed: Plan, operator: str, key: Ed25519PrivateKey) -> Confirmation:
    """Sign a plan as `operator`."""
    return Confirmation(operator, confirmed.sha256, key.sign(_CONFIRMATION + confirmed.sha256))


def require_confirmed(planned: Plan, confirmations: Sequence[Confirmation], operators: Operators, now: int) -> None:
    """Refuse a plan unless enough different operators confirmed exactly it, not long ago.

    Raises CeremonyRefusedError.
    """
    if not -_MAX_SKEW_S <= now - planned.created_at <= MAX_PLAN_AGE_S:
        raise CeremonyRefusedError(f"the plan is older than {MAX_PLAN_AGE_S // 3600} h, or of the future")
    require_signed(planned, confirmations, operators)


def require_signed(planned: Plan, confirmations: Sequence[Confirmation], operators: Operators) -> None:
    """Refuse unless enough different operators signed exactly this plan. Raises CeremonyRefusedError."""
    keys = {item.name: item.public_key for item in operators.operators}
    for item in confirmations:
        if item.operator not in keys:
            raise CeremonyRefusedError(f"{item.operator!r} is no operator")
        if item.plan_sha256 != planned.sha256:
            raise CeremonyRefusedError(f"{item.operator} confirmed another plan")
        try:
            Ed25519PublicKey.from_public_bytes(keys[item.operator]).verify(
                item.signature, _CONFIRMATION + planned.sha256
            )
        except InvalidSignature as error:
            raise CeremonyRefusedError(f"{item.operator}'s confirmation is not of their key") from error
    different = {item.operator for item in confirmations}
    if len(different) < operators.required:
        raise CeremonyRefusedError(f"{len(different)} of {operators.required} operators confirmed")


def require_planned(planned: Plan, ceremony: str, place: str, steps: Sequence[str]) -> None:
    """Refuse to do what was not planned. What was planned and is done already may be missing from `steps`.

    Raises CeremonyRefusedError.
    """
    if (planned.ceremony, planned.place) != (ceremony, place):
        raise CeremonyRefusedError(f"the plan is of {planned.ceremony!r} for {planned.place!r}")
    left = iter(planned.steps)
    for step in steps:
        # Consumes the plan up to the step: so the order is the plan's too.
        if step not in left:
            raise CeremonyRefusedError(f"not planned: {step}")


class Recorder:
    """Keeps what a ceremony does, line by line, and signs it in the end."""

    def __init__(
        self,
        recorded: Plan,
        confirmations: Sequence[Confirmation],
        *,
        say: Callable[[str], None],
        now: Callable[[], int],
    ) -> None:
        """`say` shows each line to whoever stands by; `now` gives Unix seconds."""
        self._plan = recorded
        self._confirmations = tuple(confirmations)
        self._say = say
        self._now = now
        self._lines: list[Line] = []

    def say(self, text: str) -> None:
        """Record a line."""
        self._lines.append(Line(self._now(), text))
        self._say(text)

    def seal(self, key: Ed25519PrivateKey, *, outcome: str = "DONE") -> bytes:
        """Return the signed transcript, as its file."""
        made = Transcript(1, self._plan, self._confirmations, tuple(self._lines), outcome)
        return strict_json.canonical(SignedTranscript(made, key.sign(_TRANSCRIPT + strict_json.canonical(made))))


def verify(data: bytes, public_key: bytes, operators: Operators | None = None) -> Transcript:
    """Return the transcript of a file's bytes, signed by `public_key` (32 bytes).

    With `operators`, enough of them confirmed its plan. Raises CeremonyRefusedError.
    """
    signed = _parse(SignedTranscript, data, "transcript")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            signed.signature, _TRANSCRIPT + strict_json.canonical(signed.transcript)
        )
    except InvalidSignature as error:
        raise CeremonyRefusedError("the transcript is not signed by this key") from error
    if operators is not None:
        require_signed(signed.transcript.plan, signed.transcript.confirmations, operators)
    return signed.transcript


def read_key(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 key of a PKCS#8 PEM file. Raises CeremonyRefusedError, OSError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CeremonyRefusedError(f"{path.name} holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CeremonyRefusedError(f"{path.name} holds no Ed25519 key")
    return key


def _parse(kind: type[T], data: bytes, name: str) -> T:
    try:
        return strict_json.read(kind, strict_json.parse(data, max_bytes=_MAX_BYTES))
    except StrictJsonError as error:
        raise CeremonyRefusedError(f"the {name} cannot be read: {error}") from error


def _public_key(path: Path) -> bytes:
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise CeremonyRefusedError(f"{path.name} holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise CeremonyRefusedError(f"{path.name} holds no Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def show(shown: Plan, say: Callable[[str], None]) -> None:
    """Say a plan, a line for each step."""
    say(f"{shown.ceremony} for {shown.place}, plan {shown.sha256.hex()}")
    for number, step in enumerate(shown.steps, 1):
        say(f"  {number}. {step}")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mesh.ceremony", description="What operators do with a plan.")
    commands = parser.add_subparsers(dest="command", required=True)
    operator = commands.add_parser("operator", help="print one's entry of the operators' file")
    confirmation = commands.add_parser("confirm", help="show a plan and sign it")
    confirmation.add_argument("plan", type=Path)
    for command in (operator, confirmation):
        command.add_argument("name")
        command.add_argument("key", type=Path, help="Ed25519, PKCS#8 PEM")
    checked = commands.add_parser("verify", help="check a transcript and show it")
    checked.add_argument("transcript", type=Path)
    checked.add_argument("public_key", type=Path, help="the tool's, PEM")
    checked.add_argument("operators", type=Path, nargs="?")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; what a person reads goes to stderr, what a file shall hold to stdout."""
    given = _arguments(words)
    try:
        if given.command == "operator":
            key = read_key(given.key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            print(strict_json.canonical(Operator(given.name, key)).decode())
        elif given.command == "confirm":
            shown = parse_plan(given.plan.read_bytes())
            show(shown, lambda line: print(line, file=sys.stderr))
            print(strict_json.canonical(confirm(shown, given.name, read_key(given.key))).decode())
        else:
            operators = parse_operators(given.operators.read_bytes()) if given.operators else None
            found = verify(given.transcript.read_bytes(), _public_key(given.public_key), operators)
            show(found.plan, print)
            print("confirmed by:", ", ".join(item.operator for item in found.confirmations) or "nobody")
            for line in found.lines:
                print(f"{line.at}  {line.text}")
            print(found.outcome)
    except (CeremonyRefusedError, OSError) as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
