"""The REST door against its own description: schemathesis sends what it allows and what it does not.

No answer may be a 5xx, none may differ from its schema, and what breaks a rule is refused. `make fuzz` looks longer.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.state import CHECKOUT
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(3600)]

_HERE = Path(__file__).parent
_EXAMPLES = os.environ.get("FINID_FUZZ_EXAMPLES", "3")
_SEED = os.environ.get("FINID_FUZZ_SEED", "1")


def test_every_operation_behaves_as_described(mesh: RunningMesh, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file"),
        *(str(_HERE / "fuzz" / "schemathesis.toml"), "run", str(CHECKOUT / "gen" / "openapi.json")),
        *("--url", mesh.web_url, "--tls-verify", str(mesh.web_root_file)),
        *("--header", f"Authorization: Bearer {mesh.access_token_when_possible()}"),
        *("--max-examples", _EXAMPLES, "--phases", "coverage,fuzzing", "--seed", _SEED, "--no-color"),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.e2e.fuzz.hooks", "PYTHONPATH": str(CHECKOUT)}
    log = tmp_path / "schemathesis.log"
    with log.open("wb") as output:
        ended = subprocess.run(command, cwd=tmp_path, env=environment, stdout=output, stderr=output, check=False)
    assert ended.returncode == 0, log.read_text()[-8000:]
