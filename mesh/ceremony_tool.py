"""The command line of a ceremony's tool: a dry run writes the plan, a run does what was planned and confirmed.

    … --dry-run --operators operators.json --plan plan.json
    … --operators operators.json --plan plan.json --confirmation anna.json --confirmation dana.json \\
        --transcript transcript.json --transcript-key tool.pem

Production knows the second form only. In a sandbox the holder of the PIN may run the tool alone, without any of these;
it says so.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh import ceremony
from mesh.ceremony import CeremonyRefusedError, Plan, Recorder

_ALONE = "sandbox: the PIN's holder alone, nobody confirms"


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says about plan, confirmations and transcript."""

    dry_run: bool
    plan: Path | None
    confirmations: tuple[Path, ...]
    operators: Path | None
    transcript: Path | None
    transcript_key: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `given` reads."""
    parser.add_argument("--dry-run", action="store_true", help="change nothing: show the plan, write it to --plan")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="the plan: written by --dry-run, else obeyed")
    parser.add_argument(
        "--operators", type=Path, metavar="FILE", help="who may confirm (python -m mesh.ceremony); production needs it"
    )
    parser.add_argument(
        "--confirmation",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="one operator's confirmation of the plan; repeat it: production needs two operators",
    )
    parser.add_argument("--transcript", type=Path, metavar="FILE", help="where the signed transcript goes; a new file")
    parser.add_argument("--transcript-key", type=Path, metavar="FILE", help="signs the transcript: Ed25519, PKCS#8 PEM")


def given(arguments: argparse.Namespace) -> Given:
    """Read what `add_arguments` added."""
    return Given(
        arguments.dry_run,
        arguments.plan,
        tuple(arguments.confirmation),
        arguments.operators,
        arguments.transcript,
        arguments.transcript_key,
    )


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a tool would do now: `notes` are for whoever reads the plan, `steps` are what is confirmed and done."""

    ceremony: str
    place: str
    steps: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What a tool has around it: `say` shows a line to whoever stands by, `now` gives Unix seconds."""

    production: bool
    say: Callable[[str], None]
    now: Callable[[], int]
    random_bytes: Callable[[int], bytes]


def write_plan(told: Given, occasion: Occasion, around: Around) -> None:
    """Show the plan of a dry run, and write it where it is asked for. Raises CeremonyRefusedError, OSError."""
    steps = (*_who_confirms(told), *(f"note: {line}" for line in occasion.notes), *occasion.steps)
    made = _plan(occasion, steps, around)
    ceremony.show(made, around.say)
    if told.plan is not None:
        with told.plan.open("xb") as file:
            file.write(made.encode())
    around.say("dry run, nothing is changed")


@contextmanager
def sitting(told: Given, occasion: Occasion, around: Around) -> Iterator[Recorder]:
    """Refuse what is not confirmed; then record what is done inside, and keep the signed transcript, however it ends.

    Raises CeremonyRefusedError before anything is done, OSError.
    """
    if around.production:
        _require_everything(told)
    key = ceremony.read_key(told.transcript_key) if told.transcript_key is not None else None
    if (told.transcript is None) != (key is None):
        raise CeremonyRefusedError("--transcript and --transcript-key go together")
    if told.transcript is not None and told.transcript.exists():
        raise CeremonyRefusedError(f"{told.transcript.name} exists: every run has a transcript of its own")
    planned = _obeyed(told, occasion, around)
    confirmations = [ceremony.parse_confirmation(path.read_bytes()) for path in told.confirmations]
    if told.operators is not None:
        operators = ceremony.parse_operators(told.operators.read_bytes())
        ceremony.require_confirmed(planned, confirmations, operators, around.now())
    elif confirmations:
        raise CeremonyRefusedError("confirmations prove nothing without --operators")
    recorder = Recorder(planned, confirmations, say=around.say, now=around.now)
    if told.operators is None:
        recorder.say(_ALONE)
    outcome = "STOPPED"
    try:
        yield recorder
        outcome = "DONE"
    except BaseException as error:
        outcome = f"STOPPED: {type(error).__name__}"
        raise
    finally:
        if told.transcript is not None and key is not None:
            with told.transcript.open("xb") as file:
                file.write(recorder.seal(key, outcome=outcome))


def _require_everything(told: Given) -> None:
    needed = {
        "--operators": told.operators,
        "--plan": told.plan,
        "--transcript": told.transcript,
        "--transcript-key": told.transcript_key,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise CeremonyRefusedError(f"production needs {', '.join(missing)}, and two operators' --confirmation")


def _obeyed(told: Given, occasion: Occasion, around: Around) -> Plan:
    """The plan of the file; without one, which only a sandbox does without, one made now."""
    steps = (*_who_confirms(told), *occasion.steps)
    if told.plan is None:
        if told.operators is not None:
            raise CeremonyRefusedError("operators confirm a plan: give --plan")
        return _plan(occasion, steps, around)
    planned = ceremony.parse_plan(told.plan.read_bytes())
    ceremony.require_planned(planned, occasion.ceremony, occasion.place, steps)
    return planned


def _plan(occasion: Occasion, steps: tuple[str, ...], around: Around) -> Plan:
    return ceremony.plan(occasion.ceremony, occasion.place, steps, now=around.now(), random_bytes=around.random_bytes)


def _who_confirms(told: Given) -> tuple[str, ...]:
    """A step of the plan itself: who confirms it has seen by which file of operators it will be judged."""
    if told.operators is None:
        return ()
    data = told.operators.read_bytes()
    file = ceremony.parse_operators(data)
    names = ", ".join(item.name for item in file.operators)
    return (f"be confirmed by {file.required} of {names} (operators' file sha256 {hashlib.sha256(data).hexdigest()})",)
