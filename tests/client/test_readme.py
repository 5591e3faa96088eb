"""client/README.md says what the package has: its examples are typed against it, its tables are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import finid_client
from deploy.local.state import CHECKOUT
from finid_client.command.exits import Exit
from finid_client.command.profile import NAMES
from finid_client.command.root import root

CLIENT = Path(finid_client.__file__).parent
PAGE = (CHECKOUT / "client" / "README.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table]


def test_exit_codes() -> None:
    assert [int(row[0]) for row in rows("exit code")] == [int(code) for code in Exit]


def test_reasons() -> None:
    """Every reason that the package itself gives stands in the table, and no other."""
    sources = "".join(path.read_text(encoding="utf-8") for path in CLIENT.glob("*.py"))
    given = set(re.findall(r'ProofRefusedError\(\s*"([A-Z_]+)"', sources))
    for name in ("statements.py", "consent_receipt.py"):
        source = (CLIENT / name).read_text(encoding="utf-8")
        given |= set(re.findall(r'^ +"([A-Z]+_[A-Z_]+)",$', source, re.MULTILINE))
        given |= set(re.findall(r'\((?:result|receipt)\.[^"]*"([A-Z_]+)"', source))
    assert {row[0] for row in rows("reason")} == given


def test_settings() -> None:
    named = [(f"--{name.replace('_', '-')}", f"FINID_{name.upper()}") for name in NAMES]
    assert [(row[0], row[1]) for row in rows("option")] == named
    assert {option for option, _ in named} <= {name for item in root.params for name in item.opts}


@pytest.mark.timeout(180)
def test_examples_are_right_by_their_types(tmp_path: Path) -> None:
    """What the examples are given by a bank's own framework has no type; everything of ours has."""
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(examples) == 4
    for number, example in enumerate(examples):
        # Said in the file and not to mypy: under other options it would check all that lint has checked again.
        lenient = "# mypy: allow-untyped-defs, allow-incomplete-defs\n"
        (tmp_path / f"example_{number}.py").write_text(lenient + example)
    command = [sys.executable, "-m", "mypy", "--config-file", str(CHECKOUT / "pyproject.toml"), str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout
